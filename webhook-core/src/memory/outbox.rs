//! The outbox: deliveries, those still to go out ordered by when they are due.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::SystemTime;

use tokio::time::Instant;

use crate::clock::later;
use crate::id::{DeliveryId, RunId};
use crate::notifier::{Delivery, DeliveryState};
use crate::store::{Channels, DeliveryClaimRequest, DeliveryQuery, DeliverySettlement, Page};
use crate::webhook::Channel;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    deliveries: BTreeMap<DeliveryId, Entry>,
    /// The pending ones of each channel by when they are due, or until when they are claimed.
    due: BTreeMap<Channel, BTreeSet<(Instant, DeliveryId)>>,
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

    pub(super) fn claim(&mut self, request: &DeliveryClaimRequest, instant: Instant) -> Vec<Delivery> {
        let of_channel = |due: &BTreeSet<(Instant, DeliveryId)>| {
            due.iter().take_while(|(due, _)| *due <= instant).take(request.limit).copied().collect::<Vec<_>>()
        };
        let mut due: Vec<_> = self.due_through(&request.channels).flat_map(of_channel).collect();
        due.sort_unstable();
        due.truncate(request.limit);
        let mut claimed = Vec::with_capacity(due.len());
        for (_, id) in due {
            let Some(entry) = self.deliveries.get(&id) else { continue };
            let delivery = entry.delivery.clone();
            self.replace(delivery.clone(), later(instant, request.lease));
            claimed.push(delivery);
        }
        claimed
    }

    /// Records how tries went. Passes over what is unknown or comes too late.
    pub(super) fn settle(&mut self, settlements: &[DeliverySettlement], instant: Instant) {
        for settlement in settlements {
            let Some(entry) = self.deliveries.get(&settlement.id) else { continue };
            if let Some(after) = settlement.applied_to(&entry.delivery) {
                self.replace(after, later(instant, settlement.pause()));
            }
        }
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
        ids.any(|id| {
            self.deliveries.get(id).is_some_and(|entry| entry.delivery.state == DeliveryState::Pending)
        })
    }

    pub(super) fn remove_run(&mut self, run: RunId) {
        for id in self.by_run.remove(&run).into_iter().flatten() {
            if let Some(entry) = self.deliveries.remove(&id) {
                self.forget_due(&entry);
            }
        }
    }

    pub(super) fn pending(&self) -> usize {
        self.due.values().map(BTreeSet::len).sum()
    }

    pub(super) fn next_deadline(&self, channels: &Channels) -> Option<Instant> {
        self.due_through(channels).filter_map(|due| due.first()).map(|first| first.0).min()
    }

    fn due_through(&self, channels: &Channels) -> impl Iterator<Item = &BTreeSet<(Instant, DeliveryId)>> {
        self.due.iter().filter(|(channel, _)| channels.include(**channel)).map(|(_, due)| due)
    }

    fn replace(&mut self, delivery: Delivery, due: Instant) {
        let (id, channel, state) = (delivery.id, delivery.channel, delivery.state);
        if let Some(old) = self.deliveries.insert(id, Entry { delivery, due }) {
            self.forget_due(&old);
        }
        if state == DeliveryState::Pending {
            self.due.entry(channel).or_default().insert((due, id));
        }
    }

    fn forget_due(&mut self, entry: &Entry) {
        if let Some(due) = self.due.get_mut(&entry.delivery.channel) {
            due.remove(&(entry.due, entry.delivery.id));
        }
    }
}
