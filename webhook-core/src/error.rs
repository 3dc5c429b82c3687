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
    /// Kind of name that was parsed.
    pub what: NameKind,
    /// Expected form, such as a regular expression.
    pub expected: &'static str,
}

impl InvalidName {
    /// Creates an error for `what`, which must have the form `expected`.
    pub fn new(what: NameKind, expected: &'static str) -> Self {
        Self { what, expected }
    }
}

/// Kind of name or id that a text is parsed as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NameKind {
    /// Kind of workflows, such as `report`.
    WorkflowKind,
    /// Id of a workflow within its kind.
    WorkflowId,
    /// Kind and id of a workflow.
    Workflow,
    /// Id of a webhook.
    WebhookId,
    /// Id of a run.
    RunId,
    /// Id of a delivery.
    DeliveryId,
    /// Id of a secret of a webhook's sender.
    SecretId,
    /// Id of a call in the call log.
    CallId,
    /// Id of an event, as the stream of events gives it out.
    EventId,
    /// State of a run.
    RunState,
    /// State of a delivery.
    DeliveryState,
    /// Channel of notifications.
    Channel,
    /// Token of a webhook.
    Token,
}

impl NameKind {
    /// Returns the words for people, such as `workflow id`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WorkflowKind => "workflow kind",
            Self::WorkflowId => "workflow id",
            Self::Workflow => "workflow",
            Self::WebhookId => "webhook id",
            Self::RunId => "run id",
            Self::DeliveryId => "delivery id",
            Self::SecretId => "secret id",
            Self::CallId => "call id",
            Self::EventId => "event id",
            Self::RunState => "run state",
            Self::DeliveryState => "delivery state",
            Self::Channel => "channel",
            Self::Token => "token",
        }
    }
}

impl std::fmt::Display for NameKind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
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
    /// A call in the call log.
    Call,
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
            Self::Call => "call",
            Self::TokenDigest => "token digest",
        }
    }
}

impl std::fmt::Display for Resource {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Upper bound on the problems that a message lists.
const LISTED: usize = 8;
/// Upper bound on the characters of each.
const LISTED_CHARACTERS: usize = 160;

/// Joins problems for a message, of which the first few are listed and the rest is counted.
pub(crate) fn listed(problems: impl ExactSizeIterator<Item = String>) -> String {
    let rest = problems.len().saturating_sub(LISTED);
    let cut = |text: String| match text.char_indices().nth(LISTED_CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    };
    let mut listed: Vec<String> = problems.take(LISTED).map(cut).collect();
    if rest > 0 {
        listed.push(format!("and {rest} more"));
    }
    listed.join("; ")
}

/// Formats an error with its causes in one line, each cause once.
///
/// ```
/// use webhook_core::error::{InvalidName, NameKind, chain};
/// use webhook_core::executor::ExecutorError;
/// let error = ExecutorError::new(InvalidName::new(NameKind::WorkflowId, "a name"));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_lists_some_problems_and_counts_the_rest() {
        assert_eq!(listed(["a".to_owned(), "b".to_owned()].into_iter()), "a; b");
        let many = listed((0..1_000).map(|number| format!("{number}{}", "é".repeat(1_000))));
        assert!(many.starts_with("0é") && many.ends_with("…; and 992 more"), "{many}");
        assert!(many.chars().count() < 1_400);
    }
}
