//! Decodes percent-encoding (RFC 3986, section 2.1), and `+` for a blank as in forms, byte by byte.

use super::escapes::Decoded;

/// Upper bound on the input that decodes to one byte, in bytes: about twenty nested encodings.
const LONGEST: u64 = 64;

/// Decodes percent-encoding until nothing encoded is left.
///
/// Two encoded bytes never overlap, so the result does not depend on the order of decoding.
/// So a text and the same text with any of its bytes encoded, even several times, decode to the same bytes.
/// `+` and a blank both decode to a blank.
#[derive(Debug, Default, Clone)]
pub(super) struct Percents {
    /// Bytes that may become an encoded byte: percent signs, each with or without its first digit.
    open: Vec<Decoded>,
}

impl Percents {
    /// Takes one byte, and passes on the decoded bytes.
    pub(super) fn take(&mut self, mut read: Decoded, pass_on: &mut impl FnMut(Decoded)) {
        loop {
            match (self.open.as_slice(), digit(read.byte)) {
                _ if read.byte == b'%' => break,
                ([.., percent, high], Some(low)) => {
                    let Some(high) = digit(high.byte) else { break };
                    read = Decoded { byte: high << 4 | low, start: percent.start, end: read.end };
                    self.open.truncate(self.open.len() - 2);
                }
                ([_], Some(_)) => break,
                _ => {
                    self.finish(pass_on);
                    pass_on(with_blank(read));
                    return;
                }
            }
        }
        self.open.push(read);
        if self.open().is_some_and(|start| read.end - start > LONGEST) {
            self.finish(pass_on);
        }
    }

    /// Passes on the open bytes as they are.
    pub(super) fn finish(&mut self, pass_on: &mut impl FnMut(Decoded)) {
        self.open.drain(..).for_each(pass_on);
    }

    /// Returns the offset at which a possible encoded byte begins.
    pub(super) fn open(&self) -> Option<u64> {
        self.open.first().map(|first| first.start)
    }

    pub(super) fn copy_from(&mut self, other: &Self) {
        self.open.clone_from(&other.open);
    }
}

/// Returns a text as [`Percents`] decodes it.
pub(super) fn read(text: &[u8]) -> Vec<u8> {
    let (mut percents, mut read) = (Percents::default(), Vec::with_capacity(text.len()));
    let mut pass_on = |decoded: Decoded| read.push(decoded.byte);
    for (byte, start) in text.iter().zip(0..) {
        percents.take(Decoded { byte: *byte, start, end: start + 1 }, &mut pass_on);
    }
    percents.finish(&mut pass_on);
    read
}

fn with_blank(read: Decoded) -> Decoded {
    if read.byte == b'+' { Decoded { byte: b' ', ..read } } else { read }
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}
