//! What can go wrong with a notebook.

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::python::Python;
use crate::artifact::ArtifactError;
use crate::error::CommandError;

/// A notebook that cannot be run, whatever the call. The messages say what would mend it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidNotebook {
    /// There is no such Python, or it does not run.
    #[error("Python cannot be run as {python:?}; {mended_by}")]
    Python {
        /// Its path or name.
        python: String,
        /// The commands that make one, or that another must be named.
        mended_by: String,
        /// What the system said.
        source: io::Error,
    },
    /// Python lacks packages.
    #[error("{python} lacks {}; {mended_by}", missing.join(" and "))]
    Packages {
        /// Its path or name.
        python: String,
        /// The packages.
        missing: Vec<String>,
        /// The commands that install them.
        mended_by: String,
    },
    /// Python has no such Jupyter kernel.
    #[error(
        "there is no Jupyter kernel {kernel:?}, which {} names; use the kernel python3 instead, or mend it with: \
         {python} -m ipykernel install --sys-prefix --name {kernel}", .path.display()
    )]
    Kernel {
        /// The name of the kernel.
        kernel: String,
        /// The notebook.
        path: PathBuf,
        /// The path or name of Python.
        python: String,
    },
    /// The file is no notebook that can be run.
    #[error("{} is not usable: {message}", .path.display())]
    Notebook {
        /// The notebook.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// Python gave no sensible answer: it is too old or broken.
    #[error("{python} does not answer as Python 3.10 or later does; {mended_by}")]
    Answer {
        /// Its path or name.
        python: String,
        /// The commands that make another one, or that another must be named.
        mended_by: String,
        /// What is wrong with the answer.
        source: serde_json::Error,
    },
}

/// What the description says is wrong.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Problem {
    Packages { missing: Vec<String>, is_virtual: bool },
    Kernel { name: String },
    Notebook { message: String },
}

impl InvalidNotebook {
    /// Whether the notebook itself is fine and only Python, its packages or its kernel are missing.
    #[must_use]
    pub fn is_unprepared(&self) -> bool {
        !matches!(self, Self::Notebook { .. })
    }

    pub(super) fn from_problem(problem: Problem, path: &Path, python: &Python) -> Self {
        let path = path.to_owned();
        match problem {
            Problem::Packages { missing, is_virtual } => {
                let mended_by = if is_virtual {
                    format!("mend it with: {} -m pip install {}", python.shown(), missing.join(" "))
                } else {
                    python.completed_by()
                };
                Self::Packages { python: python.shown(), missing, mended_by }
            }
            Problem::Kernel { name } => Self::Kernel { kernel: name, path, python: python.shown() },
            Problem::Notebook { message } => Self::Notebook { path, message },
        }
    }
}

/// Why an attempt of a notebook failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotebookError {
    /// A cell failed, or the kernel did; the message says which and how.
    #[error("{message}")]
    Failed {
        /// The failing cell with its error, or what is wrong with the kernel.
        message: String,
        /// Whether another attempt may help.
        may_pass: bool,
    },
    /// A package that was there when the notebook was loaded is missing.
    #[error("{message}; mend it on the server with: python -m pip install papermill ipykernel nbconvert")]
    PackageMissing {
        /// Which package.
        message: String,
    },
    /// Python itself cannot be started, ends unexpectedly, or was stopped.
    #[error(transparent)]
    Process(CommandError),
    /// What the notebook made cannot be kept.
    #[error(transparent)]
    Artifact(ArtifactError),
}

impl NotebookError {
    /// Whether another attempt may help.
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
