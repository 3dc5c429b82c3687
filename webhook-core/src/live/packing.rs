//! How a live run is kept in memory: as it is, or packed when it waits behind many others.

use std::fmt;
use std::sync::Arc;

use super::Place;
use crate::id::{WebhookId, WorkflowKey};
use crate::run::{Run, RunState};
use crate::store::RunQuery;

/// Behind how many queued runs a run is packed. Those before them are executed soon.
pub(super) const PACKED_BEHIND: usize = 1_024;

/// How runs that wait for long take little memory: as the bytes that a store makes of them.
#[derive(Clone, Copy, Default)]
pub struct Packing(Option<Both>);

#[derive(Clone, Copy)]
struct Both {
    pack: fn(&Run) -> Option<Box<[u8]>>,
    unpack: fn(&[u8]) -> Option<Run>,
}

impl Packing {
    /// Packs with one function what the other one unpacks to the very same run. A run that `pack` answers nothing for
    /// is kept as it is.
    #[must_use]
    pub fn new(pack: fn(&Run) -> Option<Box<[u8]>>, unpack: fn(&[u8]) -> Option<Run>) -> Self {
        Self(Some(Both { pack, unpack }))
    }
}

impl fmt::Debug for Packing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Packing").field(&self.0.is_some()).finish()
    }
}

/// A live run and where it is.
#[derive(Debug)]
pub(super) struct Live {
    kept: Kept,
    workflow: WorkflowKey,
    pub(super) webhook: WebhookId,
    pub(super) place: Place,
}

#[derive(Debug)]
enum Kept {
    Whole(Arc<Run>),
    Packed(Box<[u8]>),
}

impl Live {
    pub(super) fn new(run: Arc<Run>, place: Place) -> Self {
        let (workflow, webhook) = (run.workflow.clone(), run.webhook_id);
        Self { kept: Kept::Whole(run), workflow, webhook, place }
    }

    /// The run. It is there unless its store unpacks less than it packed.
    pub(super) fn run(&self, packing: &Packing) -> Option<Arc<Run>> {
        match &self.kept {
            Kept::Whole(run) => Some(run.clone()),
            Kept::Packed(packed) => (packing.0?.unpack)(packed).map(Arc::new),
        }
    }

    pub(super) fn keep(&mut self, run: Arc<Run>) {
        self.kept = Kept::Whole(run);
    }

    pub(super) fn pack(&mut self, packing: &Packing) {
        if let (Kept::Whole(run), Some(both)) = (&self.kept, packing.0)
            && let Some(packed) = (both.pack)(run)
        {
            self.kept = Kept::Packed(packed);
        }
    }

    /// Whether it is running and about to stop. A running run is never packed.
    pub(super) fn is_asked_to_stop(&self) -> bool {
        matches!(&self.kept, Kept::Whole(run) if run.cancel_requested.is_some())
    }

    /// As [`RunQuery::matches`], without unpacking.
    pub(super) fn is_asked_for(&self, query: &RunQuery) -> bool {
        let state = match self.place {
            Place::Running(_) => RunState::Running,
            _ => RunState::Queued,
        };
        query.matches_these(&self.workflow, self.webhook, state)
    }
}
