//! The management paths. Who asks was checked before anything here is called.

pub(crate) mod deliveries;
pub(crate) mod runs;
pub(crate) mod webhooks;
pub(crate) mod workflows;
