//! The outbox: deliveries, those still to go out ordered by when they are due.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::id::{DeliveryId, RunId};
use crate::live::later;
use crate::notifier::{Delivery, DeliveryOutcome, DeliveryState};
use crate::store::{DeliveryQuery, Page};

#[derive(Debug, Default)]
pub(super) struct Outbox {
    deliveries: BTreeMap<DeliveryId, Entry>,
    /// The pending ones by when they are due, or until when they are claimed.
    due: BTreeSet<(Instant, DeliveryId)>,
    by_run: HashMap<RunId, BTreeSet<DeliveryId>>,
}

#[derive(Debug)]
struct Entry {
    delivery: Delivery,
    due: Instant,
}

impl Outbox {
    /// Takes a new delivery, due at once.
    pub(super) fn add(&mut self, delivery: Delivery, instant: Instant) {
        let id = delivery.id;
        self.by_run.entry(delivery.run).or_default().insert(id);
        self.replace(delivery, instant);
    }

    pub(super) fn claim(&mut self, limit: usize, lease: Duration, instant: Instant) -> Vec<Delivery> {
        let due = self.due.iter().take_while(|(due, _)| *due <= instant).take(limit).map(|(_, id)| *id);
        let due: Vec<DeliveryId> = due.collect();
        let claim = |id: DeliveryId| {
            let delivery = self.deliveries.get(&id)?.delivery.clone();
            self.replace(delivery.clone(), later(instant, lease));
            Some(delivery)
        };
        due.into_iter().filter_map(claim).collect()
    }

    /// Records how a try went. Passes over what is unknown or settled already.
    pub(super) fn settle(&mut self, id: DeliveryId, outcome: &DeliveryOutcome, instant: Instant) {
        let Some(entry) = self.deliveries.get(&id) else { return };
        if entry.delivery.state != DeliveryState::Pending {
            return;
        }
        let pause = match outcome {
            DeliveryOutcome::Retry { delay, .. } => *delay,
            _ => Duration::ZERO,
        };
        self.replace(entry.delivery.after(outcome), later(instant, pause));
    }

    pub(super) fn resend(&mut self, id: DeliveryId, now: SystemTime, instant: Instant) -> Option<Delivery> {
        let delivery = self.deliveries.get(&id)?.delivery.resent(now);
        self.replace(delivery.clone(), instant);
        Some(delivery)
    }

    pub(super) fn of_run(&self, run: RunId) -> impl Iterator<Item = Delivery> {
        let ids = self.by_run.get(&run).into_iter().flatten();
        ids.filter_map(|id| self.deliveries.get(id)).map(|entry| entry.delivery.clone())
    }

    pub(super) fn find(&self, query: &DeliveryQuery) -> Page<Delivery, DeliveryId> {
        let older = match query.before {
            Some(before) => self.deliveries.range(..before),
            None => self.deliveries.range::<DeliveryId, _>(..),
        };
        let newest = older.rev().map(|(_, entry)| &entry.delivery).filter(|delivery| query.matches(delivery));
        let items = newest.take(query.limit.saturating_add(1)).cloned().collect();
        Page::cut(items, query.limit, |delivery: &Delivery| delivery.id)
    }

    pub(super) fn has_pending(&self, run: RunId) -> bool {
        let mut ids = self.by_run.get(&run).into_iter().flatten();
        ids.any(|id| self.deliveries.get(id).is_some_and(|entry| self.due.contains(&(entry.due, *id))))
    }

    pub(super) fn remove_run(&mut self, run: RunId) {
        for id in self.by_run.remove(&run).into_iter().flatten() {
            if let Some(entry) = self.deliveries.remove(&id) {
                self.due.remove(&(entry.due, id));
            }
        }
    }

    pub(super) fn pending(&self) -> usize {
        self.due.len()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.due.first().map(|first| first.0)
    }

    fn replace(&mut self, delivery: Delivery, due: Instant) {
        let (id, pending) = (delivery.id, delivery.state == DeliveryState::Pending);
        if let Some(old) = self.deliveries.insert(id, Entry { delivery, due }) {
            self.due.remove(&(old.due, id));
        }
        if pending {
            self.due.insert((due, id));
        }
    }
}
