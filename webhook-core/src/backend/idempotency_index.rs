//! Idempotency keys and the runs they stand for.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::clock::later;
use crate::id::{RunId, WebhookId};
use crate::run::Run;
use crate::store::Idempotency;

/// The record of an idempotency key, which expires by a clock of the store's choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyHolder<T> {
    /// The run that the key stands for.
    pub run: RunId,
    /// Fingerprint of the request that brought the key.
    pub fingerprint: [u8; 32],
    /// Time at which the key is free again.
    pub expires: T,
}

/// The meaning of an idempotency key for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyMeaning {
    /// The key is free: no request brought it, or it has expired.
    Free,
    /// The key stands for this run. If the run was pruned, the key is free.
    Run(RunId),
    /// Another request brought the key.
    Mismatch,
}

impl<T: PartialOrd> KeyHolder<T> {
    /// Returns the meaning of this key for a request at `now`.
    #[must_use]
    pub fn meaning(&self, given: &Idempotency, now: T) -> KeyMeaning {
        if self.expires <= now {
            KeyMeaning::Free
        } else if given.matches(&self.fingerprint) {
            KeyMeaning::Run(self.run)
        } else {
            KeyMeaning::Mismatch
        }
    }
}

/// Webhook and text of a key: each webhook has its own keys.
type KeyPlace = (WebhookId, Arc<str>);

/// All idempotency keys, for a store that keeps them in memory.
#[derive(Debug, Default)]
pub(crate) struct IdempotencyIndex {
    keys: HashMap<KeyPlace, KeyHolder<Instant>>,
    /// The places of `keys`, by the time at which they expire.
    by_expiry: BTreeSet<(Instant, KeyPlace)>,
    /// Time until which each run is kept for its key. `None` is forever.
    kept: HashMap<RunId, Option<SystemTime>>,
}

impl IdempotencyIndex {
    /// Returns the meaning of a key for a request.
    #[must_use]
    pub(crate) fn look_up(&self, webhook: WebhookId, given: &Idempotency, now: Instant) -> KeyMeaning {
        let holder = self.keys.get(&(webhook, Arc::from(given.key.as_str())));
        holder.map_or(KeyMeaning::Free, |holder| holder.meaning(given, now))
    }

    /// Lets a key stand for a run.
    pub(crate) fn insert(&mut self, webhook: WebhookId, given: Idempotency, run: &Run, now: Instant) {
        let holder =
            KeyHolder { fingerprint: given.fingerprint, run: run.id(), expires: later(now, given.keep_for) };
        let until = run.queued_at().checked_add(given.keep_for);
        self.put((webhook, Arc::from(given.key)), holder, until);
    }

    /// Takes a key that was read when the store was opened.
    pub(crate) fn restore(
        &mut self,
        webhook: WebhookId,
        key: String,
        holder: KeyHolder<SystemTime>,
        now: SystemTime,
        instant: Instant,
    ) {
        let KeyHolder { run, fingerprint, expires: expires_at } = holder;
        let left = expires_at.duration_since(now).unwrap_or(Duration::ZERO);
        let holder = KeyHolder { run, fingerprint, expires: later(instant, left) };
        self.put((webhook, Arc::from(key)), holder, Some(expires_at));
    }

    fn put(&mut self, place: KeyPlace, holder: KeyHolder<Instant>, until: Option<SystemTime>) {
        let expires = holder.expires;
        self.kept.insert(holder.run, until);
        if let Some(old) = self.keys.insert(place.clone(), holder) {
            self.by_expiry.remove(&(old.expires, place.clone()));
            self.kept.remove(&old.run);
        }
        self.by_expiry.insert((expires, place));
    }

    /// Returns true if a run must be kept, because its key stands for it.
    #[must_use]
    pub(crate) fn keeps(&self, run: RunId, now: SystemTime) -> bool {
        self.kept.get(&run).is_some_and(|until| until.is_none_or(|until| until > now))
    }

    /// Removes expired keys, and returns each with its webhook.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<(WebhookId, Arc<str>)> {
        let mut expired = Vec::new();
        while let Some((expires, place)) = self.by_expiry.pop_first() {
            if expires > now {
                self.by_expiry.insert((expires, place));
                break;
            }
            if let Some(holder) = self.keys.remove(&place) {
                self.kept.remove(&holder.run);
            }
            expired.push(place);
        }
        expired
    }
}
