//! Operations of deliveries.

use std::time::SystemTime;

use tokio::time::Instant;
use webhook_core::clock::later;
use webhook_core::error::Resource;
use webhook_core::id::{DeliveryId, RunId};
use webhook_core::notifier::{Delivery, DeliveryState};
use webhook_core::store::{DeliverySettlement, StoreError};

use crate::format::keys;
use crate::format::value::{encode, encode_pending};
use crate::reader::read;
use crate::writer::change::Due;
use crate::writer::reply::{Decided, Decision};
use crate::writer::state::Writer;

impl Writer {
    /// Records a new delivery, due at once.
    pub(crate) fn add_delivery(&mut self, delivery: Delivery, instant: Instant) -> Result<(), StoreError> {
        self.change.insert(&keys::delivery_run(delivery.id), delivery.run.as_bytes());
        self.parts.deliveries().note_delivery();
        self.put_delivery(delivery, instant, 0)
    }

    pub(crate) fn settle_deliveries(
        &mut self,
        settlements: &[DeliverySettlement],
        instant: Instant,
    ) -> Decided<()> {
        self.catch_up_with(settlements.iter().map(|settlement| settlement.id))?;
        for settlement in settlements {
            self.settle_one(settlement, instant)?;
        }
        Decision::synced(())
    }

    /// Waits until sled shows these deliveries as they are. The gathered change is committed only if it has one of them, so
    /// outcomes that arrive one by one share a sync.
    fn catch_up_with(&mut self, ids: impl IntoIterator<Item = DeliveryId>) -> Result<(), StoreError> {
        if ids.into_iter().any(|id| self.change.deliveries.contains_key(&id)) {
            self.catch_up()
        } else {
            self.catch_up_before_change()
        }
    }

    fn settle_one(&mut self, settlement: &DeliverySettlement, instant: Instant) -> Result<(), StoreError> {
        let id = settlement.id;
        let Some(run) = self.parts.deliveries().run_of(id) else { return Ok(()) };
        let Some(delivery) = self.delivery(run, id)? else {
            self.parts.deliveries().remove(id);
            return Ok(());
        };
        let Some(after) = settlement.applied_to(&delivery) else { return Ok(()) };
        let tails = self.stored_tails(&keys::delivery(run, id))?;
        self.put_delivery(after, later(instant, settlement.pause()), tails)
    }

    pub(crate) fn resend_delivery(
        &mut self,
        id: DeliveryId,
        now: SystemTime,
        instant: Instant,
    ) -> Decided<Delivery> {
        self.catch_up_with([id])?;
        let pending = self.parts.deliveries().run_of(id);
        let run = match pending {
            Some(run) => Some(run),
            None => self.parts.database.read(|tree| read::run_of_delivery(tree, id))?,
        };
        let delivery = run.map(|run| self.delivery(run, id)).transpose()?.flatten();
        let delivery = delivery.ok_or(StoreError::NotFound(Resource::Delivery))?.resent(now);
        let tails = self.stored_tails(&keys::delivery(delivery.run, id))?;
        self.put_delivery(delivery.clone(), instant, tails)?;
        Decision::synced(delivery)
    }

    fn delivery(&self, run: RunId, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        match self.change.deliveries.get(&id) {
            Some(delivery) => Ok(Some(delivery.clone())),
            None => self.parts.database.read(|tree| read::delivery(tree, run, id)),
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
            self.parts.deliveries().remove(id);
        }
        self.change.deliveries.insert(id, delivery);
        Ok(())
    }
}
