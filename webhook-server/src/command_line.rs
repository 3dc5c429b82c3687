//! Secrets and errors of the command line.

use std::fmt;

/// Text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) String);

impl Secret {
    /// Returns the text, for the one place that needs it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(***)")
    }
}

/// Reason why there are no options.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CommandLineError {
    /// Help or version was requested: text for standard output, and exit code 0.
    #[error("{0}")]
    Information(String),
    /// Usage error: one line for standard error, and exit code 2.
    #[error("{0}")]
    Usage(String),
}
