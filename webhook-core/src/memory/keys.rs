//! Idempotency keys and the runs they stand for.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use crate::clock::later;
use crate::id::{RunId, WebhookId};
use crate::run::Run;
use crate::store::Idempotency;

/// A key belongs to its webhook.
type Place = (WebhookId, Arc<str>);

#[derive(Debug, Default)]
pub(super) struct Keys {
    entries: HashMap<Place, Entry>,
    by_expiry: BTreeSet<(Instant, Place)>,
    /// Until when each run is to be found by its key; `None` is for ever.
    kept: HashMap<RunId, Option<SystemTime>>,
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
                let same = idempotency.matches(&entry.fingerprint);
                if same { LookUp::Found(entry.run) } else { LookUp::Mismatch }
            }
            _ => LookUp::Unknown,
        }
    }

    pub(super) fn record(&mut self, webhook: WebhookId, key: Idempotency, run: &Run, instant: Instant) {
        let place: Place = (webhook, Arc::from(key.key));
        let expires = later(instant, key.keep_for);
        let entry = Entry { fingerprint: key.fingerprint, run: run.id, expires };
        self.kept.insert(run.id, run.queued_at.checked_add(key.keep_for));
        if let Some(old) = self.entries.insert(place.clone(), entry) {
            self.by_expiry.remove(&(old.expires, place.clone()));
            self.kept.remove(&old.run);
        }
        self.by_expiry.insert((expires, place));
    }

    /// Whether the key of a run is still to find it.
    pub(super) fn keep(&self, run: RunId, now: SystemTime) -> bool {
        self.kept.get(&run).is_some_and(|until| until.is_none_or(|until| until > now))
    }

    pub(super) fn expire(&mut self, instant: Instant) {
        while let Some((expires, place)) = self.by_expiry.pop_first() {
            if expires > instant {
                self.by_expiry.insert((expires, place));
                return;
            }
            if let Some(entry) = self.entries.remove(&place) {
                self.kept.remove(&entry.run);
            }
        }
    }
}
