//! The outbox's records.

use std::time::SystemTime;

use tokio::time::Instant;
use webhook_core::error::Resource;
use webhook_core::id::{DeliveryId, RunId};
use webhook_core::notifier::{Delivery, DeliveryState};
use webhook_core::store::{DeliverySettlement, StoreError};

use super::Writer;
use crate::engine::group::{Due, Level, acknowledge};
use crate::format::keys;
use crate::format::value::{encode, encode_pending};
use crate::reader::read;
use crate::writer::operation::Reply;
use webhook_core::clock::later;

impl Writer {
    /// Records a new delivery, due at once.
    pub(super) fn add_delivery(&mut self, delivery: Delivery, instant: Instant) -> Result<(), StoreError> {
        self.change.insert(&keys::delivery_run(delivery.id), delivery.run.as_bytes());
        self.shared.outbox().note_delivery();
        self.put_delivery(delivery, instant, 0)
    }

    pub(super) fn settle_deliveries(
        &mut self,
        settlements: &[DeliverySettlement],
        instant: Instant,
        reply: Reply<()>,
    ) {
        let caught_up = self.catch_up_with(settlements.iter().map(|settlement| settlement.id));
        let mut settle = |settlement| self.settle_one(settlement, instant);
        let settled = caught_up.and_then(|()| settlements.iter().try_for_each(&mut settle));
        match settled {
            Ok(()) => self.change.group.when(Level::Synced, acknowledge(reply, ())),
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    /// Has the database show these deliveries as they are. As long as the present change has none of them, it can go on
    /// to be gathered, so that outcomes that come one by one share a sync.
    fn catch_up_with(&mut self, ids: impl IntoIterator<Item = DeliveryId>) -> Result<(), StoreError> {
        if ids.into_iter().any(|id| self.change.deliveries.contains_key(&id)) {
            self.catch_up()
        } else {
            self.catch_up_before_change()
        }
    }

    fn settle_one(&mut self, settlement: &DeliverySettlement, instant: Instant) -> Result<(), StoreError> {
        let id = settlement.id;
        let Some(run) = self.shared.outbox().run_of(id) else { return Ok(()) };
        let Some(delivery) = self.delivery(run, id)? else {
            self.shared.outbox().remove(id);
            return Ok(());
        };
        let Some(after) = settlement.applied_to(&delivery) else { return Ok(()) };
        let tails = self.stored_tails(&keys::delivery(run, id))?;
        self.put_delivery(after, later(instant, settlement.pause()), tails)
    }

    pub(super) fn resend(
        &mut self,
        id: DeliveryId,
        now: SystemTime,
        instant: Instant,
        reply: Reply<Delivery>,
    ) {
        match self.catch_up_with([id]).and_then(|()| self.resent(id, now, instant)) {
            Ok(delivery) => self.change.group.when(Level::Synced, acknowledge(reply, delivery)),
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    fn resent(&mut self, id: DeliveryId, now: SystemTime, instant: Instant) -> Result<Delivery, StoreError> {
        let pending = self.shared.outbox().run_of(id);
        let run = match pending {
            Some(run) => Some(run),
            None => self.shared.with_tree(|tree| read::run_of_delivery(tree, id))?,
        };
        let delivery = run.map(|run| self.delivery(run, id)).transpose()?.flatten();
        let delivery = delivery.ok_or(StoreError::NotFound(Resource::Delivery))?.resent(now);
        let tails = self.stored_tails(&keys::delivery(delivery.run, id))?;
        self.put_delivery(delivery.clone(), instant, tails)?;
        Ok(delivery)
    }

    fn delivery(&self, run: RunId, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        match self.change.deliveries.get(&id) {
            Some(delivery) => Ok(Some(delivery.clone())),
            None => self.shared.with_tree(|tree| read::delivery(tree, run, id)),
        }
    }

    fn put_delivery(&mut self, delivery: Delivery, due: Instant, old_tails: u16) -> Result<(), StoreError> {
        let (run, id) = (delivery.run, delivery.id);
        self.change.insert_record(&keys::delivery(run, id), encode(&delivery)?, old_tails);
        let pending = keys::by_id(keys::PENDING, id.as_bytes());
        if delivery.state == DeliveryState::Pending {
            self.change.insert(&pending, encode_pending(run, delivery.next_at).as_slice());
            self.change.due.push(Due { run, id, channel: delivery.channel, at: due });
            self.change.group.wakes_deliveries = true;
        } else {
            self.change.remove(&pending);
            self.change.due.retain(|due| due.id != id);
            self.shared.outbox().remove(id);
        }
        self.change.deliveries.insert(id, delivery);
        Ok(())
    }
}
