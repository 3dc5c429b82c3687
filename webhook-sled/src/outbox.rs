//! The pending deliveries by when they are due. Their records are on disk; this is the index.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;
use webhook_core::id::{DeliveryId, RunId};
use webhook_core::live::later;

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    entries: HashMap<DeliveryId, Entry>,
    /// By when they are due, or until when they are claimed.
    due: BTreeSet<(Instant, DeliveryId)>,
    by_run: HashMap<RunId, usize>,
    /// Whether the store may hold deliveries, pending or not.
    has_any: bool,
    /// Length of the lease that was last asked for.
    lease: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    run: RunId,
    due: Instant,
}

impl Outbox {
    /// Notes that the store holds a delivery, pending or not.
    pub(crate) fn note_delivery(&mut self) {
        self.has_any = true;
    }

    /// Returns whether the store may hold deliveries; if not, nothing need be read to know a run's.
    pub(crate) fn has_any(&self) -> bool {
        self.has_any
    }

    /// Takes what was read when the database was opened anew. Those who claimed keep their leases.
    pub(crate) fn replace(&mut self, restored: Self) {
        *self = Self { lease: self.lease, ..restored };
    }

    /// Takes a pending delivery, or changes when it is due.
    pub(crate) fn put(&mut self, run: RunId, id: DeliveryId, due: Instant) {
        match self.entries.insert(id, Entry { run, due }) {
            Some(old) => {
                self.due.remove(&(old.due, id));
            }
            None => *self.by_run.entry(run).or_default() += 1,
        }
        self.due.insert((due, id));
    }

    /// Forgets a delivery that is no longer pending.
    pub(crate) fn remove(&mut self, id: DeliveryId) {
        let Some(entry) = self.entries.remove(&id) else { return };
        self.due.remove(&(entry.due, id));
        if let Some(count) = self.by_run.get_mut(&entry.run) {
            *count -= 1;
            if *count == 0 {
                self.by_run.remove(&entry.run);
            }
        }
    }

    /// Claims the earliest due deliveries for the time of a lease.
    pub(crate) fn claim(
        &mut self,
        limit: usize,
        lease: Duration,
        instant: Instant,
    ) -> Vec<(RunId, DeliveryId)> {
        self.lease = lease;
        let due = self.due.iter().take_while(|(due, _)| *due <= instant).take(limit).map(|(_, id)| *id);
        let due: Vec<DeliveryId> = due.collect();
        let claim = |id: DeliveryId| {
            let run = self.entries.get(&id)?.run;
            self.put(run, id, later(instant, lease));
            Some((run, id))
        };
        due.into_iter().filter_map(claim).collect()
    }

    /// When every pending delivery is due, or until when it is claimed, and the length of leases.
    pub(crate) fn deadlines(&self) -> (HashMap<DeliveryId, Instant>, Duration) {
        (self.entries.iter().map(|(id, entry)| (*id, entry.due)).collect(), self.lease)
    }

    pub(crate) fn run_of(&self, id: DeliveryId) -> Option<RunId> {
        self.entries.get(&id).map(|entry| entry.run)
    }

    pub(crate) fn has_pending(&self, run: RunId) -> bool {
        self.by_run.contains_key(&run)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.due.first().map(|first| first.0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn each_due_delivery_goes_to_one_claimer_until_its_lease_is_over() {
        let (mut outbox, instant, lease) = (Outbox::default(), Instant::now(), Duration::from_secs(30));
        let run = RunId::generate(SystemTime::now());
        let ids: Vec<DeliveryId> = (0..3).map(|_| DeliveryId::generate(SystemTime::now())).collect();
        ids.iter().for_each(|id| outbox.put(run, *id, instant));
        assert_eq!(outbox.claim(2, lease, instant).len(), 2);
        assert_eq!(outbox.claim(9, lease, instant), [(run, ids[2])]);
        assert_eq!(outbox.next_deadline(), Some(instant + lease));
        assert_eq!(outbox.claim(9, lease, instant + lease).len(), 3);
        ids.iter().for_each(|id| outbox.remove(*id));
        assert!(!outbox.has_pending(run) && outbox.len() == 0 && outbox.next_deadline().is_none());
    }
}
