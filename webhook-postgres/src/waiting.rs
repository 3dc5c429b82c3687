//! Waiting for work: woken by notifications, by what comes due, and now and then in any case.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use webhook_core::store::{Channels, Work, Workflows};

use crate::database::Database;
use crate::record::*;

/// Interval at which work is looked for while notifications come, in case one was lost.
const SLOW: Duration = Duration::from_secs(5);
/// Interval at which it is looked for while none come.
const QUICK: Duration = Duration::from_millis(250);

/// Counters of changes to work. A worker that saw the newest change and found nothing waits for the next.
#[derive(Default)]
pub(crate) struct Waits {
    runs: AtomicU64,
    deliveries: AtomicU64,
    /// The changes of `runs` up to which nothing was left to claim, by the workflows that were asked for.
    idle_runs: Mutex<Vec<(Workflows, u64)>>,
    /// The changes of `deliveries` up to which nothing was left to claim, by the channels that were asked for.
    idle_deliveries: Mutex<Vec<(Channels, u64)>>,
    changed: Notify,
    is_listening: AtomicBool,
}

impl Waits {
    pub(crate) fn new() -> Arc<Self> {
        let waits = Self::default();
        waits.runs.store(1, Ordering::SeqCst);
        waits.deliveries.store(1, Ordering::SeqCst);
        Arc::new(waits)
    }

    /// The newest change of what can be claimed.
    pub(crate) fn runs(&self) -> u64 {
        self.runs.load(Ordering::SeqCst)
    }

    pub(crate) fn deliveries(&self) -> u64 {
        self.deliveries.load(Ordering::SeqCst)
    }

    /// A claim found all that there was at this change, or as much as it asked for.
    pub(crate) fn claimed_runs(&self, workflows: &Workflows, seen: Option<u64>) {
        note_idle(&self.idle_runs, workflows, seen);
    }

    pub(crate) fn claimed_deliveries(&self, channels: &Channels, seen: Option<u64>) {
        note_idle(&self.idle_deliveries, channels, seen);
    }

    pub(crate) fn runs_changed(&self) {
        self.runs.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    pub(crate) fn deliveries_changed(&self) {
        self.deliveries.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    pub(crate) fn set_listening(&self, is_listening: bool) {
        self.is_listening.store(is_listening, Ordering::SeqCst);
    }

    /// Returns whether nothing has changed since a claim found no work.
    fn is_idle(&self, work: &Work) -> bool {
        match work {
            Work::Deliveries(channels) => is_idle(&self.idle_deliveries, channels, self.deliveries()),
            Work::RunsOf(workflows) => is_idle(&self.idle_runs, workflows, self.runs()),
            _ => is_idle(&self.idle_runs, &Workflows::All, self.runs()),
        }
    }

    pub(crate) async fn wait(&self, database: &Database, work: &Work) {
        let changed = self.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        if !self.is_idle(work) {
            return;
        }
        let slow = if self.is_listening.load(Ordering::SeqCst) { SLOW } else { QUICK };
        // Without an answer, the next claim tells what is wrong.
        let next = next_due(database, work).await.unwrap_or(Some(slow));
        let until = next.map_or(slow, |next| next.min(slow));
        let sleep = tokio::time::sleep(until);
        tokio::pin!(sleep);
        loop {
            if !self.is_idle(work) {
                return;
            }
            tokio::select! {
                () = &mut sleep => return,
                () = &mut changed => changed.set(self.changed.notified()),
            }
            changed.as_mut().enable();
        }
    }
}

/// Notes up to which change nothing was left to claim of what was asked for. `None`: something may be left.
fn note_idle<K: Clone + PartialEq>(idle: &Mutex<Vec<(K, u64)>>, asked: &K, seen: Option<u64>) {
    let mut idle = idle.lock();
    idle.retain(|(known, _)| known != asked);
    if let Some(seen) = seen {
        // Few combinations are in use at a time.
        idle.truncate(31);
        idle.insert(0, (asked.clone(), seen));
    }
}

fn is_idle<K: PartialEq>(idle: &Mutex<Vec<(K, u64)>>, asked: &K, present: u64) -> bool {
    idle.lock().iter().any(|(known, seen)| known == asked && *seen == present)
}

/// In how long work comes by itself.
async fn next_due(database: &Database, work: &Work) -> Result<Option<Duration>, crate::failure::Failure> {
    let rows = match work {
        Work::Deliveries(channels) => {
            let (only, but) = selected(channels);
            let parameters = [maybe_text(&only), texts(&but)];
            database.read("SELECT @S@.next_delivery_1($1, $2)", &parameters).await?
        }
        _ => database.read("SELECT @S@.next_run_1()", &[]).await?,
    };
    let milliseconds: Option<f64> = rows.first().map(|row| at(row, 0)).transpose()?.flatten();
    // A millisecond more, so that the time has come by then.
    Ok(milliseconds.map(|it| Duration::from_secs_f64(it.clamp(0.0, 60_000.0) / 1_000.0 + 0.001)))
}

/// Channels as the database takes them: one, or all but some.
pub(crate) fn selected(channels: &Channels) -> (Option<String>, Vec<String>) {
    match channels {
        Channels::Only(only) => (Some(only.as_str().to_owned()), Vec::new()),
        Channels::Except(but) => (None, but.iter().map(|channel| channel.as_str().to_owned()).collect()),
    }
}
