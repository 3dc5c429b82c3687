//! Splits the output of a command into lines.

/// Upper bound on a line, in bytes. A longer line is split.
const LINE_BYTES: usize = 64 * 1024;

/// A line, or a piece of a line that was too long.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) text: String,
    pub(crate) is_whole: bool,
}

/// Splits a stream of bytes into lines of bounded length.
#[derive(Debug, Default)]
pub(crate) struct LineCutter {
    partial: Vec<u8>,
    is_continued: bool,
}

impl LineCutter {
    /// Takes more bytes and passes on the lines that they complete.
    pub(crate) fn push(&mut self, bytes: &[u8], mut take: impl FnMut(Line)) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (mut text, is_end) = match part.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (part, false),
            };
            while self.partial.len() + text.len() > LINE_BYTES {
                let (fitting, rest) = text.split_at(LINE_BYTES - self.partial.len());
                self.partial.extend_from_slice(fitting);
                text = rest;
                let cut = self.partial.len() - incomplete_character(&self.partial);
                take(Line { text: lossy(&self.partial[..cut]), is_whole: false });
                self.partial.drain(..cut);
                self.is_continued = true;
            }
            self.partial.extend_from_slice(text);
            if is_end {
                take(self.end());
            }
        }
    }

    /// Passes on the text after the last line end, if there is any.
    pub(crate) fn finish(&mut self, mut take: impl FnMut(Line)) {
        if !self.partial.is_empty() {
            take(self.end());
        }
    }

    fn end(&mut self) -> Line {
        let text = self.partial.strip_suffix(b"\r").unwrap_or(&self.partial);
        let line = Line { text: lossy(text), is_whole: !self.is_continued };
        self.partial.clear();
        self.is_continued = false;
        line
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Returns the number of bytes at the end that begin a UTF-8 character (RFC 3629) without completing it.
fn incomplete_character(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let needed = match bytes[bytes.len() - back] {
            0x80..=0xbf => continue,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 1,
        };
        return if needed > back { back } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(pieces: &[&[u8]]) -> Vec<Line> {
        let mut cutter = LineCutter::default();
        let mut lines = Vec::new();
        for piece in pieces {
            cutter.push(piece, |line| lines.push(line));
            assert!(cutter.partial.len() <= LINE_BYTES);
        }
        cutter.finish(|line| lines.push(line));
        lines
    }

    fn texts(pieces: &[&[u8]]) -> Vec<String> {
        cut(pieces).into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn lines_are_the_same_however_the_bytes_arrive() {
        let bytes = "first\r\n\nzweite Größe 🚲\nlast".as_bytes();
        let whole = texts(&[bytes]);
        assert_eq!(whole, ["first", "", "zweite Größe 🚲", "last"]);
        for size in 1..bytes.len() {
            assert_eq!(texts(&bytes.chunks(size).collect::<Vec<_>>()), whole);
        }
    }

    #[test]
    fn invalid_utf8_is_replaced() {
        assert_eq!(texts(&[b"a\xff\xfeb\n\xc3"]), ["a\u{fffd}\u{fffd}b", "\u{fffd}"]);
    }

    #[test]
    fn a_long_line_is_cut_between_characters_and_nothing_is_lost() {
        for character in ["x", "ö", "€", "🚲"] {
            let line = character.repeat(3 * LINE_BYTES / character.len() + 7);
            let bytes = [b"~", line.as_bytes(), b"\nnext\n"].concat();
            let lines = cut(&bytes.chunks(1000).collect::<Vec<_>>());
            let (next, pieces) = lines.split_last().unwrap();
            assert_eq!(*next, Line { text: "next".to_owned(), is_whole: true });
            assert!(pieces.len() >= 4 && pieces.iter().all(|piece| !piece.is_whole));
            assert!(pieces.iter().all(|piece| piece.text.len() <= LINE_BYTES));
            let joined: String = pieces.iter().map(|piece| piece.text.as_str()).collect();
            assert_eq!(joined, format!("~{line}"));
        }
    }

    #[test]
    fn a_line_of_exactly_the_limit_is_whole() {
        let line = "x".repeat(LINE_BYTES);
        assert_eq!(cut(&[line.as_bytes(), b"\n"]), [Line { text: line.clone(), is_whole: true }]);
    }

    #[test]
    fn endless_bytes_that_are_no_characters_are_cut_too() {
        let pieces = cut(&[&vec![0x80; 3 * LINE_BYTES]]);
        assert_eq!(pieces.len(), 3);
    }
}
