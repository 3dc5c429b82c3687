//! The head of a call: everything that a front end knows before it reads the body.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::error::TriggerError;
use crate::id::WorkflowKey;
use crate::run::Caller;
use crate::token::mask_tokens;

/// Upper bound on an idempotency key, in bytes.
const KEY_BYTES: usize = 255;

/// Method of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[non_exhaustive]
pub enum Method {
    /// GET; a body is ignored.
    Get,
    /// POST, with an optional body.
    Post,
    /// HEAD, by which some senders check a URL. It starts nothing.
    Head,
    /// OPTIONS, by which some senders check a URL. It starts nothing.
    Options,
}

impl Method {
    /// Returns the name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
        }
    }
}

/// A call at a webhook's URL, without its body. `Debug` hides the query and the token in it.
#[non_exhaustive]
pub struct TriggerCall {
    /// Workflow in the path.
    pub workflow: WorkflowKey,
    /// Method of the request.
    pub method: Method,
    /// Query as it was sent, without the question mark.
    pub query: Zeroizing<String>,
    /// Token of the `Authorization: Bearer` header (RFC 6750).
    pub bearer: Option<Zeroizing<String>>,
    /// Value of the `Content-Type` header.
    pub content_type: Option<String>,
    /// Value of the `Content-Encoding` header; several are joined by commas.
    pub content_encoding: Option<String>,
    /// True if it has a body. The body of a GET is ignored, with a warning.
    pub has_body: bool,
    /// Value of the `Idempotency-Key` header.
    pub idempotency_key: Option<String>,
    /// True if everything is checked and nothing is started.
    pub dry_run: bool,
    /// True if a browser prefetches this, without the user asking for it.
    pub prefetch: bool,
    /// Facts about the caller.
    pub caller: Caller,
}

impl TriggerCall {
    /// Creates a call without query, token and headers.
    #[must_use]
    pub fn new(workflow: WorkflowKey, method: Method) -> Self {
        Self {
            workflow,
            method,
            query: Zeroizing::default(),
            bearer: None,
            content_type: None,
            content_encoding: None,
            has_body: false,
            idempotency_key: None,
            dry_run: false,
            prefetch: false,
            caller: Caller { method: method.as_str().into(), ..Caller::default() },
        }
    }

    /// Returns the one presented token, from query or header. Surrounding white space is removed: it comes
    /// from the file or variable in which the token was kept.
    pub(super) fn single_token<'a>(
        &'a self,
        in_query: &'a [Zeroizing<String>],
    ) -> Result<Option<&'a str>, TriggerError> {
        let mut tokens = in_query.iter().chain(&self.bearer).map(|token| token.trim());
        let first = tokens.next();
        if tokens.any(|token| Some(token) != first) { Err(TriggerError::TwoTokens) } else { Ok(first) }
    }

    /// Wipes the token as soon as it is no longer needed.
    pub(super) fn forget_tokens(&mut self) {
        self.query = Zeroizing::default();
        self.bearer = None;
    }

    /// Returns whether the call has a body that does not count, which its caller is warned of.
    pub(in crate::service) fn ignores_body(&self) -> bool {
        self.method == Method::Get && self.has_body
    }

    /// Returns the idempotency key, bare or as a quoted string (RFC 8941 section 3.3.3).
    pub(in crate::service) fn idempotency_key(&self) -> Result<Option<String>, TriggerError> {
        let Some(header) = self.idempotency_key.as_deref().map(str::trim) else { return Ok(None) };
        let key = if header.starts_with('"') { unquote(header) } else { Some(header.to_owned()) };
        let visible = |key: &String| key.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        // A store keeps the key as it is.
        let holds_token = |key: &String| matches!(mask_tokens(key), Cow::Owned(_));
        let fits =
            |key: &String| !key.is_empty() && key.len() <= KEY_BYTES && visible(key) && !holds_token(key);
        match key.filter(fits) {
            Some(key) => Ok(Some(key)),
            None => Err(TriggerError::IdempotencyKeyInvalid),
        }
    }
}

impl fmt::Debug for TriggerCall {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TriggerCall")
            .field("workflow", &self.workflow)
            .field("method", &self.method)
            .field("content_type", &self.content_type)
            .field("dry_run", &self.dry_run)
            .finish_non_exhaustive()
    }
}

fn unquote(header: &str) -> Option<String> {
    let inner = header.strip_prefix('"')?.strip_suffix('"')?;
    let mut text = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => text.push(characters.next().filter(|escaped| matches!(escaped, '"' | '\\'))?),
            '"' => return None,
            other => text.push(other),
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> TriggerCall {
        TriggerCall::new("report/a".parse().unwrap(), Method::Post)
    }

    fn key(header: &str) -> Option<String> {
        let mut call = call();
        call.idempotency_key = Some(header.to_owned());
        call.idempotency_key().ok().flatten()
    }

    #[test]
    fn a_key_may_be_bare_or_quoted() {
        assert_eq!(key("abc-1").as_deref(), Some("abc-1"));
        assert_eq!(key(" \"abc-1\" ").as_deref(), Some("abc-1"));
        assert_eq!(key(r#""a\"b\\c""#).as_deref(), Some(r#"a"b\c"#));
        assert_eq!(key(&"k".repeat(255)).map(|key| key.len()), Some(255));
    }

    #[test]
    fn an_empty_unclosed_long_or_invisible_key_and_a_token_are_refused() {
        let token = crate::token::Token::generate();
        assert_eq!(key(token.expose()), None);
        for bad in ["", "\"\"", "\"abc", "\"a\"b\"", "\"", "é", "a\tb", &"k".repeat(256)] {
            assert_eq!(key(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_same_token_twice_is_one_and_two_different_are_refused() {
        let mut call = call();
        assert_eq!(call.single_token(&[]).unwrap(), None);
        call.bearer = Some(Zeroizing::new("a".to_owned()));
        let in_query = |token: &str| [Zeroizing::new(token.to_owned())];
        assert_eq!(call.single_token(&in_query("a")).unwrap(), Some("a"));
        assert_eq!(call.single_token(&in_query(" a\r\n")).unwrap(), Some("a"), "white space is trimmed");
        assert!(matches!(call.single_token(&in_query("b")), Err(TriggerError::TwoTokens)));
    }

    #[test]
    fn debug_shows_neither_query_nor_token() {
        let mut call = call();
        call.query = Zeroizing::new("token=canary".to_owned());
        call.bearer = Some(Zeroizing::new("canary".to_owned()));
        assert!(!format!("{call:?}").contains("canary"));
    }
}
