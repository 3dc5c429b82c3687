//! A request as handlers get it.

use std::net::IpAddr;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Version, header};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use webhook_core::Webhooks;
use webhook_core::id::WorkflowKey;
use webhook_core::intake::{self, SentHead, TriggerCall, TriggerError};
use webhook_core::parameters::{MediaType, ParameterLimits, check_content_encoding, read_json};
use webhook_core::run::Caller;
use zeroize::Zeroizing;

use crate::capacity::room::{Room, Working};
use crate::contract::problem::Problem;
use crate::contract::route::Route;
use crate::contract::slug::Slug;
use crate::contract::wire::request::NoFields;
use crate::headers;
use crate::request::body::RequestBody;
use crate::shutdown::ShutdownSignal;

pub(crate) struct Request<'a> {
    pub(crate) head: Head,
    pub(crate) body: RequestBody<'a>,
}

/// Head of a request without its path, which a [`Route`](crate::Route) stands for.
///
/// It holds the token, so it has no `Debug`.
#[non_exhaustive]
pub struct RequestHead {
    /// Method of the request.
    pub method: Method,
    /// Raw query without the question mark; empty if there is none.
    pub query: Zeroizing<String>,
    /// Headers, as they came.
    pub headers: HeaderMap,
    /// Version of HTTP; 1.1 unless it is set.
    pub version: Version,
    /// Signal of the server's shutdown, if the server has one.
    pub shutdown: Option<ShutdownSignal>,
    /// Room of the connection, if the server has one.
    pub room: Option<Room>,
}

impl RequestHead {
    /// Creates a head with this method, query and these headers.
    #[must_use]
    pub fn new(method: Method, query: impl Into<String>, headers: HeaderMap) -> Self {
        let query = Zeroizing::new(query.into());
        Self { method, query, headers, version: Version::HTTP_11, shutdown: None, room: None }
    }

    /// Sets the signal of the server's shutdown.
    #[must_use]
    pub fn with_shutdown(mut self, shutdown: Option<ShutdownSignal>) -> Self {
        self.shutdown = shutdown;
        self
    }

    /// Sets the room of the connection.
    #[must_use]
    pub fn with_room(mut self, room: Option<Room>) -> Self {
        self.room = room;
        self
    }
}

/// Takes a [`ShutdownSignal`] and a [`Room`] from the extensions. Without a `Host`, the `:authority` of HTTP/2 becomes one.
impl From<Parts> for RequestHead {
    fn from(mut parts: Parts) -> Self {
        if !parts.headers.contains_key(header::HOST)
            && let Some(authority) = parts.uri.authority()
            && let Ok(host) = HeaderValue::from_str(authority.as_str())
        {
            parts.headers.insert(header::HOST, host);
        }
        let query = parts.uri.query().unwrap_or_default();
        let mut head = Self::new(parts.method, query, parts.headers);
        head.version = parts.version;
        head.with_shutdown(parts.extensions.remove()).with_room(parts.extensions.remove())
    }
}

/// Head of a request with its route, the address of its sender, and its id.
pub(crate) struct Head {
    pub(crate) request: RequestHead,
    pub(crate) route: Route,
    /// Address of the client, if the server or a trusted proxy tells it.
    pub(crate) peer: Option<IpAddr>,
    /// Address of the connection: that of the client, or of a trusted proxy in front of it.
    pub(crate) connection: Option<IpAddr>,
    pub(crate) id: String,
}

impl std::ops::Deref for Head {
    type Target = RequestHead;
    fn deref(&self) -> &RequestHead {
        &self.request
    }
}

impl Head {
    /// Waits for a permit to let the store work on it. Under a server without rooms, none is needed.
    pub(crate) async fn work(&self) -> Result<Option<Working>, Problem> {
        match &self.room {
            Some(room) => room.work().await.map(Some),
            None => Ok(None),
        }
    }

    /// Returns the facts about the caller that a run records.
    pub(crate) fn caller(&self) -> Caller {
        let headers = &self.headers;
        let mut caller = Caller::default();
        caller.method = known_method(&self.method).into();
        caller.address = self.peer;
        caller.user_agent = headers::user_agent(headers);
        caller.request_id = Some(self.id.clone());
        caller.content_type = headers::text(headers, header::CONTENT_TYPE).map(str::to_owned);
        caller.traceparent = headers::traceparent(headers).map(str::to_owned);
        caller
    }

    /// Returns URL and headers as they were sent, for a webhook that looks at them.
    pub(crate) fn sent(&self, webhooks: &Webhooks, workflow: &WorkflowKey) -> SentHead {
        SentHead::new(webhooks.called_url(workflow, &self.query), &self.headers)
    }

    /// Returns the call as the core knows it.
    ///
    /// An ill-formed workflow id is treated as a call without a token: same 401, same rate limit.
    pub(crate) fn call(&self) -> Result<TriggerCall, Problem> {
        let headers = &self.headers;
        let method = match self.method {
            Method::POST => intake::Method::Post,
            Method::HEAD => intake::Method::Head,
            Method::OPTIONS => intake::Method::Options,
            _ => intake::Method::Get,
        };
        let Some(key) = self.route.workflow() else {
            let mut call = TriggerCall::new(any_workflow(&self.route)?, method);
            call.caller = self.caller();
            return Ok(call);
        };
        let mut call = TriggerCall::new(key, method);
        call.query = self.query.clone();
        call.bearer = headers::bearer(headers).map_err(|_| Problem::new(Slug::TwoTokens))?;
        call.content_type = headers::given(headers, header::CONTENT_TYPE);
        call.content_encoding = headers::content_encoding(headers);
        call.has_body = headers::announces_body(headers);
        call.idempotency_key = headers::idempotency_key(headers);
        call.dry_run = headers::is_dry_run(headers);
        call.prefetch = method == intake::Method::Get && headers::is_prefetch(headers);
        call.caller = self.caller();
        Ok(call)
    }
}

impl Request<'_> {
    /// Reads the JSON object in the body of a management request; an empty body is an empty object.
    ///
    /// A body must be declared as JSON, which a page of another site cannot send without asking.
    pub(crate) async fn object<T: DeserializeOwned>(
        &mut self,
        limits: &ParameterLimits,
    ) -> Result<T, Problem> {
        let malformed = |detail: String| Problem::new(Slug::MalformedBody).with_detail(detail);
        let content_type = headers::given(&self.head.headers, header::CONTENT_TYPE);
        let bytes = self.body.read(limits.body_bytes).await?;
        let members = if bytes.is_empty() {
            Value::Object(Map::new())
        } else {
            check_content_encoding(headers::content_encoding(&self.head.headers).as_deref())
                .map_err(TriggerError::from)?;
            let is_json =
                |content_type: &str| MediaType::parse(content_type).is_some_and(|media| media.is_json());
            if !content_type.as_deref().is_some_and(is_json) {
                let detail = "a body must have the Content-Type application/json";
                return Err(Problem::new(Slug::UnsupportedMediaType).with_detail(detail));
            }
            read_json(&bytes, limits).map_err(|error| malformed(error.to_string()))?
        };
        if !members.is_object() {
            return Err(malformed("a JSON object is expected".to_owned()));
        }
        serde_json::from_value(members).map_err(|error| malformed(error.to_string()))
    }

    /// Refuses a body with any member, for operations that take no fields.
    pub(crate) async fn no_fields(&mut self, limits: &ParameterLimits) -> Result<(), Problem> {
        self.object::<NoFields>(limits).await?.check().map_err(Problem::fields)
    }
}

/// Returns the name of a method of HTTP (RFC 9110 section 9, RFC 5789), or `other`.
///
/// A client can send any word as a method, even a token, so no other word may reach logs and records.
pub(crate) fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::TRACE => "TRACE",
        Method::CONNECT => "CONNECT",
        _ => "other",
    }
}

/// Returns a workflow of the kind, for a call without a token.
fn any_workflow(route: &Route) -> Result<WorkflowKey, Problem> {
    let not_found = || Problem::new(Slug::NotFound);
    let id = "0".parse().map_err(|_| not_found())?;
    Ok(WorkflowKey::new(route.kind().cloned().ok_or_else(not_found)?, id))
}
