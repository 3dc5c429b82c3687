//! Idempotency keys and the runs they stand for.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tokio::time::Instant;

use super::state::after;
use crate::id::{RunId, WebhookId};
use crate::store::Idempotency;

/// A key belongs to its webhook.
type Place = (WebhookId, Arc<str>);

#[derive(Debug, Default)]
pub(super) struct Keys {
    entries: HashMap<Place, Entry>,
    by_expiry: BTreeSet<(Instant, Place)>,
}

#[derive(Debug)]
struct Entry {
    fingerprint: [u8; 32],
    run: RunId,
    expires: Instant,
}

/// What a key stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LookUp {
    /// Nothing, or no longer anything.
    Unknown,
    /// This run.
    Found(RunId),
    /// Another request.
    Mismatch,
}

impl Keys {
    pub(super) fn look_up(&self, webhook: WebhookId, idempotency: &Idempotency, instant: Instant) -> LookUp {
        match self.entries.get(&(webhook, Arc::from(idempotency.key.as_str()))) {
            Some(entry) if entry.expires > instant => {
                let same = entry.fingerprint == idempotency.fingerprint;
                if same { LookUp::Found(entry.run) } else { LookUp::Mismatch }
            }
            _ => LookUp::Unknown,
        }
    }

    pub(super) fn record(&mut self, webhook: WebhookId, key: Idempotency, run: RunId, instant: Instant) {
        let place: Place = (webhook, Arc::from(key.key));
        let expires = after(instant, key.keep_for);
        let entry = Entry { fingerprint: key.fingerprint, run, expires };
        if let Some(old) = self.entries.insert(place.clone(), entry) {
            self.by_expiry.remove(&(old.expires, place.clone()));
        }
        self.by_expiry.insert((expires, place));
    }

    pub(super) fn expire(&mut self, instant: Instant) {
        while let Some((expires, place)) = self.by_expiry.pop_first() {
            if expires > instant {
                self.by_expiry.insert((expires, place));
                return;
            }
            self.entries.remove(&place);
        }
    }
}
