//! The change that the writer gathers for its next log record.

use std::collections::HashMap;

use sled::IVec;
use tokio::time::Instant;
use webhook_core::id::{DeliveryId, RunId};
use webhook_core::notifier::Delivery;
use webhook_core::webhook::Channel;

use crate::engine::change::Write;
use crate::engine::group::Group;
use crate::format::keys;
use crate::format::value::EncodedRecord;

/// A pending delivery of the gathered change, for the due index.
pub(crate) struct Due {
    pub(crate) run: RunId,
    pub(crate) id: DeliveryId,
    pub(crate) channel: Channel,
    pub(crate) at: Instant,
}

/// The change that the writer gathers, which becomes one log record.
#[derive(Default)]
pub(crate) struct GatheredChange {
    pub(crate) writes: Vec<Write>,
    /// Cost of `writes` in a checkpoint batch, in bytes.
    pub(crate) cost: usize,
    /// Deliveries in it, which sled lacks.
    pub(crate) deliveries: HashMap<DeliveryId, Delivery>,
    /// Deliveries in it that are pending.
    pub(crate) due: Vec<Due>,
    /// Runs that ended in it and have a log.
    pub(crate) ended_logs: Vec<RunId>,
    pub(crate) group: Group,
}

impl GatheredChange {
    pub(crate) fn insert(&mut self, key: impl Into<IVec>, value: impl Into<IVec>) {
        self.write(Write { key: key.into(), value: Some(value.into()), fresh: false });
    }

    /// Inserts the first value ever under this key. If it is removed soon, sled never gets it.
    pub(crate) fn insert_fresh(&mut self, key: impl Into<IVec>, value: impl Into<IVec>) {
        self.write(Write { key: key.into(), value: Some(value.into()), fresh: true });
    }

    pub(crate) fn remove(&mut self, key: impl Into<IVec>) {
        self.write(Write { key: key.into(), value: None, fresh: false });
    }

    fn write(&mut self, write: Write) {
        self.cost += write.cost();
        self.writes.push(write);
    }

    /// Inserts a record that had `old_tails` further values. Returns how many it has now.
    pub(crate) fn insert_record(&mut self, key: &[u8], record: EncodedRecord, old_tails: u16) -> u16 {
        let count = self.insert_tails(key, record.tails, old_tails);
        self.insert(key, record.head);
        count
    }

    /// Inserts the further values of a record that had `old` ones. Returns how many it has now.
    pub(crate) fn insert_tails(&mut self, key: &[u8], tails: Vec<Vec<u8>>, old: u16) -> u16 {
        let count = self.put_tails(key, tails, Self::insert);
        for number in count..old {
            self.remove(keys::tail(key, number));
        }
        count
    }

    /// Inserts the further values of a record that was never there. Returns their number.
    pub(crate) fn insert_fresh_tails(&mut self, key: &[u8], tails: Vec<Vec<u8>>) -> u16 {
        self.put_tails(key, tails, Self::insert_fresh)
    }

    fn put_tails(
        &mut self,
        key: &[u8],
        tails: Vec<Vec<u8>>,
        put: impl Fn(&mut Self, Vec<u8>, Vec<u8>),
    ) -> u16 {
        let mut count = 0;
        for tail in tails {
            put(self, keys::tail(key, count), tail);
            count += 1;
        }
        count
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.group.is_empty()
    }
}
