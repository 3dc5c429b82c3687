//! Rates and calls of webhooks, all in memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::buckets::CallRates;
use super::call_log::CallLog;
use super::event_log::EventLog;
use super::webhook_index::WebhookIndex;
use crate::calls::{CallRecord, KeptContent, LoggedCall};
use crate::id::{CallId, WebhookId};
use crate::store::{CallQuery, Page};
use crate::webhook::RateLimit;

/// Rates of webhooks, and the call log with its contents, all in memory.
#[derive(Debug, Default)]
pub(crate) struct CallTable {
    rates: CallRates,
    log: CallLog,
    /// Contents of calls. Invariant: the log has an entry for each.
    contents: HashMap<CallId, Arc<KeptContent>>,
}

impl CallTable {
    /// Takes one call from the rate of a webhook, like [`CallRates::take`].
    pub(crate) fn take(&mut self, webhook: WebhookId, limit: RateLimit, now: Instant) -> Option<Duration> {
        self.rates.take(webhook, limit, now)
    }

    /// Adds the calls of known webhooks and publishes them.
    pub(crate) fn append(&mut self, calls: Vec<LoggedCall>, webhooks: &WebhookIndex, events: &EventLog) {
        for call in self.log.append(calls, webhooks, events) {
            self.put_content(call);
        }
        self.remove_dropped_contents();
    }

    /// Adds a call of any webhook, and publishes nothing.
    pub(crate) fn add(&mut self, call: LoggedCall) {
        if self.log.add_call(&call) {
            self.put_content(call);
        }
        self.remove_dropped_contents();
    }

    pub(crate) fn list(&self, query: &CallQuery) -> Page<Arc<CallRecord>, CallId> {
        self.log.list(query)
    }

    /// Returns a call of a webhook, with its content if that is kept at `now`.
    pub(crate) fn get(&self, webhook: WebhookId, id: CallId, now: SystemTime) -> Option<LoggedCall> {
        let record = self.log.get(webhook, id)?.clone();
        let content = self.contents.get(&id).filter(|_| self.log.has_content(id, now));
        Some(LoggedCall::new(record).with_content(content.cloned()))
    }

    /// Drops all calls of a webhook.
    pub(crate) fn forget(&mut self, webhook: WebhookId) {
        self.log.forget(webhook);
        self.remove_dropped_contents();
    }

    /// Drops the expired contents.
    pub(crate) fn expire_contents(&mut self, now: SystemTime) {
        self.log.expire_contents(now);
        self.remove_dropped_contents();
    }

    fn put_content(&mut self, call: LoggedCall) {
        self.contents.extend(call.content.map(|content| (call.record.id, content)));
    }

    fn remove_dropped_contents(&mut self) {
        for call in self.log.take_dropped() {
            self.contents.remove(&call);
        }
    }
}
