//! Notices a disk that hangs, by the time that steps on it have been under way.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use webhook_core::store::StoreError;

/// Longest time of a step. A longer one shows that the disk hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// The steps that are under way.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    steps: Mutex<WatchedSteps>,
    hangs: AtomicBool,
    changed: Notify,
}

#[derive(Debug, Default)]
struct WatchedSteps {
    /// Start of each step, by its number. The first is the oldest, since numbers only grow.
    began: BTreeMap<u64, Instant>,
    last: u64,
}

/// A step, under way until this is dropped.
pub(crate) struct WatchedStep<'a> {
    watch: &'a Watch,
    number: u64,
}

impl Watch {
    /// Begins a step that touches the disk. It ends when the result is dropped.
    pub(crate) fn begin(&self) -> WatchedStep<'_> {
        let mut steps = self.steps.lock();
        steps.last += 1;
        let number = steps.last;
        steps.began.insert(number, Instant::now());
        WatchedStep { watch: self, number }
    }

    /// Checks that no step has been under way for too long.
    ///
    /// Fails with [`StoreError::Unavailable`] while one has.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let oldest = self.steps.lock().began.values().next().copied();
        let passed = oldest.map_or(Duration::ZERO, |began| began.elapsed());
        let hangs = passed > PATIENCE;
        // One of several checks sees the change, and tells of it.
        let hung = self.hangs.swap(hangs, Ordering::AcqRel);
        if hangs && !hung {
            tracing::error!(seconds = passed.as_secs(), "the disk hangs: it does not do what it was asked");
            self.changed.notify_waiters();
        } else if hung && !hangs {
            tracing::info!("the disk no longer hangs");
        }
        if hangs {
            let seconds = passed.as_secs();
            return Err(StoreError::unavailable(format!(
                "the disk hangs: nothing has come of it for {seconds} s"
            )));
        }
        Ok(())
    }

    pub(crate) fn hangs(&self) -> bool {
        self.check().is_err()
    }

    /// Waits until the disk hangs, as noticed by a [check](Self::check).
    pub(crate) async fn hung(&self) {
        loop {
            let mut changed = pin!(self.changed.notified());
            // Registered before the look, so a change in between is not missed.
            changed.as_mut().enable();
            if self.hangs.load(Ordering::Acquire) {
                return;
            }
            changed.await;
        }
    }
}

impl Drop for WatchedStep<'_> {
    fn drop(&mut self) {
        self.watch.steps.lock().began.remove(&self.number);
    }
}
