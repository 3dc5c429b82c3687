//! Reading and writing headers: pure functions.

use std::borrow::Cow;
use std::fmt::Write;
use std::net::IpAddr;
use std::time::Duration;

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue};
use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};
use webhook_core::network::{self, Networks};
use webhook_core::raw_call::RawCall;
use webhook_core::token::mask_tokens;
use zeroize::Zeroizing;

/// Longest wait by `Prefer: wait`.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Upper bound on the bytes of a request id that is taken over.
const REQUEST_ID_BYTES: usize = 128;
/// Bytes of a `traceparent`, and of the known part of one of a later version.
const TRACEPARENT_BYTES: usize = 55;
/// Characters that are kept of a user agent.
const USER_AGENT_CHARACTERS: usize = 256;

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
pub(crate) const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
pub(crate) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
pub(crate) const LOG_OFFSET: HeaderName = HeaderName::from_static("webhook-log-offset");
pub(crate) const LOG_END: HeaderName = HeaderName::from_static("webhook-log-end");
pub(crate) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
pub(crate) const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// Origins whose pages may load an answer (Fetch standard, section 3.7).
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const DRY_RUN: HeaderName = HeaderName::from_static("webhook-dry-run");
/// Headers in which proxies note the addresses that called them.
const FORWARDED: [&str; 2] = ["forwarded", "x-forwarded-for"];
const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFETCH: [HeaderName; 3] = [
    HeaderName::from_static("purpose"),
    HeaderName::from_static("sec-purpose"),
    HeaderName::from_static("x-moz"),
];

/// Returns the text of a header, if it is visible ASCII.
pub(crate) fn text(headers: &HeaderMap, name: impl header::AsHeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Returns the id that a request brings if it is well-formed, else a new one.
pub(crate) fn request_id(headers: &HeaderMap) -> String {
    let brought = text(headers, REQUEST_ID).filter(|id| {
        let is_sane = !id.is_empty() && id.len() <= REQUEST_ID_BYTES;
        let holds_token = || matches!(mask_tokens(id), Cow::Owned(_));
        is_sane && id.bytes().all(|byte| byte.is_ascii_graphic()) && !holds_token()
    });
    match brought {
        Some(id) => id.to_owned(),
        None => {
            let id = Builder::from_random_bytes(rand::random()).into_uuid();
            id.as_hyphenated().encode_lower(&mut Uuid::encode_buffer()).to_owned()
        }
    }
}

/// Returns the token of `Authorization: Bearer` (RFC 6750). The scheme's case is ignored (RFC 9110 section 11.1).
///
/// The header may be repeated with the same token.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<Option<Zeroizing<String>>, TwoTokens> {
    let values = headers.get_all(header::AUTHORIZATION).into_iter().filter_map(|value| value.to_str().ok());
    let mut tokens = values.filter_map(|value| {
        let (scheme, token) = value.split_once([' ', '\t'])?;
        Some(token.trim()).filter(|token| scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
    });
    let first = tokens.next();
    if tokens.any(|token| Some(token) != first) {
        return Err(TwoTokens);
    }
    Ok(first.map(|token| Zeroizing::new(token.to_owned())))
}

/// Error: headers of one request have different tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TwoTokens;

/// Returns the `Idempotency-Key`. Several different ones become an empty key, which is refused.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).into_iter();
    let first = values.next();
    if values.any(|value| Some(value) != first) {
        Some(String::new())
    } else {
        given(headers, IDEMPOTENCY_KEY)
    }
}

/// Returns the user agent, cut to 256 characters. Bytes that are not UTF-8 are replaced.
pub(crate) fn user_agent(headers: &HeaderMap) -> Option<String> {
    let agent = String::from_utf8_lossy(headers.get(header::USER_AGENT)?.as_bytes());
    // Masked before the cut: no part of a token may remain.
    let masked = mask_tokens(&agent);
    let end = masked.char_indices().nth(USER_AGENT_CHARACTERS).map_or(masked.len(), |(end, _)| end);
    Some(masked[..end].to_owned())
}

/// Returns a header for [`TriggerCall`](webhook_core::intake::TriggerCall). One that is no text keeps a form that is refused
/// later, so it is not ignored.
pub(crate) fn given(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// Returns the address of the client, where `peer` is the other end of the connection. `None` if a trusted proxy leaves it
/// unknown.
pub(crate) fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &Networks) -> Option<IpAddr> {
    if trusted.is_empty() {
        return Some(peer.to_canonical());
    }
    let lines: Vec<(&[u8], &[u8])> = FORWARDED
        .iter()
        .flat_map(|name| headers.get_all(*name).iter().map(|value| (name.as_bytes(), value.as_bytes())))
        .collect();
    network::client_address(peer, &RawCall::new("", "", &lines, b""), trusted)
}

/// Returns whether a proxy names the address of a client.
pub(crate) fn is_forwarded(headers: &HeaderMap) -> bool {
    FORWARDED.iter().any(|name| headers.contains_key(*name))
}

/// Returns whether a browser prefetches this.
pub(crate) fn is_prefetch(headers: &HeaderMap) -> bool {
    PREFETCH.iter().flat_map(|name| headers.get_all(name)).any(|value| {
        let value = value.to_str().unwrap_or_default();
        value.split([',', ';']).any(|item| {
            let item = item.trim();
            ["prefetch", "prerender", "preview"].iter().any(|word| item.eq_ignore_ascii_case(word))
        })
    })
}

/// Returns whether a dry run is asked for: by any value but `false` and `0`.
pub(crate) fn is_dry_run(headers: &HeaderMap) -> bool {
    headers.get(DRY_RUN).is_some_and(|value| {
        let value = value.to_str().unwrap_or_default().trim();
        !value.eq_ignore_ascii_case("false") && value != "0"
    })
}

/// Returns the caller's trace (W3C Trace Context, section 3.2). A malformed or repeated one is ignored, as specified there.
///
/// Text behind the four known fields, as later versions may have, is cut off.
pub(crate) fn traceparent(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all("traceparent").into_iter();
    let value = values.next().filter(|_| values.next().is_none())?.to_str().ok()?;
    let mut fields = value.split('-');
    let hexadecimal = |field: &&str, length: usize| {
        field.len() == length && field.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_set = |field: &&str| field.bytes().any(|byte| byte != b'0');
    let version = fields.next().filter(|field| hexadecimal(field, 2) && *field != "ff")?;
    fields.next().filter(|trace| hexadecimal(trace, 32) && is_set(trace))?;
    fields.next().filter(|parent| hexadecimal(parent, 16) && is_set(parent))?;
    fields.next().filter(|flags| hexadecimal(flags, 2))?;
    let ends_here = fields.next().is_none();
    value.get(..TRACEPARENT_BYTES).filter(|_| ends_here || version != "00")
}

/// Returns the wait that the caller prefers (`Prefer: wait=N`, RFC 7240 section 4.3), at most a minute.
///
/// The first of several counts. One that cannot be parsed is ignored, as all preferences may be.
pub(crate) fn preferred_wait(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(PREFER).into_iter().filter_map(|value| value.to_str().ok());
    let preferences = values.flat_map(|value| split_unquoted(value, ','));
    let wait = preferences.filter_map(|preference| {
        let preference = split_unquoted(preference, ';').next().unwrap_or_default();
        let (name, value) = preference.split_once('=')?;
        name.trim().eq_ignore_ascii_case("wait").then(|| value.trim().trim_matches('"'))
    });
    let digits = wait.into_iter().next()?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds = digits.parse().unwrap_or(u64::MAX);
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}

/// Splits a header at each `separator` outside of quoted strings (RFC 9110 section 5.6.4).
fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |character| {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = is_quoted,
            '"' => is_quoted = !is_quoted,
            other => return other == separator && !is_quoted,
        }
        false
    })
}

/// Returns whether the head announces a body of at least one byte (RFC 9112 section 6.3).
///
/// The body itself cannot tell: a framework's wrapper may hide its end.
pub(crate) fn announces_body(headers: &HeaderMap) -> bool {
    let length = text(headers, header::CONTENT_LENGTH).map_or("0", str::trim);
    headers.contains_key(header::TRANSFER_ENCODING) || length.bytes().any(|digit| digit != b'0')
}

/// Returns the codings of the body, from all `Content-Encoding` headers.
pub(crate) fn content_encoding(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(header::CONTENT_ENCODING).into_iter();
    let codings: Vec<_> = values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    (!codings.is_empty()).then(|| codings.join(", "))
}

/// Revisions that `If-Match` allows (RFC 9110 section 13.1.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Any revision: there is no such header, or it is `*`.
    Any,
    /// One of these. Foreign and weak tags match nothing.
    Revisions(Vec<u64>),
}

pub(crate) fn if_match(headers: &HeaderMap) -> Expected {
    let mut values = headers.get_all(header::IF_MATCH).into_iter().peekable();
    if values.peek().is_none() {
        return Expected::Any;
    }
    let tags: Vec<&str> =
        values.flat_map(|value| value.to_str().unwrap_or_default().split(',')).map(str::trim).collect();
    if tags == ["*"] {
        return Expected::Any;
    }
    let revision = |tag: &&str| tag.strip_prefix('"')?.strip_suffix('"')?.parse().ok();
    Expected::Revisions(tags.iter().filter_map(revision).collect())
}

/// Returns the entity tag of a revision.
pub(crate) fn entity_tag(revision: u64) -> String {
    format!("\"{revision}\"")
}

/// Adds the headers that all answers have.
pub(crate) fn add_common(headers: &mut HeaderMap, request_id: &str) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, id);
    }
}

/// Returns a strong entity tag of this content (RFC 9110 section 8.8.3).
pub(crate) fn content_tag(content: &[u8]) -> String {
    let mut tag = String::from("\"");
    for byte in Sha256::digest(content).iter().take(12) {
        // Writing to a string never fails.
        let _ = write!(tag, "{byte:02x}");
    }
    tag.push('"');
    tag
}

/// Returns whether `If-None-Match` names this tag (RFC 9110 section 13.1.2).
pub(crate) fn holds(headers: &HeaderMap, tag: &str) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH).into_iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|named| named == "*" || named.trim_start_matches("W/") == tag)
}

#[cfg(test)]
mod tests;
