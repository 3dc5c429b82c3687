//! Folder that keeps the artifacts of runs.

mod files;

use std::future::Future;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, MutexGuard};
use webhook_core::executor::ArtifactContent;
use webhook_core::id::RunId;
use webhook_core::run::Artifact;

use files::Folder;

/// Default of the upper bound on one artifact, in bytes.
const DEFAULT_LIMIT: u64 = 32 * 1024 * 1024;
/// Default of the upper bound on all artifacts together, in bytes.
const DEFAULT_QUOTA: u64 = 10 * 1024 * 1024 * 1024;
/// Prefix of the names of drafts.
const DRAFT: &str = ".attempt-";
/// Number of folders that a sweep reads before it asks which of their runs are known.
const SWEEP_BATCH: usize = 200;

/// Keeps the artifacts of runs, each run's in a folder named by its id.
///
/// An artifact appears in one step and survives a power loss, as does the run's record, which names it. It is
/// kept until [`discard`](Self::discard), which an executor calls when the record is pruned.
///
/// Only the user of this process can read the artifacts, whatever the umask, and no symbolic link is
/// followed. Clones share one count of the size.
#[derive(Debug, Clone)]
pub struct ArtifactFolder {
    folder: PathBuf,
    limit: u64,
    quota: u64,
    /// Size of all artifacts in bytes, once it was counted.
    total: Arc<Mutex<Option<u64>>>,
    /// Held while a draft and the folder of its run are created or removed.
    drafts: Arc<Mutex<()>>,
    /// Time before which a draft is that of a process that was killed.
    since: SystemTime,
}

/// Error of keeping an artifact. The messages name no path, since callers see them; the log does.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArtifactError {
    /// The folder cannot be written. Another attempt may help.
    #[error("{} cannot be written", shown(.name))]
    Unwritable {
        /// Name of the artifact; empty for the folder itself.
        name: String,
        /// Folder of the run.
        folder: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The artifact is larger than the folder allows. Another attempt will not help.
    #[error("the artifact {name} has {size} bytes, and at most {limit} are kept")]
    TooLarge {
        /// Name of the artifact.
        name: String,
        /// Size of the artifact, in bytes.
        size: u64,
        /// Upper bound on one artifact, in bytes.
        limit: u64,
    },
    /// The artifacts of all runs reach the quota. Pruning runs helps, and so does a larger quota.
    #[error(
        "the work is done, but the artifact {name} with {size} bytes is not kept: the artifacts of all runs may take \
         {quota} bytes, and {total} are taken"
    )]
    QuotaExceeded {
        /// Name of the artifact.
        name: String,
        /// Size of the artifact, in bytes.
        size: u64,
        /// Size of the artifacts of all runs, in bytes.
        total: u64,
        /// Upper bound on the artifacts of all runs, in bytes.
        quota: u64,
    },
}

fn shown(name: &str) -> String {
    if name.is_empty() { "the folder of artifacts".to_owned() } else { format!("the artifact {name}") }
}

impl ArtifactError {
    /// Returns whether another attempt may help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unwritable { .. })
    }
}

impl ArtifactFolder {
    /// Keeps artifacts below `folder`, which is created when needed. By default one may have 32 MiB, and all
    /// together 10 GiB.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        // File times lag behind the clock by some milliseconds.
        let since = SystemTime::now() - Duration::from_secs(1);
        let (limit, quota) = (DEFAULT_LIMIT, DEFAULT_QUOTA);
        Self { folder: folder.into(), limit, quota, total: Arc::default(), drafts: Arc::default(), since }
    }

    /// Sets the upper bound on one artifact, in bytes.
    #[must_use]
    pub fn with_limit(mut self, bytes: u64) -> Self {
        self.limit = bytes;
        self
    }

    /// Sets the upper bound on the artifacts of all runs together, in bytes. Drafts do not count.
    #[must_use]
    pub fn with_quota(mut self, bytes: u64) -> Self {
        self.quota = bytes;
        self
    }

    /// Keeps `bytes` as the artifact `name`. Blocks until they are on disk.
    ///
    /// Fails with [`ArtifactError`] when they exceed a bound or cannot be written.
    pub fn write(
        &self,
        run: RunId,
        attempt: u32,
        name: &str,
        bytes: &[u8],
    ) -> Result<Artifact, ArtifactError> {
        let draft = self.draft(run, attempt)?;
        let written = draft.folder.create(name).and_then(|mut file| file.write_all(bytes));
        written.map_err(|source| self.unwritable(run, name, source))?;
        draft.keep(name)
    }

    /// Creates an empty folder for the files of an attempt, which is removed when the draft is dropped.
    ///
    /// Each attempt has its own draft, since an attempt that lost its lease may still be writing.
    ///
    /// Fails with [`ArtifactError`] when the folder cannot be created.
    pub fn draft(&self, run: RunId, attempt: u32) -> Result<Draft<'_>, ArtifactError> {
        let name = format!("{DRAFT}{attempt}");
        let path = self.folder.join(run.to_string()).join(&name);
        let make = || {
            let _drafts = self.drafts.lock();
            let own = Folder::make_all(&self.folder)?.make(&run.to_string())?;
            // A server that was killed leaves the draft of its attempt behind.
            files::remove(&path)?;
            Ok((own.make(&name)?, path.canonicalize()?))
        };
        let (folder, path) = make().map_err(|source| self.unwritable(run, "", source))?;
        Ok(Draft { artifacts: self, run, path, folder })
    }

    /// Returns the artifact `name` of a run, or `None` if it does not exist. `name` may be any text: it is
    /// not used as a path.
    ///
    /// Fails with the error of the operating system when it cannot be read now.
    pub fn content(&self, run: RunId, name: &str) -> io::Result<Option<ArtifactContent>> {
        // Drafts begin with a dot.
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', '\0']) {
            return Ok(None);
        }
        let open = || Folder::open(&self.folder)?.enter(&run.to_string())?.open_file(name);
        match open() {
            Ok(file) => Ok(Some(ArtifactContent::opened(content_type(name), file))),
            Err(error) if files::is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes all artifacts of these runs. Runs without artifacts are ignored.
    ///
    /// Fails with the error of the operating system for the first artifact that cannot be removed.
    pub fn discard(&self, runs: &[RunId]) -> io::Result<()> {
        let mut total = self.total.lock();
        for run in runs {
            let own = self.folder.join(run.to_string());
            let size = files::size(&own)?;
            files::remove(&own)?;
            *total = total.map(|total| total.saturating_sub(size));
        }
        Ok(())
    }

    /// Removes the artifacts of all unknown runs, and returns the number of these runs.
    ///
    /// They remain when a process ends between the removal of a run's record and that of its artifacts. The
    /// drafts of a killed process are removed too.
    ///
    /// A host calls this once after its start, in the background. It also counts the size of all artifacts,
    /// which otherwise delays the first artifact.
    ///
    /// Fails with the error of the operating system when the folder cannot be read, or the error of
    /// `is_known`.
    ///
    /// # Cancel safety
    /// A dropped call leaves the folders that it has not reached.
    pub async fn sweep<F, K, E>(&self, is_known: F) -> Result<usize, E>
    where
        F: Fn(RunId) -> K + Send,
        K: Future<Output = Result<bool, E>> + Send,
        E: From<io::Error>,
    {
        let own = self.clone();
        blocking(move || own.count().map(drop)).await?;
        let folder = self.folder.clone();
        let mut names = blocking(move || files::names(&folder)).await?;
        let mut removed = 0;
        loop {
            let batch: Vec<RunId>;
            (names, batch) = blocking(move || {
                let batch = names.by_ref().filter_map(|name| name.parse().ok()).take(SWEEP_BATCH).collect();
                Ok((names, batch))
            })
            .await?;
            let is_last = batch.len() < SWEEP_BATCH;
            let (mut known, mut unknown) = (Vec::new(), Vec::new());
            for run in batch {
                let group = if is_known(run).await? { &mut known } else { &mut unknown };
                group.push(run);
            }
            removed += unknown.len();
            let own = self.clone();
            blocking(move || {
                own.discard(&unknown)?;
                known.into_iter().try_for_each(|run| own.discard_old_drafts(run))
            })
            .await?;
            if is_last {
                return Ok(removed);
            }
        }
    }

    fn discard_old_drafts(&self, run: RunId) -> io::Result<()> {
        let _drafts = self.drafts.lock();
        let own = self.folder.join(run.to_string());
        for name in files::names(&own)?.filter(|name| name.starts_with(DRAFT)) {
            let draft = own.join(name);
            if std::fs::symlink_metadata(&draft)?.modified()? < self.since {
                files::remove(&draft)?;
            }
        }
        // A folder with artifacts is not empty, and stays.
        let _ = std::fs::remove_dir(own);
        Ok(())
    }

    /// Returns the size of all artifacts, counted if it is not known yet. It cannot change while the guard is
    /// held.
    fn count(&self) -> io::Result<MutexGuard<'_, Option<u64>>> {
        let mut total = self.total.lock();
        if total.is_none() {
            let mut sum = 0;
            for name in files::names(&self.folder)? {
                sum += files::size(&self.folder.join(name))?;
            }
            *total = Some(sum);
        }
        Ok(total)
    }

    fn unwritable(&self, run: RunId, name: &str, source: io::Error) -> ArtifactError {
        let folder = self.folder.join(run.to_string());
        let error = &source as &dyn std::error::Error;
        tracing::error!(folder = %folder.display(), artifact = name, error, "an artifact cannot be written");
        ArtifactError::Unwritable { name: name.to_owned(), folder, source }
    }
}

/// Runs blocking work on a thread for such work.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|panic| Err(io::Error::other(panic)))
}

/// Folder for the files of one attempt. It is removed on drop.
#[derive(Debug)]
pub struct Draft<'a> {
    artifacts: &'a ArtifactFolder,
    run: RunId,
    path: PathBuf,
    folder: Folder,
}

impl Draft<'_> {
    /// Returns the absolute path of the folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether the draft contains a file `name`.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.folder.open_file(name).is_ok()
    }

    /// Keeps the file `name` of the draft as an artifact of the run, in place of an earlier one of that name.
    /// Blocks until it is on disk.
    ///
    /// Fails with [`ArtifactError`] when it is too large, is not a regular file with one name, or cannot be
    /// moved, or when the quota is reached.
    pub fn keep(&self, name: &str) -> Result<Artifact, ArtifactError> {
        let Self { artifacts, run, .. } = self;
        let unwritable = |source| artifacts.unwritable(*run, name, source);
        let file = self.folder.open_file(name).map_err(unwritable)?;
        let size = file.metadata().map_err(unwritable)?.len();
        if size > artifacts.limit {
            return Err(ArtifactError::TooLarge { name: name.to_owned(), size, limit: artifacts.limit });
        }
        let mut total = artifacts.count().map_err(unwritable)?;
        let all = Folder::open(&artifacts.folder).map_err(unwritable)?;
        let own = all.enter(&run.to_string()).map_err(unwritable)?;
        let replaced = own.open_file(name).and_then(|file| file.metadata()).map_or(0, |old| old.len());
        let kept = total.unwrap_or_default().saturating_sub(replaced);
        if kept.saturating_add(size) > artifacts.quota {
            let (name, quota) = (name.to_owned(), artifacts.quota);
            return Err(ArtifactError::QuotaExceeded { name, size, total: kept, quota });
        }
        let keep = || {
            files::make_private(&file)?;
            file.sync_all()?;
            self.folder.move_to(name, &own)?;
            own.sync()?;
            all.sync()
        };
        keep().map_err(unwritable)?;
        *total = Some(kept + size);
        Ok(Artifact::new(name, content_type(name), size))
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        let _drafts = self.artifacts.drafts.lock();
        // A file that cannot be removed here is removed with the run.
        let _ = files::remove(&self.path);
        if let Some(own) = self.path.parent() {
            // The folder of an attempt without artifacts is removed; one that is not empty stays.
            let _ = std::fs::remove_dir(own);
        }
    }
}

/// Returns the media type for the end of a name.
fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, end)| end) {
        Some("html") => "text/html; charset=utf-8",
        Some("ipynb") => "application/x-ipynb+json",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests;
