//! Group commit: changes that become durable together, and what follows once they are.

use std::sync::Arc;

use webhook_core::id::RunId;
use webhook_core::notifier::Delivery;
use webhook_core::run::Run;
use webhook_core::store::StoreError;

use crate::engine::change::LogRecord;

/// The failure that a change must survive before its caller is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// None: no caller waits for it.
    #[default]
    None,
    /// The death of the process.
    Flushed,
    /// The one of the store's [`Durability`](crate::Durability).
    Synced,
}

/// Tells a caller the result, or the error when the change could not be made durable.
pub(crate) type Acknowledgement = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Changes that become durable together.
#[derive(Default)]
pub(crate) struct Group {
    pub(crate) level: Level,
    /// Its records that the journal lacks.
    pub(crate) records: Vec<LogRecord>,
    /// New runs, which may be claimed once they are durable.
    pub(crate) admitted: Vec<RunId>,
    /// Runs whose state changed, in their new state, each with the deliveries recorded at its end.
    pub(crate) published: Vec<(Arc<Run>, Arc<[Delivery]>)>,
    pub(crate) wakes_runs: bool,
    pub(crate) wakes_deliveries: bool,
    /// Callers that are told at [`Level::Flushed`].
    pub(crate) flushed: Vec<Acknowledgement>,
    /// Callers that are told at [`Level::Synced`].
    pub(crate) synced: Vec<Acknowledgement>,
}

impl Group {
    /// Returns true if the group has neither records nor consequences.
    pub(crate) fn is_empty(&self) -> bool {
        // Its records may be in the journal already, with their consequences still to come.
        let has_consequences = !self.published.is_empty()
            || !self.admitted.is_empty()
            || self.wakes_runs
            || self.wakes_deliveries;
        self.level == Level::None && self.records.is_empty() && !has_consequences
    }

    /// Bytes of its records in the journal, about.
    pub(crate) fn bytes(&self) -> usize {
        self.records.iter().map(LogRecord::bytes).sum()
    }

    /// Adds a later group.
    pub(crate) fn extend(&mut self, later: Self) {
        self.level = self.level.max(later.level);
        self.wakes_runs |= later.wakes_runs;
        self.wakes_deliveries |= later.wakes_deliveries;
        self.records.extend(later.records);
        self.admitted.extend(later.admitted);
        self.published.extend(later.published);
        self.flushed.extend(later.flushed);
        self.synced.extend(later.synced);
    }

    /// Tells a caller once the group survives this failure.
    pub(crate) fn when(&mut self, level: Level, acknowledgement: Acknowledgement) {
        self.level = self.level.max(level);
        match level {
            Level::None | Level::Flushed => self.flushed.push(acknowledgement),
            Level::Synced => self.synced.push(acknowledgement),
        }
    }
}
