//! Webhooks: their settings, tokens and URLs.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::Management;
use super::error::ManagementError;
use crate::error::Resource;
use crate::executor::Workflow;
use crate::id::{RunId, WebhookId, WorkflowKey};
use crate::store::{Page, StoreError, WebhookQuery};
use crate::token::{Token, TriggerUrl};
use crate::verification::{Verification, VerifyTokenChange};
use crate::webhook::{Channel, SettingCode, SettingProblem, Webhook, WebhookSettings};

/// A webhook with its URL, the result of creating it or refreshing its token.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CreatedWebhook {
    /// The stored record.
    pub webhook: Arc<Webhook>,
    /// URL with the token. Without a token key this is the only time it can be seen.
    pub url: TriggerUrl,
}

impl Management<'_> {
    /// Creates a webhook for a workflow.
    ///
    /// Fails with [`ManagementError::Settings`] for an unknown workflow (`workflow`), settings out of bounds,
    /// and channels without an integration.
    pub async fn create_webhook(
        &self,
        workflow: WorkflowKey,
        settings: WebhookSettings,
    ) -> Result<CreatedWebhook, ManagementError> {
        let settings = settings.validated()?;
        self.create_validated(workflow, settings, &VerifyTokenChange::Keep).await
    }

    /// Creates a webhook for a workflow, with a JSON merge patch of the default settings. It may hold a verify token,
    /// which settings never do.
    ///
    /// # Errors
    /// As [`create_webhook`](Self::create_webhook).
    pub async fn create_webhook_from_patch(
        &self,
        workflow: WorkflowKey,
        patch: &Value,
    ) -> Result<CreatedWebhook, ManagementError> {
        let settings = WebhookSettings::default().patched(patch)?;
        self.create_validated(workflow, settings, &VerifyTokenChange::in_patch(patch)).await
    }

    async fn create_validated(
        &self,
        workflow: WorkflowKey,
        settings: WebhookSettings,
        verify_token: &VerifyTokenChange,
    ) -> Result<CreatedWebhook, ManagementError> {
        let parts = self.parts;
        let mut problems = self.integration_problems(&settings);
        problems.extend(self.sealing_problems(&settings, verify_token));
        let described = match self.parts.knows_kind(&workflow.kind) {
            true => parts.executor.describe(&workflow).await?,
            false => None,
        };
        match described {
            None => problems.insert(0, self.no_such_workflow(&workflow)),
            Some(described) if described.parameters.has_secret() && parts.keys.is_none() => {
                let message = "it has secret parameters, and this server has no token key to seal them with";
                problems.insert(0, SettingProblem::new("workflow", SettingCode::NoTokenKey, message));
            }
            Some(described) => problems.extend(self.parameter_problems(&described, &settings)),
        }
        refuse(problems)?;
        let now = parts.now();
        let token = Token::generate();
        let webhook =
            Webhook::new(WebhookId::generate(now), workflow, settings, &token, parts.keys.as_ref(), now);
        let webhook = self.with_verify_token(webhook, verify_token);
        parts.store.create_webhook(webhook.clone()).await?;
        let url = parts.trigger_url(&webhook.workflow, &token);
        Ok(CreatedWebhook { webhook: Arc::new(webhook), url })
    }

    /// Returns a webhook.
    pub async fn get_webhook(&self, id: WebhookId) -> Result<Arc<Webhook>, ManagementError> {
        let webhook = self.parts.store.get_webhook(id).await?;
        webhook.map(|webhook| self.fresh(webhook)).ok_or(ManagementError::NotFound(Resource::Webhook))
    }

    /// Lists webhooks, newest first.
    pub async fn list_webhooks(
        &self,
        query: WebhookQuery,
    ) -> Result<Page<Arc<Webhook>, WebhookId>, ManagementError> {
        let mut page = self.parts.store.list_webhooks(query).await?;
        page.items = page.items.into_iter().map(|webhook| self.fresh(webhook)).collect();
        Ok(page)
    }

    /// Changes settings by a JSON merge patch (RFC 7396).
    ///
    /// With `expected_revision`, the change requires that the webhook still has this revision.
    ///
    /// Fails with [`ManagementError::Settings`], which has every problem, and with
    /// [`ManagementError::Conflict`] for another revision.
    pub async fn update_webhook(
        &self,
        id: WebhookId,
        patch: &Value,
        expected_revision: Option<u64>,
    ) -> Result<Arc<Webhook>, ManagementError> {
        let parts = self.parts;
        let verify_token = VerifyTokenChange::in_patch(patch);
        let workflow = self.workflow_for(id, patch).await?;
        self.change(id, expected_revision, |webhook| {
            let settings = webhook.settings.patched(patch)?;
            if settings.notifications != webhook.settings.notifications {
                refuse(self.integration_problems(&settings))?;
            }
            if settings.sender.verification != webhook.settings.sender.verification
                || settings.keep_bodies != webhook.settings.keep_bodies
                || matches!(verify_token, VerifyTokenChange::Set(_))
            {
                refuse(self.sealing_problems(&settings, &verify_token))?;
            }
            if settings.sender.verification != webhook.settings.sender.verification {
                refuse(self.secret_problems(webhook, &settings))?;
            }
            if let Some(workflow) = &workflow {
                refuse(self.parameter_problems(workflow, &settings))?;
            }
            Ok(self.with_verify_token(webhook.with_settings(settings, parts.now()), &verify_token))
        })
        .await
    }

    /// Returns the workflow of a webhook if a patch of its settings must fit it. A workflow that is gone, or cannot be
    /// described now, prevents no change.
    async fn workflow_for(
        &self,
        id: WebhookId,
        patch: &Value,
    ) -> Result<Option<Arc<Workflow>>, ManagementError> {
        if !["fixed", "mapping", "strict"].iter().any(|name| patch.get(name).is_some()) {
            return Ok(None);
        }
        let webhook = self.get_webhook(id).await?;
        Ok(self.parts.executor.describe(&webhook.workflow).await.ok().flatten())
    }

    /// Enables or disables a webhook. Accepted runs continue.
    pub async fn set_webhook_enabled(
        &self,
        id: WebhookId,
        enabled: bool,
    ) -> Result<Arc<Webhook>, ManagementError> {
        self.update_webhook(id, &serde_json::json!({ "enabled": enabled }), None).await
    }

    /// Replaces a webhook's token. The old URL stops working at once; accepted runs continue.
    ///
    /// Fails with [`ManagementError::Conflict`] for another revision.
    pub async fn refresh_token(
        &self,
        id: WebhookId,
        expected_revision: Option<u64>,
    ) -> Result<CreatedWebhook, ManagementError> {
        let parts = self.parts;
        let token = Token::generate();
        let webhook = self
            .change(id, expected_revision, |webhook| {
                Ok(webhook.with_token(&token, parts.keys.as_ref(), parts.now()))
            })
            .await?;
        let url = parts.trigger_url(&webhook.workflow, &token);
        Ok(CreatedWebhook { webhook, url })
    }

    /// Returns the URL of a webhook, for copying.
    ///
    /// Fails with [`ManagementError::UrlNotRecoverable`] when none of the keys sealed the token.
    pub async fn get_url(&self, id: WebhookId) -> Result<TriggerUrl, ManagementError> {
        let parts = self.parts;
        let webhook = self.get_webhook(id).await?;
        let keys = parts.keys.as_ref().ok_or(ManagementError::UrlNotRecoverable(None))?;
        let opened =
            webhook.open_token(keys).map_err(|error| ManagementError::UrlNotRecoverable(Some(error)))?;
        let token = opened.ok_or(ManagementError::UrlNotRecoverable(None))?;
        Ok(parts.trigger_url(&webhook.workflow, &token))
    }

    /// Deletes a webhook, and returns the cancelled runs. Its URL stops working, its queued runs are
    /// cancelled, and its history stays.
    ///
    /// With `expected_revision`, the deletion requires that the webhook still has this revision.
    ///
    /// Fails with [`ManagementError::Conflict`] for another revision.
    pub async fn delete_webhook(
        &self,
        id: WebhookId,
        expected_revision: Option<u64>,
    ) -> Result<Vec<RunId>, ManagementError> {
        let parts = self.parts;
        match parts.store.delete_webhook(id, expected_revision, parts.now()).await {
            Err(StoreError::Conflict(_)) => Err(ManagementError::Conflict),
            outcome => {
                let cancelled = outcome?;
                parts.process_calls.forget(id);
                Ok(cancelled)
            }
        }
    }

    pub(super) async fn change(
        &self,
        id: WebhookId,
        expected_revision: Option<u64>,
        mut next: impl FnMut(&Webhook) -> Result<Webhook, ManagementError>,
    ) -> Result<Arc<Webhook>, ManagementError> {
        loop {
            let present = self.get_webhook(id).await?;
            if expected_revision.is_some_and(|expected| expected != present.revision) {
                return Err(ManagementError::Conflict);
            }
            let changed = next(&present)?;
            match self.parts.store.update_webhook(changed.clone(), present.revision).await {
                Ok(()) => return Ok(Arc::new(changed)),
                // Another change came first. Without an expected revision, this change is applied on top of
                // it.
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Returns a webhook with its last use, which reaches the store some seconds later.
    fn fresh(&self, webhook: Arc<Webhook>) -> Arc<Webhook> {
        match self.parts.uses.last(webhook.id) {
            Some(used) if Some(used) > webhook.last_used_at => {
                Arc::new(Webhook { last_used_at: Some(used), ..(*webhook).clone() })
            }
            _ => webhook,
        }
    }

    /// Returns the problems that there is no key to seal what the settings need.
    fn sealing_problems(
        &self,
        settings: &WebhookSettings,
        verify_token: &VerifyTokenChange,
    ) -> Vec<SettingProblem> {
        if self.parts.keys.is_some() {
            return Vec::new();
        }
        let needs_secret = settings.sender.verification.as_ref().is_some_and(Verification::needs_secret);
        let needs_key = needs_secret || matches!(verify_token, VerifyTokenChange::Set(_));
        let problem = |field, message| SettingProblem::new(field, SettingCode::NoTokenKey, message);
        let verification = needs_key.then(|| {
            let message =
                "this server has no token key to seal the sender's secret with, so every call would be refused";
            problem("verification", message)
        });
        let keeping = settings.keep_bodies.map(|_| {
            problem("keep_bodies_s", "this server has no token key to seal the content of calls with")
        });
        verification.into_iter().chain(keeping).collect()
    }

    /// Returns the problem that there is no such workflow, or that its kind is not registered.
    fn no_such_workflow(&self, workflow: &WorkflowKey) -> SettingProblem {
        let message = match self.parts.knows_kind(&workflow.kind) {
            true => format!("there is no workflow {workflow}"),
            false => {
                format!(
                    "this server does not know the kind {}; its host registers kinds at start, by `WebhooksBuilder::kind`",
                    workflow.kind
                )
            }
        };
        SettingProblem::new("workflow", SettingCode::Unknown, message)
    }

    /// Applies a change of the verify token.
    fn with_verify_token(&self, webhook: Webhook, change: &VerifyTokenChange) -> Webhook {
        match (change, &self.parts.keys) {
            (VerifyTokenChange::Keep, _) | (_, None) => webhook,
            (VerifyTokenChange::Remove, Some(keys)) => webhook.with_verify_token(None, keys),
            (VerifyTokenChange::Set(token), Some(keys)) => webhook.with_verify_token(Some(token), keys),
        }
    }

    fn integration_problems(&self, settings: &WebhookSettings) -> Vec<SettingProblem> {
        let mut problems: Vec<SettingProblem> = Vec::new();
        let mut counts: BTreeMap<Channel, usize> = BTreeMap::new();
        for (channel, recipient, _) in settings.notifications.targets() {
            let (name, count) = (channel.as_str(), counts.entry(channel).or_default());
            let index = *count;
            *count += 1;
            let problem = match self.parts.notifier(channel) {
                None => {
                    let message = format!("this server has no integration for {name}");
                    SettingProblem::new(
                        format!("notifications.{name}"),
                        SettingCode::IntegrationMissing,
                        message,
                    )
                }
                Some(notifier) => match notifier.check(channel, recipient) {
                    Ok(()) => continue,
                    Err(message) => {
                        let field = match channel {
                            Channel::SLACK => "notifications.slack.channel".to_owned(),
                            _ => format!("notifications.{name}.recipients[{index}]"),
                        };
                        SettingProblem::new(field, SettingCode::Invalid, format!("{recipient:?}: {message}"))
                    }
                },
            };
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
        problems
    }
}

fn refuse(problems: Vec<SettingProblem>) -> Result<(), ManagementError> {
    if problems.is_empty() { Ok(()) } else { Err(ManagementError::Settings(problems)) }
}
