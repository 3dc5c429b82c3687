//! The writer's memory of records that sled may not show yet.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;

use webhook_core::id::RunId;
use webhook_core::run::Run;

use crate::format::keys::KeyPlace;
use crate::format::value::KeyRecord;
use crate::writer::reply::Reply;

/// The values that hold claims. Each is removed with the last of its claims.
///
/// A value has the fence of its first claim as its number.
#[derive(Debug, Default)]
pub(crate) struct OpenClaims {
    by_run: HashMap<RunId, u64>,
    /// Claims left in each value: as many as `by_run` has with its number, and at least one.
    left: HashMap<u64, usize>,
}

impl OpenClaims {
    /// Takes runs whose claims are in one value.
    pub(crate) fn open(&mut self, runs: &[Arc<Run>]) {
        let first = runs[0].fence();
        self.left.insert(first, runs.len());
        self.by_run.extend(runs.iter().map(|run| (run.id(), first)));
    }

    /// Drops a run's claim. Returns the number of its value when that was the last one in it.
    pub(crate) fn close(&mut self, run: RunId) -> Option<u64> {
        let first = self.by_run.remove(&run)?;
        let left = self.left.get_mut(&first)?;
        debug_assert!(*left > 0);
        *left -= 1;
        if *left > 0 {
            return None;
        }
        self.left.remove(&first).map(|_| first)
    }
}

/// Idempotency keys that sled may lack, with the sequence numbers of their records.
#[derive(Default)]
pub(crate) struct PendingKeys {
    by_place: HashMap<KeyPlace, (KeyRecord, u64)>,
    /// Number of keys at which those that sled has are dropped. It grows with the number that is left, so each key is examined
    /// only a few times.
    sweep_at: usize,
}

impl PendingKeys {
    pub(crate) fn get(&self, place: &KeyPlace) -> Option<KeyRecord> {
        self.by_place.get(place).map(|(record, _)| *record)
    }

    /// Takes a key of the record with this number, when sled has everything up to `applied`.
    pub(crate) fn put(&mut self, place: KeyPlace, record: KeyRecord, number: u64, applied: u64) {
        self.by_place.insert(place, (record, number));
        if self.by_place.len() >= self.sweep_at {
            self.by_place.retain(|_, (_, number)| *number > applied);
            self.sweep_at = self.by_place.len() * 2 + 256;
        }
    }
}

/// The stored part of a run's log, as offsets in the log.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LogExtent {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// A deleted webhook whose queued runs are being cancelled.
pub(crate) struct ClosingWebhook {
    pub(crate) queued: VecDeque<RunId>,
    pub(crate) now: SystemTime,
    pub(crate) cancelled: Vec<RunId>,
    /// `None` when the webhook was deleted before the store was opened.
    pub(crate) reply: Option<Reply<Vec<RunId>>>,
}
