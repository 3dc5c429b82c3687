//! The top layer: routes a request, checks access, and dispatches to the handler of its operation.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use webhook_core::Webhooks;
use webhook_core::error::BoxError;

use crate::access::gate::AdminAccess;
use crate::access::{audit, site};
use crate::contract::operation::Audience;
use crate::contract::operations::Operation;
use crate::contract::problem::{self, Problem};
use crate::contract::route::Route;
use crate::handlers::metrics::Renderer;
use crate::handlers::{
    caller_runs, calls, deliveries, description, events, health, metrics, runs, senders, trigger,
};
use crate::handlers::{webhooks, workflows};
use crate::headers;
use crate::request::body::{READ_TIME, RequestBody};
use crate::request::head::{Head, Request, RequestHead, known_method};
use crate::response::answer::{Answer, without_body};
use crate::response::body::ResponseBody;
use crate::state::State;

/// The HTTP contract of one service. Cloning it is cheap and shares the service.
#[derive(Debug, Clone)]
pub struct Api {
    state: Arc<State>,
    renderer: Option<Renderer>,
    body_deadline: Duration,
}

impl Api {
    /// Creates the contract of `webhooks`, with this access to the management paths.
    #[must_use]
    pub fn new(webhooks: Webhooks, access: AdminAccess) -> Self {
        Self { state: Arc::new(State::new(webhooks, access)), renderer: None, body_deadline: READ_TIME }
    }

    /// Sets the time that the body of a request may take once it is read. 30 s by default.
    ///
    /// A slower body is 400 `malformed-body`, under any server.
    #[must_use]
    pub fn with_body_deadline(mut self, deadline: Duration) -> Self {
        self.body_deadline = deadline;
        self
    }

    /// Serves `/metrics` with the text that `render` returns. By default there is no such path.
    ///
    /// The text is in Prometheus' format. It comes from the recorder of the `metrics` facade, which the host must install
    /// before it opens the store.
    #[must_use]
    pub fn with_metrics(mut self, render: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.renderer = Some(Renderer::new(render));
        self
    }

    /// Returns the service.
    #[must_use]
    pub fn webhooks(&self) -> &Webhooks {
        &self.state.webhooks
    }

    /// Returns the route of a path, or `None` when the path belongs to the host.
    ///
    /// A path with a kind of workflow that is not registered is the host's. So is a management path while those are
    /// disabled.
    ///
    /// `path` starts with `/` and is relative to where the host mounted the contract.
    #[must_use]
    pub fn route(&self, path: &str) -> Option<Route> {
        let route = Route::of(path)?;
        let ours = match route.audience() {
            Audience::Trigger | Audience::Status => {
                route.kind().is_some_and(|kind| self.state.webhooks.knows_kind(kind))
            }
            Audience::Management => !matches!(self.state.access, AdminAccess::Disabled),
            Audience::Metrics => self.renderer.is_some(),
            Audience::Description | Audience::Health => true,
        };
        ours.then_some(route)
    }

    /// Returns the paths for an audience as templates, for a router that must be told its paths.
    ///
    /// They are those that [`route`](Self::route) knows, with one template for each registered kind of workflow:
    /// `/api/v1/report/{workflow_id}/webhook`.
    #[must_use]
    pub fn paths(&self, audience: Audience) -> Vec<String> {
        let served = match audience {
            Audience::Management => !matches!(self.state.access, AdminAccess::Disabled),
            Audience::Metrics => self.renderer.is_some(),
            Audience::Trigger | Audience::Status | Audience::Description | Audience::Health => true,
        };
        if served { Route::templates(audience, self.state.webhooks.kinds()) } else { Vec::new() }
    }

    /// Handles a request and returns the complete response, errors included. `peer` is the address of the connection; where
    /// that is a [trusted proxy](webhook_core::WebhooksBuilder::trusted_proxies), its word on the address of the client counts.
    ///
    /// A body is not read before the token is checked. An unread rest is drained, up to 8 MiB or 2 s, so the client gets to
    /// read the response (RFC 9112 section 9.6). It is not drained with a 429, nor while connections run short.
    ///
    /// Deadlines are those of tokio, so this must be polled within a tokio runtime that has its timers
    /// enabled.
    ///
    /// # Cancel safety
    /// It is dropped when the client goes away. By then, a run may have been started or a change made.
    pub async fn handle<B>(
        &self,
        route: Route,
        head: impl Into<RequestHead>,
        peer: Option<IpAddr>,
        body: B,
    ) -> http::Response<ResponseBody>
    where
        B: Body + Send,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let body = body.map_err(Into::into).map_frame(as_bytes);
        let body = pin!(body);
        let head = head.into();
        let body = RequestBody::new(body, &head.headers).within(self.body_deadline);
        let id = headers::request_id(&head.headers);
        let connection = peer.map(|peer| peer.to_canonical());
        let trusted = self.webhooks().trusted_proxies();
        let peer = peer.and_then(|peer| headers::client_address(peer, &head.headers, trusted));
        let mut request = Request { head: Head { request: head, route, peer, connection, id }, body };
        let answered = self.answer(&mut request).await;
        let audience = request.head.route.audience();
        self.state.trouble.note(audience, &answered);
        let mut answer = answered.unwrap_or_else(Problem::into_response);
        if !drained(&mut request, answer.status()).await && request.head.version < Version::HTTP_2 {
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if request.head.method == Method::HEAD {
            answer = without_body(answer);
        }
        headers::add_common(answer.headers_mut(), &request.head.id);
        tracing::debug!(
            method = known_method(&request.head.method),
            status = answer.status().as_u16(),
            request_id = request.head.id,
            ?audience,
            "answered"
        );
        answer
    }

    /// Returns the response to a request that a server refuses before routing, such as malformed HTTP.
    ///
    /// It is a problem of the type `about:blank`. `headers` are those of the request, as far as they are known.
    #[must_use]
    pub fn refuse(status: StatusCode, detail: &str, headers: &HeaderMap) -> http::Response<ResponseBody> {
        let mut answer = problem::untyped(status, detail);
        headers::add_common(answer.headers_mut(), &headers::request_id(headers));
        answer
    }

    /// Returns the 404 for a path that neither the contract nor the host has.
    #[must_use]
    pub fn not_found(headers: &HeaderMap) -> http::Response<ResponseBody> {
        let mut answer = Problem::no_such_path().into_response();
        headers::add_common(answer.headers_mut(), &headers::request_id(headers));
        answer
    }

    /// Checks the method and, on the management paths, the access; then dispatches.
    async fn answer(&self, request: &mut Request<'_>) -> Result<Answer, Problem> {
        let (operation, spec) = request.head.route.operation(&request.head.method)?;
        if request.head.route.audience() != Audience::Management {
            return self.dispatch(operation, request).await;
        }
        let answered = match self.admit_manager(&request.head) {
            Ok(()) => self.dispatch(operation, request).await,
            Err(problem) => Err(problem),
        };
        match &answered {
            Ok(answer) => audit::note(spec.audit, &request.head, answer),
            Err(problem) => self.state.refusals.refused(problem),
        }
        answered
    }

    /// Checks that a request to a management path comes from this site and with access.
    fn admit_manager(&self, head: &Head) -> Result<(), Problem> {
        site::check(&self.state.webhooks, &self.state.access, head)?;
        self.state.gate.check(&self.state.access, &head.headers, head.peer)
    }

    async fn dispatch(&self, operation: Operation, request: &mut Request<'_>) -> Result<Answer, Problem> {
        let (state, head) = (&self.state, &request.head);
        match operation {
            Operation::Trigger
            | Operation::TriggerByGet
            | Operation::CheckByHead
            | Operation::CheckByOptions => trigger::trigger(state, request).await,
            Operation::ReadOwnRun => caller_runs::read(state, head).await,
            Operation::ReadOwnLog => caller_runs::log(state, head).await,
            Operation::ReadOwnArtifact => caller_runs::artifact(state, head).await,
            Operation::ListWorkflows => workflows::list(state, head).await,
            Operation::ReadWorkflow => workflows::read(state, head).await,
            Operation::ListWebhooks => webhooks::list(state, head).await,
            Operation::CreateWebhook => webhooks::create(state, request).await,
            Operation::ReadWebhook => webhooks::read(state, head).await,
            Operation::ChangeWebhook => webhooks::change(state, request).await,
            Operation::DeleteWebhook => webhooks::delete(state, request).await,
            Operation::ReadUrl => webhooks::url(state, head).await,
            Operation::RefreshToken => webhooks::refresh_token(state, request).await,
            Operation::ListSecrets => senders::list(state, head).await,
            Operation::AddSecret => senders::add(state, request).await,
            Operation::RemoveSecret => senders::remove(state, request).await,
            Operation::ListCalls => calls::list(state, head).await,
            Operation::ReplayCall => calls::replay(state, request).await,
            Operation::PreviewCall => senders::preview(state, request).await,
            Operation::ListPresets => Ok(senders::presets()),
            Operation::ListRecipes => Ok(senders::recipes()),
            Operation::ReadClient => Ok(health::client(head)),
            Operation::RunNow => webhooks::run(state, request).await,
            Operation::TestNotification => webhooks::test_notification(state, request).await,
            Operation::ListRuns => runs::list(state, head).await,
            Operation::ReadRun => runs::read(state, head).await,
            Operation::ReadLog => runs::log(state, head).await,
            Operation::ReadArtifact => runs::artifact(state, head).await,
            Operation::CancelRun => runs::cancel(state, request).await,
            Operation::RetryRun => runs::retry(state, request).await,
            Operation::ListChannels => Ok(deliveries::channels(state)),
            Operation::ListDeliveries => deliveries::list(state, head).await,
            Operation::ResendDeliveries => deliveries::resend_all(state, request).await,
            Operation::ResendDelivery => deliveries::resend(state, request).await,
            Operation::WatchEvents => events::watch(state, head).await,
            Operation::Describe => Ok(description::describe(state, head)),
            Operation::Metrics => match &self.renderer {
                Some(renderer) => Ok(metrics::metrics(state, renderer).await),
                None => Err(Problem::no_such_path()),
            },
            Operation::Health => health::health(state).await,
            Operation::Ready => health::ready(state).await,
        }
    }
}

/// Drains the rest of a body, unless others need the connection. Returns whether the body has ended.
async fn drained(request: &mut Request<'_>, status: StatusCode) -> bool {
    let Request { head, body, .. } = request;
    if status == StatusCode::TOO_MANY_REQUESTS {
        return body.is_over();
    }
    let Some(room) = &head.room else { return body.drain().await };
    tokio::select! {
        biased;
        () = room.crowded() => {}
        _ = body.drain() => {}
    }
    body.is_over()
}

fn as_bytes<D: Buf>(frame: Frame<D>) -> Frame<Bytes> {
    frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))
}
