//! Facts of a run besides its state: errors, progress, artifacts, and the caller.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::token::mask_tokens;

/// Upper bound on the error message or summary that is kept, in bytes.
pub(super) const MESSAGE_BYTES: usize = 4_096;

/// Error of an attempt or a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunError {
    /// Kind of the failure.
    pub kind: ErrorKind,
    /// Message of the executor, at most 4 KiB.
    pub message: String,
}

impl RunError {
    /// Creates an error with this message, cut to 4 KiB.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: shortened(message.into(), MESSAGE_BYTES) }
    }
}

/// Kind of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The executor reported an error after which another attempt may help.
    Retryable,
    /// The executor reported an error after which another attempt will not help.
    Fatal,
    /// The executor panicked.
    Panicked,
    /// The attempt exceeded its time-out.
    TimedOut,
    /// The worker vanished too often.
    Interrupted,
    /// A newer run replaced it.
    Superseded,
}

impl ErrorKind {
    /// Returns the name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retryable => "retryable",
            Self::Fatal => "fatal",
            Self::Panicked => "panicked",
            Self::TimedOut => "timed_out",
            Self::Interrupted => "interrupted",
            Self::Superseded => "superseded",
        }
    }
}

/// Progress of a running run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Progress {
    /// Completed fraction, from 0 to 1.
    pub fraction: f64,
    /// Current step, in words for people.
    pub message: Option<String>,
}

impl Progress {
    /// Reports progress, with the fraction clamped to 0 to 1.
    #[must_use]
    pub fn new(fraction: f64, message: Option<String>) -> Self {
        let fraction = if fraction.is_nan() { 0.0 } else { fraction.clamp(0.0, 1.0) };
        Self { fraction, message: message.map(|text| shortened(text, MESSAGE_BYTES)) }
    }
}

/// Reference to a file that a run left. The executor keeps the content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Artifact {
    /// Name within the run, such as `report.html`.
    pub name: String,
    /// Media type (RFC 6838).
    pub content_type: String,
    /// Size of the content in bytes.
    pub size: u64,
}

impl Artifact {
    /// Refers to an artifact.
    #[must_use]
    pub fn new(name: impl Into<String>, content_type: impl Into<String>, size: u64) -> Self {
        Self { name: name.into(), content_type: content_type.into(), size }
    }
}

/// Facts about the call that started a run, for later investigation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Caller {
    /// Method of the request, such as `POST`.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub method: Cow<'static, str>,
    /// Address from which the call came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// User agent of the caller, at most 256 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// Id of the request, as given by the caller or generated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Last four characters of the presented token; `None` for a run started by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_hint: Option<String>,
    /// Media type of the call's body, at most 256 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Trace context of the caller (W3C Trace Context).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// Upper bound on a text about a caller, in characters.
const CALLER_CHARACTERS: usize = 256;

impl Caller {
    /// Returns these facts with every token masked and every text cut to its bound. Senders repeat the URL
    /// that they call.
    pub(crate) fn without_tokens(mut self) -> Self {
        let texts =
            [&mut self.user_agent, &mut self.request_id, &mut self.content_type, &mut self.traceparent];
        for text in texts.into_iter().flatten() {
            let masked = mask_tokens(text);
            let kept: String = masked.chars().take(CALLER_CHARACTERS).collect();
            *text = kept;
        }
        self
    }
}

/// Cuts a text to at most `bytes` at a character boundary and marks the cut.
pub(crate) fn shortened(mut text: String, bytes: usize) -> String {
    if text.len() > bytes {
        let mark = '…';
        text.truncate(text.floor_char_boundary(bytes - mark.len_utf8()));
        text.push(mark);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_are_cut_at_a_character() {
        let error = RunError::new(ErrorKind::Fatal, "é".repeat(5_000));
        assert!(error.message.len() <= MESSAGE_BYTES && error.message.ends_with('…'));
    }
}
