//! Bounds on what callers use at the same time: memory of bodies, reads of runs, connections.

pub(crate) mod body_budget;
pub(crate) mod room;
pub(crate) mod run_reads;
pub(crate) mod shares;
