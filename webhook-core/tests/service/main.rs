//! Tests of the service as a host uses it, on the in-memory backends.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod ahead;
mod callers;
mod calls;
mod composition;
mod faults;
mod intake;
mod management;
mod notifications;
mod outbox;
mod panics;
mod secrecy;
mod unsteady;
mod workers;
