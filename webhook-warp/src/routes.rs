//! The filters: they route requests, and convert them for [`webhook_http::Api`].

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Buf;
use futures_util::{Stream, TryStreamExt};
use http::{HeaderMap, Response};
use http_body::Frame;
use http_body_util::{BodyDataStream, StreamBody};
use warp::filters::BoxedFilter;
use warp::path::Tail;
use warp::reply::Response as WarpResponse;
use warp::{Filter, Rejection, Reply};
use webhook_core::Webhooks;
use webhook_http::{
    AdminAccess, Api, Audience, PeerAddress, RequestHead, ResponseBody, Room, Route, ShutdownSignal,
};

/// Returns everything that callers need: trigger calls, the status of runs, the OpenAPI document, `/healthz`
/// and `/readyz`.
#[must_use]
pub fn routes(webhooks: &Webhooks) -> BoxedFilter<(WarpResponse,)> {
    const AUDIENCES: &[Audience] =
        &[Audience::Trigger, Audience::Status, Audience::Description, Audience::Health];
    filter(Api::new(webhooks.clone(), AdminAccess::Disabled), AUDIENCES)
}

/// Returns the trigger calls only.
#[must_use]
pub fn trigger_routes(webhooks: &Webhooks) -> BoxedFilter<(WarpResponse,)> {
    filter(Api::new(webhooks.clone(), AdminAccess::Disabled), &[Audience::Trigger])
}

/// Returns the status of runs for callers only.
#[must_use]
pub fn status_routes(webhooks: &Webhooks) -> BoxedFilter<(WarpResponse,)> {
    filter(Api::new(webhooks.clone(), AdminAccess::Disabled), &[Audience::Status])
}

/// Returns the management paths.
///
/// With [`AdminAccess::Open`], put a filter that authenticates the user before it. Requests from pages of
/// other sites, or with a foreign `Host`, are refused here.
#[must_use]
pub fn management_routes(webhooks: &Webhooks, access: AdminAccess) -> BoxedFilter<(WarpResponse,)> {
    filter(Api::new(webhooks.clone(), access), &[Audience::Management])
}

/// Returns all paths: [`routes`] and [`management_routes`].
#[must_use]
pub fn all_routes(webhooks: &Webhooks, access: AdminAccess) -> BoxedFilter<(WarpResponse,)> {
    const AUDIENCES: &[Audience] =
        &[Audience::Trigger, Audience::Status, Audience::Management, Audience::Description, Audience::Health];
    filter(Api::new(webhooks.clone(), access), AUDIENCES)
}

/// Returns `/metrics`, answered with the result of `render` as by [`Api::with_metrics`]. It needs no token.
#[must_use]
pub fn metrics_route(
    webhooks: &Webhooks,
    render: impl Fn() -> String + Send + Sync + 'static,
) -> BoxedFilter<(WarpResponse,)> {
    let api = Api::new(webhooks.clone(), AdminAccess::Disabled).with_metrics(render);
    filter(api, &[Audience::Metrics])
}

/// Returns a filter that answers everything with a 404 in the form of this service's errors, for the end of a
/// host's routes.
#[must_use]
pub fn not_found() -> BoxedFilter<(WarpResponse,)> {
    warp::header::headers_cloned().map(|headers: HeaderMap| reply(Api::not_found(&headers))).boxed()
}

fn filter(api: Api, audiences: &'static [Audience]) -> BoxedFilter<(WarpResponse,)> {
    // warp clones the state of a filter for every request.
    let api = Arc::new(api);
    let routing = api.clone();
    let ours = rest_of_path().and_then(move |rest: Tail| {
        let route = routing.route(&format!("/{}", rest.as_str()));
        let route = route.filter(|route| audiences.contains(&route.audience()));
        async move { route.ok_or_else(warp::reject::not_found) }
    });
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    let peer = warp::ext::optional::<PeerAddress>().and(warp::addr::remote());
    let peer = peer.map(|given: Option<PeerAddress>, remote: Option<SocketAddr>| {
        given.map(|given| given.0).or(remote.map(|remote| remote.ip()))
    });
    ours.and(query)
        .and(warp::method())
        .and(warp::header::headers_cloned())
        .and(peer)
        .and(warp::ext::optional::<ShutdownSignal>())
        .and(warp::ext::optional::<Room>())
        .and(warp::body::stream())
        .then(move |route, query: String, method, headers, peer, shutdown, room, body| {
            let head = RequestHead::new(method, query, headers).with_shutdown(shutdown).with_room(room);
            answer(api.clone(), route, head, peer, body)
        })
        .boxed()
}

/// Extracts the rest of the path, and rejects an empty rest, which is never a path of ours.
///
/// Targets without a path (`CONNECT host:80`) have an empty rest, and warp's own filters for the rest panic
/// on them.
pub(crate) fn rest_of_path() -> impl Filter<Extract = (Tail,), Error = Rejection> + Copy {
    let is_empty = warp::path::end().map(|| true).or(warp::any().map(|| false)).unify();
    let not_empty =
        is_empty.and_then(async |is_empty| if is_empty { Err(warp::reject::not_found()) } else { Ok(()) });
    not_empty.untuple_one().and(warp::path::tail())
}

async fn answer<D: Buf + Send>(
    api: Arc<Api>,
    route: Route,
    head: RequestHead,
    peer: Option<IpAddr>,
    body: impl Stream<Item = Result<D, warp::Error>> + Send,
) -> WarpResponse {
    let body = StreamBody::new(body.map_ok(Frame::data));
    reply(api.handle(route, head, peer, body).await)
}

pub(crate) fn reply(response: Response<ResponseBody>) -> WarpResponse {
    let (parts, body) = response.into_parts();
    match body.into_bytes() {
        Ok(bytes) => Response::from_parts(parts, bytes).into_response(),
        Err(streamed) => {
            let mut reply = warp::reply::stream(BodyDataStream::new(streamed)).into_response();
            *reply.status_mut() = parts.status;
            *reply.headers_mut() = parts.headers;
            reply
        }
    }
}
