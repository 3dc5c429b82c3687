//! The warp front end, as the tests use it: the same items as `axum.rs` has.

#![allow(dead_code, unused_imports, reason = "each file of tests is a crate that uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::convert::Infallible;
use std::future::Future;

use tokio::net::TcpListener;
use warp::filters::BoxedFilter;
use warp::reply::Response;
use warp::{Filter, Rejection, Reply};

pub(crate) use webhook_warp::*;

use webhook_warp::server::{Served, Server};

pub(crate) type Routes = BoxedFilter<(Response,)>;

/// Joins two sets of routes.
pub(crate) fn joined(first: Routes, second: Routes) -> Routes {
    first.or(second).unify().boxed()
}

/// Adds the 404 of the contract for everything else.
pub(crate) fn with_not_found(routes: Routes) -> Routes {
    joined(routes, not_found())
}

/// Puts routes below a segment of a path.
pub(crate) fn below(segment: &'static str, routes: Routes) -> Routes {
    warp::path(segment).and(routes).boxed()
}

/// Creates a route of the host's own at a path of one segment, or everywhere.
pub(crate) fn own<A>(
    segment: Option<&'static str>,
    answer: impl Fn() -> A + Clone + Send + Sync + 'static,
) -> Routes
where
    A: Future<Output = Vec<u8>> + Send + 'static,
{
    let answering = move || {
        let answer = answer();
        async move { answer.await.into_response() }
    };
    match segment {
        Some(segment) => warp::path(segment).and(warp::path::end()).then(answering).boxed(),
        None => warp::any().then(answering).boxed(),
    }
}

/// Adds an answer of the host's own to every path that is not found.
pub(crate) fn with_own_not_found(routes: Routes, answer: &'static str) -> Routes {
    let recover = move |rejection: Rejection| async move {
        let status = if rejection.is_not_found() { 404 } else { 500 };
        let status = warp::http::StatusCode::from_u16(status).unwrap();
        Ok::<_, Infallible>(warp::reply::with_status(answer, status).into_response())
    };
    routes.recover(recover).unify().boxed()
}

/// Serves by the hardened server.
pub(crate) async fn serve(server: Server, routes: Routes, stop: impl Future<Output = ()>) -> Served {
    server.serve(service(routes), stop).await
}

/// Serves by warp's own server.
pub(crate) async fn serve_plainly(
    listener: TcpListener,
    routes: Routes,
    stop: impl Future<Output = ()> + Send + 'static,
) {
    warp::serve(routes).incoming(listener).graceful(stop).run().await;
}
