//! Problems of a caller's parameters, and the excerpt of a value that a message may show.

use std::fmt;

use serde::Serialize;

use crate::token::{MASKED_TOKEN, token_start};

/// Replacement for a secret value wherever one would be shown.
pub(super) const MASKED: &str = "***";

/// Upper bound on the characters of a caller's text that a message repeats.
const EXCERPT_CHARACTERS: usize = 64;

/// One problem of one parameter, in the form of an `errors` item of a problem document (RFC 9457).
///
/// The message says what to change. It shows a short excerpt of the value, but nothing of a secret value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ParameterProblem {
    /// Name of the parameter, shortened if it is too long; `*` for the call as a whole.
    pub parameter: String,
    /// Kind of the problem, stable for programs.
    pub code: ProblemCode,
    /// One or more sentences for people.
    pub message: String,
}

impl ParameterProblem {
    /// Describes a problem of `parameter`.
    pub fn new(parameter: impl Into<String>, code: ProblemCode, message: impl Into<String>) -> Self {
        Self { parameter: parameter.into(), code, message: message.into() }
    }

    /// Returns the parameter and its kind of problem in words, without anything of the value.
    pub(crate) fn summary(&self) -> String {
        let parameter = if self.parameter == "*" { "the call" } else { self.parameter.as_str() };
        format!("{parameter}: {}", self.code.in_words())
    }
}

impl fmt::Display for ParameterProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

/// Kind of a [`ParameterProblem`]. Its text on the wire is snake_case, such as `wrong_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ProblemCode {
    /// A required block has no default, and no value was given.
    Required,
    /// The value cannot be converted to the declared type without loss.
    WrongType,
    /// The value is not one of the block's choices.
    NotAChoice,
    /// A name occurs more than once in one query or form, and its block is not a list.
    Repeated,
    /// The webhook is strict, and no block has this name.
    Undeclared,
    /// The name is empty or too long.
    NameInvalid,
    /// The call gives too many names or too many JSON values. The problem's parameter is `*`.
    TooMany,
    /// The value's arrays and objects are nested too deeply.
    TooDeep,
    /// The values are too long in total. The problem's parameter is `*`.
    TooLarge,
    /// The webhook is strict and fixes the value.
    Fixed,
    /// The value is secret, and the server has no token key to seal it. Only the operator can correct that.
    NoTokenKey,
}

impl ProblemCode {
    /// Returns the text on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::WrongType => "wrong_type",
            Self::NotAChoice => "not_a_choice",
            Self::Repeated => "repeated",
            Self::Undeclared => "undeclared",
            Self::NameInvalid => "name_invalid",
            Self::TooMany => "too_many",
            Self::TooDeep => "too_deep",
            Self::TooLarge => "too_large",
            Self::Fixed => "fixed",
            Self::NoTokenKey => "no_token_key",
        }
    }
}

impl ProblemCode {
    /// Returns the kind in words that continue after the parameter's name.
    fn in_words(self) -> &'static str {
        match self {
            Self::Required => "is required",
            Self::WrongType => "has the wrong type",
            Self::NotAChoice => "is not one of the choices",
            Self::Repeated => "is given more than once",
            Self::Undeclared => "is not declared",
            Self::NameInvalid => "has an empty or too long name",
            Self::TooMany => "has too many names or values",
            Self::TooDeep => "is nested too deeply",
            Self::TooLarge => "is too long in total",
            Self::Fixed => "is fixed by the webhook",
            Self::NoTokenKey => "is secret, and the server has no token key",
        }
    }
}

impl fmt::Display for ProblemCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Returns a caller's text for a message: quoted, control characters escaped, shortened, tokens masked.
pub(super) fn excerpt(text: &str) -> String {
    let cut = cut(text);
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("{:?}{more}", without_token(cut))
}

/// Returns the beginning of a caller's text, unquoted, tokens masked.
pub(super) fn shortened(text: &str) -> String {
    without_token(cut(text))
}

/// Returns a caller's text in full, but masks everything from the apparent start of a token.
///
/// If another mistake tore a token apart, its end cannot be told from the text after it. So the whole rest is
/// masked.
pub(super) fn without_token(text: &str) -> String {
    match token_start(text) {
        Some(start) => format!("{}{MASKED_TOKEN}", &text[..start]),
        None => text.to_owned(),
    }
}

fn cut(text: &str) -> &str {
    match text.char_indices().nth(EXCERPT_CHARACTERS) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_quoted_and_escapes_control_characters() {
        assert_eq!(excerpt("a\n\u{1b}[31m\u{202e}\"b"), r#""a\n\u{1b}[31m\u{202e}\"b""#);
    }

    #[test]
    fn an_excerpt_is_cut_to_64_characters() {
        assert_eq!(excerpt(&"é".repeat(64)), format!("\"{}\"", "é".repeat(64)));
        assert_eq!(excerpt(&"é".repeat(65)), format!("\"{}\"…", "é".repeat(64)));
    }

    #[test]
    fn an_excerpt_hides_everything_from_a_token_on() {
        assert_eq!(excerpt("5&token=whk_AAbb%20cc dd"), "\"5&token=whk_***\"");
        assert!(!excerpt(&format!("{}whk_ABC", "x".repeat(60))).contains("ABC"));
        assert!(!excerpt(&format!("{}whk_ABC", "x".repeat(58))).contains('A'));
        assert_eq!(excerpt("token=whk%5FAAbb"), "\"token=whk_***\"");
        assert_eq!(excerpt("token=whk\\u005fAAbb"), "\"token=whk_***\"");
    }

    #[test]
    fn a_code_has_the_same_text_on_the_wire_and_for_people() {
        for code in [
            ProblemCode::Required,
            ProblemCode::WrongType,
            ProblemCode::NotAChoice,
            ProblemCode::Repeated,
            ProblemCode::Undeclared,
            ProblemCode::NameInvalid,
            ProblemCode::TooMany,
            ProblemCode::TooDeep,
            ProblemCode::TooLarge,
            ProblemCode::Fixed,
            ProblemCode::NoTokenKey,
        ] {
            assert_eq!(serde_json::to_value(code).unwrap(), code.to_string());
        }
    }
}
