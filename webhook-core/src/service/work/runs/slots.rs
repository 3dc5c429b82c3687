//! Slots: they bound the concurrent runs. Runs claimed ahead wait here for a slot.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::attempt::Attempt;

/// Upper bound on the runs that are claimed ahead.
const MOST_AHEAD: usize = 256;
/// Lower bound on the duration of an execution in the average, in seconds, since the average is a divisor.
const SHORTEST: f64 = 1e-6;

/// The slots of one [`Workers`](crate::work::Workers), and the attempts that were claimed ahead for them.
pub(in crate::service::work) struct RunSlots {
    state: Mutex<State>,
    /// Signalled when a slot is free, or when few runs claimed ahead are left.
    pub(super) changed: Notify,
}

struct State {
    count: usize,
    free: usize,
    /// Number of slots that stay occupied because too many given-up executors block their threads.
    withheld: usize,
    /// Attempts that were claimed ahead, oldest first. Invariant: empty while a slot is free.
    waiting: VecDeque<Arc<Attempt>>,
    /// Moving average of the time for which an attempt occupies its slot, in seconds. Infinite before the
    /// first one.
    occupied: f64,
    /// Number of runs to have claimed ahead.
    ahead: usize,
    /// True once the workers were dropped.
    is_closed: bool,
}

/// Number of runs to claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) free: usize,
    pub(super) ahead: usize,
}

impl RunSlots {
    pub(super) fn new(count: usize) -> Self {
        let waiting = VecDeque::new();
        let occupied = f64::INFINITY;
        let state = State { count, free: count, withheld: 0, waiting, occupied, ahead: 0, is_closed: false };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    /// Returns the number of runs to claim, if any: one for each free slot, and more ahead once half of those
    /// are used up.
    pub(super) fn room(&self) -> Option<Room> {
        let state = self.state.lock();
        let (free, waiting) = (state.free, state.waiting.len());
        let wanted = free > 0 || (state.ahead > 0 && waiting <= state.ahead / 2);
        let ahead = state.ahead.saturating_sub(waiting);
        wanted.then_some(Room { free, ahead })
    }

    /// Takes the attempts of a claim, and returns those that have a slot. `took` is the duration of the
    /// claim.
    ///
    /// From now on, twice as many runs are claimed ahead as all slots execute during one claim. So no slot
    /// waits for a claim, and no run waits long for a slot.
    pub(super) fn claimed(&self, attempts: Vec<Arc<Attempt>>, took: Duration) -> Vec<Arc<Attempt>> {
        let mut state = self.state.lock();
        if state.is_closed {
            return Vec::new();
        }
        let during_claim = state.count as f64 * took.as_secs_f64() / state.occupied;
        state.ahead = ((2.0 * during_claim) as usize).min(MOST_AHEAD);
        state.waiting.extend(attempts);
        let count = state.free.min(state.waiting.len());
        state.free -= count;
        let begin = state.waiting.drain(..count).collect();
        debug_assert!(state.free == 0 || state.waiting.is_empty(), "no attempt waits beside a free slot");
        begin
    }

    /// Releases a slot, and returns the next attempt for it. `occupied` is the duration of its execution.
    pub(super) fn release(&self, occupied: Option<Duration>) -> Option<Arc<Attempt>> {
        let mut state = self.state.lock();
        if let Some(occupied) = occupied {
            let occupied = occupied.as_secs_f64().max(SHORTEST);
            let is_first = state.occupied.is_infinite();
            state.occupied = if is_first { occupied } else { state.occupied * 0.9 + occupied * 0.1 };
        }
        let next = state.waiting.pop_front();
        // The slot goes straight to the next attempt: it is never free in between, so no claim can take it.
        state.free += usize::from(next.is_none());
        drop(state);
        self.changed.notify_one();
        next
    }

    /// Keeps a slot occupied until it is [restored](Self::restore).
    pub(super) fn withhold(&self) {
        self.state.lock().withheld += 1;
    }

    /// Releases a withheld slot, if there is one, and returns the next attempt for it.
    pub(super) fn restore(&self) -> Option<Arc<Attempt>> {
        let mut state = self.state.lock();
        state.withheld = state.withheld.checked_sub(1)?;
        drop(state);
        self.release(None)
    }

    /// Records that a run claimed ahead has waited for this long: executions take longer than the average
    /// says.
    pub(super) fn waited(&self, time: Duration) {
        let mut state = self.state.lock();
        state.occupied = state.occupied.max(time.as_secs_f64());
        state.ahead = 0;
    }

    /// Gives no slot from now on, also not to the attempts of a claim that is under way.
    pub(in crate::service::work) fn close(&self) {
        let waiting = {
            let mut state = self.state.lock();
            state.is_closed = true;
            std::mem::take(&mut state.waiting)
        };
        // Without the lock, since that frees the input of their executors.
        drop(waiting);
    }

    /// Removes an attempt that waits for a slot. Returns whether it was waiting.
    pub(super) fn take(&self, attempt: &Arc<Attempt>) -> bool {
        let mut state = self.state.lock();
        let place = state.waiting.iter().position(|waiting| Arc::ptr_eq(waiting, attempt));
        place.and_then(|place| state.waiting.remove(place)).is_some()
    }
}
