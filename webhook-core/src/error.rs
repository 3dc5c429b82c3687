//! Error parts shared by all modules.

/// A boxed error, kept as the source of another error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Error for a name or id whose text does not have the required form.
///
/// The message states the expected form and never repeats the whole text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must match {expected}")]
#[non_exhaustive]
pub struct InvalidName {
    /// Kind of name that was parsed, such as `workflow id`.
    pub what: &'static str,
    /// Expected form, such as a regular expression.
    pub expected: &'static str,
}

impl InvalidName {
    /// Creates an error for `what`, which must have the form `expected`.
    pub fn new(what: &'static str, expected: &'static str) -> Self {
        Self { what, expected }
    }
}

/// Kind of record that an operation names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Resource {
    /// A webhook, by its id or its token.
    Webhook,
    /// A workflow that the executor lists.
    Workflow,
    /// A run, live or ended.
    Run,
    /// A file that a run left.
    Artifact,
    /// A notification to one recipient.
    Delivery,
    /// A secret of a webhook's sender.
    Secret,
    /// The digest of a token, which is unique to one webhook.
    TokenDigest,
}

impl Resource {
    /// Returns the word for people, such as `webhook`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Workflow => "workflow",
            Self::Run => "run",
            Self::Artifact => "artifact",
            Self::Delivery => "delivery",
            Self::Secret => "secret",
            Self::TokenDigest => "token digest",
        }
    }
}

impl std::fmt::Display for Resource {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Formats an error with its causes in one line, each cause once.
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
