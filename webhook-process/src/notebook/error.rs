//! Errors of notebooks.

use std::io;
use std::path::PathBuf;

use crate::artifact::ArtifactError;
use crate::error::CommandError;

/// Error of a notebook that cannot be run, whatever the call. The messages say how to correct it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidNotebook {
    /// There is no such Python, or it does not run.
    #[error("Python cannot be run as {python:?}; {mended_by}")]
    Python {
        /// Path or name of Python.
        python: String,
        /// Commands that create one, or the advice to name another.
        mended_by: String,
        /// Error of the operating system.
        source: io::Error,
    },
    /// Python lacks packages.
    #[error("{python} lacks {}; {mended_by}", missing.join(" and "))]
    Packages {
        /// Path or name of Python.
        python: String,
        /// Names of the missing packages.
        missing: Vec<String>,
        /// Commands that install them.
        mended_by: String,
    },
    /// Python has no such Jupyter kernel.
    #[error(
        "there is no Jupyter kernel {kernel:?}, which {} names; use the kernel python3 instead, or fix it with: \
         {python} -m ipykernel install --sys-prefix --name {kernel}", .path.display()
    )]
    Kernel {
        /// Name of the kernel.
        kernel: String,
        /// Path of the notebook.
        path: PathBuf,
        /// Path or name of Python.
        python: String,
    },
    /// The file is not a notebook that can be run.
    #[error("{} is not usable: {message}", .path.display())]
    Notebook {
        /// Path of the notebook.
        path: PathBuf,
        /// Problem of the notebook, in words for people.
        message: String,
    },
    /// Python gave no valid answer: it is too old or broken.
    #[error("{python} does not answer as Python 3.10 or later does; {mended_by}")]
    Answer {
        /// Path or name of Python.
        python: String,
        /// Commands that create another one, or the advice to name another.
        mended_by: String,
        /// Error of parsing the answer.
        source: serde_json::Error,
    },
}

impl InvalidNotebook {
    /// Returns whether the notebook itself is fine, and only Python, its packages or its kernel are missing.
    #[must_use]
    pub fn is_unprepared(&self) -> bool {
        !matches!(self, Self::Notebook { .. })
    }
}

/// Error of an attempt of a notebook.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotebookError {
    /// A cell or the kernel failed; the message names it and its error.
    #[error("{message}")]
    Failed {
        /// The failing cell with its error, or the problem of the kernel.
        message: String,
        /// True if another attempt may help.
        may_pass: bool,
    },
    /// A package is missing that was there when the notebook was loaded.
    #[error("{message}; fix it on the server with: python -m pip install papermill ipykernel nbconvert")]
    PackageMissing {
        /// Names the missing package.
        message: String,
    },
    /// Python itself cannot be started, ends unexpectedly, or was stopped.
    #[error(transparent)]
    Process(CommandError),
    /// An artifact of the notebook cannot be kept.
    #[error(transparent)]
    Artifact(ArtifactError),
}

impl NotebookError {
    /// Returns whether another attempt may help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Failed { may_pass, .. } => *may_pass,
            Self::PackageMissing { .. } => false,
            Self::Process(error) => error.is_retryable(),
            Self::Artifact(error) => error.is_retryable(),
        }
    }
}
