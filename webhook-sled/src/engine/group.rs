//! What becomes durable together, and what follows once it is.

use std::collections::HashMap;
use std::sync::Arc;

use sled::IVec;
use tokio::time::Instant;
use webhook_core::id::{DeliveryId, RunId};
use webhook_core::notifier::Delivery;
use webhook_core::run::Run;
use webhook_core::store::StoreError;
use webhook_core::webhook::Channel;

use crate::engine::batch::{Numbered, Write};
use crate::format::keys;
use crate::format::value::Encoded;
use crate::writer::operation::Reply;

/// What a change must survive before it is acknowledged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Nothing waits for it.
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
    /// Its changes, as far as they are not in the journal yet.
    pub(crate) changes: Vec<Numbered>,
    /// Runs that may be claimed from then on.
    pub(crate) admitted: Vec<RunId>,
    /// Runs whose state changed, as they are now, with the deliveries that their end has brought.
    pub(crate) published: Vec<(Arc<Run>, Arc<[Delivery]>)>,
    pub(crate) wakes_deliveries: bool,
    /// Who is answered at which level.
    pub(crate) flushed: Vec<Acknowledgement>,
    pub(crate) synced: Vec<Acknowledgement>,
}

impl Group {
    /// Whether there is nothing to do for it.
    pub(crate) fn is_empty(&self) -> bool {
        // Its changes may be in the journal already, and what follows from them still to come.
        let follows = !self.published.is_empty() || !self.admitted.is_empty() || self.wakes_deliveries;
        self.level == Level::None && self.changes.is_empty() && !follows
    }

    /// About how many bytes of the journal its changes take.
    pub(crate) fn bytes(&self) -> usize {
        self.changes.iter().map(Numbered::bytes).sum()
    }

    /// Takes what came after this.
    pub(crate) fn extend(&mut self, later: Self) {
        self.level = self.level.max(later.level);
        self.wakes_deliveries |= later.wakes_deliveries;
        self.changes.extend(later.changes);
        self.admitted.extend(later.admitted);
        self.published.extend(later.published);
        self.flushed.extend(later.flushed);
        self.synced.extend(later.synced);
    }

    /// Answers a caller once the change has this level.
    pub(crate) fn when(&mut self, level: Level, acknowledgement: Acknowledgement) {
        self.level = self.level.max(level);
        match level {
            Level::None | Level::Flushed => self.flushed.push(acknowledgement),
            Level::Synced => self.synced.push(acknowledgement),
        }
    }
}

/// When a pending delivery is due.
pub(crate) struct Due {
    pub(crate) run: RunId,
    pub(crate) id: DeliveryId,
    pub(crate) channel: Channel,
    pub(crate) at: Instant,
}

/// Changes that are written together, while they are gathered.
#[derive(Default)]
pub(crate) struct Change {
    pub(crate) writes: Vec<Write>,
    /// About how much it counts for in a window.
    pub(crate) cost: usize,
    /// Deliveries in it, which the database does not show yet.
    pub(crate) deliveries: HashMap<DeliveryId, Delivery>,
    /// Deliveries in it that are pending.
    pub(crate) due: Vec<Due>,
    /// Runs that ended in it and have a log.
    pub(crate) ended_logs: Vec<RunId>,
    pub(crate) group: Group,
}

impl Change {
    pub(crate) fn insert(&mut self, key: impl Into<IVec>, value: impl Into<IVec>) {
        self.write(Write { key: key.into(), value: Some(value.into()), fresh: false });
    }

    /// Inserts what was never there under this key. If it is removed again soon, the database need not know.
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

    /// Inserts a record that had `old_tails` further values. Answers how many it has now.
    pub(crate) fn insert_record(&mut self, key: &[u8], record: Encoded, old_tails: u16) -> u16 {
        let count = self.insert_tails(key, record.tails, old_tails);
        self.insert(key, record.head);
        count
    }

    /// Inserts the further values of a record that had `old` ones. Answers how many it has now.
    pub(crate) fn insert_tails(&mut self, key: &[u8], tails: Vec<Vec<u8>>, old: u16) -> u16 {
        let count = self.put_tails(key, tails, Self::insert);
        (count..old).for_each(|number| self.remove(keys::tail(key, number)));
        count
    }

    /// Inserts the further values of a record that was never there. Answers how many they are.
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
