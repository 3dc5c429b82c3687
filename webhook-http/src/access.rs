//! Access to the management paths: admin tokens, requests of other sites, and the audit log.

pub(crate) mod audit;
pub(crate) mod gate;
pub(crate) mod site;
