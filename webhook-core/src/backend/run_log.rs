//! One run's log: the newest lines, at offsets that count every byte ever appended.

use crate::store::{LOG_BYTES, LogPart, log_surplus};

/// The newest lines of a run's log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunLog {
    /// Byte offset of `text` in the log, which counts all bytes ever appended.
    pub start: u64,
    /// The newest lines, at least those that are to be kept and at most twice as many.
    pub text: String,
}

impl RunLog {
    /// Makes a log of its fields, as they were stored.
    #[must_use]
    pub fn new(start: u64, text: String) -> Self {
        Self { start, text }
    }

    /// Appends lines, and drops the oldest ones now and then.
    pub fn append(&mut self, text: &str) {
        self.text.push_str(text);
        // Cutting now and then costs less than moving everything with every line.
        if self.text.len() > 2 * LOG_BYTES {
            let surplus = log_surplus(&self.text);
            self.text.drain(..surplus);
            self.start += surplus as u64;
        }
    }

    /// Returns the kept lines from an offset on.
    #[must_use]
    pub fn read(&self, offset: u64) -> LogPart {
        LogPart::of_log(self.start, &self.text, offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_lines_go_and_offsets_stay_valid() {
        let mut log = RunLog::default();
        let line = format!("{}\n", "x".repeat(999));
        let lines = 1_000;
        (0..lines).for_each(|_| log.append(&line));
        let part = log.read(0);
        assert_eq!(part.end(), lines * 1_000);
        assert_eq!(part.text.len(), LOG_BYTES / 1_000 * 1_000);
        assert_eq!(part.offset % 1_000, 0);
        assert_eq!(log.read(part.offset + 1_000).text.len(), part.text.len() - 1_000);
        assert_eq!(log.read(part.end()), LogPart::new(part.end(), String::new()));
        assert_eq!(log.read(u64::MAX).text, "");
    }

    #[test]
    fn a_line_that_alone_is_too_long_is_cut_at_a_character() {
        let mut log = RunLog::default();
        log.append("first\n");
        log.append(&format!("{}\n", "é".repeat(LOG_BYTES)));
        let part = log.read(0);
        assert!(part.text.len() <= LOG_BYTES && part.text.len() > LOG_BYTES - 4);
        assert_eq!(part.end(), 6 + 2 * LOG_BYTES as u64 + 1);
        assert!(part.text.ends_with("é\n"));
    }

    #[test]
    fn an_offset_inside_a_character_moves_to_the_next() {
        let mut log = RunLog::default();
        log.append("é\n");
        assert_eq!(log.read(1), LogPart::new(2, "\n".to_owned()));
    }
}
