//! Kinds of problems: one table of slugs, statuses and titles.

use http::StatusCode;

/// Kind of a problem. Its `type` is `urn:webhook:problem:SLUG`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Slug {
    /// The token is missing or wrong.
    Unauthorized,
    /// The webhook is disabled.
    WebhookDisabled,
    /// The webhook may not be called by GET.
    GetNotAllowed,
    /// Link previews and prefetches start nothing.
    PreviewRefused,
    /// The query cannot be decoded.
    MalformedQuery,
    /// The body cannot be read.
    MalformedBody,
    /// Two different tokens were given.
    TwoTokens,
    /// The media type of the body is not supported.
    UnsupportedMediaType,
    /// The body is too large.
    TooLarge,
    /// The query is too long; on the wire `too-large` as well.
    QueryTooLong,
    /// Parameters are wrong.
    ParametersInvalid,
    /// Settings or fields of a management request are wrong.
    SettingsInvalid,
    /// The idempotency key is ill-formed.
    IdempotencyKeyInvalid,
    /// The idempotency key stands for another request.
    IdempotencyMismatch,
    /// The workflow of the webhook is gone.
    WorkflowMissing,
    /// Too many calls.
    RateLimited,
    /// The queue is full.
    QueueFull,
    /// The store or the executor cannot be used now.
    StoreUnavailable,
    /// The service shuts down.
    ShuttingDown,
    /// There is no such thing.
    NotFound,
    /// The path does not answer this method.
    MethodNotAllowed,
    /// The thing is not in the state that the request demands.
    PreconditionFailed,
    /// The URL cannot be shown again.
    UrlNotRecoverable,
    /// The call cannot be run again.
    CallNotReplayable,
    /// No notifier serves the requested channel.
    IntegrationMissing,
    /// A page of another site, or a name that is not this service's, may have caused the request.
    CrossSiteRefused,
    /// The call is not its sender's, or its signature cannot be checked.
    SignatureInvalid,
    /// The webhook may not be called from this address.
    AddressNotAllowed,
}

impl Slug {
    /// Every kind of problem.
    pub const ALL: [Self; 28] = [
        Self::Unauthorized,
        Self::WebhookDisabled,
        Self::GetNotAllowed,
        Self::PreviewRefused,
        Self::MalformedQuery,
        Self::MalformedBody,
        Self::TwoTokens,
        Self::UnsupportedMediaType,
        Self::TooLarge,
        Self::QueryTooLong,
        Self::ParametersInvalid,
        Self::SettingsInvalid,
        Self::IdempotencyKeyInvalid,
        Self::IdempotencyMismatch,
        Self::WorkflowMissing,
        Self::RateLimited,
        Self::QueueFull,
        Self::StoreUnavailable,
        Self::ShuttingDown,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::PreconditionFailed,
        Self::UrlNotRecoverable,
        Self::CallNotReplayable,
        Self::IntegrationMissing,
        Self::CrossSiteRefused,
        Self::SignatureInvalid,
        Self::AddressNotAllowed,
    ];

    /// The only table of slugs, statuses and titles.
    fn row(self) -> (&'static str, u16, &'static str) {
        match self {
            Self::Unauthorized => ("unauthorized", 401, "The token is missing or not valid here"),
            Self::WebhookDisabled => ("webhook-disabled", 403, "The webhook is disabled"),
            Self::GetNotAllowed => ("get-not-allowed", 403, "The webhook may not be called by GET"),
            Self::PreviewRefused => ("preview-refused", 403, "Link previews start nothing"),
            Self::MalformedQuery => ("malformed-query", 400, "The query cannot be decoded"),
            Self::MalformedBody => ("malformed-body", 400, "The body cannot be read"),
            Self::TwoTokens => ("two-tokens", 400, "Two different tokens were given"),
            Self::UnsupportedMediaType => ("unsupported-media-type", 415, "The media type is not supported"),
            Self::TooLarge => ("too-large", 413, "The body is too large"),
            Self::QueryTooLong => ("too-large", 414, "The query is too long"),
            Self::ParametersInvalid => ("parameters-invalid", 422, "Parameters cannot be used"),
            Self::SettingsInvalid => ("settings-invalid", 422, "The request cannot be carried out"),
            Self::IdempotencyKeyInvalid => ("idempotency-key-invalid", 400, "The idempotency key is invalid"),
            Self::IdempotencyMismatch => {
                ("idempotency-mismatch", 422, "The idempotency key stands for another request")
            }
            Self::WorkflowMissing => ("workflow-missing", 404, "The workflow is missing or unavailable"),
            Self::RateLimited => ("rate-limited", 429, "Too many calls"),
            Self::QueueFull => ("queue-full", 503, "The queue is full"),
            Self::StoreUnavailable => ("store-unavailable", 503, "The service cannot do this now"),
            Self::ShuttingDown => ("shutting-down", 503, "The service is shutting down"),
            Self::NotFound => ("not-found", 404, "There is no such thing"),
            Self::MethodNotAllowed => ("method-not-allowed", 405, "The method is not allowed here"),
            Self::PreconditionFailed => ("precondition-failed", 412, "The state is not the expected one"),
            Self::UrlNotRecoverable => ("url-not-recoverable", 409, "The URL cannot be shown again"),
            Self::CallNotReplayable => ("call-not-replayable", 409, "The call cannot be run again"),
            Self::IntegrationMissing => ("integration-missing", 422, "There is no such integration"),
            Self::CrossSiteRefused => ("cross-site-refused", 403, "Requests of other sites are refused"),
            Self::SignatureInvalid => ("signature-invalid", 401, "The call is not known to be its sender's"),
            Self::AddressNotAllowed => ("address-not-allowed", 403, "The address may not call this webhook"),
        }
    }

    /// Returns the name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.row().0
    }

    /// Returns the `type` of the problem on the wire.
    pub(crate) fn urn(self) -> String {
        format!("urn:webhook:problem:{}", self.as_str())
    }

    /// Returns the status of the response.
    #[must_use]
    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.row().1).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Returns the meaning, for people.
    #[must_use]
    pub fn title(self) -> &'static str {
        self.row().2
    }
}
