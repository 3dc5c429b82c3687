//! What an executor reports while it works: kept in bounded memory until the worker passes it on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::masking::Mask;
use crate::run::{Progress, shortened};

/// How much of the log is kept until it is passed on, in bytes: as much as a store keeps of it.
const PENDING_BYTES: usize = 256 * 1024;
/// The longest log line, in bytes.
const LINE_BYTES: usize = 64 * 1024;

/// Reports the progress and log lines of one attempt, from wherever the work is done.
///
/// Reporting never blocks. When lines come faster than they can be stored, the oldest are left out and the log
/// says how much is missing.
#[derive(Debug, Clone)]
pub struct Reporter(Option<Arc<Reports>>);

impl Reporter {
    pub(super) fn new(reports: Option<Arc<Reports>>) -> Self {
        Self(reports)
    }

    /// As [`RunContext::progress`](super::RunContext::progress).
    pub fn progress(&self, fraction: f64, message: impl Into<String>) {
        if let Some(reports) = &self.0 {
            let message = Some(reports.mask.text(message.into())).filter(|text| !text.is_empty());
            reports.pending().progress = Some(Progress::new(fraction, message));
            reports.arrived.notify_one();
        }
    }

    /// As [`RunContext::log`](super::RunContext::log).
    pub fn log(&self, line: impl Into<String>) {
        if let Some(reports) = &self.0 {
            let mut line = line.into();
            line.truncate(line.trim_end_matches(['\r', '\n']).len());
            let line = reports.mask.text(line);
            reports.pending().log(line);
            reports.arrived.notify_one();
        }
    }
}

/// The reports of one attempt that were not passed on yet, with its run's secret values masked.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    mask: Mask,
    pending: Mutex<Pending>,
    arrived: Notify,
}

/// Reports to pass on.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    pub(crate) progress: Option<Progress>,
    pub(crate) lines: String,
    left_out: u64,
}

impl Reports {
    pub(crate) fn new(mask: Mask) -> Self {
        Self { mask, ..Self::default() }
    }

    /// What masks the run's secret values.
    pub(crate) fn mask(&self) -> &Mask {
        &self.mask
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something was reported. Cancel safe.
    pub(crate) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Whether all that was reported has been taken.
    pub(crate) fn are_taken(&self) -> bool {
        let pending = self.pending();
        pending.progress.is_none() && pending.lines.is_empty() && pending.left_out == 0
    }

    /// Takes what was reported so far.
    pub(crate) fn take(&self) -> Pending {
        let mut taken = std::mem::take(&mut *self.pending());
        taken.cut(PENDING_BYTES);
        // Once more as a whole: a value may have come line by line, with lines too short to be masked alone.
        taken.lines = self.mask.text(taken.lines);
        if taken.left_out > 0 {
            taken.lines.insert_str(0, &format!("[{} bytes of log left out here]\n", taken.left_out));
        }
        taken
    }
}

impl Pending {
    fn log(&mut self, line: String) {
        self.lines.push_str(&shortened(line, LINE_BYTES));
        self.lines.push('\n');
        // Cutting only at twice the bound makes the cost of each line a constant.
        if self.lines.len() > 2 * PENDING_BYTES {
            self.cut(PENDING_BYTES);
        }
    }

    /// Leaves out the oldest lines beyond `bytes`.
    fn cut(&mut self, bytes: usize) {
        let excess = self.lines.len().saturating_sub(bytes);
        if excess > 0 {
            let from = self.lines.ceil_char_boundary(excess);
            let end = self.lines[from..].find('\n').map_or(self.lines.len(), |index| from + index + 1);
            self.lines.drain(..end);
            self.left_out += end as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_kept_in_order_and_the_last_progress_wins() {
        let reports = Arc::new(Reports::default());
        let reporter = Reporter::new(Some(reports.clone()));
        reporter.log("one");
        reporter.log("two\n");
        reporter.log("");
        reporter.progress(0.1, "a");
        reporter.progress(7.0, "");
        let taken = reports.take();
        assert_eq!(taken.lines, "one\ntwo\n\n");
        assert_eq!(taken.progress, Some(Progress::new(1.0, None)));
        assert!(reports.take().lines.is_empty());
    }

    #[test]
    fn a_flood_of_lines_stays_bounded_and_says_what_is_missing() {
        let reports = Arc::new(Reports::default());
        let reporter = Reporter::new(Some(reports.clone()));
        for number in 0..100_000 {
            reporter.log(format!("line {number:020}"));
            assert!(reports.pending().lines.len() <= 2 * PENDING_BYTES);
        }
        let taken = reports.take().lines;
        assert!(taken.starts_with('[') && taken.contains("bytes of log left out"));
        assert!(taken.len() <= PENDING_BYTES + 100);
        assert!(taken.ends_with("line 00000000000000099999\n"));
    }
}
