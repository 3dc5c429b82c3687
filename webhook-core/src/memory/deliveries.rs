//! The deliveries, by id and by run; pending ones also by due time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::SystemTime;

use tokio::time::Instant;

use crate::backend::DueIndex;
use crate::clock::later;
use crate::id::{DeliveryId, RunId};
use crate::notifier::{Delivery, DeliveryState};
use crate::store::{Channels, DeliveryClaimRequest, DeliveryQuery, DeliverySettlement, Page};

#[derive(Debug, Default)]
pub(super) struct Deliveries {
    records: BTreeMap<DeliveryId, Delivery>,
    by_run: HashMap<RunId, BTreeSet<DeliveryId>>,
    pending: DueIndex,
}

impl Deliveries {
    /// Takes a new delivery, due at once.
    pub(super) fn add(&mut self, delivery: Delivery, instant: Instant) {
        self.by_run.entry(delivery.run).or_default().insert(delivery.id);
        self.put(delivery, instant);
    }

    pub(super) fn claim(&mut self, request: &DeliveryClaimRequest, instant: Instant) -> Vec<Delivery> {
        let claimed = self.pending.claim(request, instant).into_iter();
        claimed.filter_map(|claimed| self.records.get(&claimed.id)).cloned().collect()
    }

    /// Records the outcomes of tries. Passes over unknown deliveries and late outcomes.
    pub(super) fn settle(&mut self, settlements: &[DeliverySettlement], instant: Instant) {
        for settlement in settlements {
            let delivery = self.records.get(&settlement.id);
            if let Some(after) = delivery.and_then(|delivery| settlement.applied_to(delivery)) {
                self.put(after, later(instant, settlement.pause()));
            }
        }
    }

    pub(super) fn resend(&mut self, id: DeliveryId, now: SystemTime, instant: Instant) -> Option<Delivery> {
        let delivery = self.records.get(&id)?.resent(now);
        self.put(delivery.clone(), instant);
        Some(delivery)
    }

    pub(super) fn of_run(&self, run: RunId) -> impl Iterator<Item = &Delivery> {
        self.by_run.get(&run).into_iter().flatten().filter_map(|id| self.records.get(id))
    }

    pub(super) fn find(&self, query: &DeliveryQuery) -> Page<Delivery, DeliveryId> {
        let older = match query.before {
            Some(before) => self.records.range(..before),
            None => self.records.range::<DeliveryId, _>(..),
        };
        let newest = older.rev().map(|(_, delivery)| delivery).filter(|delivery| query.matches(delivery));
        let items = newest.take(query.limit.saturating_add(1)).cloned().collect();
        Page::cut(items, query.limit, |delivery: &Delivery| delivery.id)
    }

    pub(super) fn has_pending(&self, run: RunId) -> bool {
        self.pending.has_pending(run)
    }

    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn next_deadline(&self, channels: &Channels) -> Option<Instant> {
        self.pending.next_deadline(channels)
    }

    pub(super) fn remove_run(&mut self, run: RunId) {
        for id in self.by_run.remove(&run).into_iter().flatten() {
            self.records.remove(&id);
            self.pending.remove(id);
        }
    }

    fn put(&mut self, delivery: Delivery, due: Instant) {
        if delivery.state == DeliveryState::Pending {
            self.pending.put(delivery.run, delivery.id, Some(delivery.channel), due);
        } else {
            self.pending.remove(delivery.id);
        }
        self.records.insert(delivery.id, delivery);
    }
}
