//! A folder that keeps the artifacts of runs.

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

/// The largest artifact by default, in bytes.
const DEFAULT_LIMIT: u64 = 32 * 1024 * 1024;
/// What all artifacts may take together by default, in bytes.
const DEFAULT_QUOTA: u64 = 10 * 1024 * 1024 * 1024;
/// How the names of drafts begin.
const DRAFT: &str = ".attempt-";
/// How many folders a sweep looks at before it asks which of their runs are known.
const SWEEP_BATCH: usize = 200;

/// Keeps the artifacts of runs, each run's in a folder of its own that is named by its id.
///
/// An artifact is there in one step and stays there after a power loss: the record of the run, which names it, is as
/// durable. They are kept until [`discard`](Self::discard), which an executor calls when the run's record is pruned.
///
/// Only the user of this process can read them, whatever the umask, and no symbolic link is followed. Clones share
/// one account of what is kept.
#[derive(Debug, Clone)]
pub struct ArtifactFolder {
    folder: PathBuf,
    limit: u64,
    quota: u64,
    /// What all artifacts take, in bytes, once it was counted.
    total: Arc<Mutex<Option<u64>>>,
    /// Held while a draft and the folder of its run are made or removed.
    drafts: Arc<Mutex<()>>,
    /// Drafts of before are those of a process that was killed.
    since: SystemTime,
}

/// An artifact cannot be kept. The messages name no path, since callers see them; the log does.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArtifactError {
    /// The folder cannot be written to. Another attempt may help.
    #[error("{} cannot be written", shown(.name))]
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
    /// The artifacts of all runs take as much as they may. It helps to prune runs, or to allow more.
    #[error(
        "the work is done, but the artifact {name} with {size} bytes is not kept: the artifacts of all runs may take \
         {quota} bytes, and {total} are taken"
    )]
    QuotaExceeded {
        /// The name of the artifact.
        name: String,
        /// Its size in bytes.
        size: u64,
        /// What the artifacts of all runs take, in bytes.
        total: u64,
        /// What they may take, in bytes.
        quota: u64,
    },
}

fn shown(name: &str) -> String {
    if name.is_empty() { "the folder of artifacts".to_owned() } else { format!("the artifact {name}") }
}

impl ArtifactError {
    /// Whether another attempt may help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unwritable { .. })
    }
}

impl ArtifactFolder {
    /// Keeps artifacts below `folder`, which is made when it is needed. The largest may have 32 MiB, and all of them
    /// 10 GiB.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        // The times of files lag behind by some milliseconds.
        let since = SystemTime::now() - Duration::from_secs(1);
        let (limit, quota) = (DEFAULT_LIMIT, DEFAULT_QUOTA);
        Self { folder: folder.into(), limit, quota, total: Arc::default(), drafts: Arc::default(), since }
    }

    /// Sets how large an artifact may be, in bytes.
    #[must_use]
    pub fn with_limit(mut self, bytes: u64) -> Self {
        self.limit = bytes;
        self
    }

    /// Sets what the artifacts of all runs may take together, in bytes. What drafts take does not count.
    #[must_use]
    pub fn with_quota(mut self, bytes: u64) -> Self {
        self.quota = bytes;
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
        let written = draft.folder.create(name).and_then(|mut file| file.write_all(bytes));
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

    /// The artifact `name` of a run, or `None` when there is none. `name` may be any text: it is not taken as a path.
    ///
    /// # Errors
    /// What the system says when it cannot be read now.
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

    /// Removes all artifacts of these runs. Runs without artifacts are passed over.
    ///
    /// # Errors
    /// What the system says of the first that cannot be removed.
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

    /// Removes the artifacts of all runs that are not known, and returns of how many.
    ///
    /// They are left behind when a process ends between the removal of a run's record and that of its artifacts. The
    /// drafts of a process that was killed go as well. A host calls this once after its start, in the background: it
    /// also counts what is kept, which the first artifact would wait for otherwise.
    ///
    /// # Errors
    /// What the system says when the folder cannot be read, and what `is_known` says.
    ///
    /// # Cancel safety
    /// What was not looked at when it is dropped is left.
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
        // One with artifacts stays.
        let _ = std::fs::remove_dir(own);
        Ok(())
    }

    /// Counts what is kept unless that is known, and keeps others from changing it while the guard is held.
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

/// Does what blocks on a thread for that.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|panic| Err(io::Error::other(panic)))
}

/// A folder for what one attempt makes. It is removed when this is dropped.
#[derive(Debug)]
pub struct Draft<'a> {
    artifacts: &'a ArtifactFolder,
    run: RunId,
    path: PathBuf,
    folder: Folder,
}

impl Draft<'_> {
    /// The folder, as an absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is a file `name` in the draft.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.folder.open_file(name).is_ok()
    }

    /// Keeps the file `name` of the draft as an artifact of the run, in place of an older one of that name. It
    /// blocks until it is on the disk.
    ///
    /// # Errors
    /// [`ArtifactError`] when it is too large, is no file of its own, or cannot be moved, or when too much is kept.
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
        // What stays is removed with the run.
        let _ = files::remove(&self.path);
        if let Some(own) = self.path.parent() {
            // An attempt that leaves nothing leaves no folder either: one that is not empty stays.
            let _ = std::fs::remove_dir(own);
        }
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
mod tests;
