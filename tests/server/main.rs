//! The example server as a process, called over a real socket as its users call it.
//!
//! Cargo builds the server together with these tests. To run them alone, build it first:
//!
//! ```sh
//! cargo build --example server && cargo test --test server
//! ```

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]
#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test says why it is skipped, and what it measures"
)]

mod calls;
mod closed;
mod cluster;
mod cluster_events;
mod crash;
mod memory;
mod notebook;
mod notifications;
mod process;
mod senders;
mod server;
mod start;
mod token_key;
mod use_cases;
mod verify;
