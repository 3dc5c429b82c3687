//! One run's log: the newest lines, at offsets that count every byte ever appended.

use crate::store::{LOG_BYTES, LogPart};

#[derive(Debug, Default)]
pub(super) struct RunLog {
    /// The offset at which `text` starts.
    start: u64,
    text: String,
}

impl RunLog {
    pub(super) fn append(&mut self, text: &str) {
        self.text.push_str(text);
        // Cutting now and then costs less than moving everything with every line.
        if self.text.len() > 2 * LOG_BYTES {
            let surplus = surplus(&self.text);
            self.text.drain(..surplus);
            self.start += surplus as u64;
        }
    }

    pub(super) fn read(&self, offset: u64) -> LogPart {
        let asked = usize::try_from(offset.saturating_sub(self.start)).unwrap_or(usize::MAX);
        if asked > self.text.len() {
            return LogPart::new(offset, String::new());
        }
        let from = self.text.ceil_char_boundary(asked.max(surplus(&self.text)));
        LogPart::new(self.start + from as u64, self.text[from..].to_owned())
    }
}

/// How many of the oldest bytes go, so that at most [`LOG_BYTES`] stay: whole lines, and a part of the last line
/// only when it alone is longer.
fn surplus(text: &str) -> usize {
    let Some(excess) = text.len().checked_sub(LOG_BYTES).filter(|excess| *excess > 0) else { return 0 };
    let line_end = text.as_bytes()[excess - 1..].iter().position(|byte| *byte == b'\n');
    match line_end.map(|position| excess + position) {
        Some(cut) if cut < text.len() => cut,
        _ => text.ceil_char_boundary(excess),
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
