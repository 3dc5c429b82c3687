//! Places for connections, and the choice of those that make room when places run short.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use metrics::Gauge;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use webhook_http::RoomSource;

use super::activity::Activity;

/// Interval between two searches for connections that can make room.
const AGAIN: Duration = Duration::from_millis(20);

/// Places for connections. Its clones share them.
#[derive(Clone)]
pub(super) struct Slots(Arc<Inner>);

struct Inner {
    open: Mutex<Open>,
    /// Signalled when a connection has ended.
    ended: Notify,
    room: RoomSource,
    connections: usize,
    /// Number of open connections.
    gauge: Gauge,
}

#[derive(Default)]
struct Open {
    next: u64,
    activities: HashMap<u64, Activity>,
}

impl Slots {
    pub(super) fn new(connections: usize, gauge: Gauge) -> Self {
        let (open, ended, room) = (Mutex::default(), Notify::new(), RoomSource::new(connections));
        Self(Arc::new(Inner { open, ended, room, connections, gauge }))
    }

    /// Takes a place for a connection from this address, once there is one.
    ///
    /// Connections run short when less than an eighth of the places is free, or a connection waits for a
    /// place, until a quarter is free again.
    /// Then callers that wait for their runs leave. If there is no place at all, connections that need theirs
    /// least are closed.
    ///
    /// # Cancel safety
    /// A dropped call takes no place.
    pub(super) async fn take(&self, address: IpAddr) -> Slot {
        loop {
            let ended = self.0.ended.notified();
            {
                let mut open = self.0.open.lock();
                if open.activities.len() < self.0.connections {
                    return self.place(&mut open, address);
                }
                self.0.room.set_crowded(true);
                self.make_room(&open);
            }
            // Connections that were asked to leave do so, and others become candidates after a while.
            let _ = timeout(AGAIN, ended).await;
        }
    }

    fn place(&self, open: &mut Open, address: IpAddr) -> Slot {
        let id = open.next;
        open.next += 1;
        let activity = Activity::new(address, self.0.room.room());
        open.activities.insert(id, activity.clone());
        self.0.gauge.set(open.activities.len() as f64);
        let free = self.0.connections - open.activities.len();
        if free < self.0.connections / 8 {
            self.0.room.set_crowded(true);
        }
        Slot { slots: self.clone(), id, activity }
    }

    /// Asks some dispensable connections to leave: first the oldest of the webhook or address that holds most
    /// of them.
    fn make_room(&self, open: &Open) {
        let now = Instant::now();
        let mut held: HashMap<_, usize> = HashMap::new();
        let mut candidates = Vec::new();
        for activity in open.activities.values() {
            if let Some(since) = activity.dispensable(now) {
                let holder = activity.holder();
                *held.entry(holder).or_default() += 1;
                candidates.push((activity, holder, since));
            }
        }
        // Several at once, so that a rush of connections does not examine all of them for each.
        let few = (self.0.connections / 32).clamp(1, candidates.len().max(1));
        let rank = |(_, holder, since): &(&Activity, _, Instant)| (Reverse(held[holder]), *since);
        if few < candidates.len() {
            candidates.select_nth_unstable_by_key(few, rank);
        }
        for (activity, ..) in candidates.into_iter().take(few) {
            activity.ask();
        }
    }
}

/// Place of one connection, which is released on drop.
pub(super) struct Slot {
    slots: Slots,
    id: u64,
    pub(super) activity: Activity,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let inner = &self.slots.0;
        let mut open = inner.open.lock();
        open.activities.remove(&self.id);
        inner.gauge.set(open.activities.len() as f64);
        let free = inner.connections - open.activities.len();
        if free >= (inner.connections / 4).max(1) {
            inner.room.set_crowded(false);
        }
        drop(open);
        inner.ended.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ATTACKER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    /// Returns whether the connection was asked to make room.
    async fn is_asked(slot: &Slot) -> bool {
        timeout(Duration::ZERO, slot.activity.asked()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn connections_run_short_with_the_last_eighth_until_a_quarter_is_free() {
        let slots = Slots::new(16, Gauge::noop());
        let mut taken = Vec::new();
        for _ in 0..14 {
            taken.push(slots.take(OTHER).await);
        }
        assert!(!slots.0.room.is_crowded());
        taken.push(slots.take(OTHER).await);
        assert!(slots.0.room.is_crowded());
        taken.truncate(13);
        assert!(slots.0.room.is_crowded());
        taken.truncate(12);
        assert!(!slots.0.room.is_crowded());
    }

    #[tokio::test(start_paused = true)]
    async fn the_address_with_most_silent_connections_makes_room_for_others() {
        let slots = Slots::new(8, Gauge::noop());
        let mut others = vec![slots.take(OTHER).await, slots.take(OTHER).await];
        let attacking: Vec<_> = [slots.take(ATTACKER).await, slots.take(ATTACKER).await].into();
        let more = [slots.take(ATTACKER).await, slots.take(ATTACKER).await, slots.take(ATTACKER).await];
        others.push(slots.take(OTHER).await);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(timeout(Duration::from_millis(1), slots.take(OTHER)).await.is_err());
        let mut asked = 0;
        for slot in attacking.iter().chain(&more) {
            asked += usize::from(is_asked(slot).await);
        }
        assert_eq!(asked, 1);
        for slot in &others {
            assert!(!is_asked(slot).await);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_being_answered_is_never_asked_and_the_next_waits_for_the_end() {
        let slots = Slots::new(1, Gauge::noop());
        let busy = slots.take(OTHER).await;
        let _answering = busy.activity.begin();
        assert!(timeout(Duration::from_secs(60), slots.take(OTHER)).await.is_err());
        assert!(!is_asked(&busy).await);
        drop(busy);
        slots.take(OTHER).await;
    }
}
