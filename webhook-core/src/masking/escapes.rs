//! Decodes the escapes of JSON, Python, Rust, shells and HTML in a text, in any mixture.

use std::collections::VecDeque;

/// Upper bound on an escape, in bytes: four escaped bytes such as `\xf0\x9f\x98\x80`.
const LONGEST: usize = 16;
/// Length of an escaped byte, `\xc3` or `\303`.
const BYTE: usize = 4;

/// A decoded byte, with the offsets where its spelling in the input begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decoded {
    pub(super) byte: u8,
    pub(super) start: u64,
    pub(super) end: u64,
}

/// Returns whether a byte begins an escape.
pub(super) fn begins(byte: u8) -> bool {
    matches!(byte, b'\\' | b'&' | b'\'')
}

/// Decodes escapes byte by byte. A byte outside of escapes decodes to itself.
#[derive(Clone, Default)]
pub(super) struct Escapes {
    /// Bytes that may become an escape.
    open: Vec<Decoded>,
    ready: VecDeque<Decoded>,
}

/// State of a possible escape.
enum Reading {
    /// Undecided: it may become an escape.
    Open,
    /// Escape for this character.
    Character(char),
    /// Escape for this character, in the first bytes of the text. Holds their number.
    Beginning(char, usize),
    /// Not an escape.
    Nothing,
}

impl Escapes {
    /// Takes one byte.
    pub(super) fn take(&mut self, read: Decoded) {
        self.open.push(read);
        self.read();
    }

    /// Ends the text: the open bytes stand for themselves.
    pub(super) fn finish(&mut self) {
        while !self.open.is_empty() {
            let text: Vec<u8> = self.open.iter().map(|read| read.byte).collect();
            match lone_byte(&text) {
                Some(character) => self.take_beginning(character, BYTE),
                None => self.take_first(),
            }
            self.read();
        }
    }

    /// Returns the offset at which the incomplete escape begins, if there is one.
    pub(super) fn open(&self) -> Option<u64> {
        self.open.first().map(|first| first.start)
    }

    /// Returns the next decoded byte.
    pub(super) fn next(&mut self) -> Option<Decoded> {
        self.ready.pop_front()
    }

    pub(super) fn copy_from(&mut self, other: &Self) {
        self.open.clone_from(&other.open);
        self.ready.clone_from(&other.ready);
    }

    fn read(&mut self) {
        while !self.open.is_empty() {
            let mut text = [0; LONGEST + 1];
            text.iter_mut().zip(&self.open).for_each(|(byte, read)| *byte = read.byte);
            match reading(&text[..self.open.len()]) {
                Reading::Open => return,
                Reading::Nothing => self.take_first(),
                Reading::Character(character) => self.take_beginning(character, self.open.len()),
                Reading::Beginning(character, length) => self.take_beginning(character, length),
            }
        }
    }

    /// Replaces the first `length` open bytes by one character.
    fn take_beginning(&mut self, character: char, length: usize) {
        let (start, end) = (self.open[0].start, self.open[length - 1].end);
        let mut bytes = [0; 4];
        let bytes = character.encode_utf8(&mut bytes).bytes();
        self.ready.extend(bytes.map(|byte| Decoded { byte, start, end }));
        self.open.drain(..length);
    }

    fn take_first(&mut self) {
        self.ready.push_back(self.open.remove(0));
    }
}

fn reading(text: &[u8]) -> Reading {
    match text {
        _ if text.len() > LONGEST => Reading::Nothing,
        [b'\\'] | [b'&'] => Reading::Open,
        [b'\\', b'u', b'{', digits @ ..] => enclosed(digits, b'}', 16),
        [b'\\', b'u', digits @ ..] => utf16(digits),
        [b'\\', b'U', digits @ ..] => counted(digits, 8),
        [b'\\', b'x' | b'3', ..] => bytes(text),
        [b'\\', letter, ..] => simple(*letter),
        [b'&', b'#', b'x' | b'X', digits @ ..] => enclosed(digits, b';', 16),
        [b'&', b'#', digits @ ..] => enclosed(digits, b';', 10),
        [b'&', name @ ..] => named(name),
        [b'\'', ..] => quote(text),
        _ => Reading::Nothing,
    }
}

fn simple(letter: u8) -> Reading {
    let character = match letter {
        b'"' | b'\'' | b'\\' | b'/' => char::from(letter),
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'0' => '\0',
        b'a' => '\u{7}',
        b'b' => '\u{8}',
        b'v' => '\u{b}',
        b'f' => '\u{c}',
        _ => return Reading::Nothing,
    };
    Reading::Beginning(character, 2)
}

/// Reads a code of exactly `count` hexadecimal digits.
fn counted(digits: &[u8], count: usize) -> Reading {
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        Reading::Nothing
    } else if digits.len() < count {
        Reading::Open
    } else {
        number(digits, 16).and_then(char::from_u32).map_or(Reading::Nothing, Reading::Character)
    }
}

/// Reads escaped bytes: `\xc3\xa4` in Python's `bytes`, `\303\244` in shells and in C.
///
/// If they are not UTF-8, `\xe4` is a character by itself, as in a text of Python or JavaScript.
fn bytes(text: &[u8]) -> Reading {
    let (mut read, mut length, mut rest) = ([0; 4], 0, text);
    let otherwise = lone_byte(text);
    let otherwise = || otherwise.map_or(Reading::Nothing, |first| Reading::Beginning(first, BYTE));
    loop {
        let Some(digits) = rest.get(1..) else { return Reading::Open };
        let (digits, base, count) = match digits {
            [] => return if rest == b"\\" { Reading::Open } else { otherwise() },
            [b'x', digits @ ..] => (digits, 16, 2),
            digits => (digits, 8, 3),
        };
        let digits = digits.get(..count).unwrap_or(digits);
        if rest[0] != b'\\' || !digits.iter().all(|digit| char::from(*digit).is_digit(base)) {
            return otherwise();
        }
        if digits.len() < count {
            return Reading::Open;
        }
        let Some(byte) = number(digits, base).and_then(|code| u8::try_from(code).ok()) else {
            return otherwise();
        };
        (read[length], length, rest) = (byte, length + 1, &rest[BYTE..]);
        let whole = match read[0] {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => return otherwise(),
        };
        if length == whole {
            let text = std::str::from_utf8(&read[..length]).unwrap_or_default();
            return text.chars().next().map_or_else(otherwise, Reading::Character);
        }
    }
}

/// Returns the character of a text that begins with one escaped byte, such as `\xe4`.
fn lone_byte(text: &[u8]) -> Option<char> {
    let digits = text.strip_prefix(b"\\x")?.get(..2)?;
    number(digits, 16).and_then(char::from_u32)
}

/// Reads digits up to a closing byte.
fn enclosed(text: &[u8], close: u8, base: u32) -> Reading {
    match text.split_last() {
        None => Reading::Open,
        Some((last, digits)) if *last == close => {
            number(digits, base).and_then(char::from_u32).map_or(Reading::Nothing, Reading::Character)
        }
        Some(_) if text.iter().all(|byte| char::from(*byte).is_digit(base)) => Reading::Open,
        Some(_) => Reading::Nothing,
    }
}

/// Reads one UTF-16 unit in four digits, or a surrogate pair.
fn utf16(text: &[u8]) -> Reading {
    let Some((first, rest)) = text.split_at_checked(4) else { return counted(text, 4) };
    let Some(high @ 0xd800..0xdc00) = number(first, 16) else { return counted(first, 4) };
    let is_second = rest.iter().zip(b"\\u").all(|(byte, expected)| byte == expected);
    match rest.get(2..).unwrap_or_default() {
        _ if !is_second => Reading::Nothing,
        digits if !digits.iter().all(u8::is_ascii_hexdigit) => Reading::Nothing,
        digits if digits.len() < 4 => Reading::Open,
        digits => match number(digits, 16) {
            Some(low @ 0xdc00..0xe000) => {
                let code = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                char::from_u32(code).map_or(Reading::Nothing, Reading::Character)
            }
            _ => Reading::Nothing,
        },
    }
}

fn named(name: &[u8]) -> Reading {
    const NAMES: [(&[u8], char); 5] =
        [(b"amp;", '&'), (b"lt;", '<'), (b"gt;", '>'), (b"quot;", '"'), (b"apos;", '\'')];
    match NAMES.iter().find(|(own, _)| own.starts_with(name)) {
        Some((own, character)) if own.len() == name.len() => Reading::Character(*character),
        Some(_) => Reading::Open,
        None => Reading::Nothing,
    }
}

/// Reads a quote within single quotes of a shell: close the quotes, an escaped quote, open them again.
fn quote(text: &[u8]) -> Reading {
    const WAYS: [&[u8]; 2] = [b"'\\''", b"'\"'\"'"];
    match WAYS.iter().find(|way| way.starts_with(text)) {
        Some(way) if way.len() == text.len() => Reading::Character('\''),
        Some(_) => Reading::Open,
        None => Reading::Nothing,
    }
}

fn number(digits: &[u8], base: u32) -> Option<u32> {
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, base).ok()
}
