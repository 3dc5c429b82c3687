//! Test support for hosts and stores of inbound webhook triggers.
//!
//! # Testing a host
//!
//! - [`Fixture`] is a service with one webhook, on in-memory backends.
//! - [`ScriptedExecutor`] follows a test's script.
//! - [`RecordingNotifier`] records notifications instead of sending them.
//! - [`TestClock`] is set and advanced by a test.
//! - [`MemoryStore`](webhook_core::memory::MemoryStore) is the matching store.
//!
//! [`Webhooks::run_until_idle`](webhook_core::Webhooks::run_until_idle) executes every due run without workers:
//!
//! ```
//! use serde_json::json;
//! use webhook_core::run::RunState;
//! use webhook_testing::{Fixture, Step};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let fixture = Fixture::new(json!({})).await;
//! fixture.executor.script_next([Step::FailFatal("no such table".into())]);
//! let run = fixture.trigger("region=APAC").await;
//! fixture.webhooks.run_until_idle().await?;
//!
//! assert_eq!(fixture.ended(run.id()).await.state(), RunState::Failed);
//! assert_eq!(fixture.executor.executed(1).await.len(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! The service of an application is built in its tests as in production, from these parts and its own workflows.
//!
//! # Testing a store
//!
//! [`conformance_tests!`] makes one test of each promise in [`conformance`]. A store's crate needs a file such as
//! `tests/conformance.rs` with that one line. A store that one process opens is opened again as well, and one that several processes share is
//! tested through two handles.

mod clock;
pub mod conformance;
mod executor;
mod fixture;
mod notifier;
#[cfg(unix)]
#[doc(hidden)]
pub mod postgres;
mod python;

pub use clock::TestClock;
pub use executor::{Execution, ScriptedExecutor, Step};
pub use fixture::{Fixture, sales_workflow};
pub use notifier::{DeliverFailure, RecordingNotifier};
#[doc(hidden)]
pub use python::python;
