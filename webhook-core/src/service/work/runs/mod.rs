//! Claims runs, executes them and records their outcomes.
//!
//! - [`claims`] claims a run for each free slot, and some more ahead of need, so no slot waits for the store.
//! - [`claimed`] is the registry of the claims. [`slots`] bounds the concurrent attempts. A slot is free
//!   again when its executor returns or is given up.
//! - [`attempt`] is the state of one attempt, and [`execution`] carries it out. [`threads`] polls its
//!   executor, which may block. [`outcome`] decides the recorded outcome.
//! - [`watch`] stops attempts that exceed their time. [`leases`] renews claims, and stops attempts whose lease has ended.
//!   [`reporting`] stores progress and log lines, and [`settling`] records outcomes.
//! - No timer delays an execution while a slot is free.
//!
//! Locks are taken in this order, and none is held across an `await`: claims, attempt, slots or threads.

mod attempt;
mod claimed;
pub(super) mod claims;
pub(super) mod execution;
mod inbox;
pub(super) mod leases;
mod outcome;
mod pool;
mod reporting;
pub(super) mod settling;
mod slots;
mod threads;
pub(super) mod watch;

pub(super) use attempt::Attempt;
pub(super) use pool::RunPool;
