//! The intake: from a call at a webhook's URL to a durable run.
//!
//! A front end calls [`Webhooks::authenticate`](crate::Webhooks::authenticate) with the head of a call and
//! [`Webhooks::admit`](crate::Webhooks::admit) with the result. Then it reads the body, and calls
//! [`Webhooks::trigger`](crate::Webhooks::trigger).
//!
//! Together they check in this order: token (failures are limited), enabled, GET allowed and preview, rate
//! limit, body, parameters. Then a dry run is answered, or the run is enqueued.
//! A refused call leaves nothing behind and uses up no idempotency key.

mod call;
mod enqueue;
mod error;
mod fingerprint;
mod preview;

use std::sync::Arc;

use super::parts::Parts;
use crate::id::RunId;
use crate::parameters::{
    self, BodyParameters, EffectiveParameters, Merged, ParameterLimits, ParameterWarning, ParsedQuery,
    QueryParameters, WarningCode,
};
use crate::run::{Caller, Run};
use crate::store::{Enqueue, Idempotency, StoreError};
use crate::token::TokenDigest;
use crate::webhook::Webhook;

pub use super::limiter::FailureLimiter;
pub use call::{Method, TriggerCall};
pub(super) use enqueue::{Accepted, available_workflow, effective, enqueue, submit};
pub use error::TriggerError;
use fingerprint::fingerprints;

/// A call with a valid token.
#[derive(Debug)]
pub struct AuthenticatedCall {
    call: TriggerCall,
    query: QueryParameters,
    digest: TokenDigest,
    webhook: Arc<Webhook>,
}

impl AuthenticatedCall {
    /// Returns the called webhook.
    #[must_use]
    pub fn webhook(&self) -> &Arc<Webhook> {
        &self.webhook
    }
}

/// A call whose body may be read: its webhook is enabled, allows its method, and is not called too often.
#[derive(Debug)]
pub struct AdmittedCall(AuthenticatedCall);

impl AdmittedCall {
    /// Returns the called webhook.
    #[must_use]
    pub fn webhook(&self) -> &Arc<Webhook> {
        self.0.webhook()
    }
}

/// Result of an accepted call.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Triggered {
    /// The run is durable and will be executed.
    #[non_exhaustive]
    Accepted {
        /// The run as it is now.
        run: Arc<Run>,
        /// True if it was accepted earlier, under the same idempotency key.
        replayed: bool,
        /// Warnings for the caller. A replayed call has those of the first call, as long as the workflow and
        /// the webhook's settings are the same.
        warnings: Vec<ParameterWarning>,
    },
    /// It was a dry run, and the call is valid.
    #[non_exhaustive]
    DryRun {
        /// Parameters that a run would get.
        parameters: EffectiveParameters,
        /// Warnings for the caller.
        warnings: Vec<ParameterWarning>,
    },
}

/// See [`Webhooks::authenticate`](crate::Webhooks::authenticate).
pub(super) async fn authenticate(
    parts: &Parts,
    mut call: TriggerCall,
) -> Result<AuthenticatedCall, TriggerError> {
    let (webhook, query) = identify(parts, &call).await?;
    if !parts.accepting.is_accepting() {
        return Err(TriggerError::ShuttingDown);
    }
    call.forget_tokens();
    Ok(AuthenticatedCall { call, query, digest: webhook.token_digest, webhook })
}

/// See [`Webhooks::admit`](crate::Webhooks::admit).
pub(super) fn admit(parts: &Parts, call: AuthenticatedCall) -> Result<AdmittedCall, TriggerError> {
    check_permitted(&call.call, &call.webhook)?;
    if let Some(limit) = call.webhook.settings.rate_limit {
        let limited = |retry_after| TriggerError::RateLimited { retry_after };
        parts.rates.take(call.webhook.id, limit).map_err(limited)?;
    }
    Ok(AdmittedCall(call))
}

/// See [`Webhooks::find_webhook`](crate::Webhooks::find_webhook).
pub(super) async fn find_webhook(parts: &Parts, call: &TriggerCall) -> Result<Arc<Webhook>, TriggerError> {
    identify(parts, call).await.map(|(webhook, _)| webhook)
}

/// See [`Webhooks::find_run`](crate::Webhooks::find_run).
pub(super) async fn find_run(
    parts: &Parts,
    call: TriggerCall,
    run: RunId,
) -> Result<Option<Arc<Run>>, TriggerError> {
    let (webhook, _) = identify(parts, &call).await?;
    let run = parts.store.get_run(run).await?;
    Ok(run.filter(|run| run.webhook_id == webhook.id))
}

/// Returns the webhook of the presented token, and the query without the token.
///
/// An unknown token and one of another workflow take the same path and the same time.
async fn identify(
    parts: &Parts,
    call: &TriggerCall,
) -> Result<(Arc<Webhook>, QueryParameters), TriggerError> {
    let limit = parts.options.limits.query_bytes;
    if call.query.len() > limit {
        return Err(TriggerError::QueryTooLong { limit });
    }
    let ParsedQuery { tokens, parameters, .. } = parameters::parse_query(&call.query)?;
    let digest = TokenDigest::of(call.single_token(&tokens)?.unwrap_or_default());
    let found = parts.store.find_webhook(&digest).await?;
    let right = found.filter(|webhook| {
        let matches = webhook.token_digest.matches(&digest);
        matches & (webhook.workflow == call.workflow)
    });
    match right {
        Some(webhook) => Ok((webhook, parameters)),
        None => {
            let too_many = |retry_after| TriggerError::TooManyFailures { retry_after };
            parts.failures.fail(call.caller.address).map_err(too_many)?;
            Err(TriggerError::Unauthorized)
        }
    }
}

/// See [`Webhooks::trigger`](crate::Webhooks::trigger).
pub(super) async fn trigger(
    parts: &Parts,
    call: AdmittedCall,
    body: &[u8],
) -> Result<Triggered, TriggerError> {
    let AdmittedCall(AuthenticatedCall { call, query, digest, webhook }) = call;
    let now = parts.now();
    let workflow = available_workflow(parts, &webhook).await?;
    let body = if call.method == Method::Get { &[] } else { body };
    let limits = &parts.options.limits;
    if body.len() > limits.body_bytes {
        return Err(TriggerError::BodyTooLarge { limit: limits.body_bytes });
    }
    let given = match call.method {
        Method::Get => BodyParameters::default(),
        Method::Post => {
            if !body.is_empty() {
                parameters::check_content_encoding(call.content_encoding.as_deref())?;
            }
            read_body(call.content_type.as_deref(), body, limits).await?
        }
    };
    let key = call.idempotency_key()?;
    let mut merged = effective(parts, &workflow, &webhook, &query, &given)?;
    if call.method == Method::Get && call.has_body {
        merged.warnings.push(body_ignored());
    }
    if call.dry_run {
        parts.uses.note(webhook.id, now);
        let Merged { parameters, warnings, .. } = merged;
        return Ok(Triggered::DryRun { parameters, warnings });
    }
    let idempotency = key.map(|key| {
        let (fingerprint, former) = fingerprints(parts.keys.as_ref(), &call, &query, body);
        Idempotency::new(key, fingerprint, parts.options.keep_idempotency_keys)
            .with_former_fingerprints(former)
    });
    let caller = Caller { token_hint: Some(webhook.token_hint.clone()), ..call.caller };
    let conditions = |request: Enqueue| {
        request.with_idempotency(idempotency).with_token_digest(digest).with_must_be_enabled(true)
    };
    let submitted = match submit(parts, &webhook, merged, caller, now, conditions).await {
        // The webhook was deleted while its call was checked.
        Err(TriggerError::Store(StoreError::NotFound(_))) => Err(TriggerError::Unauthorized),
        outcome => outcome,
    };
    if !matches!(submitted, Err(TriggerError::Unauthorized | TriggerError::Disabled)) {
        parts.uses.note(webhook.id, now);
    }
    let Accepted { run, replayed, warnings } = submitted?;
    Ok(Triggered::Accepted { run, replayed, warnings })
}

/// Size, in bytes, up to which a body is parsed on the caller's thread.
const SMALL_BODY: usize = 64 << 10;

/// Parses the parameters in a body. Another thread parses a large one, which takes milliseconds, so other
/// calls continue.
async fn read_body(
    content_type: Option<&str>,
    body: &[u8],
    limits: &ParameterLimits,
) -> Result<BodyParameters, TriggerError> {
    if body.len() <= SMALL_BODY {
        return Ok(parameters::parse_body(content_type, body, limits)?);
    }
    let (content_type, body, limits) = (content_type.map(str::to_owned), body.to_vec(), *limits);
    let reading =
        tokio::task::spawn_blocking(move || parameters::parse_body(content_type.as_deref(), &body, &limits));
    match reading.await {
        Ok(read) => Ok(read?),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(TriggerError::ShuttingDown),
        },
    }
}

fn check_permitted(call: &TriggerCall, webhook: &Webhook) -> Result<(), TriggerError> {
    if !webhook.settings.enabled {
        return Err(TriggerError::Disabled);
    }
    if call.method == Method::Get {
        if !webhook.settings.allow_get {
            return Err(TriggerError::GetNotAllowed);
        }
        if call.prefetch || call.caller.user_agent.as_deref().is_some_and(preview::is_link_expander) {
            return Err(TriggerError::PreviewRefused);
        }
    }
    Ok(())
}

fn body_ignored() -> ParameterWarning {
    let message = "The body of a GET is ignored; send it by POST, or put the parameters into the query.";
    ParameterWarning::new("*", WarningCode::BodyIgnored, message)
}
