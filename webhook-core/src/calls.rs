//! The call log: how each call at a webhook was answered, refused calls included.
//!
//! A front end hands the facts of a call to [`Webhooks::log_call`](crate::Webhooks::log_call), and
//! [`Management::list_calls`](crate::manage::Management::list_calls) lists them.
//! A record holds no token, no secret, and nothing of a query, a body or a signature. Its texts are cut, and the tokens in
//! them are masked.
//!
//! Where a webhook [keeps bodies](crate::webhook::WebhookSettings::keep_bodies), the content of an accepted call is kept for
//! a while, sealed, and [`Management::replay_call`](crate::manage::Management::replay_call) runs the call again.
//!
//! Logging a call writes and syncs nothing before its answer: records gather in memory and are written together.
//! A process that is killed may lose the calls of its last second.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::clock::milliseconds;
use crate::id::{CallId, RunId, WebhookId};
use crate::token::{Sealed, mask_tokens};

/// Upper bound on the calls that are kept of one webhook.
pub const CALLS_KEPT: usize = 200;
/// Upper bound on the bytes of all calls that are kept.
pub const CALL_LOG_BYTES: usize = 16 << 20;

/// Upper bound on the bytes of the contents that are kept of one webhook.
pub const CONTENT_BYTES: usize = 16 << 20;
/// Upper bound on the bytes of all contents that are kept.
pub const ALL_CONTENT_BYTES: usize = 64 << 20;

/// Upper bound on the detail of a call, in bytes.
const DETAIL_BYTES: usize = 512;
/// Upper bound on any other text of a call, in bytes.
const TEXT_BYTES: usize = 256;

/// Outcome of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CallOutcome {
    /// It started a run.
    Accepted,
    /// Its run was accepted earlier, under the same idempotency key.
    Replayed,
    /// It did not meet the webhook's conditions.
    Ignored,
    /// It was refused.
    Refused,
    /// It was a dry run.
    DryRun,
    /// It was the sender's check of the URL.
    Handshake,
}

impl CallOutcome {
    /// Returns the name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Replayed => "replayed",
            Self::Ignored => "ignored",
            Self::Refused => "refused",
            Self::DryRun => "dry_run",
            Self::Handshake => "handshake",
        }
    }
}

/// Facts about a call that was answered, as its front end knows them.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CallFacts<'a> {
    /// Method of the request, such as `POST`. A word of the caller's own may not be given.
    pub method: &'static str,
    /// Status of the response.
    pub status: u16,
    /// Outcome of the call.
    pub outcome: CallOutcome,
    /// Kind of the problem for which it was refused, such as `signature-invalid`.
    pub problem: Option<&'static str>,
    /// The reason, for people.
    pub detail: Option<Cow<'a, str>>,
    /// Address of the client.
    pub address: Option<IpAddr>,
    /// Value of the `User-Agent` header.
    pub user_agent: Option<Cow<'a, str>>,
    /// Id of the request, as given by the caller or generated.
    pub request_id: Option<&'a str>,
    /// The run that it started, or that its idempotency key stands for.
    pub run_id: Option<RunId>,
    /// Value of the `Content-Type` header.
    pub content_type: Option<&'a str>,
    /// Bytes of the body that were read.
    pub body_bytes: u64,
    /// Content of the call, where it is kept.
    pub content: Option<Arc<KeptContent>>,
}

impl CallFacts<'_> {
    /// Creates the facts of a call with this answer, and nothing else.
    #[must_use]
    pub fn new(method: &'static str, status: u16, outcome: CallOutcome) -> Self {
        Self {
            method,
            status,
            outcome,
            problem: None,
            detail: None,
            address: None,
            user_agent: None,
            request_id: None,
            run_id: None,
            content_type: None,
            body_bytes: 0,
            content: None,
        }
    }
}

/// Content of an accepted call, sealed for its webhook and run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeptContent {
    /// Method, query, headers and body.
    pub sealed: Sealed,
    /// Time from which on it is not kept any more.
    pub expires_at: SystemTime,
}

impl KeptContent {
    /// Combines a sealed content with the end of its time.
    #[must_use]
    pub fn new(sealed: Sealed, expires_at: SystemTime) -> Self {
        Self { sealed, expires_at }
    }
}

/// A call in the call log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CallRecord {
    /// Id of the call. The log is in the order of the ids.
    pub id: CallId,
    /// The called webhook.
    pub webhook_id: WebhookId,
    /// Time of the answer.
    #[serde(with = "milliseconds")]
    pub at: SystemTime,
    /// Method of the request.
    pub method: Cow<'static, str>,
    /// Status of the response. A run that the caller awaits with `Prefer: wait` is answered later, with 200.
    pub status: u16,
    /// Outcome of the call.
    pub outcome: CallOutcome,
    /// Kind of the problem for which it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Cow<'static, str>>,
    /// The reason, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Address of the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// User agent of the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// Id of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The run that it started, or that its idempotency key stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    /// Media type of the body, as it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Bytes of the body that were read.
    #[serde(default)]
    pub body_bytes: u64,
    /// Time until which its content is kept, if there is room, so that it can be replayed.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "milliseconds::option")]
    pub replayable_until: Option<SystemTime>,
}

impl CallRecord {
    /// Creates the record of a call that was answered now. Tokens in its texts are masked, and long texts are cut.
    #[must_use]
    pub fn new(webhook_id: WebhookId, facts: &CallFacts<'_>, now: SystemTime) -> Self {
        let text = |text: &str| cut(text, TEXT_BYTES);
        Self {
            id: CallId::generate(now),
            webhook_id,
            at: now,
            method: facts.method.into(),
            status: facts.status,
            outcome: facts.outcome,
            problem: facts.problem.map(Cow::Borrowed),
            detail: facts.detail.as_deref().map(|detail| cut(detail, DETAIL_BYTES)),
            address: facts.address,
            user_agent: facts.user_agent.as_deref().map(text),
            request_id: facts.request_id.map(text),
            run_id: facts.run_id,
            content_type: facts.content_type.map(text),
            body_bytes: facts.body_bytes,
            replayable_until: facts.content.as_ref().map(|content| content.expires_at),
        }
    }

    /// Returns the approximate size of this record in memory, in bytes.
    #[must_use]
    pub fn bytes_in_memory(&self) -> usize {
        let texts = [&self.detail, &self.user_agent, &self.request_id, &self.content_type];
        let texts = texts.into_iter().flatten().map(String::len).sum::<usize>();
        size_of::<Self>()
            + self.method.len()
            + self.problem.as_ref().map_or(0, |problem| problem.len())
            + texts
    }
}

/// A call as a store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoggedCall {
    /// Facts about the call and its answer.
    pub record: Arc<CallRecord>,
    /// Sealed content of the call, where it is kept.
    pub content: Option<Arc<KeptContent>>,
}

impl LoggedCall {
    /// Creates a call of its record alone.
    #[must_use]
    pub fn new(record: Arc<CallRecord>) -> Self {
        Self { record, content: None }
    }

    /// Adds its content.
    #[must_use]
    pub fn with_content(mut self, content: Option<Arc<KeptContent>>) -> Self {
        self.content = content;
        self
    }

    /// Returns the approximate size of this call in memory, in bytes.
    pub(crate) fn bytes_in_memory(&self) -> usize {
        let content = self.content.as_ref().map_or(0, |content| content.sealed.as_bytes().len());
        size_of::<Self>() + self.record.bytes_in_memory() + content
    }
}

/// Calls of a workflow that were refused before their webhook was known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefusedCalls {
    /// Calls without a valid token, since this process started.
    pub unauthorized: u64,
    /// Time of the last of them.
    pub last_at: SystemTime,
}

impl RefusedCalls {
    pub(crate) fn new(now: SystemTime) -> Self {
        Self { unauthorized: 0, last_at: now }
    }

    pub(crate) fn add(&mut self, count: u64, at: SystemTime) {
        self.unauthorized = self.unauthorized.saturating_add(count);
        self.last_at = self.last_at.max(at);
    }
}

/// Masks the tokens in a text, and then cuts it: half a token would not be found any more.
fn cut(text: &str, most: usize) -> String {
    let masked = mask_tokens(text);
    masked[..masked.floor_char_boundary(most)].to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use serde_json::json;

    use super::*;
    use crate::token::Token;

    #[test]
    fn texts_of_callers_are_cut_and_hold_no_token() {
        let token = Token::generate();
        let long = format!("{}{}", "é".repeat(120), token.expose().repeat(20));
        let mut facts = CallFacts::new("POST", 401, CallOutcome::Refused);
        facts.detail = Some(long.as_str().into());
        facts.user_agent = Some(long.as_str().into());
        facts.request_id = Some(&long);
        facts.content_type = Some(&long);
        let record = CallRecord::new(WebhookId::generate(UNIX_EPOCH), &facts, UNIX_EPOCH);
        let shown = format!("{record:?}{}", serde_json::to_string(&record).unwrap());
        assert!(!shown.contains(&token.expose()[10..30]), "{shown}");
        assert!(record.bytes_in_memory() < size_of::<CallRecord>() + DETAIL_BYTES + 4 * TEXT_BYTES);
    }

    #[test]
    fn a_record_is_stored_in_this_form_and_reads_back() {
        let (run, webhook) = (RunId::generate(UNIX_EPOCH), WebhookId::generate(UNIX_EPOCH));
        let now = UNIX_EPOCH + Duration::from_millis(1_767_225_600_123);
        let mut facts = CallFacts::new("POST", 202, CallOutcome::DryRun);
        facts.run_id = Some(run);
        facts.address = Some("192.0.2.1".parse().unwrap());
        facts.content_type = Some("application/json");
        facts.body_bytes = 45;
        let record = CallRecord::new(webhook, &facts, now);
        let stored = serde_json::to_value(&record).unwrap();
        let expected = json!({
            "id": record.id, "webhook_id": webhook, "at": 1_767_225_600_123_u64, "method": "POST", "status": 202,
            "outcome": "dry_run", "address": "192.0.2.1", "run_id": run, "content_type": "application/json",
            "body_bytes": 45,
        });
        assert_eq!(stored, expected);
        assert_eq!(serde_json::from_value::<CallRecord>(stored).unwrap(), record);
        let oldest = json!({
            "id": record.id, "webhook_id": webhook, "at": 0, "method": "GET", "status": 403, "outcome": "refused",
        });
        assert_eq!(serde_json::from_value::<CallRecord>(oldest).unwrap().body_bytes, 0);
    }

    #[test]
    fn an_outcome_has_one_name() {
        use CallOutcome::*;
        for outcome in [Accepted, Replayed, Ignored, Refused, DryRun, Handshake] {
            assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.as_str());
        }
    }
}
