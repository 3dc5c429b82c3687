//! Calls of senders that cannot be taught our names: allowed networks, handshakes, and the content of their runs.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use zeroize::Zeroizing;

use super::call::{Method, TriggerCall};
use super::error::TriggerError;
use super::threads::{SMALL_BODY, elsewhere};
use crate::error::chain;
use crate::handshake::{HandshakeAnswer, unsigned_handshake};
use crate::parameters::{ParameterLimits, QueryParameters};
use crate::raw_call::RawCall;
use crate::secret::Secret;
use crate::sender::{ReceivedCall, Reception, ReceptionError};
use crate::service::parts::Parts;
use crate::verification::Refusal;
use crate::webhook::Webhook;

/// Name and value of a header line.
type HeaderLine = (Box<[u8]>, Box<[u8]>);

/// URL and headers of a call as they were sent, for webhooks that [look into calls](super::AuthenticatedCall::needs_head).
/// `Debug` hides all of it.
#[derive(Default)]
pub struct SentHead {
    url: Zeroizing<String>,
    headers: Vec<HeaderLine>,
}

impl SentHead {
    /// Creates a head of the URL as it was entered at the sender, token included, and of every header line.
    #[must_use]
    pub fn new<N: AsRef<[u8]>, V: AsRef<[u8]>>(
        url: Zeroizing<String>,
        headers: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let headers = headers.into_iter().map(|(name, value)| (name.as_ref().into(), value.as_ref().into()));
        Self { url, headers: headers.collect() }
    }

    /// Returns names and values of the header lines.
    pub(super) fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.headers.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Looks at the call that this head belongs to.
    pub(in crate::service) fn with_body<R>(
        &self,
        method: &str,
        body: &[u8],
        look: impl FnOnce(&RawCall<'_>) -> R,
    ) -> R {
        let headers: Vec<(&[u8], &[u8])> =
            self.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        look(&RawCall::new(method, &self.url, &headers, body))
    }
}

impl fmt::Debug for SentHead {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SentHead").finish_non_exhaustive()
    }
}

/// Refuses a call from outside the webhook's networks. An unknown address is in none.
pub(super) fn check_address(call: &TriggerCall, webhook: &Webhook) -> Result<(), TriggerError> {
    let Some(networks) = &webhook.settings.sender.allowed_networks else { return Ok(()) };
    match call.caller.address {
        Some(address) if networks.contain(address) => Ok(()),
        _ => Err(TriggerError::AddressNotAllowed),
    }
}

/// Returns the answer to a handshake that its sender does not sign.
pub(in crate::service) fn handshake(
    parts: &Parts,
    webhook: &Webhook,
    method: Method,
    head: &SentHead,
    query: &QueryParameters,
) -> Result<Option<HandshakeAnswer>, Refusal> {
    let Some(preset) = webhook.settings.sender.preset() else { return Ok(None) };
    let verify_token = match &parts.keys {
        Some(keys) => webhook.open_verify_token(keys).unwrap_or_else(|error| {
            tracing::warn!(webhook = %webhook.id, error = chain(&error), "a verify token cannot be opened");
            None
        }),
        None => None,
    };
    let per_minute = webhook.settings.rate_limit.map(|limit| limit.per_minute);
    head.with_body(method.as_str(), b"", |raw| {
        unsigned_handshake(preset, raw, query, verify_token.as_ref(), per_minute)
    })
}

/// Returns the secrets that a webhook's verification needs.
pub(in crate::service) fn secrets(parts: &Parts, webhook: &Webhook) -> Result<Vec<Secret>, Refusal> {
    let is_needed = webhook.settings.sender.verification.is_some() && !webhook.secrets.is_empty();
    let Some(keys) = parts.keys.as_ref().filter(|_| is_needed) else { return Ok(Vec::new()) };
    webhook.secrets.open(webhook.id, keys).map_err(|error| {
        tracing::warn!(webhook = %webhook.id, error = chain(&error), "a secret of a sender cannot be opened");
        Refusal::UnusableSecret
    })
}

/// Verifies a call and takes the content of its run from it. Another thread looks at a large body, which takes
/// milliseconds, so other calls continue.
pub(super) async fn receive(
    parts: &Parts,
    webhook: &Arc<Webhook>,
    call: &TriggerCall,
    head: Arc<SentHead>,
    query: &QueryParameters,
    body: &[u8],
    now: SystemTime,
) -> Result<Reception, TriggerError> {
    let secrets = secrets(parts, webhook).map_err(TriggerError::SignatureInvalid)?;
    let work = ReceptionInput {
        webhook: webhook.clone(),
        head,
        method: call.method,
        content_type: call.content_type.clone().filter(|_| call.method == Method::Post),
        secrets,
        limits: parts.options.limits,
        now,
    };
    if body.len() <= SMALL_BODY {
        return Ok(work.receive(query, body)?);
    }
    let (query, body) = (query.clone(), body.to_vec());
    elsewhere(move || work.receive(&query, &body)).await?.map_err(TriggerError::from)
}

/// All that is needed to take a call through its webhook's settings, besides its query and body.
struct ReceptionInput {
    webhook: Arc<Webhook>,
    head: Arc<SentHead>,
    method: Method,
    content_type: Option<String>,
    secrets: Vec<Secret>,
    limits: ParameterLimits,
    now: SystemTime,
}

impl ReceptionInput {
    fn receive(&self, query: &QueryParameters, body: &[u8]) -> Result<Reception, ReceptionError> {
        self.head.with_body(self.method.as_str(), body, |raw| {
            let call = ReceivedCall::new(raw, query, self.content_type.as_deref());
            self.webhook.settings.sender.receive(&call, &self.secrets, &self.limits, self.now)
        })
    }
}

impl From<ReceptionError> for TriggerError {
    fn from(error: ReceptionError) -> Self {
        match error {
            ReceptionError::Refused(refusal) => Self::SignatureInvalid(refusal),
            ReceptionError::Body(error) => Self::Body(error),
        }
    }
}
