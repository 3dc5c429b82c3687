//! The webhooks, by id and by the digest of their token.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use crate::error::Resource;
use crate::id::WebhookId;
use crate::store::{Page, RunQuery, StoreError, WebhookQuery};
use crate::token::TokenDigest;
use crate::webhook::Webhook;

/// All webhooks of a store, by id and by the digest of their token.
///
/// Invariant: `by_digest` has exactly one entry for each webhook, from its current digest to its id.
#[derive(Debug, Default)]
pub struct WebhookIndex {
    by_id: BTreeMap<WebhookId, Arc<Webhook>>,
    by_digest: HashMap<TokenDigest, WebhookId>,
}

impl WebhookIndex {
    /// Returns a webhook.
    #[must_use]
    pub fn get(&self, id: WebhookId) -> Option<&Arc<Webhook>> {
        self.by_id.get(&id)
    }

    /// Returns the webhook whose token has this digest.
    #[must_use]
    pub fn find(&self, digest: &TokenDigest) -> Option<&Arc<Webhook>> {
        self.by_digest.get(digest).and_then(|id| self.get(*id))
    }

    /// Returns true if no run can match a query, because its webhook starts another workflow.
    #[must_use]
    pub fn contradicts(&self, query: &RunQuery) -> bool {
        let webhook = query.webhook.and_then(|id| self.get(id));
        let (Some(webhook), Some(workflow)) = (webhook, &query.workflow) else { return false };
        webhook.workflow != *workflow
    }

    /// Returns all webhooks, oldest first.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Webhook>> {
        self.by_id.values()
    }

    /// Checks that a new webhook may take its id and digest.
    ///
    /// Fails with [`StoreError::Conflict`] when another webhook has one of them.
    pub fn check_new(&self, webhook: &Webhook) -> Result<(), StoreError> {
        if self.by_id.contains_key(&webhook.id) {
            return Err(StoreError::Conflict(Resource::Webhook));
        }
        if self.by_digest.contains_key(&webhook.token_digest) {
            return Err(StoreError::Conflict(Resource::TokenDigest));
        }
        Ok(())
    }

    /// Returns the record that an update stores: the given one with the stored time of its last use.
    ///
    /// Fails with [`StoreError::NotFound`], or [`StoreError::Conflict`] when the revision is not the expected
    /// one or another webhook has the digest.
    pub fn updated(&self, mut webhook: Webhook, expected: u64) -> Result<Webhook, StoreError> {
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

    /// Adds a webhook, or replaces it.
    pub fn put(&mut self, webhook: Webhook) {
        if let Some(old) = self.by_id.get(&webhook.id) {
            self.by_digest.remove(&old.token_digest);
        }
        self.by_digest.insert(webhook.token_digest, webhook.id);
        self.by_id.insert(webhook.id, Arc::new(webhook));
    }

    /// Checks that a caller who expects this revision may remove a webhook.
    ///
    /// Fails with [`StoreError::NotFound`], or [`StoreError::Conflict`] when the revision is another one.
    pub fn check_removal(&self, id: WebhookId, expected: Option<u64>) -> Result<(), StoreError> {
        let stored = self.get(id).ok_or(StoreError::NotFound(Resource::Webhook))?;
        match expected {
            Some(expected) if expected != stored.revision => Err(StoreError::Conflict(Resource::Webhook)),
            _ => Ok(()),
        }
    }

    /// Removes a webhook.
    pub fn remove(&mut self, id: WebhookId) {
        if let Some(webhook) = self.by_id.remove(&id) {
            self.by_digest.remove(&webhook.token_digest);
        }
    }

    /// Records a use. Returns whether it is later than the recorded one.
    pub fn record_use(&mut self, id: WebhookId, at: SystemTime) -> bool {
        match self.by_id.get_mut(&id) {
            Some(webhook) if webhook.last_used_at.is_none_or(|last| last < at) => {
                Arc::make_mut(webhook).last_used_at = Some(at);
                true
            }
            _ => false,
        }
    }

    /// Returns a page of webhooks, newest first.
    #[must_use]
    pub fn list(&self, query: &WebhookQuery) -> Page<Arc<Webhook>, WebhookId> {
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
