//! A folder that keeps the artifacts of runs.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use webhook_core::executor::ArtifactContent;
use webhook_core::id::RunId;
use webhook_core::run::Artifact;

/// The largest artifact by default, in bytes.
const DEFAULT_LIMIT: u64 = 32 * 1024 * 1024;

/// Keeps the artifacts of runs, each run's in a folder of its own that is named by its id.
///
/// An artifact is there in one step and stays there after a power loss: the record of the run, which names it, is as
/// durable. They are kept until [`discard`](Self::discard), which an executor calls when the run's record is pruned.
#[derive(Debug, Clone)]
pub struct ArtifactFolder {
    folder: PathBuf,
    limit: u64,
}

/// An artifact cannot be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArtifactError {
    /// The folder cannot be written to. Another attempt may help.
    #[error("the artifact {name} cannot be written to {}", .folder.display())]
    Unwritable {
        /// The name of the artifact; empty when it is the folder itself.
        name: String,
        /// The folder of the run.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The artifact is larger than the folder allows. Another attempt will not help.
    #[error("the artifact {name} has {size} bytes, and at most {limit} are kept")]
    TooLarge {
        /// The name of the artifact.
        name: String,
        /// Its size in bytes.
        size: u64,
        /// The largest size that is kept, in bytes.
        limit: u64,
    },
}

impl ArtifactError {
    /// Whether another attempt may help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unwritable { .. })
    }
}

impl ArtifactFolder {
    /// Keeps artifacts below `folder`, which is made when it is needed. The largest may have 32 MiB.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), limit: DEFAULT_LIMIT }
    }

    /// Sets how large an artifact may be, in bytes.
    #[must_use]
    pub fn with_limit(mut self, bytes: u64) -> Self {
        self.limit = bytes;
        self
    }

    /// Keeps `bytes` as the artifact `name`. It blocks until they are on the disk.
    ///
    /// # Errors
    /// [`ArtifactError`] when they are too many or cannot be written.
    pub fn write(
        &self,
        run: RunId,
        attempt: u32,
        name: &str,
        bytes: &[u8],
    ) -> Result<Artifact, ArtifactError> {
        let draft = self.draft(run, attempt)?;
        let written = File::create(draft.path().join(name)).and_then(|mut file| file.write_all(bytes));
        written.map_err(|source| self.unwritable(run, name, source))?;
        draft.keep(name)
    }

    /// An empty folder for what an attempt makes, which is removed when the draft is dropped.
    ///
    /// An attempt that lost its lease may still be writing, so each attempt has a draft of its own.
    ///
    /// # Errors
    /// [`ArtifactError`] when the folder cannot be made.
    pub fn draft(&self, run: RunId, attempt: u32) -> Result<Draft<'_>, ArtifactError> {
        let path = self.of(run).join(format!(".attempt-{attempt}"));
        // A server that was killed leaves the draft of its attempt behind.
        let made = removed(&path).and_then(|()| fs::create_dir_all(&path)).and_then(|()| path.canonicalize());
        let path = made.map_err(|source| self.unwritable(run, "", source))?;
        Ok(Draft { artifacts: self, run, path })
    }

    /// The artifact `name` of a run, or `None` when there is none. `name` may be any text: it is not taken as a path.
    ///
    /// # Errors
    /// What the system says when it cannot be read now.
    pub fn content(&self, run: RunId, name: &str) -> io::Result<Option<ArtifactContent>> {
        // Drafts begin with a dot.
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', '\0']) {
            return Ok(None);
        }
        let path = self.of(run).join(name);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => {
                Ok(Some(ArtifactContent::File { content_type: content_type(name).to_owned(), path }))
            }
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes all artifacts of these runs. Runs without artifacts are passed over.
    ///
    /// # Errors
    /// What the system says of the first that cannot be removed.
    pub fn discard(&self, runs: &[RunId]) -> io::Result<()> {
        runs.iter().try_for_each(|run| removed(&self.of(*run)))
    }

    fn of(&self, run: RunId) -> PathBuf {
        self.folder.join(run.to_string())
    }

    fn unwritable(&self, run: RunId, name: &str, source: io::Error) -> ArtifactError {
        ArtifactError::Unwritable { name: name.to_owned(), folder: self.of(run), source }
    }
}

/// A folder for what one attempt makes. It is removed when this is dropped.
#[derive(Debug)]
pub struct Draft<'a> {
    artifacts: &'a ArtifactFolder,
    run: RunId,
    path: PathBuf,
}

impl Draft<'_> {
    /// The folder, as an absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps the file `name` of the draft as an artifact of the run, in place of an older one of that name. It
    /// blocks until it is on the disk.
    ///
    /// # Errors
    /// [`ArtifactError`] when it is too large or cannot be moved.
    pub fn keep(&self, name: &str) -> Result<Artifact, ArtifactError> {
        let Self { artifacts, run, path } = self;
        let unwritable = |source| artifacts.unwritable(*run, name, source);
        let draft = path.join(name);
        let size = fs::metadata(&draft).map_err(unwritable)?.len();
        if size > artifacts.limit {
            return Err(ArtifactError::TooLarge { name: name.to_owned(), size, limit: artifacts.limit });
        }
        let folder = artifacts.of(*run);
        let keep = || {
            File::open(&draft)?.sync_all()?;
            fs::rename(&draft, folder.join(name))?;
            File::open(&folder)?.sync_all()?;
            File::open(&artifacts.folder)?.sync_all()
        };
        keep().map_err(unwritable)?;
        Ok(Artifact::new(name, content_type(name), size))
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        // What stays is removed with the run.
        let _ = removed(&self.path);
    }
}

fn removed(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The media type by the end of a name.
fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, end)| end) {
        Some("html") => "text/html; charset=utf-8",
        Some("ipynb") => "application/x-ipynb+json",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn run() -> RunId {
        RunId::generate(SystemTime::now())
    }

    #[test]
    fn an_artifact_is_kept_until_its_run_is_discarded() {
        let folder = tempfile::tempdir().unwrap();
        let artifacts = ArtifactFolder::new(folder.path().join("artifacts"));
        let (run, other) = (run(), run());
        let kept = artifacts.write(run, 1, "page.html", b"one").unwrap();
        assert_eq!((kept.content_type.as_str(), kept.size), ("text/html; charset=utf-8", 3));
        artifacts.write(run, 2, "page.html", b"two").unwrap();
        let Some(ArtifactContent::File { path, .. }) = artifacts.content(run, "page.html").unwrap() else {
            panic!("no file")
        };
        assert_eq!(fs::read(path).unwrap(), b"two");
        for name in
            ["../page.html", "./page.html", ".", "..", "", "/etc/passwd", ".attempt-1", "other", "a\0"]
        {
            assert!(artifacts.content(run, name).unwrap().is_none(), "{name}");
        }
        assert!(artifacts.content(other, "page.html").unwrap().is_none());
        artifacts.discard(&[other, run]).unwrap();
        artifacts.discard(&[run]).unwrap();
        assert_eq!(fs::read_dir(folder.path().join("artifacts")).unwrap().count(), 0);
    }

    #[test]
    fn a_draft_starts_empty_and_goes_with_what_was_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let artifacts = ArtifactFolder::new(folder.path());
        let run = run();
        let draft = artifacts.draft(run, 1).unwrap();
        fs::write(draft.path().join("left"), "over").unwrap();
        std::mem::forget(draft);
        let draft = artifacts.draft(run, 1).unwrap();
        assert_eq!(fs::read_dir(draft.path()).unwrap().count(), 0);
        drop(draft);
        assert_eq!(fs::read_dir(folder.path().join(run.to_string())).unwrap().count(), 0);
    }

    #[test]
    fn an_artifact_that_is_too_large_is_refused_for_good() {
        let folder = tempfile::tempdir().unwrap();
        let artifacts = ArtifactFolder::new(folder.path()).with_limit(3);
        let run = run();
        artifacts.write(run, 1, "a.html", b"123").unwrap();
        let error = artifacts.write(run, 1, "b.html", b"1234").unwrap_err();
        assert!(!error.is_retryable());
        assert_eq!(error.to_string(), "the artifact b.html has 4 bytes, and at most 3 are kept");
        assert!(artifacts.content(run, "b.html").unwrap().is_none());
    }
}
