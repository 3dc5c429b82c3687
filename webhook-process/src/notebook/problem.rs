//! Problems that the description of a notebook reports.

use std::path::Path;

use serde::Deserialize;

use super::error::InvalidNotebook;
use super::python::Python;

/// Problem that the description of a notebook reports.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Problem {
    Packages { missing: Vec<String>, is_virtual: bool },
    Kernel { name: String },
    Notebook { message: String },
}

impl Problem {
    /// Returns the error for this problem of the notebook at `path`.
    pub(super) fn error(self, path: &Path, python: &Python) -> InvalidNotebook {
        let path = path.to_owned();
        match self {
            Self::Packages { missing, is_virtual } => {
                let mended_by = if is_virtual {
                    format!("fix it with: {} -m pip install {}", python.shown(), missing.join(" "))
                } else {
                    python.completed_by()
                };
                InvalidNotebook::Packages { python: python.shown(), missing, mended_by }
            }
            Self::Kernel { name } => InvalidNotebook::Kernel { kernel: name, path, python: python.shown() },
            Self::Notebook { message } => InvalidNotebook::Notebook { path, message },
        }
    }
}
