//! What becomes durable together, and what follows once it is.

use std::collections::HashMap;
use std::sync::Arc;

use sled::{Batch, IVec};
use tokio::time::Instant;
use webhook_core::id::{DeliveryId, RunId};
use webhook_core::notifier::Delivery;
use webhook_core::run::Run;
use webhook_core::store::StoreError;

use crate::keys::{self, KeyPlace};
use crate::operation::Reply;
use crate::record::{Encoded, KeyRecord};

/// What a change must survive before it is acknowledged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Nothing; it is written, so that reads see it.
    #[default]
    None,
    /// The death of the process.
    Flushed,
    /// What the store's durability says.
    Synced,
}

/// Answers a caller, with an error when the change could not be made durable.
pub(crate) type Acknowledgement = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Answers with `value`.
pub(crate) fn acknowledge<T: Send + 'static>(reply: Reply<T>, value: T) -> Acknowledgement {
    // Whoever no longer waits for the answer does not miss it.
    Box::new(move |outcome| drop(reply.send(outcome.map(|()| value))))
}

/// Changes that become durable together.
#[derive(Default)]
pub(crate) struct Group {
    pub(crate) level: Level,
    /// The number of the newest batch in it.
    pub(crate) number: u64,
    /// Runs that may be claimed from then on.
    pub(crate) admitted: Vec<RunId>,
    /// Runs whose state changed, as they are now.
    pub(crate) published: Vec<Arc<Run>>,
    pub(crate) wakes_deliveries: bool,
    /// Who is answered at which level.
    pub(crate) written: Vec<Acknowledgement>,
    pub(crate) flushed: Vec<Acknowledgement>,
    pub(crate) synced: Vec<Acknowledgement>,
}

impl Group {
    /// Answers a caller once the change has this level.
    pub(crate) fn when(&mut self, level: Level, acknowledgement: Acknowledgement) {
        self.level = self.level.max(level);
        match level {
            Level::None => self.written.push(acknowledgement),
            Level::Flushed => self.flushed.push(acknowledgement),
            Level::Synced => self.synced.push(acknowledgement),
        }
    }
}

/// Changes that are written together, while they are gathered.
#[derive(Default)]
pub(crate) struct Change {
    pub(crate) batch: Batch,
    /// About how much is in it.
    pub(crate) bytes: usize,
    /// Idempotency keys and deliveries in it, which the database does not show yet.
    pub(crate) keys: HashMap<KeyPlace, KeyRecord>,
    pub(crate) deliveries: HashMap<DeliveryId, Delivery>,
    /// Deliveries in it that are pending, and when they are due.
    pub(crate) due: Vec<(RunId, DeliveryId, Instant)>,
    pub(crate) group: Group,
}

impl Change {
    pub(crate) fn insert(&mut self, key: impl Into<IVec>, value: impl Into<IVec>) {
        let (key, value) = (key.into(), value.into());
        self.bytes += key.len() + value.len();
        self.batch.insert(key, value);
    }

    pub(crate) fn remove(&mut self, key: impl Into<IVec>) {
        let key = key.into();
        self.bytes += key.len();
        self.batch.remove(key);
    }

    /// Inserts a record that had `old_tails` further values. Answers how many it has now.
    pub(crate) fn insert_record(&mut self, key: &[u8], record: Encoded, old_tails: u16) -> u16 {
        let mut count = 0;
        for tail in record.tails {
            self.insert(keys::tail(key, count), tail);
            count += 1;
        }
        (count..old_tails).for_each(|number| self.remove(keys::tail(key, number)));
        self.insert(key, record.head);
        count
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0 && self.group.level == Level::None && self.group.written.is_empty()
    }
}
