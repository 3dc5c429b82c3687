//! Inbound webhook triggers as [warp](https://docs.rs/warp) filters.
//!
//! ```
//! # async fn example(webhooks: webhook_core::Webhooks) -> Result<(), Box<dyn std::error::Error>> {
//! use warp::Filter;
//!
//! let own = warp::path("hello").map(|| "Hello");
//! let hooks = warp::path("hooks").and(webhook_warp::routes(&webhooks));
//! let everything = own.or(hooks);
//! # let _ = everything;
//! # Ok(())
//! # }
//! ```
//!
//! The filters look at the rest of the path, so they can be mounted below a prefix. Put that prefix into the
//! base URL of the service too.
//! They reject, with `not_found`, only paths that are not theirs. They answer everything else, errors
//! included, so a host's own `recover` is not disturbed.
//!
//! warp's own server has no deadline for a request's head, no bound on connections and no deadline at
//! shutdown.
//! `server::Server` (feature `server`) has all three; it serves `service(routes)`. `panel_routes` (feature
//! `panel`) adds a page for people.
//!
//! Under warp's own server, give `graceful` the future of
//! [`Webhooks::shutdown_on`](webhook_core::Webhooks::shutdown_on).
//! Otherwise the shutdown waits for open event streams, and so for every open panel.

#[cfg(feature = "panel")]
mod panel;
mod routes;

#[cfg(feature = "panel")]
pub use panel::panel_routes;
pub use routes::{
    all_routes, management_routes, metrics_route, not_found, routes, status_routes, trigger_routes,
};
#[cfg(feature = "server")]
pub use warp::service;
pub use webhook_http::{AdminAccess, AdminToken, InvalidAdminToken, PeerAddress};
#[cfg(feature = "panel")]
pub use webhook_panel::{InvalidFrameAncestor, PanelOptions, panel_run_url};
#[cfg(feature = "server")]
#[doc(inline)]
pub use webhook_tower::server;
