//! Regular expressions whose time and memory are bounded.

use std::fmt;

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

/// Most bytes of a pattern, and of its compiled form.
const PATTERN_BYTES: usize = 500;
const COMPILED_BYTES: usize = 1 << 20;

/// A regular expression of the crate `regex`: it takes time in proportion to the text, and matches anywhere in it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Pattern {
    text: String,
    /// Absent when a pattern that was stored cannot be compiled any more. It matches nothing then.
    compiled: Option<Regex>,
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// [`InvalidPattern`] with the reason.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidPattern> {
        let text = text.into();
        if text.len() > PATTERN_BYTES {
            return Err(InvalidPattern::TooLong);
        }
        let compiled = compile(&text).map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => InvalidPattern::TooLarge,
            other => InvalidPattern::Syntax { message: last_line(&other.to_string()) },
        })?;
        Ok(Self { text, compiled: Some(compiled) })
    }

    /// Returns whether the pattern matches anywhere in a text.
    #[must_use]
    pub fn is_match(&self, text: &str) -> bool {
        self.compiled.as_ref().is_some_and(|compiled| compiled.is_match(text))
    }
}

fn compile(text: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(text).size_limit(COMPILED_BYTES).dfa_size_limit(COMPILED_BYTES).nest_limit(50).build()
}

/// Returns the reason, without the drawing of the pattern above it.
fn last_line(message: &str) -> String {
    let line = message.lines().last().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}

impl From<String> for Pattern {
    fn from(text: String) -> Self {
        let compiled = compile(&text).ok();
        Self { text, compiled }
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> String {
        pattern.text
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, formatter)
    }
}

/// The reason why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPattern {
    /// It is too long.
    #[error("a regular expression of at most {PATTERN_BYTES} bytes is expected")]
    TooLong,
    /// It would take too much memory.
    #[error(
        "the regular expression takes too much memory; use smaller repetitions, or [a-z] in place of \\w"
    )]
    TooLarge,
    /// It is not a regular expression, or one that cannot be matched in linear time.
    #[error("it is no regular expression that takes linear time: {message}")]
    #[non_exhaustive]
    Syntax {
        /// Fault of the pattern.
        message: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_anywhere_unless_it_is_anchored() {
        assert!(Pattern::new("main").unwrap().is_match("refs/heads/main-2"));
        assert!(!Pattern::new("^refs/heads/main$").unwrap().is_match("refs/heads/main-2"));
        assert!(Pattern::new(r"(?i)^\w+@example\.com$").unwrap().is_match("JÜRGEN@example.com"));
    }

    #[test]
    fn what_takes_more_than_linear_time_or_too_much_memory_is_refused() {
        for bad in
            [r"(a)\1", "(?=a)", "a(", "a{5000}{5000}", r"\w{1000}", "(((((((a{9}){9}){9}){9}){9}){9}){9})"]
        {
            assert!(Pattern::new(bad).is_err(), "{bad}");
        }
        assert!(Pattern::new("a".repeat(501)).is_err());
        let nested = format!("{}a{}", "(".repeat(100), ")".repeat(100));
        assert!(Pattern::new(nested).is_err());
        let error = Pattern::new(r"(a)\1").unwrap_err().to_string();
        assert_eq!(error.lines().count(), 1, "{error}");
    }

    #[test]
    fn a_stored_pattern_that_cannot_be_compiled_matches_nothing() {
        let pattern: Pattern = serde_json::from_value("a(".into()).unwrap();
        assert!(!pattern.is_match("a("));
        assert_eq!(serde_json::to_value(&pattern).unwrap(), "a(");
    }
}
