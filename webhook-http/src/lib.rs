//! The HTTP contract of inbound webhook triggers, over the types of the `http` crate: no server, no framework.
//!
//! A front end splits a request into its head and body and calls two methods. [`Api::route`] says whether a
//! path is part of the contract; if it is not, the path belongs to the host. [`Api::handle`] answers every
//! path of the contract, errors included, with a complete response:
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
//! # Common to all answers
//!
//! - JSON, or `application/problem+json` (RFC 9457) with a stable `type` for every error: see [`Slug`].
//! - `Cache-Control: no-store`, `Referrer-Policy: no-referrer`, `X-Content-Type-Options: nosniff`,
//!   `Cross-Origin-Resource-Policy: same-origin`.
//! - `X-Request-Id`: that of the request if it is 1 to 128 visible ASCII characters, otherwise a new one.
//! - No answer contains a token, except those that exist to show a URL.
//!
//! # Details of the contract
//!
//! - The trigger path answers GET and POST only. Every other path with GET also answers HEAD.
//! - The 401 of the management paths differs from the other 401 in its header `WWW-Authenticate: Bearer
//!   realm="management"`; the bodies are equal. Both are limited by address in the same way.
//! - The management paths refuse with 403 `cross-site-refused` requests that a page of another site may have
//!   caused. These have a method other than GET and HEAD, and a `Sec-Fetch-Site` other than `same-origin` and
//!   `none`, or an `Origin` other than that of the base URL and those of
//!   [`allow_origin`](webhook_core::WebhooksBuilder::allow_origin). With [`AdminAccess::Open`], every request
//!   also needs a `Host` of one of these. A body must be declared as `application/json`.
//! - Each change through the management paths is logged at `info` under the target `webhook::audit`.
//! - Cancelling an ended run, and retrying one that has not ended, is 412 `precondition-failed`.
//! - `Webhook-Dry-Run` with any value but `false` and `0` is a dry run, so a mistyped value starts nothing.
//! - The address of a caller is that of the connection. `X-Forwarded-For` is not read.
//! - A body that breaks off or is too slow is 400 `malformed-body` ([`Api::with_body_deadline`]).
//! - `Prefer: wait` is ignored while a server's connections run short ([`Room`]).
//! - `Authorization: Bearer` and `Idempotency-Key` may be repeated with the same value. Different ones are
//!   400 `two-tokens` and 400 `idempotency-key-invalid`; two different management tokens are the 401.
//! - `GET /admin/api/v1/events` takes `?workflow=kind/id` and `?run=`, sends a heartbeat after 15 s of silence, and ends
//!   when the server shuts down. Its `progress` and `log` events name the run, its workflow and its webhook.
//! - Lists and events cut values longer than 1 KiB and say `"truncated": true` in the object with the cut
//!   value and in the item. A page of a list has at most 1 MiB and ends early if its items are long.
//! - Invalid HTTP is refused by the server and never reaches the contract. [`Api::refuse`] returns an answer
//!   to it in the form of all others.
//!
//! # Stopping
//!
//! Streams of events, and calls that wait for their runs, last until they are told to end. A server that lets
//! answers in progress end at shutdown must therefore tell them.
//!
//! Give its graceful shutdown the future [`Webhooks::shutdown_on`](webhook_core::Webhooks::shutdown_on), or
//! put a [`ShutdownSignal`] into the extensions of each request.

mod access;
mod api;
mod asset;
mod capacity;
mod contract;
mod frames;
mod handlers;
mod meters;
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
pub use contract::problem::{Problem, Slug};
pub use contract::route::Route;
pub use request::head::RequestHead;
pub use response::answer::ResponseBody;
pub use shutdown::{ShutdownSignal, ShutdownSource};
