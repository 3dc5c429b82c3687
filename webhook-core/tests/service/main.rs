//! Tests of the service as a host uses it, on the in-memory backends.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod ahead;
mod bounds;
mod callers;
mod calls;
mod composition;
mod faults;
mod housekeeping;
mod intake;
mod management;
mod names;
mod notifications;
mod outbox;
mod panics;
mod records;
mod secrecy;
mod senders;
mod unsteady;
mod workers;
