//! What is known of a run besides its state: errors, progress, artifacts, and who asked for it.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::token::mask_tokens;

/// The longest error message or summary that is kept, in bytes.
pub(super) const MESSAGE_BYTES: usize = 4_096;

/// Why an attempt or a run failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunError {
    /// What sort of failure it was.
    pub kind: ErrorKind,
    /// What the executor said, at most 4 KiB.
    pub message: String,
}

impl RunError {
    /// An error with this message, cut to 4 KiB.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: shortened(message.into(), MESSAGE_BYTES) }
    }
}

/// What sort of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The executor said that another attempt may help.
    Retryable,
    /// The executor said that another attempt will not help.
    Fatal,
    /// The executor panicked.
    Panicked,
    /// The attempt took longer than its time-out.
    TimedOut,
    /// Its worker vanished too often.
    Interrupted,
    /// A newer run took its place.
    Superseded,
}

impl ErrorKind {
    /// The name on the wire.
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

/// How far a run is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Progress {
    /// From 0 to 1.
    pub fraction: f64,
    /// What it is doing.
    pub message: Option<String>,
}

impl Progress {
    /// Progress with its fraction brought into 0 to 1.
    #[must_use]
    pub fn new(fraction: f64, message: Option<String>) -> Self {
        let fraction = if fraction.is_nan() { 0.0 } else { fraction.clamp(0.0, 1.0) };
        Self { fraction, message: message.map(|text| shortened(text, MESSAGE_BYTES)) }
    }
}

/// Something a run left behind. The executor keeps the content; this is the reference to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Artifact {
    /// Its name within the run, such as `report.html`.
    pub name: String,
    /// Its media type (RFC 6838).
    pub content_type: String,
    /// Its size in bytes.
    pub size: u64,
}

impl Artifact {
    /// A reference to an artifact.
    #[must_use]
    pub fn new(name: impl Into<String>, content_type: impl Into<String>, size: u64) -> Self {
        Self { name: name.into(), content_type: content_type.into(), size }
    }
}

/// Who asked for a run: facts of the call, for people who look into it later.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Caller {
    /// The request method.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub method: Cow<'static, str>,
    /// The address the call came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// What the caller's program calls itself, at most 256 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// The id of the request, given or made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The last four characters of the token that was used; `None` for a run started by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_hint: Option<String>,
    /// The media type of the call's body, at most 256 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The caller's trace context (W3C Trace Context).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// The longest text about a caller that is kept, in characters.
const CALLER_CHARACTERS: usize = 256;

impl Caller {
    /// The same with every token masked and every text cut to what is kept: senders repeat the URL that they call.
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
