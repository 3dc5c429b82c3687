//! The health of the service, and its clients.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Serialize;
use webhook_core::WorkHealth;

/// The client of a request, as the server sees it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Client {
    /// Address of the client: what limits, logs and allowed networks go by. `null` if a trusted proxy leaves it unknown; such a
    /// call is from no allowed network.
    #[schemars(with = "Option<String>")]
    pub(crate) address: Option<IpAddr>,
    /// Address of the connection. It differs from `address` behind a trusted proxy.
    #[schemars(with = "Option<String>")]
    pub(crate) connection: Option<IpAddr>,
    /// True if a proxy named a client, trusted or not.
    pub(crate) forwarded: bool,
}

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
