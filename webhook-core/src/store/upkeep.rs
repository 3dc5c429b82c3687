//! Removal of ended runs, parts of logs, and the health of a store.

use std::time::{Duration, SystemTime};

use crate::id::RunId;
use crate::webhook::Webhook;

/// Retention rules and bounds of a removal of ended runs.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct PruneRequest {
    /// Time of day of the request.
    pub now: SystemTime,
    /// Retention of ended runs whose webhook sets none.
    pub keep_for: Duration,
    /// Upper bound on the ended runs kept for each webhook. `None`: no bound.
    pub keep_per_webhook: Option<u64>,
    /// Upper bound on the removed runs.
    pub limit: usize,
}

impl PruneRequest {
    /// Removes at most `limit` runs that ended longer than `keep_for` ago.
    #[must_use]
    pub fn new(now: SystemTime, keep_for: Duration, limit: usize) -> Self {
        Self { now, keep_for, keep_per_webhook: None, limit }
    }

    /// Sets the upper bound on the ended runs kept for each webhook.
    #[must_use]
    pub fn with_keep_per_webhook(mut self, keep: Option<u64>) -> Self {
        self.keep_per_webhook = keep;
        self
    }

    /// Returns the retention of a webhook's ended runs. `None` stands for a deleted webhook.
    #[must_use]
    pub fn retention(&self, webhook: Option<&Webhook>) -> Duration {
        let days = webhook.and_then(|webhook| webhook.settings.retention_days);
        days.map_or(self.keep_for, |days| Duration::from_secs(u64::from(days) * 86_400))
    }
}

/// Result of [`Store::prune`](super::Store::prune).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pruned {
    /// Ids of the removed runs.
    pub runs: Vec<RunId>,
    /// True if more runs may be removable.
    pub more: bool,
}

impl Pruned {
    /// Combines the removed runs with whether there may be more.
    #[must_use]
    pub fn new(runs: Vec<RunId>, more: bool) -> Self {
        Self { runs, more }
    }
}

/// Size of the tail that is kept of each run's log, in bytes.
pub const LOG_BYTES: usize = 256 * 1024;

/// Returns the number of oldest bytes of a log to drop so that at most [`LOG_BYTES`] remain.
///
/// Whole lines are dropped. Only a last line longer than the bound is itself cut.
#[must_use]
pub fn log_surplus(text: &str) -> usize {
    let Some(excess) = text.len().checked_sub(LOG_BYTES).filter(|excess| *excess > 0) else { return 0 };
    let line_end = text.as_bytes()[excess - 1..].iter().position(|byte| *byte == b'\n');
    match line_end.map(|position| excess + position) {
        Some(cut) if cut < text.len() => cut,
        _ => text.ceil_char_boundary(excess),
    }
}

/// Part of a run's log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogPart {
    /// Byte offset of `text` in the log: the requested offset, or later if older lines were dropped.
    pub offset: u64,
    /// Lines from there to the end of the log.
    pub text: String,
}

impl LogPart {
    /// Combines text with its byte offset.
    #[must_use]
    pub fn new(offset: u64, text: String) -> Self {
        Self { offset, text }
    }

    /// Builds the reply to a read at `offset` from a log that retains `text`, starting at `start`.
    ///
    /// Returns at most the newest [`LOG_BYTES`], so a store may shorten what it retains whenever it suits.
    #[must_use]
    pub fn of_log(start: u64, text: &str, offset: u64) -> Self {
        let asked = usize::try_from(offset.saturating_sub(start)).unwrap_or(usize::MAX);
        if asked > text.len() {
            return Self::new(offset, String::new());
        }
        let from = text.ceil_char_boundary(asked.max(log_surplus(text)));
        Self::new(start + from as u64, text[from..].to_owned())
    }

    /// Returns the byte offset at which the next part starts.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset + self.text.len() as u64
    }
}

/// Numbers of records in a store, and whether it accepts new runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreHealth {
    /// Number of queued runs.
    pub queued: u64,
    /// Number of running runs.
    pub running: u64,
    /// Number of deliveries that have not ended.
    pub pending_deliveries: u64,
    /// Number of records known to be damaged or missing. The rest of the store works.
    pub damaged: u64,
    /// True if the store refuses new runs for lack of space, as on a disk below its reserve. Accepted runs
    /// continue.
    pub is_full: bool,
}

impl StoreHealth {
    /// Reports these numbers, without damage and not full.
    #[must_use]
    pub fn new(queued: u64, running: u64, pending_deliveries: u64) -> Self {
        Self { queued, running, pending_deliveries, damaged: 0, is_full: false }
    }

    /// Sets the number of records known to be damaged or missing.
    #[must_use]
    pub fn with_damaged(mut self, damaged: u64) -> Self {
        self.damaged = damaged;
        self
    }

    /// Sets whether the store refuses new runs for lack of space.
    #[must_use]
    pub fn with_full(mut self, is_full: bool) -> Self {
        self.is_full = is_full;
        self
    }
}
