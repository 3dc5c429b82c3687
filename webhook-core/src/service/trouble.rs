//! Work that the workers cannot complete, counted for metrics and for the health of the service.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use metrics::{counter, describe_counter, describe_gauge, gauge};

const BLOCKED: &str = "webhook_executors_blocked";
const UNRECORDED: &str = "webhook_outcomes_unrecorded";
const PANICS: &str = "webhook_worker_panics_total";

/// Work that the workers of a process cannot complete.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkHealth {
    /// Number of executors that were given up and still block their threads.
    pub blocked_executors: usize,
    /// Number of outcomes that the store refuses, or that wait for an unavailable store. Their runs are shown
    /// as running.
    pub unrecorded_outcomes: usize,
    /// Number of panics in tasks of the workers and in their calls to the store, since the start of the
    /// process. The tasks continued.
    pub panics: u64,
}

impl WorkHealth {
    /// Returns whether any work is stuck at this moment.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        self.blocked_executors + self.unrecorded_outcomes > 0
    }
}

#[derive(Debug)]
pub(super) struct Trouble {
    blocked: AtomicUsize,
    unrecorded: AtomicUsize,
    panics: AtomicU64,
}

impl Default for Trouble {
    fn default() -> Self {
        describe_gauge!(BLOCKED, "Executors that were given up and still block their threads");
        describe_gauge!(UNRECORDED, "Outcomes of attempts that the store refuses");
        describe_counter!(
            PANICS,
            "Panics in tasks of the workers and in their calls to the store, after which they went on"
        );
        Self { blocked: AtomicUsize::new(0), unrecorded: AtomicUsize::new(0), panics: AtomicU64::new(0) }
    }
}

impl Trouble {
    /// Adds to the number of executors that block their threads. Returns the new number.
    pub(super) fn blocked(&self, change: isize) -> usize {
        let before = match change.is_positive() {
            true => self.blocked.fetch_add(change.unsigned_abs(), Ordering::SeqCst),
            false => self.blocked.fetch_sub(change.unsigned_abs(), Ordering::SeqCst),
        };
        let now = before.saturating_add_signed(change);
        gauge!(BLOCKED).set(now as f64);
        now
    }

    /// Sets the number of outcomes that are not recorded although they should be.
    pub(super) fn set_unrecorded(&self, count: usize) {
        if self.unrecorded.swap(count, Ordering::SeqCst) != count {
            gauge!(UNRECORDED).set(count as f64);
        }
    }

    /// Counts a panic of a task.
    pub(super) fn panicked(&self, task: &'static str) {
        self.panics.fetch_add(1, Ordering::SeqCst);
        counter!(PANICS, "task" => task).increment(1);
    }

    pub(super) fn health(&self) -> WorkHealth {
        WorkHealth {
            blocked_executors: self.blocked.load(Ordering::SeqCst),
            unrecorded_outcomes: self.unrecorded.load(Ordering::SeqCst),
            panics: self.panics.load(Ordering::SeqCst),
        }
    }
}
