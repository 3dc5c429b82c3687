//! The thread that checks everything in the database slowly, soon after the opening and then once a day.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::check::walk::Walk;
use crate::engine::parts::Parts;
use crate::reader::prune::Removal;

/// Pause between the opening and the first check.
const FIRST: Duration = Duration::from_secs(15);
/// Pause between two checks.
const NEXT: Duration = Duration::from_secs(24 * 60 * 60);
/// Length of one step.
const STEP: Duration = Duration::from_millis(2);
/// Length of the rest after a step, as a multiple of the step.
const REST: u32 = 9;

/// The thread, until this is dropped.
pub(crate) struct Scrubber {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Stop {
    is_set: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// Rests for this time, or until it is told to stop. Returns whether it was told.
    fn rest(&self, time: Duration) -> bool {
        let mut is_set = self.is_set.lock();
        self.changed.wait_while_for(&mut is_set, |is_set| !*is_set, time);
        *is_set
    }
}

impl Scrubber {
    /// Starts the thread. `sweep` removes parts that belong to no run.
    pub(crate) fn start(
        parts: Arc<Parts>,
        sweep: impl Fn(Vec<Removal>) + Send + 'static,
    ) -> io::Result<Self> {
        let stop = Arc::new(Stop::default());
        let stopped = stop.clone();
        let work = move || {
            let mut pause = FIRST;
            while !stopped.rest(pause) {
                if check_all(&parts, &stopped, &sweep) {
                    return;
                }
                pause = NEXT;
            }
        };
        let thread = Builder::new().name("webhook-sled-scrub".to_owned()).spawn(work)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Scrubber {
    fn drop(&mut self) {
        *self.stop.is_set.lock() = true;
        self.stop.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic of the scrubber concerns no other thread.
            let _ = thread.join();
        }
    }
}

/// Checks everything once. Returns true if it was told to stop.
fn check_all(parts: &Parts, stop: &Stop, sweep: impl Fn(Vec<Removal>)) -> bool {
    let known = parts.damage().count();
    let mut walk = Walk::new();
    loop {
        let begun = Instant::now();
        let pause = match walk.go_on(parts, STEP) {
            Ok(ControlFlow::Break(())) => break,
            Ok(ControlFlow::Continue(())) => begun.elapsed() * REST,
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "the check rests");
                Duration::from_secs(10)
            }
        };
        if stop.rest(pause) {
            return true;
        }
    }
    let (checked, damaged) = (walk.checked, parts.damage().count());
    if damaged > known {
        tracing::error!(checked, damaged, "the check has found damaged records");
    } else {
        tracing::debug!(checked, damaged, "the check has found no more damage");
    }
    if !walk.leftovers.is_empty() {
        sweep(walk.leftovers);
    }
    false
}
