//! Results of an executor: the output of an attempt, and the content of artifacts.

use std::fmt;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use crate::run::Artifact;

/// Output of a successful attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunOutput {
    /// Summary of the result in a line or two, at most 4 KiB.
    pub summary: Option<String>,
    /// References to the created files.
    pub artifacts: Vec<Artifact>,
}

impl RunOutput {
    /// Returns an output without summary and artifacts.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the summary.
    #[must_use]
    pub fn with_summary(mut self, summary: impl Into<String>) -> Self {
        self.summary = Some(summary.into());
        self
    }

    /// Adds an artifact.
    #[must_use]
    pub fn with_artifact(mut self, artifact: Artifact) -> Self {
        self.artifacts.push(artifact);
        self
    }
}

/// Content of an artifact.
#[derive(Clone)]
#[non_exhaustive]
pub enum ArtifactContent {
    /// Content in memory.
    Bytes {
        /// Media type (RFC 6838), such as `text/html`.
        content_type: String,
        /// The bytes themselves.
        bytes: Vec<u8>,
    },
    /// A file that is still to be opened.
    File {
        /// Media type (RFC 6838), such as `text/html`.
        content_type: String,
        /// Path of the file.
        path: PathBuf,
    },
    /// An open file, read from its current position.
    Open {
        /// Media type (RFC 6838), such as `text/html`.
        content_type: String,
        /// The open file.
        file: Arc<File>,
    },
}

impl ArtifactContent {
    /// Wraps a file that is already open.
    #[must_use]
    pub fn opened(content_type: impl Into<String>, file: File) -> Self {
        Self::Open { content_type: content_type.into(), file: Arc::new(file) }
    }
}

impl fmt::Debug for ArtifactContent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes { content_type, bytes } => {
                write!(formatter, "Bytes({content_type}, {} bytes)", bytes.len())
            }
            Self::File { content_type, path } => {
                write!(formatter, "File({content_type}, {})", path.display())
            }
            Self::Open { content_type, .. } => write!(formatter, "Open({content_type})"),
        }
    }
}
