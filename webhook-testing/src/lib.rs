//! Test support for hosts and stores of inbound webhook triggers.
//!
//! # Testing a host
//!
//! [`ScriptedExecutor`] follows a test's script, [`RecordingNotifier`] records notifications instead of sending them, and a test controls [`TestClock`].
//! [`MemoryStore`](webhook_core::memory::MemoryStore) is the matching store.
//! [`Webhooks::run_until_idle`](webhook_core::Webhooks::run_until_idle) executes every due run without workers:
//!
//! ```
//! use webhook_core::Webhooks;
//! use webhook_core::executor::Workflow;
//! use webhook_core::memory::MemoryStore;
//! use webhook_core::parameters::ParameterBlocks;
//! use webhook_core::run::{Caller, RunState};
//! use webhook_core::webhook::WebhookSettings;
//! use webhook_testing::{ScriptedExecutor, Step};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let sales = Workflow::new("report/sales".parse()?, "Sales", ParameterBlocks::default());
//! let executor = ScriptedExecutor::new([sales]);
//! let webhooks = Webhooks::builder().store(MemoryStore::new()).executor(executor.clone()).build().await?;
//! let created = webhooks.manage().create("report/sales".parse()?, WebhookSettings::default()).await?;
//!
//! executor.script_next([Step::FailFatal("no such table".into())]);
//! let started = webhooks.manage().run(created.webhook.id, Default::default(), Caller::default()).await?;
//! webhooks.run_until_idle().await?;
//!
//! let ended = webhooks.manage().run_record(started.run.id).await?;
//! assert_eq!(ended.state, RunState::Failed);
//! assert_eq!(executor.executed(1).await.len(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! # Testing a store
//!
//! [`conformance_tests!`] makes one test of each promise in [`conformance`]. A store's crate needs a file such as
//! `tests/conformance.rs` with that one line.

mod clock;
pub mod conformance;
mod executor;
mod notifier;
mod python;

pub use clock::TestClock;
pub use executor::{Execution, ScriptedExecutor, Step};
pub use notifier::{DeliverFailure, RecordingNotifier};
#[doc(hidden)]
pub use python::python;
