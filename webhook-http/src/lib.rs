//! The HTTP contract of inbound webhook triggers, over the types of the `http` crate: no server, no framework.
//!
//! A front end splits a request into its head and body and asks two questions. [`Api::route`] says whether a path is part of
//! the contract; any other path belongs to the host. [`Api::handle`] returns the complete response, errors included:
//!
//! ```
//! # use std::net::IpAddr;
//! # use webhook_http::{Api, ResponseBody};
//! # async fn example(api: Api, request: http::Request<http_body_util::Empty<bytes::Bytes>>, peer: Option<IpAddr>)
//! # -> Option<http::Response<ResponseBody>> {
//! let (parts, body) = request.into_parts();
//! let route = api.route(parts.uri.path())?;
//! let response = api.handle(route, parts, peer, body).await;
//! # Some(response)
//! # }
//! ```
//!
//! A router that must be told its paths gets them from [`Api::paths`]. `webhook-tower` has the contract as a tower
//! service, and `webhook-axum` and `webhook-warp` have it as routes.
//!
//! # Inside
//!
//! - `contract/operations.rs` is the table of operations: path, audience, method, types and problems of each. Routing,
//!   `Allow`, links, the names in the audit log and the OpenAPI document are derived from it.
//! - `contract/wire/` has the JSON of requests and answers. Its types write themselves and derive their JSON Schemas.
//! - `handlers/` has one function for each operation. They take the shared state and the request.
//! - `api.rs` is the top layer: it routes, checks access and dispatches.
//!
//! # Common to every response
//!
//! - JSON, or `application/problem+json` (RFC 9457) with a stable `type` for every error: see [`Slug`].
//! - `Cache-Control: no-store`, `Referrer-Policy: no-referrer`, `X-Content-Type-Options: nosniff`,
//!   `Cross-Origin-Resource-Policy: same-origin`.
//! - `X-Request-Id`: that of the request if it is 1 to 128 visible ASCII characters, else a new one.
//! - No token, except in the responses that exist to show a URL.
//!
//! # Choices of this contract
//!
//! ## Calls
//!
//! - The trigger path takes GET and POST, and HEAD and OPTIONS where the sender of a preset checks a URL so. Every other
//!   path that takes GET takes HEAD as well.
//! - `Webhook-Dry-Run` with any value but `false` and `0` is a dry run, so a mistyped value starts nothing.
//! - The address of a caller is that of the connection. Behind
//!   [trusted proxies](webhook_core::WebhooksBuilder::trusted_proxies) it is read from `Forwarded` or `X-Forwarded-For`.
//! - A body that breaks off or is too slow is 400 `malformed-body` ([`Api::with_body_deadline`]).
//! - `Prefer: wait` is ignored while a server says that its connections run short ([`Room`]).
//! - `Authorization: Bearer` and `Idempotency-Key` may be repeated with the same value. Different values are 400 `two-tokens`
//!   and 400 `idempotency-key-invalid`.
//!
//! ## Management
//!
//! - Its 401 has the same body as that of a call, and the header `WWW-Authenticate: Bearer realm="management"`. Both are
//!   limited by address in the same way. Two different management tokens are the 401.
//! - It refuses with 403 `cross-site-refused` what a page of another site may have caused. For methods other than GET and
//!   HEAD, this is a `Sec-Fetch-Site` other than `same-origin` and `none`, or a foreign `Origin`. Own origins are that of the
//!   base URL and those of [`allow_origin`](webhook_core::WebhooksBuilder::allow_origin). With [`AdminAccess::Open`],
//!   every request also needs the `Host` of one of them.
//! - A body must be declared as `application/json`.
//! - Each change is logged at `info` under the target `webhook::audit`.
//! - Cancelling an ended run, and retrying a live one, is 412 `precondition-failed`.
//! - Lists and events cut values longer than 1 KiB. The object and the item then say `"truncated": true`. A page has at most
//!   1 MiB and ends early where its items are long.
//! - `GET /admin/api/v1/events` takes `?workflow=kind/id` and `?run=`. It sends a heartbeat after 15 s of silence, and ends
//!   when the server shuts down. Its `progress` and `log` events name the run, its workflow and its webhook.
//!
//! ## Malformed HTTP
//!
//! A server refuses it before it gets here. [`Api::refuse`] gives a server the response in the form of all others.
//!
//! # Shutdown
//!
//! Event streams, and calls that wait for their runs, last until they are told. A server that lets responses end at shutdown
//! must tell them. It gives its graceful shutdown the future
//! [`Webhooks::shutdown_on`](webhook_core::Webhooks::shutdown_on), or puts a [`ShutdownSignal`] into the extensions of each
//! request.

mod access;
mod api;
mod asset;
mod capacity;
mod contract;
mod frames;
mod handlers;
mod headers;
mod meters;
mod peer;
mod request;
mod response;
mod shutdown;
mod state;
mod trouble;

pub use access::gate::{AdminAccess, AdminToken, InvalidAdminToken};
pub use api::Api;
pub use asset::Asset;
pub use capacity::room::{Room, RoomSource};
pub use contract::operation::Audience;
pub use contract::problem::Problem;
pub use contract::route::Route;
pub use contract::slug::Slug;
pub use peer::PeerAddress;
pub use request::head::RequestHead;
pub use response::body::ResponseBody;
pub use shutdown::{ShutdownSignal, ShutdownSource};
