//! The example server as a process, called over a real socket as its users call it.
//!
//! Cargo builds the server together with these tests. To run them alone, build it first:
//!
//! ```sh
//! cargo build --example server && cargo test --test server
//! ```

#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used)]

mod calls;
mod closed;
mod cluster;
mod crash;
mod memory;
mod notebook;
mod notifications;
mod process;
mod senders;
mod server;
mod start;
mod use_cases;
mod verify;
