//! The writer: one thread that decides every change, in the order of arrival.
//!
//! An operation is a closure over the [`Writer`](state::Writer). It decides by what is in memory, changes that, and gathers the
//! writes that record the change. Its result says how durable these must be before the caller is told.
//! To add an operation, write a method of `Writer` here and call it from the store's method. Queue and thread stay as they are.

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
