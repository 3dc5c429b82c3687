//! The queue of the writer.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Operations for the writer, in the order of their arrival. Its length is bounded by the number of callers, each of which
/// waits for its own operation.
pub(crate) struct Queue<O> {
    waiting: Mutex<Waiting<O>>,
    arrived: Condvar,
}

struct Waiting<O> {
    operations: VecDeque<O>,
    /// True if the next wait ends at once.
    nudged: bool,
    closed: bool,
}

impl<O> Queue<O> {
    pub(crate) fn new() -> Self {
        let waiting = Waiting { operations: VecDeque::new(), nudged: false, closed: false };
        Self { waiting: Mutex::new(waiting), arrived: Condvar::new() }
    }

    /// Adds an operation.
    ///
    /// # Errors
    /// The operation, when the queue is closed.
    pub(crate) fn push(&self, operation: O) -> Result<(), O> {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Err(operation);
        }
        let was_empty = waiting.operations.is_empty();
        waiting.operations.push_back(operation);
        drop(waiting);
        // The writer waits only while the queue is empty, so later operations need not wake it.
        if was_empty {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Ends the writer's wait, or its next one.
    pub(crate) fn nudge(&self) {
        self.waiting.lock().nudged = true;
        self.arrived.notify_one();
    }

    /// Waits for operations, at most for `pause`, and moves all of them into `taken`. Returns whether the queue is still
    /// open or has given some.
    pub(crate) fn take(&self, taken: &mut VecDeque<O>, pause: Option<Duration>) -> bool {
        debug_assert!(taken.is_empty());
        let idle =
            |waiting: &mut Waiting<O>| waiting.operations.is_empty() && !waiting.closed && !waiting.nudged;
        let mut waiting = self.waiting.lock();
        match pause {
            None => self.arrived.wait_while(&mut waiting, idle),
            Some(pause) => {
                self.arrived.wait_while_for(&mut waiting, idle, pause);
            }
        }
        waiting.nudged = false;
        std::mem::swap(&mut waiting.operations, taken);
        !(waiting.closed && taken.is_empty())
    }

    /// Adds the operations that have arrived since, without waiting.
    pub(crate) fn take_more(&self, taken: &mut VecDeque<O>) {
        taken.append(&mut self.waiting.lock().operations);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.waiting.lock().closed
    }

    pub(crate) fn close(&self) {
        self.waiting.lock().closed = true;
        self.arrived.notify_one();
    }
}
