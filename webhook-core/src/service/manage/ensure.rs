//! Webhooks that a host makes at its start, once.

use std::sync::Arc;

use super::Management;
use super::error::ManagementError;
use crate::id::WorkflowKey;
use crate::store::WebhookQuery;
use crate::token::TriggerUrl;
use crate::webhook::{SettingCode, SettingProblem, Webhook, WebhookSettings};

/// A webhook that is there, the result of [`ensure_webhook`](Management::ensure_webhook).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EnsuredWebhook {
    /// The stored record.
    pub webhook: Arc<Webhook>,
    /// URL with the token; `None` if the webhook was created before and no token key opens its token.
    pub url: Option<TriggerUrl>,
    /// True if this call created it.
    pub is_new: bool,
}

impl Management<'_> {
    /// Returns the workflow's webhook with this label, or creates it with these settings.
    ///
    /// For a host that wants a webhook to be there from its first start on. One that exists stays as it is, since people
    /// may have changed its settings. Of several with the label, it is the newest.
    ///
    /// Processes that start at the same moment on one store may create one each.
    ///
    /// # Errors
    /// As [`create_webhook`](Self::create_webhook).
    pub async fn ensure_webhook(
        &self,
        workflow: WorkflowKey,
        label: &str,
        mut settings: WebhookSettings,
    ) -> Result<EnsuredWebhook, ManagementError> {
        if label.trim().is_empty() {
            let problem = SettingProblem::new(
                "label",
                SettingCode::Invalid,
                "it finds the webhook, so it must not be blank",
            );
            return Err(ManagementError::Settings(vec![problem]));
        }
        let _turn = self.parts.ensuring.lock().await;
        if let Some(webhook) = self.labelled(&workflow, label).await? {
            let url = match self.get_url(webhook.id).await {
                Ok(url) => Some(url),
                Err(ManagementError::UrlNotRecoverable(_)) => None,
                Err(error) => return Err(error),
            };
            return Ok(EnsuredWebhook { webhook, url, is_new: false });
        }
        settings.label = Some(label.to_owned());
        let created = self.create_webhook(workflow, settings).await?;
        Ok(EnsuredWebhook { webhook: created.webhook, url: Some(created.url), is_new: true })
    }

    async fn labelled(
        &self,
        workflow: &WorkflowKey,
        label: &str,
    ) -> Result<Option<Arc<Webhook>>, ManagementError> {
        let mut query = WebhookQuery::default().of_workflow(workflow.clone()).limit(200);
        loop {
            let page = self.list_webhooks(query.clone()).await?;
            let found = page.items.into_iter().find(|own| own.settings.label.as_deref() == Some(label));
            if found.is_some() || page.next.is_none() {
                return Ok(found);
            }
            query = query.before(page.next);
        }
    }
}
