//! Index of the contents of calls that are kept.

use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

use crate::calls::{ALL_CONTENT_BYTES, CONTENT_BYTES};
use crate::id::{CallId, WebhookId};

/// Index of the kept contents, which the store keeps by the id of their call.
#[derive(Debug)]
pub(super) struct CallContents {
    by_call: BTreeMap<CallId, IndexedContent>,
    bytes_by_webhook: HashMap<WebhookId, usize>,
    bytes: usize,
    most_of_webhook: usize,
    most: usize,
    /// Contents that the store is to remove.
    dropped: Vec<CallId>,
}

#[derive(Debug, Clone, Copy)]
struct IndexedContent {
    webhook: WebhookId,
    bytes: usize,
    expires_at: SystemTime,
}

impl Default for CallContents {
    fn default() -> Self {
        Self::new(CONTENT_BYTES, ALL_CONTENT_BYTES)
    }
}

impl CallContents {
    fn new(most_of_webhook: usize, most: usize) -> Self {
        Self {
            by_call: BTreeMap::new(),
            bytes_by_webhook: HashMap::new(),
            bytes: 0,
            most_of_webhook,
            most,
            dropped: Vec::new(),
        }
    }

    /// Adds a content, and drops the oldest ones beyond the bounds.
    pub(super) fn add(&mut self, call: CallId, webhook: WebhookId, bytes: usize, expires_at: SystemTime) {
        self.bytes += bytes;
        *self.bytes_by_webhook.entry(webhook).or_default() += bytes;
        self.by_call.insert(call, IndexedContent { webhook, bytes, expires_at });
        while self.bytes_by_webhook.get(&webhook).is_some_and(|bytes| *bytes > self.most_of_webhook)
            && let Some(oldest) = self.oldest_of(webhook)
        {
            self.remove(oldest);
        }
        while self.bytes > self.most
            && let Some(oldest) = self.by_call.keys().next().copied()
        {
            self.remove(oldest);
        }
    }

    /// Drops the content of a call, if there is one.
    pub(super) fn remove(&mut self, call: CallId) {
        let Some(content) = self.by_call.remove(&call) else { return };
        self.bytes -= content.bytes;
        if let Some(bytes) = self.bytes_by_webhook.get_mut(&content.webhook) {
            *bytes -= content.bytes;
            if *bytes == 0 {
                self.bytes_by_webhook.remove(&content.webhook);
            }
        }
        self.dropped.push(call);
    }

    /// Drops the expired contents.
    pub(super) fn expire(&mut self, now: SystemTime) {
        let is_over =
            |(call, content): (&CallId, &IndexedContent)| (content.expires_at <= now).then_some(*call);
        for call in self.by_call.iter().filter_map(is_over).collect::<Vec<_>>() {
            self.remove(call);
        }
    }

    /// Returns whether the content of a call is kept at this time.
    pub(super) fn has(&self, call: CallId, now: SystemTime) -> bool {
        self.by_call.get(&call).is_some_and(|content| content.expires_at > now)
    }

    pub(super) fn take_dropped(&mut self) -> Vec<CallId> {
        std::mem::take(&mut self.dropped)
    }

    fn oldest_of(&self, webhook: WebhookId) -> Option<CallId> {
        self.by_call.iter().find(|(_, content)| content.webhook == webhook).map(|(call, _)| *call)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_content_is_kept_until_its_time_and_dropped_once() {
        let mut contents = CallContents::default();
        let (call, webhook) = (CallId::generate(UNIX_EPOCH), WebhookId::generate(UNIX_EPOCH));
        let end = UNIX_EPOCH + Duration::from_secs(9);
        contents.add(call, webhook, 5, end);
        assert!(contents.has(call, end - Duration::from_millis(1)) && !contents.has(call, end));
        contents.expire(UNIX_EPOCH);
        assert_eq!(contents.take_dropped(), []);
        contents.expire(end);
        contents.remove(call);
        assert_eq!(contents.take_dropped(), [call]);
        assert_eq!((contents.bytes, contents.bytes_by_webhook.len()), (0, 0));
    }

    proptest! {
        #[test]
        fn the_bounds_hold_and_the_newest_content_of_all_stays(
            added in prop::collection::vec((0..3_usize, 1..400_usize), 1..200),
        ) {
            let mut contents = CallContents::new(500, 1_200);
            let webhooks: Vec<_> = (0..3).map(|_| WebhookId::generate(UNIX_EPOCH)).collect();
            let (mut all, mut dropped) = (BTreeSet::new(), BTreeSet::new());
            for (webhook, bytes) in added {
                let call = CallId::generate(UNIX_EPOCH);
                contents.add(call, webhooks[webhook], bytes, UNIX_EPOCH + Duration::from_secs(1));
                all.insert(call.to_string());
                for gone in contents.take_dropped() {
                    prop_assert!(dropped.insert(gone.to_string()), "each is dropped once");
                }
                prop_assert!(contents.has(call, UNIX_EPOCH));
                prop_assert!(contents.bytes <= 1_200);
                prop_assert!(contents.bytes_by_webhook.values().all(|bytes| *bytes <= 500));
                prop_assert_eq!(contents.bytes_by_webhook.values().sum::<usize>(), contents.bytes);
                prop_assert_eq!(contents.by_call.len() + dropped.len(), all.len());
            }
        }
    }
}
