//! The health of the service.

use schemars::JsonSchema;
use serde::Serialize;
use webhook_core::WorkHealth;

/// A healthy process: calls are taken, although some of its work may be stuck.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Health {
    #[schemars(extend("const" = "ok"))]
    status: &'static str,
    /// Left out when nothing is stuck.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Stuck")]
    stuck: Option<Stuck>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct Stuck {
    blocked_executors: u64,
    unrecorded_outcomes: u64,
}

impl Health {
    pub(crate) fn new(work: WorkHealth) -> Self {
        let stuck = Stuck {
            blocked_executors: work.blocked_executors as u64,
            unrecorded_outcomes: work.unrecorded_outcomes as u64,
        };
        Self { status: "ok", stuck: work.is_stuck().then_some(stuck) }
    }
}
