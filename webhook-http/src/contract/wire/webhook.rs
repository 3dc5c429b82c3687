//! Webhooks and their URLs.

use schemars::JsonSchema;
use serde::Serialize;
use webhook_core::id::{WebhookId, WorkflowKey};
use webhook_core::webhook::{Webhook, WebhookSettings};

use crate::contract::wire::value::Timestamp;

/// A webhook; never its token.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Webhook")]
pub(crate) struct WebhookView<'a> {
    id: WebhookId,
    workflow: &'a WorkflowKey,
    #[serde(flatten)]
    settings: &'a WebhookSettings,
    /// Last four characters of the token.
    token_hint: &'a str,
    created_at: Timestamp,
    updated_at: Timestamp,
    /// Time of the last call. It may lag some seconds behind.
    last_used_at: Option<Timestamp>,
    /// Grows with each change. The `ETag` holds it.
    revision: u64,
}

impl<'a> WebhookView<'a> {
    pub(crate) fn new(webhook: &'a Webhook) -> Self {
        Self {
            id: webhook.id,
            workflow: &webhook.workflow,
            settings: &webhook.settings,
            token_hint: &webhook.token_hint,
            created_at: Timestamp(webhook.created_at),
            updated_at: Timestamp(webhook.updated_at),
            last_used_at: webhook.last_used_at.map(Timestamp),
            revision: webhook.revision,
        }
    }
}

/// A new webhook, with its URL.
#[derive(Serialize, JsonSchema)]
pub(crate) struct CreatedWebhook<'a> {
    pub(crate) url: &'a str,
    pub(crate) webhook: WebhookView<'a>,
}

/// The URL of a webhook, with its token.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Url<'a> {
    pub(crate) url: &'a str,
}
