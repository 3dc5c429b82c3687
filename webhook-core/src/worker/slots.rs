//! Slots: how many runs execute at once, and which are next.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::attempt::Attempt;

/// Upper bound on the runs that are claimed ahead.
const MOST_AHEAD: usize = 256;
/// What an attempt counts for at least, in seconds.
const SHORTEST: f64 = 1e-6;

/// The slots of one [`Workers`](super::Workers), and the attempts that were claimed ahead for them.
pub(super) struct Slots {
    state: Mutex<State>,
    /// Signalled when there may be a reason to claim.
    pub(super) changed: Notify,
}

struct State {
    count: usize,
    free: usize,
    /// Slots whose executors were given up and block their threads, beyond what is tolerated.
    withheld: usize,
    waiting: VecDeque<Arc<Attempt>>,
    /// For how long an attempt has its slot, in seconds: an average in which the last ones count most.
    occupied: f64,
    /// How many runs are to be claimed ahead.
    ahead: usize,
}

/// How many runs to claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) free: usize,
    pub(super) ahead: usize,
}

impl Slots {
    pub(super) fn new(count: usize) -> Self {
        let waiting = VecDeque::new();
        let state = State { count, free: count, withheld: 0, waiting, occupied: f64::INFINITY, ahead: 0 };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    /// How many runs to claim, if any: as many as there are free slots, and some ahead once few are left.
    pub(super) fn room(&self) -> Option<Room> {
        let state = self.state.lock();
        let (free, waiting) = (state.free, state.waiting.len());
        let wanted = free > 0 || (state.ahead > 0 && waiting <= state.ahead / 2);
        let ahead = state.ahead.saturating_sub(waiting);
        wanted.then_some(Room { free, ahead })
    }

    /// Takes what a claim gave that took so long, and returns what executes at once. Twice as many runs are claimed ahead
    /// from now on as all slots can execute during a claim: so no slot waits for one, and no run waits long.
    pub(super) fn claimed(&self, attempts: Vec<Arc<Attempt>>, took: Duration) -> Vec<Arc<Attempt>> {
        let mut state = self.state.lock();
        let during_claim = state.count as f64 * took.as_secs_f64() / state.occupied;
        state.ahead = ((2.0 * during_claim) as usize).min(MOST_AHEAD);
        state.waiting.extend(attempts);
        let count = state.free.min(state.waiting.len());
        state.free -= count;
        state.waiting.drain(..count).collect()
    }

    /// Gives a slot back that was occupied for so long, and returns who has it next.
    pub(super) fn release(&self, occupied: Option<Duration>) -> Option<Arc<Attempt>> {
        let mut state = self.state.lock();
        if let Some(occupied) = occupied {
            let occupied = occupied.as_secs_f64().max(SHORTEST);
            let is_first = state.occupied.is_infinite();
            state.occupied = if is_first { occupied } else { state.occupied * 0.9 + occupied * 0.1 };
        }
        let next = state.waiting.pop_front();
        state.free += usize::from(next.is_none());
        drop(state);
        self.changed.notify_one();
        next
    }

    /// Keeps the slot of an executor that was given up, until its thread is [free](Self::restore) again.
    pub(super) fn withhold(&self) {
        self.state.lock().withheld += 1;
    }

    /// Gives a withheld slot back, if there is one, and returns who has it next.
    pub(super) fn restore(&self) -> Option<Arc<Attempt>> {
        let mut state = self.state.lock();
        state.withheld = state.withheld.checked_sub(1)?;
        drop(state);
        self.release(None)
    }

    /// A run that was claimed ahead has waited for so long, so executions take longer than it was thought.
    pub(super) fn waited(&self, time: Duration) {
        let mut state = self.state.lock();
        state.occupied = state.occupied.max(time.as_secs_f64());
        state.ahead = 0;
    }

    /// Takes out all that wait for a slot.
    pub(super) fn take_waiting(&self) -> Vec<Arc<Attempt>> {
        self.state.lock().waiting.drain(..).collect()
    }

    /// Takes out one that waits for a slot. Returns whether it did.
    pub(super) fn take(&self, attempt: &Arc<Attempt>) -> bool {
        let mut state = self.state.lock();
        let place = state.waiting.iter().position(|waiting| Arc::ptr_eq(waiting, attempt));
        place.and_then(|place| state.waiting.remove(place)).is_some()
    }
}
