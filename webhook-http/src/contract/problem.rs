//! Errors as answers: `application/problem+json` (RFC 9457).

use std::time::Duration;

use http::{HeaderValue, Response, StatusCode, header};
use webhook_core::error::{Resource, chain};
use webhook_core::intake::TriggerError;
use webhook_core::manage::{ManagementError, NotReplayable};
use webhook_core::parameters::{BodyError, ParameterProblem};
use webhook_core::webhook::{SettingCode, SettingProblem};

use crate::contract::slug::Slug;
use crate::contract::wire::problem::{ErrorCode, ErrorItem, ProblemDocument};
use crate::response::answer::{json_bytes, with_body};
use crate::response::body::ResponseBody;

/// Pause before the next try if nothing better is known.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Upper bound on the parameters that a reason names.
const ITEMS_IN_REASON: usize = 8;

/// Part of the service whose credentials a 401 asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Realm {
    /// Calls and their runs, which take the token of a webhook.
    Calls,
    /// Management, which takes the admin token.
    Management,
}

impl Realm {
    fn challenge(self) -> HeaderValue {
        match self {
            Self::Calls => HeaderValue::from_static("Bearer"),
            Self::Management => HeaderValue::from_static("Bearer realm=\"management\""),
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Self::Calls => {
                "send the token of a webhook of this workflow, as ?token= or as Authorization: Bearer"
            }
            Self::Management => "send the admin token as Authorization: Bearer",
        }
    }
}

/// Error that becomes a response.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    slug: Slug,
    detail: Option<String>,
    errors: Vec<ErrorItem>,
    retry_after: Option<Duration>,
    /// Methods of the path, as `Allow` lists them.
    allow: Option<Box<str>>,
    realm: Realm,
    /// The coding of the body is not supported, rather than its media type.
    refuses_coding: bool,
    /// Failure inside the service, for the log only.
    cause: Option<Box<str>>,
}

impl Problem {
    /// Creates a problem that needs no detail.
    #[must_use]
    pub fn new(slug: Slug) -> Self {
        let retry_after = (slug.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(RETRY_AFTER);
        Self {
            slug,
            detail: None,
            errors: Vec::new(),
            retry_after,
            allow: None,
            realm: Realm::Calls,
            refuses_coding: false,
            cause: None,
        }
    }

    /// Adds a detail. It must not contain a token or a secret value.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds the failure inside the service, for the log and not for the response.
    pub(crate) fn caused_by(mut self, error: &(dyn std::error::Error + 'static)) -> Self {
        self.cause = Some(chain(error).into());
        self
    }

    pub(crate) fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }

    /// Returns the kind.
    #[must_use]
    pub fn slug(&self) -> Slug {
        self.slug
    }

    /// Returns the reason for the call log: names and codes of the parameters that cannot be used, or the detail. Messages
    /// are left out, since they are about the values.
    pub(crate) fn reason(&self) -> Option<String> {
        let named = self.errors.iter().filter_map(|item| match (&item.parameter, item.code) {
            (Some(name), ErrorCode::Parameter(code)) => Some(format!("{name}: {}", code.as_str())),
            _ => None,
        });
        let named = named.take(ITEMS_IN_REASON).collect::<Vec<_>>().join(", ");
        if named.is_empty() { self.detail.clone() } else { Some(named) }
    }

    /// Returns what the preview of a call says of this problem.
    pub(crate) fn into_item(self) -> ErrorItem {
        let message = self.detail.unwrap_or_else(|| self.slug.title().to_owned());
        ErrorItem { code: ErrorCode::Call(self.slug), field: None, message, parameter: None }
    }

    pub(crate) fn with_realm(mut self, realm: Realm) -> Self {
        self.realm = realm;
        self
    }

    /// Creates a 405 that lists the methods of the path, such as `GET, HEAD`.
    pub fn method_not_allowed(allow: impl Into<String>) -> Self {
        let allow = allow.into();
        let detail = format!("this path answers {allow}");
        Self { allow: Some(allow.into()), ..Self::new(Slug::MethodNotAllowed) }.with_detail(detail)
    }

    pub(crate) fn not_found(record: Resource) -> Self {
        Self::new(Slug::NotFound).with_detail(format!("there is no such {record}"))
    }

    pub(crate) fn no_such_path() -> Self {
        Self::new(Slug::NotFound).with_detail("there is no such path")
    }

    /// Creates the problem of a request with invalid fields.
    pub(crate) fn fields(problems: Vec<SettingProblem>) -> Self {
        let missing = !problems.is_empty()
            && problems.iter().all(|problem| problem.code == SettingCode::IntegrationMissing);
        let slug = if missing { Slug::IntegrationMissing } else { Slug::SettingsInvalid };
        let detail = counted(problems.len(), "field");
        let errors = problems.iter().map(ErrorItem::from).collect();
        Self { errors, ..Self::new(slug) }.with_detail(detail)
    }

    fn parameters(problems: &[ParameterProblem]) -> Self {
        let errors = problems.iter().map(ErrorItem::from).collect();
        Self { errors, ..Self::new(Slug::ParametersInvalid) }
            .with_detail(counted(problems.len(), "parameter"))
    }

    pub(crate) fn retry_after(mut self, pause: Duration) -> Self {
        self.retry_after = Some(pause);
        self
    }

    /// Returns advice that is the same for every problem of a kind.
    fn advice(&self) -> Option<&'static str> {
        match self.slug {
            Slug::Unauthorized => Some(self.realm.advice()),
            _ => None,
        }
    }

    /// Writes the response.
    #[must_use]
    pub fn into_response(self) -> Response<ResponseBody> {
        let (status, title) = (self.slug.status(), self.slug.title());
        let document = ProblemDocument {
            detail: self.detail.as_deref().or(self.advice()).unwrap_or(title),
            errors: &self.errors,
            status: status.as_u16(),
            title,
            problem_type: &self.slug.urn(),
        };
        let mut response = problem(status, &document);
        let headers = response.headers_mut();
        if self.slug == Slug::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, self.realm.challenge());
        }
        // RFC 9110 section 11.6.1 demands the header; no client can respond to it.
        if self.slug == Slug::SignatureInvalid {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Signature"));
        }
        // Distinguishes an unsupported coding from a media type (RFC 9110 section 12.5.3).
        if self.refuses_coding {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        if let Some(pause) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(pause)));
        }
        if let Some(allow) = self.allow.and_then(|allow| HeaderValue::from_str(&allow).ok()) {
            headers.insert(header::ALLOW, allow);
        }
        response
    }
}

/// Writes the response to a request that is refused before routing, such as malformed HTTP.
///
/// Its problem has no type of its own (RFC 9457 section 4.2.1).
pub(crate) fn untyped(status: StatusCode, detail: &str) -> Response<ResponseBody> {
    let title = status.canonical_reason().unwrap_or("Refused");
    let document =
        ProblemDocument { detail, errors: &[], status: status.as_u16(), title, problem_type: "about:blank" };
    problem(status, &document)
}

fn problem(status: StatusCode, document: &ProblemDocument<'_>) -> Response<ResponseBody> {
    with_body(status, "application/problem+json", json_bytes(document))
}

/// Rounds up to whole seconds, at least 1, so no client returns too early.
fn whole_seconds(pause: Duration) -> u64 {
    let up = u64::from(pause.subsec_nanos() > 0);
    pause.as_secs().saturating_add(up).max(1)
}

fn counted(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what} cannot be used; see errors"),
        _ => format!("{number} {what}s cannot be used; see errors"),
    }
}

/// The only place that decides the problem of a refused call.
impl From<TriggerError> for Problem {
    fn from(error: TriggerError) -> Self {
        let detail = error.to_string();
        let slug = match error {
            // Nothing in this answer may depend on why the token is not valid.
            TriggerError::Unauthorized => return Self::new(Slug::Unauthorized),
            TriggerError::TooManyFailures { retry_after } | TriggerError::RateLimited { retry_after } => {
                return Self::new(Slug::RateLimited).with_detail(detail).retry_after(retry_after);
            }
            TriggerError::Parameters(problems) => return Self::parameters(&problems),
            TriggerError::TwoTokens => Slug::TwoTokens,
            TriggerError::MalformedQuery(_) => Slug::MalformedQuery,
            TriggerError::QueryTooLong { .. } => Slug::QueryTooLong,
            TriggerError::MethodNotAllowed => return Self::method_not_allowed("GET, POST"),
            TriggerError::AddressNotAllowed => Slug::AddressNotAllowed,
            TriggerError::SignatureInvalid(_) => Slug::SignatureInvalid,
            TriggerError::Disabled => Slug::WebhookDisabled,
            TriggerError::GetNotAllowed => Slug::GetNotAllowed,
            TriggerError::PreviewRefused => Slug::PreviewRefused,
            TriggerError::BodyTooLarge { .. } => Slug::TooLarge,
            TriggerError::Body(BodyError::UnsupportedMediaType { .. }) => Slug::UnsupportedMediaType,
            TriggerError::Body(BodyError::UnsupportedContentEncoding { .. }) => {
                let problem = Self::new(Slug::UnsupportedMediaType).with_detail(detail);
                return Self { refuses_coding: true, ..problem };
            }
            TriggerError::Body(_) => Slug::MalformedBody,
            TriggerError::WorkflowMissing | TriggerError::WorkflowUnavailable => Slug::WorkflowMissing,
            TriggerError::IdempotencyKeyInvalid => Slug::IdempotencyKeyInvalid,
            TriggerError::IdempotencyMismatch => Slug::IdempotencyMismatch,
            TriggerError::QueueFull => Slug::QueueFull,
            TriggerError::ShuttingDown => Slug::ShuttingDown,
            error => return Self::new(Slug::StoreUnavailable).with_detail(detail).caused_by(&error),
        };
        Self::new(slug).with_detail(detail)
    }
}

impl From<ManagementError> for Problem {
    fn from(error: ManagementError) -> Self {
        let detail = error.to_string();
        let slug = match error {
            ManagementError::NotFound(what) => return Self::not_found(what),
            ManagementError::Settings(problems) => return Self::fields(problems),
            ManagementError::Trigger(error) => return error.into(),
            ManagementError::UrlNotRecoverable(None) => Slug::UrlNotRecoverable,
            ManagementError::UrlNotRecoverable(Some(error)) => {
                tracing::warn!(error = chain(&error), "a sealed token cannot be opened");
                Slug::UrlNotRecoverable
            }
            ManagementError::NotReplayable(reason) => {
                if let NotReplayable::Sealed(error) = reason {
                    tracing::warn!(error = chain(&error), "the content of a call cannot be opened");
                }
                Slug::CallNotReplayable
            }
            ManagementError::Secret(error) => {
                tracing::warn!(error = chain(&error), "a sealed value cannot be opened");
                Slug::PreconditionFailed
            }
            ManagementError::Conflict | ManagementError::StillLive | ManagementError::AlreadyEnded => {
                Slug::PreconditionFailed
            }
            error => return Self::new(Slug::StoreUnavailable).with_detail(detail).caused_by(&error),
        };
        Self::new(slug).with_detail(detail)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn content(problem: Problem) -> Value {
        let body = problem.into_response().into_body().into_bytes().unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    #[test]
    fn a_problem_has_the_documented_members() {
        let problem = Problem::from(TriggerError::QueueFull);
        let expected = json!({
            "type": "urn:webhook:problem:queue-full", "title": "The queue is full", "status": 503,
            "detail": "the queue is full; try again later",
        });
        assert_eq!(problem.clone().into_response().headers()["retry-after"], "5");
        assert_eq!(content(problem), expected);
    }

    #[test]
    fn retry_after_is_whole_seconds_rounded_up_and_at_least_one() {
        let cases = [(0, 1), (1, 1), (999, 1), (1_000, 1), (1_001, 2), (60_000, 60)];
        for (milliseconds, seconds) in cases {
            assert_eq!(whole_seconds(Duration::from_millis(milliseconds)), seconds);
        }
    }

    #[test]
    fn only_missing_integrations_make_that_problem() {
        let missing = SettingProblem::new("notifications.slack", SettingCode::IntegrationMissing, "none");
        let other = SettingProblem::new("label", SettingCode::WrongType, "a text is expected");
        assert_eq!(Problem::fields(vec![missing.clone()]).slug(), Slug::IntegrationMissing);
        assert_eq!(Problem::fields(vec![missing, other]).slug(), Slug::SettingsInvalid);
    }
}
