//! Claiming runs, executing them and recording their outcomes.

pub(super) mod attempt;
pub(super) mod claims;
pub(super) mod inbox;
pub(super) mod leases;
pub(super) mod outcome;
pub(super) mod reporting;
pub(super) mod settling;
pub(super) mod slots;
pub(super) mod threads;
pub(super) mod watch;
