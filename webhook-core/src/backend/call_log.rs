//! The newest calls of each webhook, for stores that one process opens, and which of their contents are kept.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use super::call_contents::CallContents;
use super::event_log::EventLog;
use super::webhook_index::WebhookIndex;
use crate::calls::{CALL_LOG_BYTES, CALLS_KEPT, CallRecord, LoggedCall};
use crate::id::{CallId, WebhookId};
use crate::store::{CallQuery, Page};

/// Log of the newest calls: at most [`CALLS_KEPT`] of each webhook and, by default, [`CALL_LOG_BYTES`] of all.
///
/// The log decides whose contents are kept; the store keeps them, and removes the [dropped](Self::take_dropped) ones.
#[derive(Debug)]
pub struct CallLog {
    webhooks: HashMap<WebhookId, BTreeMap<CallId, Arc<CallRecord>>>,
    /// The webhook of each kept call, oldest call first.
    order: BTreeMap<CallId, WebhookId>,
    /// Size of the kept calls in memory.
    bytes: usize,
    most_bytes: usize,
    contents: CallContents,
}

impl Default for CallLog {
    fn default() -> Self {
        Self::new(CALL_LOG_BYTES)
    }
}

impl CallLog {
    /// Creates an empty log that keeps at most `most_bytes`.
    #[must_use]
    pub fn new(most_bytes: usize) -> Self {
        Self {
            webhooks: HashMap::new(),
            order: BTreeMap::new(),
            bytes: 0,
            most_bytes,
            contents: CallContents::default(),
        }
    }

    /// Adds the calls of known webhooks and publishes them. Returns those that were added.
    pub fn append(
        &mut self,
        calls: Vec<LoggedCall>,
        webhooks: &WebhookIndex,
        events: &EventLog,
    ) -> Vec<LoggedCall> {
        let mut added = Vec::with_capacity(calls.len());
        let mut by_webhook: BTreeMap<WebhookId, Vec<Arc<CallRecord>>> = BTreeMap::new();
        for call in calls {
            let webhook = call.record.webhook_id;
            if webhooks.get(webhook).is_some() && self.add_call(&call) {
                by_webhook.entry(webhook).or_default().push(call.record.clone());
                added.push(call);
            }
        }
        for (webhook, mut calls) in by_webhook {
            calls.sort_unstable_by_key(|call| call.id);
            if let Some(webhook) = webhooks.get(webhook) {
                events.publish_calls(webhook, &calls);
            }
        }
        added
    }

    /// Adds a call, and notes its content if it has one. Returns false for a call that is there already.
    pub(crate) fn add_call(&mut self, call: &LoggedCall) -> bool {
        let is_new = self.add(call.record.clone());
        if is_new && let Some(content) = &call.content {
            self.add_content(&call.record, content.sealed.as_bytes().len(), content.expires_at);
        }
        is_new
    }

    /// Notes that the store has the content of a call, in so many bytes.
    pub fn add_content(&mut self, call: &CallRecord, bytes: usize, expires_at: SystemTime) {
        if self.order.contains_key(&call.id) {
            self.contents.add(call.id, call.webhook_id, bytes, expires_at);
        }
    }

    /// Drops the expired contents.
    pub fn expire_contents(&mut self, now: SystemTime) {
        self.contents.expire(now);
    }

    /// Returns whether the content of a call is kept at this time.
    #[must_use]
    pub fn has_content(&self, call: CallId, now: SystemTime) -> bool {
        self.contents.has(call, now)
    }

    /// Returns the calls whose contents were dropped since it was last asked.
    pub fn take_dropped(&mut self) -> Vec<CallId> {
        self.contents.take_dropped()
    }

    /// Returns a call of a webhook.
    #[must_use]
    pub fn get(&self, webhook: WebhookId, call: CallId) -> Option<&Arc<CallRecord>> {
        self.webhooks.get(&webhook)?.get(&call)
    }

    /// Adds a call, and drops the oldest calls beyond the bounds. Returns false for a call that is there already.
    pub fn add(&mut self, record: Arc<CallRecord>) -> bool {
        let (id, webhook) = (record.id, record.webhook_id);
        if self.order.contains_key(&id) {
            return false;
        }
        self.bytes += record.bytes_in_memory();
        self.order.insert(id, webhook);
        let calls = self.webhooks.entry(webhook).or_default();
        calls.insert(id, record);
        if calls.len() > CALLS_KEPT
            && let Some(oldest) = calls.keys().next().copied()
        {
            self.remove(oldest);
        }
        while self.bytes > self.most_bytes
            && let Some(oldest) = self.order.keys().next().copied()
        {
            self.remove(oldest);
        }
        true
    }

    /// Lists the calls of a webhook, newest first.
    #[must_use]
    pub fn list(&self, query: &CallQuery) -> Page<Arc<CallRecord>, CallId> {
        let Some(calls) = self.webhooks.get(&query.webhook) else { return Page::new(Vec::new(), None) };
        let newest_first = calls.values().rev();
        let wanted = newest_first.skip_while(|call| query.before.is_some_and(|before| call.id >= before));
        let items = wanted.take(query.limit.saturating_add(1)).cloned().collect();
        Page::cut(items, query.limit, |call: &Arc<CallRecord>| call.id)
    }

    /// Returns all calls, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<CallRecord>> {
        self.order.iter().filter_map(|(call, webhook)| self.webhooks.get(webhook)?.get(call))
    }

    /// Drops all calls of a webhook, and returns whether there were any.
    pub fn forget(&mut self, webhook: WebhookId) -> bool {
        let Some(calls) = self.webhooks.remove(&webhook) else { return false };
        for (call, record) in calls {
            self.order.remove(&call);
            self.bytes -= record.bytes_in_memory();
            self.contents.remove(call);
        }
        true
    }

    fn remove(&mut self, call: CallId) {
        let Some(webhook) = self.order.remove(&call) else { return };
        self.contents.remove(call);
        let Some(calls) = self.webhooks.get_mut(&webhook) else { return };
        if let Some(record) = calls.remove(&call) {
            self.bytes -= record.bytes_in_memory();
        }
        if calls.is_empty() {
            self.webhooks.remove(&webhook);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;
    use crate::calls::{CallFacts, CallOutcome};

    fn call(webhook: WebhookId, detail: &str) -> Arc<CallRecord> {
        let mut facts = CallFacts::new("POST", 202, CallOutcome::Accepted);
        facts.detail = Some(detail.into());
        Arc::new(CallRecord::new(webhook, &facts, UNIX_EPOCH))
    }

    fn details(log: &CallLog, query: CallQuery) -> Vec<String> {
        log.list(&query).items.iter().map(|call| call.detail.clone().unwrap()).collect()
    }

    #[test]
    fn a_webhook_keeps_its_newest_calls_and_others_keep_theirs() {
        let mut log = CallLog::default();
        let (busy, quiet) = (WebhookId::generate(UNIX_EPOCH), WebhookId::generate(UNIX_EPOCH));
        log.add(call(quiet, "quiet"));
        for number in 0..250 {
            log.add(call(busy, &number.to_string()));
        }
        let kept = details(&log, CallQuery::new(busy).limit(1_000));
        assert_eq!((kept.len(), kept[0].as_str(), kept[199].as_str()), (200, "249", "50"));
        assert_eq!(details(&log, CallQuery::new(quiet)), ["quiet"]);
        assert!(log.forget(busy) && !log.forget(busy));
        assert_eq!(details(&log, CallQuery::new(busy)), Vec::<String>::new());
        assert_eq!((log.iter().count(), log.webhooks.len()), (1, 1));
    }

    #[test]
    fn pages_follow_each_other_whatever_the_order_in_which_calls_come() {
        let mut log = CallLog::default();
        let webhook = WebhookId::generate(UNIX_EPOCH);
        let calls: Vec<_> = (0..5).map(|number| call(webhook, &number.to_string())).collect();
        for index in [1, 0, 4, 2, 3, 2] {
            log.add(calls[index].clone());
        }
        let page = |before| details(&log, CallQuery::new(webhook).before(before).limit(2));
        assert_eq!(page(None), ["4", "3"]);
        assert_eq!(page(Some(calls[3].id)), ["2", "1"]);
        assert_eq!(page(Some(calls[1].id)), ["0"]);
        let next = |limit| log.list(&CallQuery::new(webhook).limit(limit)).next;
        assert_eq!((next(5), next(4)), (None, Some(calls[1].id)));
    }

    proptest! {
        #[test]
        fn the_log_stays_within_its_bytes_and_keeps_the_newest(
            added in prop::collection::vec((0..4_usize, 0..400_usize), 1..300),
        ) {
            let most = 20_000;
            let mut log = CallLog::new(most);
            let webhooks: Vec<_> = (0..4).map(|_| WebhookId::generate(UNIX_EPOCH)).collect();
            for (webhook, bytes) in added {
                let record = call(webhooks[webhook], &"x".repeat(bytes));
                log.add(record.clone());
                prop_assert_eq!(log.iter().map(|call| call.bytes_in_memory()).sum::<usize>(), log.bytes);
                prop_assert!(log.bytes <= most);
                prop_assert_eq!(log.iter().count(), log.order.len());
                let newest = log.list(&CallQuery::new(record.webhook_id).limit(1)).items;
                prop_assert_eq!(&*newest[0], &*record);
            }
        }
    }
}
