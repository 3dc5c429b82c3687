//! Reports of a working executor, kept in bounded memory until the worker passes them on.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::masking::{Masker, MaskingStream};
use crate::run::{Artifact, Progress};

/// Upper bound on the log kept until it is passed on, in bytes: as much as a store keeps.
const PENDING_BYTES: usize = 256 * 1024;
/// Upper bound on a log line, in bytes.
const LINE_BYTES: usize = 64 * 1024;

/// Reports the progress and log lines of one attempt, from any task or thread.
///
/// Reporting never blocks. If lines arrive faster than they can be stored, the oldest are dropped, and the
/// log says how much is missing.
#[derive(Debug, Clone)]
pub struct Reporter(Option<Arc<Reports>>);

impl Reporter {
    pub(super) fn new(reports: Option<Arc<Reports>>) -> Self {
        Self(reports)
    }

    /// Reports progress, like [`RunContext::progress`](super::RunContext::progress).
    pub fn progress(&self, fraction: f64, message: impl Into<String>) {
        if let Some(reports) = &self.0 {
            let message = Some(reports.masker.mask(message)).filter(|text| !text.is_empty());
            let mut reported = reports.reported.lock();
            reported.pending.progress = Some(Progress::new(fraction, message));
            reports.tell(reported);
        }
    }

    /// Adds a log line, like [`RunContext::log`](super::RunContext::log).
    pub fn log(&self, line: impl Into<String>) {
        if let Some(reports) = &self.0 {
            let mut line = line.into();
            line.truncate(line.trim_end_matches(['\r', '\n']).len());
            line.push('\n');
            let mut reported = reports.reported.lock();
            reported.log(line.as_bytes());
            reports.tell(reported);
        }
    }
}

/// Reports of one attempt that were not passed on yet, with secret values masked.
pub(crate) struct Reports {
    masker: Masker,
    reported: Mutex<Reported>,
    arrived: Notify,
    /// Held while reports are passed on, so they stay in order.
    turn: tokio::sync::Mutex<()>,
}

/// State of the log between the executor and the worker: it is masked, then cut.
struct Reported {
    stream: MaskingStream,
    /// Length of the unfinished line in bytes. `is_cut` says whether it was cut.
    line_bytes: usize,
    is_cut: bool,
    pending: Pending,
    artifacts: Vec<Artifact>,
    /// Callback of the first report.
    on_first: Option<OnFirst>,
    /// True if anything was ever reported.
    has_begun: bool,
    is_finished: bool,
}

type OnFirst = Box<dyn FnOnce() + Send>;

/// Reports to be passed on.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    pub(crate) progress: Option<Progress>,
    pub(crate) lines: String,
    left_out: u64,
}

impl std::fmt::Debug for Reports {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Reports").finish_non_exhaustive()
    }
}

impl Reports {
    pub(crate) fn new(masker: Masker) -> Self {
        let stream = masker.stream();
        let (pending, artifacts) = (Pending::default(), Vec::new());
        let reported = Reported {
            stream,
            line_bytes: 0,
            is_cut: false,
            pending,
            artifacts,
            on_first: None,
            has_begun: false,
            is_finished: false,
        };
        let (turn, arrived) = (tokio::sync::Mutex::default(), Notify::new());
        Self { masker, reported: Mutex::new(reported), arrived, turn }
    }

    /// Returns the masker of the run's secret values.
    pub(crate) fn masker(&self) -> &Masker {
        &self.masker
    }

    /// Sets the callback of the first report.
    pub(crate) fn on_first(&self, call: impl FnOnce() + Send + 'static) {
        self.reported.lock().on_first = Some(Box::new(call));
    }

    /// Wakes the task that passes reports on, and calls the callback of the first report.
    fn tell(&self, mut reported: MutexGuard<'_, Reported>) {
        reported.has_begun = true;
        let first = reported.on_first.take();
        drop(reported);
        self.arrived.notify_one();
        if let Some(first) = first {
            first();
        }
    }

    /// Waits for the turn to pass reports on.
    pub(crate) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Waits until there is a report, or until none can follow. Cancel safe.
    pub(crate) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Records an artifact, in place of an earlier one of the same name.
    pub(crate) fn leave(&self, artifact: Artifact) {
        let artifacts = &mut self.reported.lock().artifacts;
        artifacts.retain(|own| own.name != artifact.name);
        artifacts.push(artifact);
    }

    /// Returns the artifacts of an attempt: those it left on the way, and those of its output.
    pub(crate) fn artifacts(&self, output: Vec<Artifact>) -> Vec<Artifact> {
        let left = std::mem::take(&mut self.reported.lock().artifacts);
        let is_other = |own: &Artifact| output.iter().all(|other| other.name != own.name);
        let left: Vec<Artifact> = left.into_iter().filter(is_other).collect();
        left.into_iter().chain(output).collect()
    }

    /// Releases the text that the mask holds back, since no more lines follow. Returns whether nothing was
    /// ever reported.
    pub(crate) fn finish(&self) -> bool {
        let mut reported = self.reported.lock();
        let rest = reported.stream.finish();
        reported.add(&rest);
        reported.is_finished = true;
        reported.on_first = None;
        let is_silent = !reported.has_begun;
        drop(reported);
        self.arrived.notify_one();
        is_silent
    }

    /// Returns whether no more reports can follow.
    pub(crate) fn is_finished(&self) -> bool {
        self.reported.lock().is_finished
    }

    /// Puts back what could not be passed on, before the reports that have arrived since.
    pub(crate) fn put_back(&self, taken: Pending) {
        let mut reported = self.reported.lock();
        let pending = &mut reported.pending;
        pending.lines.insert_str(0, &taken.lines);
        pending.progress = pending.progress.take().or(taken.progress);
        pending.cut(PENDING_BYTES);
    }

    /// Takes the reports so far, except the possible beginning of a secret value.
    pub(crate) fn take(&self) -> Pending {
        let mut taken = std::mem::take(&mut self.reported.lock().pending);
        taken.cut(PENDING_BYTES);
        if taken.left_out > 0 {
            taken.lines.insert_str(0, &format!("[{} bytes of log left out here]\n", taken.left_out));
        }
        taken
    }
}

impl Reported {
    fn log(&mut self, line: &[u8]) {
        let masked = self.stream.push(line);
        self.add(&masked);
    }

    /// Adds masked text, with lines cut to their bound.
    fn add(&mut self, masked: &[u8]) {
        let masked = String::from_utf8_lossy(masked);
        let lines = &mut self.pending.lines;
        for part in masked.split_inclusive('\n') {
            let line = part.strip_suffix('\n').unwrap_or(part);
            let room = LINE_BYTES.saturating_sub(self.line_bytes);
            self.line_bytes += line.len();
            if line.len() <= room {
                lines.push_str(line);
            } else if !self.is_cut {
                lines.push_str(&line[..line.floor_char_boundary(room)]);
                lines.push('…');
                self.is_cut = true;
            }
            if line.len() < part.len() {
                lines.push('\n');
                (self.line_bytes, self.is_cut) = (0, false);
            }
        }
        // Cutting only at twice the bound makes the amortized cost of each line constant.
        if lines.len() > 2 * PENDING_BYTES {
            self.pending.cut(PENDING_BYTES);
        }
    }
}

impl Pending {
    /// Drops the oldest lines beyond `bytes`.
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
        let reports = Arc::new(Reports::new(Masker::default()));
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
        let reports = Arc::new(Reports::new(Masker::default()));
        let reporter = Reporter::new(Some(reports.clone()));
        for number in 0..100_000 {
            reporter.log(format!("line {number:020}"));
            assert!(reports.reported.lock().pending.lines.len() <= 2 * PENDING_BYTES);
        }
        let taken = reports.take().lines;
        assert!(taken.starts_with('[') && taken.contains("bytes of log left out"));
        assert!(taken.len() <= PENDING_BYTES + 100);
        assert!(taken.ends_with("line 00000000000000099999\n"));
    }

    #[test]
    fn a_line_is_masked_before_it_is_cut_wherever_the_cut_falls() {
        let canary = "canary-5f1c2a-9b8e7d";
        for before in LINE_BYTES - canary.len() - 2..=LINE_BYTES + 2 {
            let reports = Arc::new(Reports::new(Masker::new([canary.to_owned()])));
            Reporter::new(Some(reports.clone())).log("x".repeat(before) + canary + "y");
            let lines = reports.take().lines;
            assert!(!lines.contains("can") && lines.len() <= LINE_BYTES + 4, "{before}");
        }
    }

    #[test]
    fn a_secret_of_several_lines_is_masked_as_a_whole_also_over_two_takes() {
        let reports = Arc::new(Reports::new(Masker::new(["a-b\nc-d".to_owned()])));
        let reporter = Reporter::new(Some(reports.clone()));
        reporter.log("x a-b");
        let first = reports.take().lines;
        reporter.log("c-d y");
        reporter.log("x a-b");
        let second = reports.take().lines;
        reports.finish();
        assert_eq!([first, second, reports.take().lines], ["x ", "*** y\nx ", "a-b\n"]);
    }
}
