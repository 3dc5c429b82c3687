//! One function for each operation. Access was checked before any of them is called.

mod artifact;
pub(crate) mod caller_runs;
pub(crate) mod calls;
pub(crate) mod deliveries;
pub(crate) mod description;
pub(crate) mod events;
pub(crate) mod health;
mod large;
mod log;
pub(crate) mod metrics;
pub(crate) mod runs;
pub(crate) mod senders;
pub(crate) mod trigger;
pub(crate) mod webhooks;
pub(crate) mod workflows;
