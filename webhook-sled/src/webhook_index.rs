//! The webhooks. All of them are in memory, found by id and by the digest of their token.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use webhook_core::error::Resource;
use webhook_core::id::WebhookId;
use webhook_core::store::{Page, RunQuery, StoreError, WebhookQuery};
use webhook_core::token::TokenDigest;
use webhook_core::webhook::Webhook;

#[derive(Debug, Default)]
pub(crate) struct WebhookIndex {
    by_id: BTreeMap<WebhookId, Arc<Webhook>>,
    by_digest: HashMap<TokenDigest, WebhookId>,
}

impl WebhookIndex {
    pub(crate) fn get(&self, id: WebhookId) -> Option<&Arc<Webhook>> {
        self.by_id.get(&id)
    }

    pub(crate) fn find(&self, digest: &TokenDigest) -> Option<&Arc<Webhook>> {
        self.by_digest.get(digest).and_then(|id| self.get(*id))
    }

    /// Whether no run can be what a query asks for: its webhook starts another workflow.
    pub(crate) fn contradicts(&self, query: &RunQuery) -> bool {
        let webhook = query.webhook.and_then(|id| self.get(id));
        let (Some(webhook), Some(workflow)) = (webhook, &query.workflow) else { return false };
        webhook.workflow != *workflow
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Webhook>> {
        self.by_id.values()
    }

    /// Whether a new webhook may take this id and digest.
    pub(crate) fn check_new(&self, webhook: &Webhook) -> Result<(), StoreError> {
        if self.by_id.contains_key(&webhook.id) {
            return Err(StoreError::Conflict(Resource::Webhook));
        }
        if self.by_digest.contains_key(&webhook.token_digest) {
            return Err(StoreError::Conflict(Resource::TokenDigest));
        }
        Ok(())
    }

    /// The record that an update is to store: its last use is the stored one.
    pub(crate) fn updated(&self, mut webhook: Webhook, expected: u64) -> Result<Webhook, StoreError> {
        let stored = self.get(webhook.id).ok_or(StoreError::NotFound(Resource::Webhook))?;
        if stored.revision != expected {
            return Err(StoreError::Conflict(Resource::Webhook));
        }
        if self.by_digest.get(&webhook.token_digest).is_some_and(|holder| *holder != webhook.id) {
            return Err(StoreError::Conflict(Resource::TokenDigest));
        }
        webhook.last_used_at = stored.last_used_at;
        Ok(webhook)
    }

    pub(crate) fn put(&mut self, webhook: Webhook) {
        if let Some(old) = self.by_id.get(&webhook.id) {
            self.by_digest.remove(&old.token_digest);
        }
        self.by_digest.insert(webhook.token_digest, webhook.id);
        self.by_id.insert(webhook.id, Arc::new(webhook));
    }

    /// Whether this webhook may be removed by a caller who expects this revision.
    pub(crate) fn check_removal(&self, id: WebhookId, expected: Option<u64>) -> Result<(), StoreError> {
        let stored = self.get(id).ok_or(StoreError::NotFound(Resource::Webhook))?;
        match expected {
            Some(expected) if expected != stored.revision => Err(StoreError::Conflict(Resource::Webhook)),
            _ => Ok(()),
        }
    }

    pub(crate) fn remove(&mut self, id: WebhookId) {
        if let Some(webhook) = self.by_id.remove(&id) {
            self.by_digest.remove(&webhook.token_digest);
        }
    }

    /// Notes a use. Answers whether it is news.
    pub(crate) fn record_use(&mut self, id: WebhookId, at: SystemTime) -> bool {
        match self.by_id.get_mut(&id) {
            Some(webhook) if webhook.last_used_at.is_none_or(|last| last < at) => {
                Arc::make_mut(webhook).last_used_at = Some(at);
                true
            }
            _ => false,
        }
    }

    pub(crate) fn list(&self, query: &WebhookQuery) -> Page<Arc<Webhook>, WebhookId> {
        let older = match query.before {
            Some(before) => self.by_id.range(..before),
            None => self.by_id.range::<WebhookId, _>(..),
        };
        let wanted = |webhook: &&Arc<Webhook>| {
            query.workflow.as_ref().is_none_or(|workflow| *workflow == webhook.workflow)
        };
        let newest = older.rev().map(|(_, webhook)| webhook).filter(wanted);
        let items = newest.take(query.limit.saturating_add(1)).cloned().collect();
        Page::cut(items, query.limit, |webhook: &Arc<Webhook>| webhook.id)
    }
}
