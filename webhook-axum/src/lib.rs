//! Inbound webhook triggers as routers of [axum](https://docs.rs/axum).
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use axum::Router;
//! use axum::routing::get;
//!
//! #[derive(Clone)]
//! struct App;
//!
//! # use webhook_core::{Webhooks, executor::{FnExecutor, RunOutput, Workflow}, memory::MemoryStore};
//! # let greeting = Workflow::new("report/greeting".parse()?, "Greeting", Default::default());
//! # let executor = FnExecutor::new([greeting], async |_| Ok(RunOutput::new()));
//! # let webhooks = Webhooks::builder().store(MemoryStore::new()).executor(executor).build().await?;
//! let app: Router = Router::new()
//!     .route("/hello", get(async || "Hello"))
//!     .nest("/hooks", webhook_axum::routes(&webhooks))
//!     .with_state(App);
//! # let _ = app;
//! # Ok(())
//! # }
//! ```
//!
//! The routers are generic over the host's state, and have routes for their own paths alone. So a host can merge or nest
//! them, keep its own fallback, and see each path in `MatchedPath`. If they are nested below a prefix, put that prefix
//! into the base URL of the service too.
//!
//! # Sign-in
//!
//! The management paths and the panel are routers of their own. A host puts its own sign-in before them as a layer:
//!
//! ```
//! # fn example<S: Clone + Send + Sync + 'static>(webhooks: &webhook_core::Webhooks) -> axum::Router<S> {
//! use axum::extract::Request;
//! use axum::http::StatusCode;
//! use axum::middleware::{Next, from_fn};
//! use axum::response::{IntoResponse, Response};
//! use webhook_axum::AdminAccess;
//!
//! async fn signed_in(request: Request, next: Next) -> Response {
//!     let is_signed_in = request.headers().contains_key("cookie"); // check the session here
//!     if is_signed_in { next.run(request).await } else { StatusCode::UNAUTHORIZED.into_response() }
//! }
//!
//! let guarded = webhook_axum::management_routes(webhooks, AdminAccess::Open).route_layer(from_fn(signed_in));
//! webhook_axum::routes(webhooks).merge(guarded)
//! # }
//! ```
//!
//! With [`AdminAccess::Open`], requests from pages of other sites and with a foreign `Host` are refused, so the host
//! needs no tokens against cross-site requests.
//!
//! # Extractors
//!
//! [`Webhooks`](webhook_core::Webhooks) is cheap to clone. As a part of the host's state, a handler can extract it:
//!
//! ```
//! use axum::extract::{FromRef, State};
//! use webhook_core::Webhooks;
//!
//! #[derive(Clone)]
//! struct App {
//!     webhooks: Webhooks,
//! }
//!
//! impl FromRef<App> for Webhooks {
//!     fn from_ref(app: &App) -> Self {
//!         app.webhooks.clone()
//!     }
//! }
//!
//! async fn busy(State(webhooks): State<Webhooks>) -> String {
//!     format!("{:?}", webhooks.work_health())
//! }
//! # let _ = axum::Router::<App>::new().route("/busy", axum::routing::get(busy));
//! ```
//!
//! # Serving
//!
//! `axum::serve` has no bound on connections, no deadline for a request's head and none at shutdown.
//! `server::Server` (feature `server`) has all three, and serves any router.
//!
//! Under `axum::serve`, use `into_make_service_with_connect_info::<SocketAddr>()`: without the addresses of clients, the
//! limit on wrong tokens counts all callers as one. Give `with_graceful_shutdown` the future of
//! [`Webhooks::shutdown_on`](webhook_core::Webhooks::shutdown_on). Otherwise the shutdown waits for open event streams,
//! and so for every open panel.
//!
//! # Features
//!
//! Both only add, and neither is on by default.
//!
//! | feature | adds |
//! |---|---|
//! | `panel` | `panel_routes`: the page to manage webhooks and follow runs |
//! | `server` | `server`: a server with deadlines, a cap on connections and a bounded shutdown |

#[cfg(feature = "panel")]
mod panel;
mod routes;

#[cfg(feature = "panel")]
pub use panel::panel_routes;
pub use routes::{
    all_routes, management_routes, metrics_route, not_found, routes, status_routes, trigger_routes,
};
pub use webhook_http::{AdminAccess, AdminToken, InvalidAdminToken, PeerAddress};
#[cfg(feature = "panel")]
pub use webhook_panel::{InvalidFrameAncestor, PanelOptions, panel_run_url};
#[cfg(feature = "server")]
#[doc(inline)]
pub use webhook_tower::server;
