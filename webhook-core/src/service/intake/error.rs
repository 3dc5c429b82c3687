//! Errors of a call.

use std::time::Duration;

use crate::error::listed;
use crate::executor::ExecutorError;
use crate::parameters::{BodyError, MalformedQuery, ParameterProblem, ProblemCode};
use crate::run::SealError;
use crate::store::StoreError;
use crate::verification::Refusal;

/// Error of a call that started nothing. No variant holds a token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TriggerError {
    /// The token is missing, unknown, or of another workflow.
    #[error("the token is missing or not valid for this workflow")]
    Unauthorized,
    /// Too many calls with a wrong token came from one address.
    #[error(
        "too many calls with a wrong token came from this address; try again after the seconds in Retry-After"
    )]
    TooManyFailures {
        /// Value of `Retry-After`.
        retry_after: Duration,
    },
    /// Two different tokens were given.
    #[error("two different tokens were given; send one, as ?token= or as Authorization: Bearer")]
    TwoTokens,
    /// The query cannot be decoded.
    #[error(transparent)]
    MalformedQuery(#[from] MalformedQuery),
    /// The query is too long.
    #[error("the query is longer than {limit} bytes")]
    QueryTooLong {
        /// Upper bound on the query, in bytes.
        limit: usize,
    },
    /// The webhook is disabled.
    #[error("this webhook is disabled; its administrator can enable it")]
    Disabled,
    /// The address of the caller is in none of the webhook's networks.
    #[error("this webhook may not be called from this address")]
    AddressNotAllowed,
    /// The call is not its sender's, or its signature cannot be checked.
    #[error(transparent)]
    SignatureInvalid(Refusal),
    /// The method starts nothing, and the call is no handshake.
    #[error("this webhook is called by GET or POST")]
    MethodNotAllowed,
    /// The webhook may not be called by GET.
    #[error("this webhook may not be called by GET; use POST")]
    GetNotAllowed,
    /// A link preview or a prefetch, which must not start anything.
    #[error("link previews and prefetches start nothing; send a POST to call this webhook")]
    PreviewRefused,
    /// The webhook's rate limit is used up.
    #[error("this webhook is called too often; try again after the seconds in Retry-After")]
    RateLimited {
        /// Value of `Retry-After`.
        retry_after: Duration,
    },
    /// The body is too large.
    #[error("the body is larger than {limit} bytes")]
    BodyTooLarge {
        /// Upper bound on the body, in bytes.
        limit: usize,
    },
    /// The body cannot be read.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// Parameters have these problems; the list is complete.
    #[error("these parameters cannot be used: {}", listed(.0.iter().map(ParameterProblem::summary)))]
    Parameters(Vec<ParameterProblem>),
    /// The workflow of this webhook no longer exists.
    #[error("the workflow of this webhook no longer exists")]
    WorkflowMissing,
    /// The workflow of this webhook cannot be executed here; the list of workflows has the reason.
    #[error(
        "the workflow of this webhook is not available on this server; its administrator can see the reason"
    )]
    WorkflowUnavailable,
    /// The idempotency key has an invalid form.
    #[error(
        "Idempotency-Key must hold 1 to 255 visible ASCII characters, bare or as a quoted string, and no token"
    )]
    IdempotencyKeyInvalid,
    /// The idempotency key stands for another request.
    #[error("this Idempotency-Key was used for another request; use a new key for a new request")]
    IdempotencyMismatch,
    /// The queue is full, in runs or in bytes.
    #[error("the queue is full; try again later")]
    QueueFull,
    /// The service is shutting down.
    #[error("the service is shutting down; try again later")]
    ShuttingDown,
    /// The store has failed.
    #[error("the run cannot be recorded now; try again later")]
    Store(#[from] StoreError),
    /// The executor cannot describe the workflow now.
    #[error("the workflow cannot be looked up now; try again later")]
    Executor(#[from] ExecutorError),
}

impl From<SealError> for TriggerError {
    fn from(error: SealError) -> Self {
        let (code, name) = match &error {
            SealError::NoKey { name } => (ProblemCode::NoTokenKey, name),
            SealError::TooDeep { name } => (ProblemCode::TooDeep, name),
        };
        Self::Parameters(vec![ParameterProblem::new(name, code, error.to_string())])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameters_are_named_without_their_values() {
        let problem = |name: &str, code| ParameterProblem::new(name, code, "\"MARS\" is not EMEA");
        let problems = [("region", ProblemCode::NotAChoice), ("*", ProblemCode::TooMany)];
        let error = TriggerError::Parameters(problems.map(|(name, code)| problem(name, code)).into());
        assert_eq!(
            error.to_string(),
            "these parameters cannot be used: region: is not one of the choices; the call: has too many names or values"
        );
    }
}
