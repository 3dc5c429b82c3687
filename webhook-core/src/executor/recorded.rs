//! Reports of an executor that a test calls by itself.

use std::sync::Arc;

use parking_lot::Mutex;

use super::report::Reports;
use crate::run::{Artifact, Progress};

/// Reports of one attempt that a test executes by itself, from [`RunContext::recorded`](super::RunContext::recorded).
///
/// Secret values are masked, as in the records of a run.
#[derive(Debug)]
pub struct RecordedReports {
    reports: Arc<Reports>,
    taken: Mutex<Taken>,
}

/// Reports that were taken so far.
#[derive(Debug, Default)]
struct Taken {
    log: String,
    progress: Option<Progress>,
    artifacts: Vec<Artifact>,
}

impl RecordedReports {
    pub(super) fn new(reports: Arc<Reports>) -> Self {
        Self { reports, taken: Mutex::default() }
    }

    /// Returns the log so far. Each line ends with a line feed.
    #[must_use]
    pub fn log(&self) -> String {
        self.taken(|taken| taken.log.clone())
    }

    /// Returns the last reported progress.
    #[must_use]
    pub fn progress(&self) -> Option<Progress> {
        self.taken(|taken| taken.progress.clone())
    }

    /// Returns the artifacts that were left on the way. Those of the output are not among them.
    #[must_use]
    pub fn artifacts(&self) -> Vec<Artifact> {
        self.taken(|taken| taken.artifacts.clone())
    }

    fn taken<T>(&self, read: impl FnOnce(&Taken) -> T) -> T {
        let mut taken = self.taken.lock();
        self.reports.finish();
        let pending = self.reports.take();
        taken.log.push_str(&pending.lines);
        if pending.progress.is_some() {
            taken.progress = pending.progress;
        }
        taken.artifacts = self.reports.artifacts(std::mem::take(&mut taken.artifacts));
        read(&taken)
    }
}
