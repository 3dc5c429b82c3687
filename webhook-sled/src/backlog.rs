//! Changes on their way from the journal to sled, and the thread that takes them there, many at once.
//!
//! They wait for a moment, so that what is put and soon removed never reaches sled. Who reads sled has it brought up
//! to date first.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crate::error::panic_text;
use crate::log;
use crate::options::Durability;
use crate::scan;
use crate::shared::{Failure, Shared, lock};
use crate::window::{Numbered, Step, WINDOW, Window};

/// For how long changes wait when nobody reads.
const MOMENT: Duration = Duration::from_millis(100);
/// How much of changes waits for no longer.
const MANY: usize = 256 * 1024;

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
    /// Batches by number: the last that came, that is in sled, that is durable there, and until which somebody wants
    /// them to be so.
    newest: u64,
    applied: u64,
    durable: u64,
    wanted: u64,
    wanted_durable: u64,
    busy: bool,
    closed: bool,
    failure: Option<Failure>,
}

/// What the thread does next.
struct Task {
    batches: VecDeque<Numbered>,
    sync: bool,
}

impl Backlog {
    /// Begins with a database that holds everything up to this batch.
    pub(crate) fn restart(&self, number: u64) {
        *self.state() = State { newest: number, applied: number, durable: number, ..State::default() };
    }

    /// Forgets all that waits, and waits until nothing is under way.
    pub(crate) fn stop(&self) {
        let mut state = self.state();
        state.waiting.clear();
        state.cost = 0;
        drop(self.moved.wait_while(state, |state| state.busy));
    }

    pub(crate) fn push(&self, batch: Numbered) {
        let mut state = self.state();
        let (was_empty, had_many) = (state.waiting.is_empty(), state.cost >= MANY);
        state.newest = batch.number;
        state.cost += batch.cost();
        state.since.get_or_insert_with(Instant::now);
        state.waiting.push_back(batch);
        if was_empty || (state.cost >= MANY && !had_many) {
            self.arrived.notify_one();
        }
    }

    /// The last batch that came.
    pub(crate) fn newest(&self) -> u64 {
        self.state().newest
    }

    /// The last batch that is in sled.
    pub(crate) fn applied(&self) -> u64 {
        self.state().applied
    }

    /// Waits until a batch is in sled.
    pub(crate) fn wait_applied(&self, number: u64) -> Result<(), Failure> {
        let mut state = self.state();
        state.wanted = state.wanted.max(number);
        self.wait(state, |state| state.applied >= number)
    }

    /// Has everything up to this batch made durable in sled.
    pub(crate) fn want_durable(&self, number: u64) {
        let mut state = self.state();
        state.wanted_durable = state.wanted_durable.max(number);
        self.arrived.notify_one();
    }

    /// Waits until a batch is durable in sled.
    pub(crate) fn wait_durable(&self, number: u64) -> Result<(), Failure> {
        self.want_durable(number);
        self.wait(self.state(), |state| state.durable >= number)
    }

    fn wait(&self, state: MutexGuard<'_, State>, is_reached: impl Fn(&State) -> bool) -> Result<(), Failure> {
        if is_reached(&state) {
            return Ok(());
        }
        self.arrived.notify_one();
        let waits = |state: &mut State| !is_reached(state) && state.failure.is_none();
        let state = self.moved.wait_while(state, waits).unwrap_or_else(PoisonError::into_inner);
        state.failure.clone().filter(|_| !is_reached(&state)).map_or(Ok(()), Err)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Waits for something to do. `None` when there never will be.
    fn next(&self) -> Option<Task> {
        let mut state = self.state();
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
            if !state.waiting.is_empty() && is_due || sync {
                let batches = std::mem::take(&mut state.waiting);
                (state.cost, state.since, state.busy) = (0, None, true);
                return Some(Task { batches, sync });
            }
            if state.closed {
                return None;
            }
            state = match pause {
                Duration::MAX => self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner),
                pause => self.arrived.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }

    fn advance(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.moved.notify_all();
    }
}

/// The thread.
pub(crate) struct Applier {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Applier {
    pub(crate) fn start(shared: Arc<Shared>) -> io::Result<Self> {
        let work = Work { shared: shared.clone(), unsynced: 0 };
        let thread = Builder::new().name("webhook-sled-applier".to_owned()).spawn(move || work.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }
}

impl Drop for Applier {
    fn drop(&mut self) {
        self.shared.backlog.state().closed = true;
        self.shared.backlog.arrived.notify_one();
        if let Some(thread) = self.thread.take() {
            // It catches panics, so there is nothing to learn from how it ended.
            let _ = thread.join();
        }
    }
}

struct Work {
    shared: Arc<Shared>,
    /// How much was written to sled since it was last synced.
    unsynced: usize,
}

impl Work {
    fn run(mut self) {
        let shared = self.shared.clone();
        while let Some(task) = shared.backlog.next() {
            let done = catch_unwind(AssertUnwindSafe(|| self.perform(task))).unwrap_or_else(|panic| {
                let reason = format!("the database cannot be written: {}", panic_text(&*panic));
                Err(Failure { reason, is_full: false })
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
            self.apply(window)?;
        }
        if task.sync { self.sync() } else { Ok(()) }
    }

    /// Makes changes in one atomic step.
    fn apply(&mut self, window: Window) -> Result<(), Failure> {
        let (number, ended) = (window.number, window.ended());
        let shared = self.shared.clone();
        let mut checking = lock(&shared.checking);
        let place = |tree: &sled::Tree| scan::guarded(|| window.place(tree, &shared.damage));
        let mut placed = shared.with_tree(place).map_err(|error| {
            let reason = format!("the database cannot be read: {error}");
            Failure { reason, is_full: false }
        })?;
        let history = std::mem::take(&mut placed.history);
        for step in placed.into_steps() {
            self.write(step)?;
        }
        checking.note(&history);
        self.join_logs(number)?;
        drop(checking);
        self.shared.runs().forget_ended(&ended);
        self.shared.backlog.advance(|state| state.applied = number);
        Ok(())
    }

    /// Joins the parts of the logs of runs that have ended by this batch.
    fn join_logs(&mut self, number: u64) -> Result<(), Failure> {
        let shared = self.shared.clone();
        while let Some((_, run)) = lock(&shared.ended_logs).pop_front_if(|(at, _)| *at <= number) {
            let steps = shared.with_tree(|tree| Ok(log::join(tree, run, &shared.damage)));
            for step in steps.unwrap_or_default() {
                self.write(step)?;
            }
        }
        Ok(())
    }

    fn write(&mut self, step: Step) -> Result<(), Failure> {
        if self.unsynced > 0 && self.unsynced + step.cost > WINDOW {
            self.sync()?;
        }
        self.unsynced += step.cost;
        let shared = self.shared.clone();
        let _watched = shared.watch.begin();
        let database = &self.shared.database;
        let write = |database: &Option<sled::Db>| match database {
            Some(database) => Failure::of_writing(|| database.apply_batch(step.batch)),
            None => Ok(()),
        };
        if step.moves_history {
            write(&database.write().unwrap_or_else(PoisonError::into_inner))
        } else {
            write(&database.read().unwrap_or_else(PoisonError::into_inner))
        }
    }

    /// Makes what is in sled as durable as the store promises.
    fn sync(&mut self) -> Result<(), Failure> {
        let applied = self.shared.backlog.applied();
        let shared = self.shared.clone();
        let _watched = shared.watch.begin();
        if let Some(database) = &*self.shared.database.read().unwrap_or_else(PoisonError::into_inner) {
            Failure::of_writing(|| database.flush())?;
        }
        if self.shared.options.durability == Durability::Power {
            let synced = self.shared.disk.sync();
            synced.map_err(|error| Failure::of_sync("the disk did not confirm a write", &error))?;
        }
        self.unsynced = 0;
        self.shared.backlog.advance(|state| state.durable = applied);
        Ok(())
    }
}
