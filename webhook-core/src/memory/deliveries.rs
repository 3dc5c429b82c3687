//! The deliveries, by id and by run.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::id::{DeliveryId, RunId};
use crate::notifier::Delivery;
use crate::store::DeliveryQuery;

#[derive(Debug, Default)]
pub(super) struct Deliveries {
    records: BTreeMap<DeliveryId, Delivery>,
    by_run: HashMap<RunId, BTreeSet<DeliveryId>>,
}

impl Deliveries {
    pub(super) fn get(&self, id: DeliveryId) -> Option<Delivery> {
        self.records.get(&id).cloned()
    }

    pub(super) fn put(&mut self, delivery: Delivery) {
        self.by_run.entry(delivery.run).or_default().insert(delivery.id);
        self.records.insert(delivery.id, delivery);
    }

    pub(super) fn of_run(&self, run: RunId) -> impl Iterator<Item = &Delivery> {
        self.by_run.get(&run).into_iter().flatten().filter_map(|id| self.records.get(id))
    }

    /// The newest deliveries that a query asks for, newest first, at most its limit.
    pub(super) fn find(&self, query: &DeliveryQuery) -> Vec<Delivery> {
        let older = match query.before {
            Some(before) => self.records.range(..before),
            None => self.records.range::<DeliveryId, _>(..),
        };
        let newest = older.rev().map(|(_, delivery)| delivery).filter(|delivery| query.matches(delivery));
        newest.take(query.limit).cloned().collect()
    }

    pub(super) fn remove_run(&mut self, run: RunId) {
        for id in self.by_run.remove(&run).into_iter().flatten() {
            self.records.remove(&id);
        }
    }
}
