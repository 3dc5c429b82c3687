//! State that handlers share.

use webhook_core::Webhooks;
use webhook_core::parameters::ParameterLimits;

use crate::access::gate::{AdminAccess, Gate};
use crate::capacity::body_budget::BodyBudget;
use crate::capacity::run_reads::RunReads;
use crate::contract::links::Links;
use crate::contract::openapi::Rendered;
use crate::frames::Frames;
use crate::meters::{CallMeters, RefusalMeters};
use crate::trouble::Trouble;
use std::sync::OnceLock;

/// One service with the access to its management paths, and the state that its handlers keep between
/// requests.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) webhooks: Webhooks,
    pub(crate) access: AdminAccess,
    pub(crate) gate: Gate,
    pub(crate) frames: Frames,
    pub(crate) calls: CallMeters,
    pub(crate) bodies: BodyBudget,
    pub(crate) reads: RunReads,
    /// Counter of refusals on the management paths.
    pub(crate) refusals: RefusalMeters,
    pub(crate) description: OnceLock<Rendered>,
    pub(crate) trouble: Trouble,
}

impl State {
    pub(crate) fn new(webhooks: Webhooks, access: AdminAccess) -> Self {
        Self {
            webhooks,
            access,
            gate: Gate::default(),
            frames: Frames::default(),
            calls: CallMeters::new(),
            bodies: BodyBudget::default(),
            reads: RunReads::default(),
            refusals: RefusalMeters::of_management(),
            description: OnceLock::new(),
            trouble: Trouble::default(),
        }
    }

    pub(crate) fn limits(&self) -> &ParameterLimits {
        &self.webhooks.options().limits
    }

    pub(crate) fn links(&self) -> Links<'_> {
        Links::new(&self.webhooks)
    }
}
