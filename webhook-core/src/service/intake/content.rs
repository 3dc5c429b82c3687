//! The content of a call as it is kept for a replay: sealed for its webhook and run.

use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::call::Method;
use super::error::TriggerError;
use super::sender::SentHead;
use super::threads::{SMALL_BODY, elsewhere};
use crate::calls::KeptContent;
use crate::id::{RunId, WebhookId};
use crate::parameters::{BodyError, ParameterLimits, QueryParameters, parse_body};
use crate::raw_call::RawCall;
use crate::sender::{ReceivedCall, RunContent};
use crate::service::parts::Parts;
use crate::token::{Sealed, TokenKeys, UnsealError};
use crate::webhook::Webhook;

/// Bytes of the length before the head.
const LENGTH: usize = 4;

/// Everything of a call that a mapping can take, but its body. It is JSON, so fields can be added.
#[derive(Serialize, Deserialize)]
struct ContentHead {
    method: Method,
    /// Pairs of the query, without tokens.
    query: Vec<(String, String)>,
    /// Names and values, with a character for each byte.
    headers: Vec<(String, String)>,
    content_type: Option<String>,
}

/// The content of a call that started a run.
pub(in crate::service) struct KeptCall {
    head: ContentHead,
    /// The whole plaintext, and the offset of the body in it.
    plaintext: Zeroizing<Vec<u8>>,
    body: usize,
}

/// A call to keep.
pub(super) struct CallToKeep<'a> {
    pub(super) method: Method,
    pub(super) content_type: Option<&'a str>,
    pub(super) head: &'a SentHead,
    pub(super) query: &'a QueryParameters,
    pub(super) body: &'a [u8],
}

impl CallToKeep<'_> {
    /// Seals the call if its webhook keeps bodies. Headers that hold secrets are left out.
    pub(super) async fn seal(
        &self,
        parts: &Parts,
        webhook: &Webhook,
        run: RunId,
        now: SystemTime,
    ) -> Option<Arc<KeptContent>> {
        let (keep, keys) = webhook.settings.keep_bodies.zip(parts.keys.as_ref())?;
        let pairs = self.query.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let headers = self.head.headers().filter(|(name, _)| {
            std::str::from_utf8(name).is_ok_and(|name| !webhook.settings.sender.is_secret_header(name))
        });
        let head = ContentHead {
            method: self.method,
            query: pairs.collect(),
            headers: headers.map(|(name, value)| (text_of(name), text_of(value))).collect(),
            content_type: self.content_type.map(str::to_owned),
        };
        // A head has text for keys, and writing to memory never fails.
        let head = Zeroizing::new(serde_json::to_vec(&head).unwrap_or_default());
        let length = u32::try_from(head.len()).ok()?.to_be_bytes();
        let mut plaintext = Zeroizing::new(Vec::with_capacity(LENGTH + head.len() + self.body.len()));
        for part in [&length[..], &head, self.body] {
            plaintext.extend_from_slice(part);
        }
        let (keys, place) = (keys.clone(), place(webhook.id, run));
        let seal = move || keys.seal(&plaintext, &place);
        let sealed = if self.body.len() <= SMALL_BODY { seal() } else { elsewhere(seal).await.ok()? };
        Some(Arc::new(KeptContent::new(sealed, now.checked_add(keep)?)))
    }
}

impl KeptCall {
    /// Opens the content of the call that started this run.
    pub(in crate::service) fn open(
        sealed: &Sealed,
        webhook: WebhookId,
        run: RunId,
        keys: &TokenKeys,
    ) -> Result<Self, UnsealError> {
        let plaintext = keys.open(sealed, &place(webhook, run))?;
        let length = plaintext.first_chunk::<LENGTH>().ok_or(UnsealError::Damaged)?;
        let body = LENGTH + u32::from_be_bytes(*length) as usize;
        let head = plaintext.get(LENGTH..body).ok_or(UnsealError::Damaged)?;
        let head = serde_json::from_slice(head).map_err(|_| UnsealError::Damaged)?;
        Ok(Self { head, plaintext, body })
    }

    /// Takes the content of a run from the call, by the present settings. Another thread looks at a large body.
    pub(in crate::service) async fn read(
        self,
        webhook: &Arc<Webhook>,
        limits: ParameterLimits,
    ) -> Result<(QueryParameters, RunContent), TriggerError> {
        let (webhook, is_small) = (webhook.clone(), self.plaintext.len() - self.body <= SMALL_BODY);
        let read = move || -> Result<_, BodyError> {
            let query = QueryParameters::from_pairs(&self.head.query);
            let content = self.run_content(&webhook, &query, &limits)?;
            Ok((query, content))
        };
        Ok(if is_small { read() } else { elsewhere(read).await? }?)
    }

    fn run_content(
        &self,
        webhook: &Webhook,
        query: &QueryParameters,
        limits: &ParameterLimits,
    ) -> Result<RunContent, BodyError> {
        let ContentHead { method, headers, content_type, .. } = &self.head;
        let (body, content_type) = (&self.plaintext[self.body..], content_type.as_deref());
        let settings = &webhook.settings.sender;
        if !settings.looks_into_calls() {
            return parse_body(content_type, body, limits).map(RunContent::of_body);
        }
        let headers: Vec<_> = headers.iter().map(|(name, value)| (bytes_of(name), bytes_of(value))).collect();
        let headers: Vec<(&[u8], &[u8])> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        let raw = RawCall::new(method.as_str(), "", &headers, body);
        settings.content_again(&ReceivedCall::new(&raw, query, content_type), limits)
    }
}

/// Returns the place that a content is sealed for: it opens for no other webhook and run.
fn place(webhook: WebhookId, run: RunId) -> Vec<u8> {
    [b"call", &webhook.as_bytes()[..], run.as_bytes()].concat()
}

/// Returns a text with a character for each byte.
fn text_of(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// Returns the bytes of a text that has a character for each.
fn bytes_of(text: &str) -> Vec<u8> {
    text.chars().map(|character| u8::try_from(u32::from(character)).unwrap_or(b'?')).collect()
}
