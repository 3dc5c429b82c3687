//! The routers: a route for each path of the contract.

use std::net::{IpAddr, SocketAddr};

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::{Extensions, HeaderMap};
use axum::response::Response;
use axum::routing::any;
use webhook_core::Webhooks;
use webhook_http::{AdminAccess, Api, Audience, PeerAddress};

/// Returns everything that callers need: trigger calls, the status of runs, the OpenAPI document, `/healthz`
/// and `/readyz`.
pub fn routes<S: Clone + Send + Sync + 'static>(webhooks: &Webhooks) -> Router<S> {
    const AUDIENCES: &[Audience] =
        &[Audience::Trigger, Audience::Status, Audience::Description, Audience::Health];
    router(&Api::new(webhooks.clone(), AdminAccess::Disabled), AUDIENCES)
}

/// Returns the trigger calls only.
pub fn trigger_routes<S: Clone + Send + Sync + 'static>(webhooks: &Webhooks) -> Router<S> {
    router(&Api::new(webhooks.clone(), AdminAccess::Disabled), &[Audience::Trigger])
}

/// Returns the status of runs for callers only.
pub fn status_routes<S: Clone + Send + Sync + 'static>(webhooks: &Webhooks) -> Router<S> {
    router(&Api::new(webhooks.clone(), AdminAccess::Disabled), &[Audience::Status])
}

/// Returns the management paths.
///
/// With [`AdminAccess::Open`], put a layer that authenticates the user before it. Requests from pages of
/// other sites, or with a foreign `Host`, are refused here.
pub fn management_routes<S>(webhooks: &Webhooks, access: AdminAccess) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    router(&Api::new(webhooks.clone(), access), &[Audience::Management])
}

/// Returns all paths: [`routes`] and [`management_routes`].
pub fn all_routes<S: Clone + Send + Sync + 'static>(webhooks: &Webhooks, access: AdminAccess) -> Router<S> {
    const AUDIENCES: &[Audience] =
        &[Audience::Trigger, Audience::Status, Audience::Management, Audience::Description, Audience::Health];
    router(&Api::new(webhooks.clone(), access), AUDIENCES)
}

/// Returns `/metrics`, answered with the result of `render` as by [`Api::with_metrics`]. It needs no token.
pub fn metrics_route<S: Clone + Send + Sync + 'static>(
    webhooks: &Webhooks,
    render: impl Fn() -> String + Send + Sync + 'static,
) -> Router<S> {
    let api = Api::new(webhooks.clone(), AdminAccess::Disabled).with_metrics(render);
    router(&api, &[Audience::Metrics])
}

/// Answers everything with a 404 in the form of this service's errors, for the host's `Router::fallback`.
pub async fn not_found(headers: HeaderMap) -> Response {
    Api::not_found(&headers).map(Body::new)
}

fn router<S: Clone + Send + Sync + 'static>(api: &Api, audiences: &[Audience]) -> Router<S> {
    let mut router = Router::new();
    for path in audiences.iter().flat_map(|audience| api.paths(*audience)) {
        let api = api.clone();
        router = router.route(&path, any(move |request: Request| answer(api.clone(), request)));
    }
    router
}

async fn answer(api: Api, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let response = match api.route(parts.uri.path()) {
        Some(route) => {
            let peer = peer(&parts.extensions);
            api.handle(route, parts, peer, body).await
        }
        None => Api::not_found(&parts.headers),
    };
    response.map(Body::new)
}

/// Returns the address of the client, as the server or axum's connection info has it.
fn peer(extensions: &Extensions) -> Option<IpAddr> {
    let told = extensions.get().map(|PeerAddress(address)| *address);
    told.or_else(|| extensions.get().map(|ConnectInfo(address): &ConnectInfo<SocketAddr>| address.ip()))
}
