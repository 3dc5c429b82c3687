//! The HTTP contract of inbound webhook triggers as a [tower](https://docs.rs/tower-service) service, and a server for such services.
//!
//! [`ApiService`] is the whole contract over the types of the `http` crate. It fits wherever a tower service does: in
//! hyper, in axum's `Router::nest_service`, in poem's `TowerCompatExt`, and in the `server` of this crate. `webhook-axum` and
//! `webhook-warp` have routes of their frameworks instead, which a host composes with its own.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use http::{Request, StatusCode};
//! use http_body_util::Empty;
//! use tower_service::Service;
//! use webhook_core::executor::{FnExecutor, RunOutput};
//! use webhook_core::memory::MemoryStore;
//! use webhook_core::{Webhooks, Workflow, WorkflowKey};
//! use webhook_http::{AdminAccess, Api};
//! use webhook_tower::ApiService;
//!
//! # let key: webhook_core::id::WorkflowKey = "report/greeting".parse()?;
//! # let greeting = Workflow::new(key, "Greeting", Default::default());
//! # let executor = FnExecutor::new([greeting], async |_| Ok(RunOutput::new()));
//! let webhooks = Webhooks::builder().store(MemoryStore::new()).executor(executor).build().await?;
//! let mut service = ApiService::new(Api::new(webhooks, AdminAccess::Disabled));
//!
//! let request = Request::get("/healthz").body(Empty::<bytes::Bytes>::new())?;
//! let response = service.call(request).await?;
//! assert_eq!(response.status(), StatusCode::OK);
//! # Ok(())
//! # }
//! ```
//!
//! # Why a crate of its own
//!
//! `tower-service` is at version 0.3, and its trait is part of the public API here. webhook-http exposes nothing of
//! a crate below 1.0, so its own version can become 1.0 before tower's does.
//!
//! # Features
//!
//! Both only add, and neither is on by default.
//!
//! | feature | adds |
//! |---|---|
//! | `panel` | `ApiService::with_panel`: the page to manage webhooks and follow runs |
//! | `server` | `server`: a server with deadlines, a cap on connections and a bounded shutdown |

#[cfg(feature = "server")]
pub mod server;
mod service;

pub use service::{ApiService, ResponseFuture};
