//! The axum front end, as the tests use it: the same items as `warp.rs` has.

#![allow(dead_code, unused_imports, reason = "each file of tests is a crate that uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::future::Future;
use std::net::SocketAddr;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::any;
use tokio::net::TcpListener;

pub(crate) use webhook_axum::*;

use webhook_axum::server::{Served, Server};

pub(crate) type Routes = Router;

/// Joins two sets of routes.
pub(crate) fn joined(first: Routes, second: Routes) -> Routes {
    first.merge(second)
}

/// Adds the 404 of the contract for everything else.
pub(crate) fn with_not_found(routes: Routes) -> Routes {
    routes.fallback(not_found)
}

/// Puts routes below a segment of a path.
pub(crate) fn below(segment: &'static str, routes: Routes) -> Routes {
    Router::new().nest(&format!("/{segment}"), routes)
}

/// Creates a route of the host's own at a path of one segment, or everywhere.
pub(crate) fn own<A>(
    segment: Option<&'static str>,
    answer: impl Fn() -> A + Clone + Send + Sync + 'static,
) -> Routes
where
    A: Future<Output = Vec<u8>> + Send + 'static,
{
    match segment {
        Some(segment) => Router::new().route(&format!("/{segment}"), any(answer)),
        None => Router::new().fallback(answer),
    }
}

/// Adds an answer of the host's own to every path that is not found.
pub(crate) fn with_own_not_found(routes: Routes, answer: &'static str) -> Routes {
    routes.fallback(async move || (StatusCode::NOT_FOUND, answer))
}

/// Serves by the hardened server.
pub(crate) async fn serve(server: Server, routes: Routes, stop: impl Future<Output = ()>) -> Served {
    server.serve(routes, stop).await
}

/// Serves by axum's own server.
pub(crate) async fn serve_plainly(
    listener: TcpListener,
    routes: Routes,
    stop: impl Future<Output = ()> + Send + 'static,
) {
    let service = routes.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).with_graceful_shutdown(stop).await.unwrap();
}
