//! The writer: one thread that decides every change, in the order of arrival.
//!
//! An operation is a closure over the [`Writer`](state::Writer). It looks up and changes what is in memory, gathers the writes
//! that record the change, and says how durable these must be before its caller is told. To add one, write a method here
//! and call it from the store's method; neither the queue nor the thread knows the operations.

pub(crate) mod change;
pub(crate) mod deliveries;
pub(crate) mod idempotency;
pub(crate) mod logs;
pub(crate) mod memory;
pub(crate) mod operation;
pub(crate) mod queue;
pub(crate) mod reply;
pub(crate) mod run_records;
pub(crate) mod runs;
pub(crate) mod state;
pub(crate) mod webhooks;
pub(crate) mod work;
