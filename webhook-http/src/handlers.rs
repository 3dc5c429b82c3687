//! One function for each operation. Access was checked before any of them is called.

pub(crate) mod artifact;
pub(crate) mod deliveries;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod metrics;
pub(crate) mod runs;
pub(crate) mod status;
pub(crate) mod trigger;
pub(crate) mod webhooks;
pub(crate) mod workflows;
