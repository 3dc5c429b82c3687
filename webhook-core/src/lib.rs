//! Inbound webhook triggers for Rust applications: the domain, without transport, storage and workflows.
//!
//! An application has workflows. A webhook gives one of them a URL with a secret token. A GET or POST at that URL is
//! answered at once with a durable run, which a worker executes in the background. Query and body override the
//! workflow's parameters by name.
//!
//! # Quick start
//!
//! A service needs a [`Store`], which keeps webhooks and runs, and an [`Executor`], which knows the workflows and executes
//! them. [`Notifier`]s are optional. This one keeps everything in
//! memory and is called without a server:
//!
//! ```
//! use std::time::Duration;
//!
//! use webhook_core::{
//!     FnExecutor, MemoryStore, Method, ParameterBlock, ParameterBlocks, ParameterType, RunOutput, RunState, TriggerCall,
//!     Triggered, WebhookSettings, Webhooks, WorkerOptions, Workflow,
//! };
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let region = ParameterBlock::new("region", ParameterType::Text).with_default("EMEA");
//! let sales = Workflow::new("report/sales".parse()?, "Sales", ParameterBlocks::new(vec![region])?);
//! let executor = FnExecutor::new([sales], async |context| {
//!     let region = context.parameters.get("region").map(|region| region.value.to_string());
//!     Ok(RunOutput::new().with_summary(format!("sold in {}", region.unwrap_or_default())))
//! });
//! let webhooks = Webhooks::builder().store(MemoryStore::new()).executor(executor).build().await?;
//! let workers = webhooks.start_workers(WorkerOptions::default());
//!
//! // What a person does once:
//! let created = webhooks.manage().create_webhook("report/sales".parse()?, WebhookSettings::default()).await?;
//!
//! // What a front end does for each call of the URL:
//! let (_, query) = created.url.expose().split_once('?').ok_or("a URL without a query")?;
//! let mut call = TriggerCall::new("report/sales".parse()?, Method::Get);
//! call.query = format!("{query}&region=APAC").into();
//! let authenticated = webhooks.authenticate(call).await?;
//! let admitted = webhooks.admit(authenticated).await?;
//! let Triggered::Accepted { run, .. } = webhooks.trigger(admitted, b"").await? else { return Err("no run".into()) };
//!
//! let ended = webhooks.wait_for_end(run.id(), Duration::from_secs(10)).await?.ok_or("the run is gone")?;
//! assert_eq!(ended.state(), RunState::Succeeded);
//! assert_eq!(ended.summary(), Some(r#"sold in "APAC""#));
//! workers.shutdown(Duration::from_secs(10)).await;
//! webhooks.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! `webhook-axum` and `webhook-warp` are front ends for HTTP, `webhook-sled` is a durable store, `webhook-notify`
//! sends email and Slack messages, and `webhook-process` executes commands and Jupyter notebooks.
//!
//! # The life of a run
//!
//! ```text
//!              claimed by a worker             end of an attempt
//!   queued ────────────────────────▶ running ─────────────────────▶ succeeded │ failed │ timed_out │ cancelled
//!    │  ▲                               │
//!    │  └── retry, lost lease, shutdown ┘
//!    └───▶ cancelled (by a person, its webhook's deletion, or a newer run) │ skipped (on overlap)
//! ```
//!
//! A run is executed at least once. Each claim has a [fence](Run::fence): a worker whose lease ended can record
//! nothing. [`RunState::after`] has all transitions.
//!
//! # Where to look
//!
//! | to | see |
//! |---|---|
//! | build a service, start workers, shut down | [`Webhooks`], [`work`] |
//! | answer a call | [`intake`] |
//! | create, change and delete webhooks, list and cancel runs | [`manage`] |
//! | declare parameters | [`parameters`] |
//! | bring your own work, store or notifier; combine several kinds of work | [`executor`], [`store`] with [`backend`], [`notifier`] |
//! | follow what happens | [`events`], [`calls`] |
//! | mask secrets in what you log | [`masking`] |
//! | test your application or store | the crate `webhook-testing`, [`memory`], [`Webhooks::run_until_idle`] |
//!
//! # Features
//!
//! There is one, `schema`, which is not on by default. It derives JSON Schemas (`schemars`) of what is on the wire, for
//! webhook-http.
//!
//! # Time, errors and cancellation
//!
//! Records bear the time of a [`Clock`](clock::Clock). Whatever expires is measured with [`tokio::time::Instant`], so a
//! clock that jumps expires nothing wrongly. Every error is a type that keeps its source, and its text names the remedy.
//! An async function may be dropped at any time unless its documentation says otherwise.

pub mod backend;
pub mod calls;
pub mod clock;
pub mod error;
pub mod events;
pub mod executor;
pub mod handshake;
pub mod id;
pub mod mapping;
pub mod masking;
pub mod memory;
pub mod network;
pub mod notifier;
pub mod parameters;
pub mod raw_call;
pub mod retry;
pub mod run;
mod schema;
pub mod secret;
pub mod sender;
mod service;
mod setting;
pub mod store;
pub mod token;
pub mod verification;
pub mod webhook;

pub use executor::{Executor, FnExecutor, RunContext, RunOutput, Workflow};
pub use id::{RunId, WebhookId, WorkflowKey};
pub use intake::{Method, TriggerCall, TriggerError, Triggered};
pub use manage::ManagementError;
pub use memory::MemoryStore;
pub use notifier::Notifier;
pub use parameters::{ParameterBlock, ParameterBlocks, ParameterType};
pub use run::{Run, RunState};
pub use service::{
    BuildError, RequiredPart, ServiceOptions, Webhooks, WebhooksBuilder, WorkHealth, intake, manage, work,
};
pub use store::Store;
pub use token::TokenKey;
pub use webhook::{Webhook, WebhookSettings};
pub use work::{WorkerOptions, Workers};
