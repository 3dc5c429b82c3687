//! Changes on their way from the journal to sled, and the thread that takes them there, many at once.
//!
//! They wait for a moment, so that what is put and soon removed never reaches sled. Who reads sled has it brought up
//! to date first.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::check::walk::Checking;
use crate::engine::batch::{Numbered, Step, WINDOW, Window};
use crate::engine::folder::Folder;
use crate::engine::log_joining;
use crate::engine::shared::{Failure, Severity, Shared};
use crate::options::Durability;
use crate::panics::catch;
use crate::tree::scan;

/// For how long changes wait when nobody reads.
const MOMENT: Duration = Duration::from_millis(100);
/// How much of changes waits for no longer.
const MANY: usize = 256 * 1024;
/// For how long the superblock may be behind on disk.
const BEHIND: Duration = Duration::from_secs(1);

/// What is on its way.
#[derive(Default)]
pub(crate) struct Backlog {
    state: Mutex<State>,
    /// For the thread.
    arrived: Condvar,
    /// For those who wait for it.
    moved: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Numbered>,
    /// How much they count for.
    cost: usize,
    /// Since when the first of them waits.
    since: Option<Instant>,
    /// Number of the newest change that came.
    newest: u64,
    /// Number of the newest change that is in the database.
    applied: u64,
    /// Number of the newest change that is durable in the database.
    durable: u64,
    /// Number of the newest change that is durable in the journal and noted in the superblock.
    acknowledged: u64,
    /// Since when the superblock notes what is not durable in it.
    noted_since: Option<Instant>,
    /// Until which change a reader wants the database to show everything.
    wanted: u64,
    /// Until which change the writer wants the database to be durable.
    wanted_durable: u64,
    /// How many times the database was opened anew. Who waits does so in vain after that.
    life: u64,
    busy: bool,
    closed: bool,
    failure: Option<Failure>,
}

/// What the thread does next.
struct Task {
    batches: VecDeque<Numbered>,
    acknowledged: u64,
    sync: bool,
    sync_superblock: bool,
}

/// A change that is waited for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Awaited {
    number: u64,
    life: u64,
}

impl Backlog {
    /// Begins with a database that holds everything up to this batch.
    pub(crate) fn restart(&self, number: u64) {
        let mut state = self.state.lock();
        let life = state.life + 1;
        let (newest, applied, durable, acknowledged) = (number, number, number, number);
        *state = State { newest, applied, durable, acknowledged, life, ..State::default() };
        self.moved.notify_all();
    }

    /// Forgets all that waits, and waits until nothing is under way.
    pub(crate) fn stop(&self) {
        let mut state = self.state.lock();
        state.waiting.clear();
        state.cost = 0;
        self.moved.wait_while(&mut state, |state| state.busy);
    }

    pub(crate) fn push(&self, batch: Numbered) {
        let mut state = self.state.lock();
        let (was_empty, had_many) = (state.waiting.is_empty(), state.cost >= MANY);
        state.newest = batch.number;
        state.cost += batch.cost();
        state.since.get_or_insert_with(Instant::now);
        state.waiting.push_back(batch);
        if was_empty || (state.cost >= MANY && !had_many) {
            self.arrived.notify_one();
        }
    }

    /// The last change that came, to wait for.
    pub(crate) fn newest(&self) -> Awaited {
        let state = self.state.lock();
        Awaited { number: state.newest, life: state.life }
    }

    /// A change that came or is about to.
    pub(crate) fn awaited(&self, number: u64) -> Awaited {
        Awaited { number, life: self.state.lock().life }
    }

    /// Notes that everything up to this change is durable in the journal, and that the superblock says so.
    pub(crate) fn acknowledged(&self, number: u64) {
        let mut state = self.state.lock();
        state.acknowledged = number;
        if state.noted_since.is_none() {
            state.noted_since = Some(Instant::now());
            self.arrived.notify_one();
        }
    }

    /// The last batch that is in sled.
    pub(crate) fn applied(&self) -> u64 {
        self.state.lock().applied
    }

    /// Waits until a batch is in sled.
    pub(crate) fn wait_applied(&self, awaited: Awaited) -> Result<(), Failure> {
        let mut state = self.state.lock();
        if state.life == awaited.life {
            state.wanted = state.wanted.max(awaited.number);
        }
        self.wait(state, awaited.life, |state| state.applied >= awaited.number)
    }

    /// Has everything up to this batch made durable in sled.
    pub(crate) fn want_durable(&self, number: u64) {
        let mut state = self.state.lock();
        state.wanted_durable = state.wanted_durable.max(number);
        self.arrived.notify_one();
    }

    /// Waits until a batch is durable in sled.
    pub(crate) fn wait_durable(&self, number: u64) -> Result<(), Failure> {
        self.want_durable(number);
        let state = self.state.lock();
        let life = state.life;
        self.wait(state, life, |state| state.durable >= number)
    }

    /// Waits for as long as the database is the one that was asked for.
    fn wait(
        &self,
        mut state: MutexGuard<'_, State>,
        life: u64,
        is_reached: impl Fn(&State) -> bool,
    ) -> Result<(), Failure> {
        if is_reached(&state) {
            return Ok(());
        }
        self.arrived.notify_one();
        let waits = |state: &mut State| !is_reached(state) && state.failure.is_none() && state.life == life;
        self.moved.wait_while(&mut state, waits);
        if is_reached(&state) {
            return Ok(());
        }
        let reason = || "the database was reopened in the meantime; ask again".to_owned();
        let opened_anew = || Failure { reason: reason(), severity: Severity::Full };
        Err(state.failure.clone().unwrap_or_else(opened_anew))
    }

    /// Waits for something to do. `None` when there never will be.
    fn next(&self) -> Option<Task> {
        let mut state = self.state.lock();
        loop {
            if state.failure.is_some() {
                state.waiting.clear();
            }
            let pause = match state.since.filter(|_| !state.waiting.is_empty()) {
                Some(since) => MOMENT.saturating_sub(since.elapsed()),
                None => Duration::MAX,
            };
            let is_wanted = state.wanted.max(state.wanted_durable) > state.applied;
            let is_due = state.cost >= MANY || pause.is_zero() || is_wanted || state.closed;
            let sync = state.wanted_durable > state.durable && state.failure.is_none();
            let noted_since = state.noted_since.filter(|_| state.failure.is_none());
            let behind = noted_since.map(|since| BEHIND.saturating_sub(since.elapsed()));
            let sync_superblock = behind.is_some_and(|left| left.is_zero());
            if !state.waiting.is_empty() && is_due || sync || sync_superblock {
                let batches = std::mem::take(&mut state.waiting);
                (state.cost, state.since, state.busy) = (0, None, true);
                if sync_superblock {
                    state.noted_since = None;
                }
                return Some(Task { batches, acknowledged: state.acknowledged, sync, sync_superblock });
            }
            let pause = pause.min(behind.unwrap_or(Duration::MAX));
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
        change(&mut self.state.lock());
        self.moved.notify_all();
    }
}

/// The thread.
pub(crate) struct Applier {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Applier {
    pub(crate) fn start(shared: Arc<Shared>, folder: Arc<Folder>) -> io::Result<Self> {
        let work = Work { shared: shared.clone(), folder, unsynced: 0 };
        let thread = Builder::new().name("webhook-sled-applier".to_owned()).spawn(move || work.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }
}

impl Drop for Applier {
    fn drop(&mut self) {
        self.shared.backlog.state.lock().closed = true;
        self.shared.backlog.arrived.notify_one();
        if let Some(thread) = self.thread.take() {
            // It catches panics, so there is nothing to learn from how it ended.
            let _ = thread.join();
        }
    }
}

struct Work {
    shared: Arc<Shared>,
    folder: Arc<Folder>,
    /// How much was written to sled since it was last synced.
    unsynced: usize,
}

impl Work {
    fn run(mut self) {
        let shared = self.shared.clone();
        while let Some(task) = shared.backlog.next() {
            let done = catch(|| self.perform(task)).unwrap_or_else(|panic| {
                let reason = format!("the database cannot be written: {panic}");
                Err(Failure { reason, severity: Severity::Panicked })
            });
            let failure = done.err().map(|failure| shared.condition.fail(failure));
            if failure.is_some() {
                shared.queue.nudge();
            }
            shared.backlog.advance(|state| {
                state.busy = false;
                state.failure = failure.or(state.failure.take());
            });
        }
    }

    fn perform(&mut self, mut task: Task) -> Result<(), Failure> {
        while let Some(window) = Window::of(&mut task.batches) {
            self.apply(window, task.acknowledged)?;
        }
        if task.sync {
            self.sync()?;
        }
        if task.sync_superblock {
            let synced = self.folder.superblock().sync(&*self.shared.disk);
            synced.map_err(|error| Failure::of_sync("the disk did not confirm the superblock", &error))?;
        }
        Ok(())
    }

    /// Makes changes in one atomic step.
    fn apply(&mut self, window: Window, acknowledged: u64) -> Result<(), Failure> {
        let (number, ended) = (window.number, window.ended());
        let shared = self.shared.clone();
        let mut checking = shared.checking.lock();
        let place = |tree: &sled::Tree| scan::guarded(|| window.place(tree, acknowledged, &shared.damage));
        let placed = shared.with_tree(place).map_err(|error| {
            let reason = format!("the database cannot be read: {error}");
            Failure { reason, severity: Severity::Damaged }
        })?;
        for step in placed.into_steps() {
            self.write(step, &mut checking)?;
        }
        self.join_logs(number, &mut checking)?;
        drop(checking);
        self.shared.runs().forget_ended(&ended);
        self.shared.backlog.advance(|state| state.applied = number);
        Ok(())
    }

    /// Joins the parts of the logs of runs that have ended by this batch.
    fn join_logs(&mut self, number: u64, checking: &mut Checking) -> Result<(), Failure> {
        let shared = self.shared.clone();
        loop {
            // The lock is not held during the join, since each commit takes it.
            let next = shared.ended_logs.lock().pop_front_if(|(at, _)| *at <= number);
            let Some((_, run)) = next else { return Ok(()) };
            let join = |tree: &sled::Tree| scan::guarded(|| log_joining::join(tree, run, &shared.damage));
            // A log that cannot be read keeps its parts.
            for step in shared.with_tree(join).unwrap_or_default() {
                self.write(step, checking)?;
            }
        }
    }

    fn write(&mut self, mut step: Step, checking: &mut Checking) -> Result<(), Failure> {
        if self.unsynced > 0 && self.unsynced + step.cost > WINDOW {
            self.sync()?;
        }
        self.unsynced += step.cost;
        let (moves_history, stored_bytes) = (step.moves_history, step.stored_bytes);
        let changed = std::mem::take(&mut step.changed);
        let batch = step.into_batch();
        let shared = self.shared.clone();
        let _watched = shared.watch.begin();
        let database = &self.shared.database;
        let write = |database: &Option<sled::Db>| match database {
            Some(database) => Failure::of_writing(|| {
                self.shared.disk.before_apply()?;
                database.apply_batch(batch)
            }),
            None => Ok(()),
        };
        if moves_history {
            write(&database.write())?;
        } else {
            write(&database.read())?;
        }
        checking.note(&changed);
        if let Some(bytes) = stored_bytes {
            shared.stored_bytes.store(bytes, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Makes what is in sled as durable as the store promises.
    fn sync(&mut self) -> Result<(), Failure> {
        let applied = self.shared.backlog.applied();
        let shared = self.shared.clone();
        let _watched = shared.watch.begin();
        if let Some(database) = &*self.shared.database.read() {
            Failure::of_writing(|| database.flush())?;
        }
        if self.shared.options.durability == Durability::Power {
            let synced = self.shared.files.sync(&*self.shared.disk);
            synced.map_err(|error| Failure::of_sync("the disk did not confirm a write", &error))?;
        }
        self.unsynced = 0;
        self.shared.backlog.advance(|state| state.durable = applied);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_whose_change_is_gone_is_told_when_the_database_was_opened_anew() {
        let backlog = Backlog::default();
        backlog.restart(4);
        backlog.push(Numbered { number: 5, writes: Vec::new() });
        let awaited = backlog.newest();
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| backlog.wait_applied(awaited));
            backlog.stop();
            backlog.restart(4);
            assert!(reader.join().unwrap().unwrap_err().reason.contains("reopened"));
        });
        // One that holds the change after all has nothing to refuse.
        backlog.restart(5);
        backlog.wait_applied(awaited).unwrap();
    }
}
