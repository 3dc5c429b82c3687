//! Inbound webhook triggers for Rust applications: a URL with a secret token starts a durable run of a workflow.
//!
//! A webhook gives one of an application's workflows a URL. A GET or POST at that URL is answered at once, and a
//! worker executes the run in the background. The run is on disk before the answer is sent, and is executed at least
//! once.
//!
//! This crate re-exports the crates of the workspace, each behind a feature. [`webhook_core`] is always there: its
//! modules and its main types are at the root of this crate.
//!
//! # Install
//!
//! ```toml
//! [dependencies]
//! webhook-trigger = "0.1"
//! tokio = { version = "1", features = ["macros", "rt-multi-thread", "signal"] }
//! ```
//!
//! # Quick start
//!
//! A service needs a [store](store::Store), which keeps webhooks and runs, and an [executor](executor::Executor), which
//! executes workflows. [Notifiers](notifier::Notifier) are optional.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use webhook_trigger::prelude::*;
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
//!     let server = Server::bind(address.parse()?).await?;
//!
//!     let name = ParameterBlock::new("name", ParameterType::Text).with_default("world");
//!     let greeting = Workflow::new("report/greeting".parse()?, "Greeting", ParameterBlocks::new(vec![name])?);
//!     let executor = FnExecutor::new([greeting], async |context| {
//!         let name = context.parameters.get("name").map(|name| name.value.to_string()).unwrap_or_default();
//!         Ok(RunOutput::new().with_summary(format!("Hello {name}")))
//!     });
//!
//!     let webhooks = Webhooks::builder()
//!         .store(SledStore::open("data/minimal")?)
//!         .executor(executor)
//!         .token_key(TokenKey::load_or_create("data/minimal.key")?) // lets "copy URL" work later
//!         .base_url(format!("http://{}", server.local_address()?).parse()?)
//!         .build()
//!         .await?;
//!     let (greeting, settings) = ("report/greeting".parse()?, WebhookSettings::default());
//!     if let Some(url) = webhooks.manage().ensure_webhook(greeting, "quick start", settings).await?.url {
//!         println!("curl '{}&name=you'", url.expose());
//!     }
//!
//!     let workers = webhooks.start_workers(WorkerOptions::default());
//!     let interrupted = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
//!     let routes = webhook_trigger::warp::service(webhook_trigger::warp::routes(&webhooks));
//!     server.serve(routes, webhooks.shutdown_on(interrupted)).await; // also ends event streams
//!     workers.shutdown(Duration::from_secs(30)).await;
//!     webhooks.close().await;
//!     Ok(())
//! }
//! ```
//!
//! A real host implements [`Executor`]: list, describe, execute. The panel and the management API
//! are further routes, behind an admin token or the host's own sign-in. The [guides](#guides) have each step.
//!
//! # The path of a call
//!
//! ```mermaid
//! sequenceDiagram
//!     Caller->>Front end: POST /api/v1/report/sales/webhook?token=…
//!     Front end->>Intake: authenticate, admit: token, rate limit
//!     Intake->>Executor: describe: declared parameters
//!     Intake->>Intake: merge and check the parameters
//!     Intake->>Store: enqueue
//!     Store-->>Caller: 202 with run_id, once the run is durable
//!     Worker->>Store: claim, under a lease and a fence
//!     Worker->>Executor: execute
//!     Worker->>Store: settle: outcome and deliveries in one step
//!     Worker->>Notifier: deliver, with retries
//! ```
//!
//! # The life of a run
//!
//! ```mermaid
//! stateDiagram-v2
//!     [*] --> queued: accepted
//!     queued --> running: claimed by a worker
//!     queued --> cancelled: by a person, or a newer run
//!     queued --> skipped: on overlap
//!     running --> queued: retry, lost lease, shutdown
//!     running --> succeeded
//!     running --> failed
//!     running --> timed_out
//!     running --> cancelled
//! ```
//!
//! [`RunState::after`](run::RunState::after) has all transitions. A worker that lost its lease cannot record
//! anything: each claim has a [fence](run::Run::fence).
//!
//! # Features
//!
//! All features only add. The default is `panel`, `server`, `sled` and `warp`.
//!
//! | feature | adds |
//! |---|---|
//! | `warp` | `warp`: the HTTP front end as warp filters |
//! | `axum` | `axum`: the HTTP front end as axum routers |
//! | `tower` | `tower`: the HTTP contract as a tower service, for hyper, poem and other hosts |
//! | `http` | `http`: the HTTP contract without a framework |
//! | `server` | `tower::server`: a server with deadlines, a cap on connections and a bounded shutdown, for each of them |
//! | `panel` | `panel_routes` of `axum` and `warp`: the page to manage webhooks and follow runs |
//! | `sled` | `sled`: the durable store in a folder of one process |
//! | `postgres` | `postgres`: the store that several machines share, in PostgreSQL |
//! | `smtp` | `notify::smtp`: email |
//! | `slack` | `notify::slack`: Slack messages |
//! | `notify` | `smtp` and `slack` |
//! | `process` | `process`: executors for external commands and for Jupyter notebooks (Unix) |
//!
//! # The crates
//!
//! ```mermaid
//! flowchart BT
//!     http[webhook-http] --> core[webhook-core]
//!     panel[webhook-panel] --> http
//!     tower[webhook-tower] --> http & panel
//!     axum[webhook-axum] --> http & panel & tower
//!     warp[webhook-warp] --> http & panel & tower
//!     sled[webhook-sled] --> core
//!     postgres[webhook-postgres] --> core
//!     notify[webhook-notify] --> core
//!     process[webhook-process] --> core
//!     testing[webhook-testing] --> core
//!     trigger[webhook-trigger] --> axum & warp & sled & postgres & notify & process
//!     server[webhook-server] --> warp & sled & postgres & notify & process
//! ```
//!
//! | crate | content |
//! |---|---|
//! | `webhook-core` | tokens, parameters, runs, workers, management, the traits of store, executor and notifier |
//! | `webhook-http` | routes, statuses, problem documents and JSON over `http` types |
//! | `webhook-panel` | the management page |
//! | `webhook-tower` | the contract as a tower service, and the hardened server |
//! | `webhook-axum`, `webhook-warp` | axum routers, warp filters |
//! | `webhook-sled` | the durable store of one process |
//! | `webhook-postgres` | the store that several machines share |
//! | `webhook-notify` | email and Slack |
//! | `webhook-process` | commands and notebooks |
//! | `webhook-server` | all of this as a program |
//! | `webhook-testing` | for tests: conformance suite of stores, scripted executor, recording notifier, clock |
//!
//! # Guides
//!
//! | to | read |
//! |---|---|
//! | start, in a warp or axum application that you have | [`guide::quick_start`] |
//! | execute your own work, of one kind or of several | [`guide::executor`] |
//! | keep everything in your own database | [`guide::store`] |
//! | send mail, Slack messages or other news | [`guide::notifier`] |
//! | put your own sign-in before the panel and the management API | [`guide::sign_in`] |
//! | test your application | [`guide::testing`] |
//! | run it: backup, upgrade, retention, metrics, alerts, sizing | [`guide::production`] |
//! | run it on many machines | [`guide::many_machines`] |
//! | know what is secure, and what is left to you | [`guide::security`] |
//! | look up a word | [`glossary`] |
//!
//! # Where to look
//!
//! | task | see |
//! |---|---|
//! | create, change and delete webhooks, list and cancel runs | [`Webhooks::manage`] |
//! | declare parameters | [`parameters`] |
//! | follow runs | [`events`] |
//! | mask secrets in your own logs | [`masking`] |

#[doc(inline)]
pub use webhook_core::*;

#[cfg(feature = "axum")]
#[doc(inline)]
pub use webhook_axum as axum;
#[cfg(feature = "http")]
#[doc(inline)]
pub use webhook_http as http;
#[cfg(any(feature = "smtp", feature = "slack"))]
#[doc(inline)]
pub use webhook_notify as notify;
#[cfg(feature = "panel")]
#[doc(inline)]
pub use webhook_panel as panel;
#[cfg(feature = "postgres")]
#[doc(inline)]
pub use webhook_postgres as postgres;
#[cfg(feature = "process")]
#[doc(inline)]
pub use webhook_process as process;
#[cfg(feature = "sled")]
#[doc(inline)]
pub use webhook_sled as sled;
#[cfg(feature = "tower")]
#[doc(inline)]
pub use webhook_tower as tower;
#[cfg(feature = "warp")]
#[doc(inline)]
pub use webhook_warp as warp;

/// The types that most hosts name, for `use webhook_trigger::prelude::*`.
pub mod prelude {
    pub use webhook_core::Webhooks;
    pub use webhook_core::executor::{
        ExecuteError, Executor, Executors, FnExecutor, RunContext, RunOutput, Workflow,
    };
    pub use webhook_core::memory::MemoryStore;
    pub use webhook_core::notifier::Notifier;
    pub use webhook_core::parameters::{ParameterBlock, ParameterBlocks, ParameterType};
    pub use webhook_core::run::{Run, RunState};
    pub use webhook_core::store::Store;
    pub use webhook_core::token::TokenKey;
    pub use webhook_core::webhook::{Webhook, WebhookSettings};
    pub use webhook_core::work::{WorkerOptions, Workers};
    #[cfg(feature = "http")]
    pub use webhook_http::AdminAccess;
    #[cfg(feature = "slack")]
    pub use webhook_notify::slack::SlackNotifier;
    #[cfg(feature = "smtp")]
    pub use webhook_notify::smtp::{SmtpNotifier, SmtpOptions};
    #[cfg(feature = "panel")]
    pub use webhook_panel::PanelOptions;
    #[cfg(feature = "postgres")]
    pub use webhook_postgres::{PostgresOptions, PostgresStore};
    #[cfg(feature = "process")]
    pub use webhook_process::{CommandExecutor, CommandWorkflow, NotebookExecutor, NotebookWorkflow};
    #[cfg(feature = "sled")]
    pub use webhook_sled::SledStore;
    #[cfg(feature = "server")]
    pub use webhook_tower::server::{Server, ServerOptions};
}

pub mod guide;

#[doc = include_str!("../docs/glossary.md")]
pub mod glossary {}

/// The Rust code of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
