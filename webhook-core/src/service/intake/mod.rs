//! The intake: from a call at a webhook's URL to a durable run.
//!
//! A front end calls [`Webhooks::authenticate`] with the head of a call and [`Webhooks::admit`] with what that gave,
//! then reads the body, then calls [`Webhooks::trigger`]. Together they check in this order: token (failures are
//! limited), enabled, GET allowed and preview, rate limit, body, parameters; then a dry run is answered or the run
//! is enqueued. A call that is refused leaves nothing behind and uses up no idempotency key.

mod call;
mod error;
mod preview;

use std::sync::Arc;
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use crate::executor::Workflow;
use crate::id::RunId;
use crate::parameters::{
    self, BodyParameters, EffectiveParameter, EffectiveParameters, MediaType, Merged, ParameterLimits,
    ParameterProblem, ParameterWarning, ParsedQuery, ProblemCode, QueryParameters, WarningCode,
};
use crate::run::{Caller, CancelReason, Run, RunParameters, SealError};
use crate::service::{Inner, Webhooks};
use crate::store::{Enqueue, Enqueued, Idempotency, StoreError};
use crate::token::{TokenDigest, TokenKeys};
use crate::webhook::Webhook;

pub use super::limiter::FailureLimiter;
pub use call::{Method, TriggerCall};
pub use error::TriggerError;

/// What the token key is used for where requests are compared.
const FINGERPRINT: &str = "webhook idempotency fingerprint";

/// A call whose token is right.
#[derive(Debug)]
pub struct AuthenticatedCall {
    call: TriggerCall,
    query: QueryParameters,
    digest: TokenDigest,
    webhook: Arc<Webhook>,
}

impl AuthenticatedCall {
    /// The webhook that is called.
    #[must_use]
    pub fn webhook(&self) -> &Arc<Webhook> {
        &self.webhook
    }
}

/// A call whose body may be read: its webhook is enabled, allows its method, and is not called too often.
#[derive(Debug)]
pub struct AdmittedCall(AuthenticatedCall);

impl AdmittedCall {
    /// The webhook that is called.
    #[must_use]
    pub fn webhook(&self) -> &Arc<Webhook> {
        self.0.webhook()
    }
}

/// What a call led to.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Triggered {
    /// The run is durable and will be executed.
    #[non_exhaustive]
    Accepted {
        /// The run as it is now.
        run: Arc<Run>,
        /// Whether it was accepted earlier, under the same idempotency key.
        replayed: bool,
        /// What the caller should know although the call is accepted; the same for a replayed call as for the first,
        /// as long as the workflow and the webhook's settings are the same.
        warnings: Vec<ParameterWarning>,
    },
    /// It was a dry run: all is well.
    #[non_exhaustive]
    DryRun {
        /// The parameters that would be used.
        parameters: EffectiveParameters,
        /// What the caller should know although all is well.
        warnings: Vec<ParameterWarning>,
    },
}

impl Webhooks {
    /// Finds the webhook that a call's token stands for.
    ///
    /// # Errors
    /// [`TriggerError::Unauthorized`] for no token, an unknown one and one of another workflow alike, or
    /// [`TriggerError::TooManyFailures`] when that came too often from one address;
    /// [`TriggerError::TwoTokens`], [`TriggerError::MalformedQuery`], [`TriggerError::QueryTooLong`],
    /// [`TriggerError::ShuttingDown`], [`TriggerError::Store`].
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    pub async fn authenticate(&self, mut call: TriggerCall) -> Result<AuthenticatedCall, TriggerError> {
        let (webhook, query) = self.identify(&call).await?;
        if !self.is_accepting() {
            return Err(TriggerError::ShuttingDown);
        }
        call.forget_tokens();
        Ok(AuthenticatedCall { call, query, digest: webhook.token_digest, webhook })
    }

    /// Checks what needs no body: enabled, GET allowed, no preview, rate limit.
    ///
    /// # Errors
    /// [`TriggerError::Disabled`], [`TriggerError::GetNotAllowed`], [`TriggerError::PreviewRefused`],
    /// [`TriggerError::RateLimited`].
    pub fn admit(&self, call: AuthenticatedCall) -> Result<AdmittedCall, TriggerError> {
        check_permitted(&call.call, &call.webhook)?;
        if let Some(limit) = call.webhook.settings.rate_limit {
            self.inner.rates.take(call.webhook.id, limit)?;
        }
        Ok(AdmittedCall(call))
    }

    /// Finds the webhook whose token a caller presents, of which it wants to read a run. Nothing of its settings is
    /// checked.
    ///
    /// # Errors
    /// As [`find_run`](Self::find_run).
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    pub async fn find_webhook(&self, call: &TriggerCall) -> Result<Arc<Webhook>, TriggerError> {
        self.identify(call).await.map(|(webhook, _)| webhook)
    }

    /// Finds the run that a caller asks about with its webhook's token; `None` when that webhook has no such run.
    ///
    /// # Errors
    /// As [`authenticate`](Self::authenticate), also while shutting down less [`TriggerError::ShuttingDown`].
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    pub async fn find_run(&self, call: TriggerCall, run: RunId) -> Result<Option<Arc<Run>>, TriggerError> {
        let (webhook, _) = self.identify(&call).await?;
        let run = self.inner.store.get_run(run).await?;
        Ok(run.filter(|run| run.webhook_id == webhook.id))
    }

    /// The webhook that the presented token stands for, and the query without it. An unknown token and one of
    /// another workflow take the same way and the same time.
    async fn identify(&self, call: &TriggerCall) -> Result<(Arc<Webhook>, QueryParameters), TriggerError> {
        let inner = &*self.inner;
        let limit = inner.options.limits.query_bytes;
        if call.query.len() > limit {
            return Err(TriggerError::QueryTooLong { limit });
        }
        let ParsedQuery { tokens, parameters, .. } = parameters::parse_query(&call.query)?;
        let digest = TokenDigest::of(call.single_token(&tokens)?.unwrap_or_default());
        let found = inner.store.find_webhook(&digest).await?;
        let right = found.filter(|webhook| {
            let matches = webhook.token_digest.matches(&digest);
            matches & (webhook.workflow == call.workflow)
        });
        match right {
            Some(webhook) => Ok((webhook, parameters)),
            None => {
                inner.failures.fail(call.caller.address)?;
                Err(TriggerError::Unauthorized)
            }
        }
    }

    /// Checks the rest of a call and enqueues its run. For GET, `body` is ignored.
    ///
    /// Reading a body and describing a workflow may take a while. The store checks token and `enabled` again in the
    /// atomic step that records the run, so a token refreshed or a webhook disabled in the meantime starts nothing.
    ///
    /// # Errors
    /// Any of [`TriggerError`]. Nothing is left behind then.
    ///
    /// # Cancel safety
    /// When dropped, the run may or may not have been enqueued; with an idempotency key the call can be repeated.
    pub async fn trigger(&self, call: AdmittedCall, body: &[u8]) -> Result<Triggered, TriggerError> {
        let inner = &*self.inner;
        let AdmittedCall(AuthenticatedCall { call, query, digest, webhook }) = call;
        let now = inner.now();
        let workflow = inner.executor.describe(&webhook.workflow).await?;
        let workflow = check_available(workflow)?;
        let body = if call.method == Method::Get { &[] } else { body };
        let limits = &inner.options.limits;
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
        let mut merged = self.effective(&workflow, &webhook, &query, &given)?;
        if call.method == Method::Get && call.has_body {
            merged.warnings.push(body_ignored());
        }
        if call.dry_run {
            inner.note_use(webhook.id, now);
            let Merged { parameters, warnings, .. } = merged;
            return Ok(Triggered::DryRun { parameters, warnings });
        }
        let idempotency = key.map(|key| {
            let (fingerprint, former) = fingerprints(inner.keys.as_ref(), &call, &query, body);
            Idempotency::new(key, fingerprint, inner.options.keep_idempotency_keys)
                .with_former_fingerprints(former)
        });
        let caller = Caller { token_hint: Some(webhook.token_hint.clone()), ..call.caller };
        let held_to = |request: Enqueue| {
            request.with_idempotency(idempotency).with_token_digest(digest).with_must_be_enabled(true)
        };
        let outcome = match self.submit(&webhook, merged, caller, now, held_to).await {
            // The webhook was deleted while its call was checked.
            Err(TriggerError::Store(StoreError::NotFound(_))) => Err(TriggerError::Unauthorized),
            outcome => outcome,
        };
        if !matches!(outcome, Err(TriggerError::Unauthorized | TriggerError::Disabled)) {
            inner.note_use(webhook.id, now);
        }
        outcome
    }

    /// Merges what a call gives, and refuses what could not be kept safely.
    pub(crate) fn effective(
        &self,
        workflow: &Workflow,
        webhook: &Webhook,
        query: &QueryParameters,
        body: &BodyParameters,
    ) -> Result<Merged, TriggerError> {
        let inner = &*self.inner;
        let strict = webhook.settings.strict;
        let merged = parameters::merge(&workflow.parameters, query, body, strict, &inner.options.limits)
            .map_err(TriggerError::Parameters)?;
        let unsafe_to_keep =
            |(_, parameter): &(&str, &EffectiveParameter)| parameter.secret && inner.keys.is_none();
        if let Some((name, _)) = merged.parameters.iter().find(unsafe_to_keep) {
            return Err(SealError::NoKey { name: name.to_owned() }.into());
        }
        Ok(merged)
    }

    /// Enqueues a run under its webhook's rules; `request` adds what its caller is held to.
    pub(crate) async fn submit(
        &self,
        webhook: &Webhook,
        merged: Merged,
        caller: Caller,
        now: SystemTime,
        request: impl FnOnce(Enqueue) -> Enqueue,
    ) -> Result<Triggered, TriggerError> {
        let inner = &*self.inner;
        let id = RunId::generate(now);
        let caller = caller.without_tokens();
        let parameters = RunParameters::seal(merged.parameters, inner.keys.as_ref(), id)?;
        let settings = &webhook.settings;
        let attempts = settings.retries.max_attempts;
        let workflow = webhook.workflow.clone();
        let run = Run::new(id, workflow, webhook.id, parameters, attempts, caller, now);
        let mut triggered = enqueue(inner, webhook, request(Enqueue::new(run))).await?;
        if let Triggered::Accepted { warnings, .. } = &mut triggered {
            *warnings = merged.warnings;
        }
        Ok(triggered)
    }
}

/// Enqueues a run under its webhook's rules.
pub(crate) async fn enqueue(
    inner: &Inner,
    webhook: &Webhook,
    request: Enqueue,
) -> Result<Triggered, TriggerError> {
    let (settings, options) = (&webhook.settings, &inner.options);
    let request = request
        .with_concurrency(settings.concurrency)
        .with_queue_limits(Some(options.queue_share(settings.queue_limit)), options.queue_limit)
        .with_queue_bytes(options.queue_bytes_share(), options.queue_bytes);
    match inner.store.enqueue(request).await {
        Ok(Enqueued::Created { run, asked_to_stop }) => {
            inner.stop_executing(&asked_to_stop, CancelReason::Superseded);
            Ok(Triggered::Accepted { run, replayed: false, warnings: Vec::new() })
        }
        Ok(Enqueued::Replayed(run)) => Ok(Triggered::Accepted { run, replayed: true, warnings: Vec::new() }),
        Ok(Enqueued::KeyMismatch) => Err(TriggerError::IdempotencyMismatch),
        Ok(Enqueued::QueueFull) => Err(TriggerError::QueueFull),
        Ok(Enqueued::Unauthorized) => Err(TriggerError::Unauthorized),
        Ok(Enqueued::Disabled) => Err(TriggerError::Disabled),
        Err(error) => Err(error.into()),
    }
}

/// Up to which size a body is read on the caller's thread.
const SMALL_BODY: usize = 64 << 10;

/// Reads the parameters in a body. A large one takes milliseconds, which other calls on this thread need not wait for.
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

impl From<SealError> for TriggerError {
    fn from(error: SealError) -> Self {
        let (code, name) = match &error {
            SealError::NoKey { name } => (ProblemCode::NoTokenKey, name),
            SealError::TooDeep { name } => (ProblemCode::TooDeep, name),
        };
        Self::Parameters(vec![ParameterProblem::new(name, code, error.to_string())])
    }
}

/// The workflow, if it is there and can be executed.
pub(crate) fn check_available(workflow: Option<Arc<Workflow>>) -> Result<Arc<Workflow>, TriggerError> {
    let workflow = workflow.ok_or(TriggerError::WorkflowMissing)?;
    if workflow.unavailable.is_some() { Err(TriggerError::WorkflowUnavailable) } else { Ok(workflow) }
}

/// Hashes of what makes a request the same request: method, query without token, media type and body.
///
/// The first is to be recorded: one under the token key, so that nobody who has only the store can try which secret
/// values it fits. The others may be recorded already: those under keys that were replaced, and the plain SHA-256 of
/// earlier versions and of services without a key.
fn fingerprints(
    keys: Option<&TokenKeys>,
    call: &TriggerCall,
    query: &QueryParameters,
    body: &[u8],
) -> ([u8; 32], Vec<[u8; 32]>) {
    let canonical = query.canonical();
    let media_type = match call.method {
        Method::Get => "",
        Method::Post => call.content_type.as_deref().unwrap_or_default(),
    };
    let media_type =
        MediaType::parse(media_type).map(|parsed| parsed.essence().to_owned()).unwrap_or_default();
    let parts = [call.method.as_str().as_bytes(), &canonical, media_type.as_bytes(), body];
    let plain = plain_fingerprint(&parts);
    let mut keyed =
        keys.map_or_else(Vec::new, |keys| keys.authentication_codes(FINGERPRINT, &parts)).into_iter();
    match keyed.next() {
        Some(first) => (first, keyed.chain([plain]).collect()),
        None => (plain, Vec::new()),
    }
}

/// SHA-256 over the parts, each preceded by its length, so that no two different requests run together.
fn plain_fingerprint(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::TokenKey;

    #[test]
    fn a_fingerprint_cannot_be_tried_without_the_key_and_one_of_before_still_counts() {
        let mut call = TriggerCall::new("report/a".parse().unwrap(), Method::Post);
        call.content_type = Some("Application/JSON; charset=utf-8".to_owned());
        let of = |keys: Option<&TokenKeys>, body: &[u8]| {
            fingerprints(keys, &call, &QueryParameters::default(), body)
        };
        let body = br#"{"secret":"092291"}"#;
        let plain = plain_fingerprint(&[b"POST", b"", b"application/json", body]);
        assert_eq!(of(None, body), (plain, vec![]));
        let key = TokenKey::generate();
        let old = TokenKeys::new(key.clone());
        let (before, former) = of(Some(&old), body);
        assert!(before != plain && before != of(Some(&old), b"{}").0);
        assert_eq!(former, [plain]);
        let new = TokenKeys::new(TokenKey::generate()).with_opening_key(key);
        let (after, former) = of(Some(&new), body);
        assert_ne!(after, before);
        assert_eq!(former, [before, plain]);
    }
}
