//! Log records that sled lacks, and the sequence numbers that say how far journal and sled are.
//!
//! Records wait for 100 ms, so a value that is put and soon removed never reaches sled. A reader ends the wait, since sled
//! must be up to date before it is read.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::engine::change::LogRecord;
use crate::engine::condition::{Failure, Severity};

/// Longest wait of a record that no reader needs in sled.
const FLUSH_DELAY: Duration = Duration::from_millis(100);
/// Cost of the waiting records at which they wait no longer, in bytes.
const FLUSH_BYTES: usize = 256 * 1024;
/// Longest time for which the superblock on disk may lag behind its content in memory.
const SUPERBLOCK_DELAY: Duration = Duration::from_secs(1);

/// The records that sled lacks, shared by the writer, the readers and the checkpointer.
#[derive(Default)]
pub(crate) struct CheckpointQueue {
    state: Mutex<State>,
    /// Wakes the checkpointer: there is something to do.
    arrived: Condvar,
    /// Wakes waiting readers and the writer: a sequence number has grown, or the checkpointer has failed.
    advanced: Condvar,
}

/// Sequence numbers only grow, except at a [restart](CheckpointQueue::restart), and
/// `durable <= applied <= newest` and `acknowledged <= newest` always hold.
#[derive(Default)]
struct State {
    waiting: VecDeque<LogRecord>,
    /// Cost of `waiting`, in bytes.
    cost: usize,
    /// Arrival of the first of `waiting`.
    since: Option<Instant>,
    /// Newest record that was appended to the journal.
    newest: u64,
    /// Newest record in sled.
    applied: u64,
    /// Newest record that is durable in sled.
    durable: u64,
    /// Newest record that is durable in the journal and noted in the superblock.
    acknowledged: u64,
    /// Time of the oldest note in the superblock that is not durable there.
    noted_since: Option<Instant>,
    /// Newest record that a reader needs in sled.
    wanted: u64,
    /// Newest record that the writer needs durable in sled.
    wanted_durable: u64,
    /// Number of restarts. A wait that began before the last restart fails: its record may never come.
    generation: u64,
    /// True if the checkpointer has a task in hand.
    busy: bool,
    closed: bool,
    failure: Option<Failure>,
}

impl State {
    fn check_order(&self) {
        debug_assert!(self.durable <= self.applied, "only what is in sled is durable there");
        debug_assert!(self.applied <= self.newest, "only what was appended goes to sled");
        debug_assert!(self.acknowledged <= self.newest, "only what was appended is acknowledged");
    }
}

/// The next work of the checkpointer.
pub(crate) struct Task {
    pub(crate) records: VecDeque<LogRecord>,
    /// Newest record that was durable in the journal when the task began.
    pub(crate) acknowledged: u64,
    pub(crate) sync: bool,
    pub(crate) sync_superblock: bool,
}

/// A record that a caller waits for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AwaitedRecord {
    number: u64,
    generation: u64,
}

impl CheckpointQueue {
    /// Begins again with a database that durably holds everything up to this record.
    pub(crate) fn restart(&self, number: u64) {
        let mut state = self.state.lock();
        let generation = state.generation + 1;
        let (newest, applied, durable, acknowledged) = (number, number, number, number);
        *state = State { newest, applied, durable, acknowledged, generation, ..State::default() };
        self.advanced.notify_all();
    }

    /// Drops the waiting records, and waits until the checkpointer has no task in hand.
    pub(crate) fn stop(&self) {
        let mut state = self.state.lock();
        state.waiting.clear();
        state.cost = 0;
        self.advanced.wait_while(&mut state, |state| state.busy);
    }

    /// Ends the checkpointer once it has written the waiting records.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.arrived.notify_one();
    }

    /// Takes a record that was appended to the journal.
    pub(crate) fn push(&self, record: LogRecord) {
        let mut state = self.state.lock();
        debug_assert!(record.number > state.newest, "sequence numbers only grow");
        let (was_empty, was_due) = (state.waiting.is_empty(), state.cost >= FLUSH_BYTES);
        state.newest = record.number;
        state.cost += record.cost();
        state.since.get_or_insert_with(Instant::now);
        state.waiting.push_back(record);
        // Between these two events the checkpointer sleeps on, with its time-out.
        if was_empty || (state.cost >= FLUSH_BYTES && !was_due) {
            self.arrived.notify_one();
        }
    }

    /// The newest record, to wait for.
    pub(crate) fn newest(&self) -> AwaitedRecord {
        let state = self.state.lock();
        AwaitedRecord { number: state.newest, generation: state.generation }
    }

    /// A record that was appended or is about to be, to wait for.
    pub(crate) fn record(&self, number: u64) -> AwaitedRecord {
        AwaitedRecord { number, generation: self.state.lock().generation }
    }

    /// Notes that everything up to this record is durable in the journal, and that the superblock says so.
    pub(crate) fn acknowledge(&self, number: u64) {
        let mut state = self.state.lock();
        debug_assert!(number >= state.acknowledged, "acknowledged only grows");
        state.acknowledged = number;
        state.check_order();
        if state.noted_since.is_none() {
            state.noted_since = Some(Instant::now());
            self.arrived.notify_one();
        }
    }

    /// The newest record in sled.
    pub(crate) fn applied(&self) -> u64 {
        self.state.lock().applied
    }

    /// Notes that everything up to this record is in sled.
    pub(crate) fn note_applied(&self, number: u64) {
        self.advance(|state| state.applied = number);
    }

    /// Notes that everything up to this record is durable in sled.
    pub(crate) fn note_durable(&self, number: u64) {
        self.advance(|state| state.durable = number);
    }

    /// Notes the end of a task. A failure stays until the next restart.
    pub(crate) fn finish_task(&self, failure: Option<Failure>) {
        self.advance(|state| {
            state.busy = false;
            state.failure = failure.or(state.failure.take());
        });
    }

    /// Waits until a record is in sled.
    pub(crate) fn wait_applied(&self, awaited: AwaitedRecord) -> Result<(), Failure> {
        let mut state = self.state.lock();
        if state.generation == awaited.generation {
            state.wanted = state.wanted.max(awaited.number);
        }
        self.wait(state, awaited.generation, |state| state.applied >= awaited.number)
    }

    /// Requests that everything up to this record becomes durable in sled, and does not wait for it.
    pub(crate) fn want_durable(&self, number: u64) {
        let mut state = self.state.lock();
        state.wanted_durable = state.wanted_durable.max(number);
        self.arrived.notify_one();
    }

    /// Waits until a record is durable in sled.
    pub(crate) fn wait_durable(&self, number: u64) -> Result<(), Failure> {
        self.want_durable(number);
        let state = self.state.lock();
        let generation = state.generation;
        self.wait(state, generation, |state| state.durable >= number)
    }

    /// Waits for as long as the generation lasts.
    fn wait(
        &self,
        mut state: MutexGuard<'_, State>,
        generation: u64,
        is_reached: impl Fn(&State) -> bool,
    ) -> Result<(), Failure> {
        if is_reached(&state) {
            return Ok(());
        }
        self.arrived.notify_one();
        let waits = |state: &mut State| {
            !is_reached(state) && state.failure.is_none() && state.generation == generation
        };
        self.advanced.wait_while(&mut state, waits);
        if is_reached(&state) {
            return Ok(());
        }
        let reason = || "the database was reopened in the meantime; ask again".to_owned();
        let reopened = || Failure { reason: reason(), severity: Severity::Full };
        Err(state.failure.clone().unwrap_or_else(reopened))
    }

    /// Waits for the next task of the checkpointer. `None` once the queue is closed and empty.
    pub(crate) fn next(&self) -> Option<Task> {
        let mut state = self.state.lock();
        loop {
            if state.failure.is_some() {
                state.waiting.clear();
            }
            let pause = match state.since.filter(|_| !state.waiting.is_empty()) {
                Some(since) => FLUSH_DELAY.saturating_sub(since.elapsed()),
                None => Duration::MAX,
            };
            let is_wanted = state.wanted.max(state.wanted_durable) > state.applied;
            let is_due = state.cost >= FLUSH_BYTES || pause.is_zero() || is_wanted || state.closed;
            let sync = state.wanted_durable > state.durable && state.failure.is_none();
            let noted_since = state.noted_since.filter(|_| state.failure.is_none());
            let superblock_pause = noted_since.map(|since| SUPERBLOCK_DELAY.saturating_sub(since.elapsed()));
            let sync_superblock = superblock_pause.is_some_and(|left| left.is_zero());
            if !state.waiting.is_empty() && is_due || sync || sync_superblock {
                let records = std::mem::take(&mut state.waiting);
                (state.cost, state.since, state.busy) = (0, None, true);
                if sync_superblock {
                    state.noted_since = None;
                }
                return Some(Task { records, acknowledged: state.acknowledged, sync, sync_superblock });
            }
            let pause = pause.min(superblock_pause.unwrap_or(Duration::MAX));
            if state.closed {
                return None;
            }
            if pause == Duration::MAX {
                self.arrived.wait(&mut state);
            } else {
                self.arrived.wait_for(&mut state, pause);
            }
        }
    }

    fn advance(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        state.check_order();
        drop(state);
        self.advanced.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_whose_change_is_gone_is_told_when_the_database_was_reopened() {
        let queue = CheckpointQueue::default();
        queue.restart(4);
        queue.push(LogRecord { number: 5, writes: Vec::new() });
        let awaited = queue.newest();
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| queue.wait_applied(awaited));
            queue.stop();
            queue.restart(4);
            assert!(reader.join().unwrap().unwrap_err().reason.contains("reopened"));
        });
        // A reader whose record is in sled after all has nothing to refuse.
        queue.restart(5);
        queue.wait_applied(awaited).unwrap();
    }
}
