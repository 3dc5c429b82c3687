//! Error parts that every other module may use.

/// A boxed error kept as the source of another error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// A name or id whose text does not have the form it must have.
///
/// The message names what was expected and never repeats the offending text in full.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must match {expected}")]
#[non_exhaustive]
pub struct InvalidName {
    /// What was being read, such as `workflow id`.
    pub what: &'static str,
    /// The form that is accepted, such as a regular expression.
    pub expected: &'static str,
}

impl InvalidName {
    /// Says that `what` must have the form `expected`.
    pub fn new(what: &'static str, expected: &'static str) -> Self {
        Self { what, expected }
    }
}

/// An error with its causes in one line, each said once.
///
/// ```
/// use webhook_core::error::{InvalidName, chain};
/// use webhook_core::executor::ExecutorError;
/// let error = ExecutorError::new(InvalidName::new("workflow id", "a name"));
/// assert_eq!(chain(&error), "the executor cannot answer: workflow id must match a name");
/// ```
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
