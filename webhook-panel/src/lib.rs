//! The management page of inbound webhook triggers: workflows, webhooks and runs, for people.
//!
//! A front end passes the requests that it does not know to [`Panel::handle`], which answers those for the panel:
//!
//! ```
//! use http::{HeaderMap, Method, StatusCode};
//! use webhook_panel::{Panel, PanelOptions};
//!
//! let panel = Panel::new(&PanelOptions::default());
//! let page = panel.handle(&Method::GET, "/panel", &HeaderMap::new()).unwrap();
//! assert_eq!(page.status(), StatusCode::OK);
//! assert!(panel.handle(&Method::GET, "/elsewhere", &HeaderMap::new()).is_none());
//! ```
//!
//! The page calls the management paths of webhook-http, so these must be mounted at the same place. It asks people for
//! the admin token, unless [`PanelOptions::without_sign_in`] says that the host has let them in already.
//!
//! All files are within the crate. The page loads nothing from other servers, and its policy (CSP Level 3) lets it run no
//! script and make no request but those of its own server.

mod files;
mod options;
mod panel;

pub use options::{InvalidFrameAncestor, PanelOptions, panel_run_url};
pub use panel::Panel;
