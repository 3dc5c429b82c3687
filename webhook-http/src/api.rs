//! From a route to its answer.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use webhook_core::Webhooks;
use webhook_core::error::{BoxError, Resource};
use webhook_core::parameters::ParameterLimits;

use crate::access::gate::{AdminAccess, Gate};
use crate::access::{audit, site};
use crate::capacity::body_budget::BodyBudget;
use crate::capacity::run_reads::RunReads;
use crate::contract::openapi;
use crate::contract::openapi::Rendered;
use crate::contract::problem::{self, Problem};
use crate::contract::route::{Audience, Route, RunPart};
use crate::contract::wire::Links;
use crate::handlers::events::Frames;
use crate::handlers::metrics::{CallMeters, RefusalMeters, Renderer};
use crate::handlers::{self, events, health, metrics, status, trigger};
use crate::request::body::{READ_TIME, RequestBody};
use crate::request::head::{Head, Request, RequestHead, known_method};
use crate::request::headers;
use crate::response::answer::{Answer, ResponseBody, without_body};
use crate::trouble::Trouble;

/// The HTTP contract of one service. Cloning it is cheap and shares the service.
#[derive(Debug, Clone)]
pub struct Api {
    webhooks: Webhooks,
    access: AdminAccess,
    gate: Arc<Gate>,
    renderer: Option<Renderer>,
    pub(crate) frames: Frames,
    pub(crate) calls: CallMeters,
    pub(crate) bodies: Arc<BodyBudget>,
    pub(crate) reads: Arc<RunReads>,
    refusals: RefusalMeters,
    description: Arc<OnceLock<Rendered>>,
    trouble: Arc<Trouble>,
    body_deadline: Duration,
}

impl Api {
    /// The contract of `webhooks`, with this access to the management paths.
    #[must_use]
    pub fn new(webhooks: Webhooks, access: AdminAccess) -> Self {
        let (calls, refusals) = (CallMeters::new(), RefusalMeters::of_management());
        let (gate, bodies, reads) = (Arc::default(), Arc::default(), Arc::default());
        let (frames, description, trouble) = (Frames::default(), Arc::default(), Arc::default());
        let body_deadline = READ_TIME;
        Self {
            webhooks,
            access,
            gate,
            renderer: None,
            frames,
            calls,
            bodies,
            reads,
            refusals,
            description,
            trouble,
            body_deadline,
        }
    }

    /// Sets how long the body of a request may take once it is read: 30 s by default. One that takes longer is 400
    /// `malformed-body`, under any server.
    #[must_use]
    pub fn with_body_deadline(mut self, deadline: Duration) -> Self {
        self.body_deadline = deadline;
        self
    }

    /// Answers `/metrics` with what `render` gives: the text format of Prometheus, from the recorder of the
    /// `metrics` facade that the host has installed before it opened the store. Without this there is no such path.
    #[must_use]
    pub fn with_metrics(mut self, render: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.renderer = Some(Renderer::new(render));
        self
    }

    /// The service.
    #[must_use]
    pub fn webhooks(&self) -> &Webhooks {
        &self.webhooks
    }

    pub(crate) fn limits(&self) -> &ParameterLimits {
        &self.webhooks.options().limits
    }

    pub(crate) fn links(&self) -> Links<'_> {
        Links::new(&self.webhooks)
    }

    /// What `path` names, or `None` when it is not ours: another path, a kind of workflow that is not registered,
    /// or a management path while those are disabled. `path` starts with `/` and is relative to where the host
    /// mounted the contract.
    #[must_use]
    pub fn route(&self, path: &str) -> Option<Route> {
        let route = crate::contract::route::route(path)?;
        let ours = match (route.workflow(), route.audience()) {
            (Some(workflow), _) => self.webhooks.knows_kind(&workflow.kind),
            (None, Audience::Management) => !matches!(self.access, AdminAccess::Disabled),
            (None, Audience::Metrics) => self.renderer.is_some(),
            (None, _) => true,
        };
        ours.then_some(route)
    }

    /// Answers a request, whatever is wrong with it. `peer` is the address of the connection.
    ///
    /// A body is not read before the token was checked. What is not wanted of it is read and thrown away, up to
    /// 8 MiB or 2 s, so that its sender comes to read the answer (RFC 9112 section 9.6); but not with a 429, nor
    /// while the server's connections run short.
    ///
    /// Deadlines are those of tokio, so this must be polled within a tokio runtime that has its timers enabled.
    ///
    /// # Cancel safety
    /// When dropped, as it is when the client goes away, a run may or may not have been started, and a change may
    /// or may not have been made.
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
        let mut request = Request { head: Head { request: head, peer, id }, body };
        let answered = self.dispatch(&route, &mut request).await;
        self.trouble.note(&route, &answered);
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
            audience = ?route.audience(),
            "answered"
        );
        answer
    }

    /// The answer to what a server refuses before it is routed, such as what is no proper HTTP: a problem of the type
    /// `about:blank`. `headers` are those of the request, as far as they are known.
    #[must_use]
    pub fn refuse(status: StatusCode, detail: &str, headers: &HeaderMap) -> http::Response<ResponseBody> {
        let mut answer = problem::untyped(status, detail);
        headers::add_common(answer.headers_mut(), &headers::request_id(headers));
        answer
    }

    /// The answer for a path that is nobody's.
    #[must_use]
    pub fn not_found(headers: &HeaderMap) -> http::Response<ResponseBody> {
        let mut answer = Problem::not_found("path").into_response();
        headers::add_common(answer.headers_mut(), &headers::request_id(headers));
        answer
    }

    async fn dispatch(&self, route: &Route, request: &mut Request<'_>) -> Result<Answer, Problem> {
        if !route.methods().contains(&request.head.method) {
            return Err(Problem::method_not_allowed(route.methods()));
        }
        if route.audience() != Audience::Management {
            return self.answer(route, request).await;
        }
        let answered = match self.admit_manager(&request.head) {
            Ok(()) => self.answer(route, request).await,
            Err(problem) => Err(problem),
        };
        match &answered {
            Ok(answer) => audit::note(route, &request.head, answer),
            Err(problem) => self.refusals.refused(problem),
        }
        answered
    }

    /// Whether a request to a management path comes from whom it may come from.
    fn admit_manager(&self, head: &Head) -> Result<(), Problem> {
        site::check(&self.webhooks, &self.access, head)?;
        self.gate.check(&self.access, &head.headers, head.peer)
    }

    async fn answer(&self, route: &Route, request: &mut Request<'_>) -> Result<Answer, Problem> {
        match route {
            Route::Trigger(workflow) => {
                let answered = trigger::trigger(self, workflow, request).await;
                answered.inspect_err(|problem| self.calls.refused(problem))
            }
            Route::CallerRun { workflow, run, part } => {
                status::for_caller(self, workflow, *run, part, &request.head).await
            }
            Route::Workflows => handlers::workflows::list(self, &request.head).await,
            Route::Workflow(workflow) => handlers::workflows::get(self, workflow.as_ref()).await,
            Route::Webhooks if request.head.method == Method::POST => {
                handlers::webhooks::create(self, request).await
            }
            Route::Webhooks => handlers::webhooks::list(self, &request.head).await,
            Route::Webhook { id, part } => {
                let id = id.ok_or_else(|| Problem::not_found(Resource::Webhook))?;
                handlers::webhooks::one(self, id, *part, request).await
            }
            Route::Runs => handlers::runs::list(self, &request.head).await,
            Route::Run { id, part } => {
                let id = id.ok_or_else(|| Problem::not_found(Resource::Run))?;
                match part {
                    RunPart::Record => handlers::runs::get(self, id).await,
                    RunPart::Log => handlers::runs::log(self, id, &request.head).await,
                    RunPart::Artifact(name) => handlers::runs::artifact(self, id, name).await,
                }
            }
            Route::CancelRun(id) => {
                handlers::runs::cancel(self, id.ok_or_else(|| Problem::not_found(Resource::Run))?, request)
                    .await
            }
            Route::RetryRun(id) => {
                handlers::runs::retry(self, id.ok_or_else(|| Problem::not_found(Resource::Run))?, request)
                    .await
            }
            Route::Deliveries => handlers::deliveries::list(self, &request.head).await,
            Route::ResendDeliveries => handlers::deliveries::resend_all(self, request).await,
            Route::ResendDelivery(id) => {
                let id = id.ok_or_else(|| Problem::not_found(Resource::Delivery))?;
                handlers::deliveries::resend(self, id, request).await
            }
            Route::Events => events::stream(self, &request.head).await,
            Route::Description => {
                let rendered = self.description.get_or_init(|| openapi::rendered(self));
                Ok(rendered.answer(&request.head.headers))
            }
            Route::Metrics => {
                let renderer = self.renderer.as_ref().ok_or_else(|| Problem::not_found("path"))?;
                Ok(metrics::metrics(self, renderer).await)
            }
            Route::Health => health::health(self).await,
            Route::Ready => health::ready(self).await,
        }
    }
}

/// Gets rid of what nobody wants of a body, unless that would keep a connection that others need. Answers whether the
/// body came to its end.
async fn drained(request: &mut Request<'_>, status: StatusCode) -> bool {
    let Request { head, body } = request;
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
