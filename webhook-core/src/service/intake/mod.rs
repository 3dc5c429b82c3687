//! The intake: from a call at a webhook's URL to a durable run.
//!
//! A front end calls [`Webhooks::authenticate`](crate::Webhooks::authenticate) with the head of a call and
//! [`Webhooks::admit`](crate::Webhooks::admit) with the result. Then it reads the body, and calls
//! [`Webhooks::trigger`](crate::Webhooks::trigger).
//!
//! Together they check in this order: token (failures are limited), allowed networks, enabled, handshakes that are not
//! signed, GET allowed and preview, rate limit, body, signature, handshake, conditions, mapping, parameters. Then a dry
//! run is answered, or the run is enqueued.
//! A refused call leaves nothing behind and uses up no idempotency key.

mod call;
mod content;
mod enqueue;
mod error;
mod fingerprint;
mod preview;
mod sender;
mod threads;

use std::sync::Arc;

use super::parts::Parts;
use crate::calls::KeptContent;
use crate::handshake::HandshakeAnswer;
use crate::id::RunId;
use crate::mapping::{Condition, EventKey};
use crate::parameters::{
    self, BodyParameters, EffectiveParameters, Merged, ParameterLimits, ParameterWarning, ParsedQuery,
    QueryParameters, WarningCode,
};
use crate::run::{Caller, Run};
use crate::sender::{Reception, RunContent};
use crate::store::{Enqueue, Idempotency, StoreError};
use crate::token::TokenDigest;
use crate::webhook::Webhook;

pub use super::limiter::FailureLimiter;
pub use call::{Method, TriggerCall};
use content::CallToKeep;
pub(super) use content::KeptCall;
pub(super) use enqueue::{Accepted, available_workflow, effective, enqueue, submit};
pub use error::TriggerError;
use fingerprint::fingerprints;
pub use sender::SentHead;
pub(super) use sender::{handshake, secrets};
use threads::{SMALL_BODY, elsewhere};

/// A call with a valid token.
#[derive(Debug)]
pub struct AuthenticatedCall {
    call: TriggerCall,
    query: QueryParameters,
    digest: TokenDigest,
    webhook: Arc<Webhook>,
    head: Arc<SentHead>,
}

impl AuthenticatedCall {
    /// Returns the called webhook.
    #[must_use]
    pub fn webhook(&self) -> &Arc<Webhook> {
        &self.webhook
    }

    /// Returns whether the webhook's settings look at the URL and the headers of the call.
    #[must_use]
    pub fn needs_head(&self) -> bool {
        let settings = &self.webhook.settings;
        settings.sender.looks_into_calls() || settings.keep_bodies.is_some()
    }

    /// Adds the URL and the headers. A call whose webhook [needs](Self::needs_head) them and that lacks them is one
    /// without headers.
    #[must_use]
    pub fn with_head(mut self, head: SentHead) -> Self {
        self.head = Arc::new(head);
        self
    }
}

/// A call whose body may be read: its webhook is enabled, allows its address and method, and is not called too often.
#[derive(Debug)]
pub struct AdmittedCall {
    call: AuthenticatedCall,
    /// The answer to a handshake that needs no body.
    handshake: Option<HandshakeAnswer>,
}

impl AdmittedCall {
    /// Returns the called webhook.
    #[must_use]
    pub fn webhook(&self) -> &Arc<Webhook> {
        self.call.webhook()
    }

    /// Returns whether the call is a handshake that is answered without its body.
    #[must_use]
    pub fn is_handshake(&self) -> bool {
        self.handshake.is_some()
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
        /// Content of the call for its call log, where the webhook keeps it.
        content: Option<Arc<KeptContent>>,
    },
    /// It was a dry run, and the call is valid.
    #[non_exhaustive]
    DryRun {
        /// Parameters that a run would get.
        parameters: EffectiveParameters,
        /// Warnings for the caller.
        warnings: Vec<ParameterWarning>,
    },
    /// The sender checked the URL. Nothing was started.
    Handshake(HandshakeAnswer),
    /// The call does not meet this condition of its webhook. Nothing was started.
    Ignored(Condition),
}

/// See [`Webhooks::authenticate`](crate::Webhooks::authenticate).
pub(super) async fn authenticate(
    parts: &Parts,
    mut call: TriggerCall,
) -> Result<AuthenticatedCall, TriggerError> {
    let identified = identify(parts, &call).await;
    if matches!(identified, Err(TriggerError::Unauthorized | TriggerError::TooManyFailures { .. })) {
        parts.calls.refuse(&call.workflow, parts.now());
    }
    let (webhook, query) = identified?;
    call.forget_tokens();
    Ok(AuthenticatedCall { call, query, digest: webhook.token_digest, webhook, head: Arc::default() })
}

/// See [`Webhooks::admit`](crate::Webhooks::admit).
pub(super) async fn admit(parts: &Parts, call: AuthenticatedCall) -> Result<AdmittedCall, TriggerError> {
    if !parts.accepting.is_accepting() {
        return Err(TriggerError::ShuttingDown);
    }
    sender::check_address(&call.call, &call.webhook)?;
    if !call.webhook.settings.enabled {
        return Err(TriggerError::Disabled);
    }
    let handshake = handshake(parts, &call.webhook, call.call.method, &call.head, &call.query);
    if matches!(handshake, Ok(None)) {
        check_method(&call.call, &call.webhook)?;
    }
    // Before a wrong verify token is answered, so that the limit holds for guesses too.
    if let Some(limit) = call.webhook.settings.rate_limit {
        let pause = parts.call_store().take_call(call.webhook.id, limit).await?;
        if let Some(retry_after) = pause {
            return Err(TriggerError::RateLimited { retry_after });
        }
    }
    let handshake = handshake.map_err(TriggerError::SignatureInvalid)?;
    Ok(AdmittedCall { call, handshake })
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
    Ok(run.filter(|run| run.webhook_id() == webhook.id))
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
    let AdmittedCall { call, handshake } = call;
    let AuthenticatedCall { call, query, digest, webhook, head } = call;
    let now = parts.now();
    if let Some(answer) = handshake {
        parts.uses.note(webhook.id, now);
        return Ok(Triggered::Handshake(answer));
    }
    let body = if call.method == Method::Post { body } else { &[] };
    let (workflow, content) = if webhook.settings.sender.looks_into_calls() {
        check_body(parts, &call, body)?;
        // Boxed, so that calls of other webhooks do not carry its state.
        let received = Box::pin(sender::receive(parts, &webhook, &call, head.clone(), &query, body, now));
        let content = match received.await? {
            Reception::Run(content) => content,
            Reception::Handshake(answer) => {
                parts.uses.note(webhook.id, now);
                return Ok(Triggered::Handshake(answer));
            }
            Reception::Ignored(condition) => {
                parts.uses.note(webhook.id, now);
                return Ok(Triggered::Ignored(condition));
            }
        };
        (available_workflow(parts, &webhook).await?, content)
    } else {
        let workflow = available_workflow(parts, &webhook).await?;
        check_body(parts, &call, body)?;
        let body = match call.method {
            Method::Post => read_body(call.content_type.as_deref(), body, &parts.options.limits).await?,
            Method::Get | Method::Head | Method::Options => BodyParameters::default(),
        };
        (workflow, RunContent::of_body(body))
    };
    let (key, is_event) = match content.key {
        EventKey::FromCaller => (call.idempotency_key()?, false),
        EventKey::Absent => (None, true),
        EventKey::Key(key) => (Some(key), true),
    };
    let mut merged = effective(parts, &workflow, &webhook, &query, &content.body, &content.overlay)?;
    merged.warnings.extend(call.ignores_body().then(body_ignored));
    if call.dry_run {
        parts.uses.note(webhook.id, now);
        let Merged { parameters, warnings, .. } = merged;
        return Ok(Triggered::DryRun { parameters, warnings });
    }
    let idempotency = key.map(|key| {
        let (fingerprint, former) = fingerprints(parts.keys.as_ref(), &call, &query, body);
        let idempotency = Idempotency::new(key, fingerprint, parts.options.keep_idempotency_keys)
            .with_former_fingerprints(former);
        // A sender's next attempt at an event may bear another time or signature.
        if is_event { idempotency.with_any_request() } else { idempotency }
    });
    let content_type = call.content_type.filter(|_| call.method == Method::Post);
    let caller = Caller { token_hint: Some(webhook.token_hint.clone()), ..call.caller };
    let conditions = |request: Enqueue| {
        request.with_idempotency(idempotency).with_token_digest(digest).with_must_be_enabled(true)
    };
    let submitted = match submit(parts, &webhook, merged, caller, now, conditions).await {
        // The webhook was deleted while its call was checked.
        Err(TriggerError::Store(StoreError::NotFound(_))) => Err(TriggerError::Unauthorized),
        outcome => outcome,
    };
    match submitted {
        Err(TriggerError::Unauthorized) => parts.calls.refuse(&webhook.workflow, now),
        Err(TriggerError::Disabled) => {}
        _ => parts.uses.note(webhook.id, now),
    }
    let Accepted { run, replayed, warnings } = submitted?;
    let content = if replayed || webhook.settings.keep_bodies.is_none() {
        None
    } else {
        let (method, content_type) = (call.method, content_type.as_deref());
        let call = CallToKeep { method, content_type, head: &head, query: &query, body };
        Box::pin(call.seal(parts, &webhook, run.id(), now)).await
    };
    Ok(Triggered::Accepted { run, replayed, warnings, content })
}

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
    elsewhere(move || parameters::parse_body(content_type.as_deref(), &body, &limits))
        .await?
        .map_err(Into::into)
}

/// Checks the size of a body, and that it is not encoded.
pub(super) fn check_body(parts: &Parts, call: &TriggerCall, body: &[u8]) -> Result<(), TriggerError> {
    let limit = parts.options.limits.body_bytes;
    if body.len() > limit {
        return Err(TriggerError::BodyTooLarge { limit });
    }
    if !body.is_empty() {
        parameters::check_content_encoding(call.content_encoding.as_deref())?;
    }
    Ok(())
}

/// Checks whether a call of this method may start a run.
pub(super) fn check_method(call: &TriggerCall, webhook: &Webhook) -> Result<(), TriggerError> {
    match call.method {
        Method::Post => Ok(()),
        Method::Head | Method::Options => Err(TriggerError::MethodNotAllowed),
        Method::Get if !webhook.settings.allow_get => Err(TriggerError::GetNotAllowed),
        Method::Get => {
            let is_expander = || call.caller.user_agent.as_deref().is_some_and(preview::is_link_expander);
            if call.prefetch || is_expander() { Err(TriggerError::PreviewRefused) } else { Ok(()) }
        }
    }
}

/// Returns the warning that the body of a GET does not count.
pub(super) fn body_ignored() -> ParameterWarning {
    let message = "The body of a GET is ignored; send it by POST, or put the parameters into the query.";
    ParameterWarning::new("*", WarningCode::BodyIgnored, message)
}
