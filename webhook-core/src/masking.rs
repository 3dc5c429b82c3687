//! Masks secrets in text: in a program's output, in its errors, in what a server repeats.
//!
//! Text is masked before it is cut. A cut would leave the beginning of a secret, which no longer matches the
//! secret.
//! For text that arrives in pieces, or is cut while it arrives, a [`MaskingStream`] holds back the possible
//! beginning of a secret until it is decided.

mod escapes;
mod percents;
mod reading;
mod secret;

use std::fmt;
use std::sync::Arc;

use serde_json::Value;
use zeroize::Zeroizing;

use crate::parameters::EffectiveParameters;
use escapes::Decoded;
use reading::{Look, WithEscapes, WithPercents};
use secret::SearchPattern;

/// Replacement for a secret value wherever it would show.
pub const MASK: &str = "***";

/// Length of the shortest secret that is masked, in characters. Masking every `7` would make logs unreadable
/// and hide nothing.
const SHORTEST: usize = 4;

/// Upper bound on the lines of secrets that are masked by themselves. The longest lines are kept.
const LINES: usize = 1_000;

/// Replaces secrets in text by [`MASK`].
///
/// It finds a secret as it is, escaped as in JSON, Python, Rust, shells and HTML, and encoded as in URLs and
/// forms, wholly or in part.
///
/// Secrets of fewer than four characters are not masked. `Debug` shows no secret. The copies kept here are
/// wiped with the last clone.
///
/// ```
/// use webhook_core::masking::Masker;
///
/// let masker = Masker::new(["pä\"ss".to_owned()]);
/// assert_eq!(masker.mask(r#"pä"ss, "p\u00e4\"ss" and p&#228;&quot;ss"#), r#"***, "***" and ***"#);
/// assert_eq!(masker.mask("https://example.com/?word=p%C3%a4%22ss"), "https://example.com/?word=***");
///
/// let mut stream = masker.stream();
/// assert_eq!(stream.push("the word is pä".as_bytes()), b"the word is ");
/// assert_eq!(stream.push("\"ss!\n".as_bytes()), b"***!\n");
/// ```
#[derive(Clone, Default)]
pub struct Masker(Option<Arc<Secrets>>);

struct Secrets {
    texts: Arc<[SearchPattern]>,
    /// The texts with percent-encoding decoded, to be found in the decoded input.
    percent_texts: Arc<[SearchPattern]>,
    /// For each byte, whether it may begin a secret, an escape or an encoded byte.
    wakes: [bool; 256],
}

impl Masker {
    /// Masks these secrets.
    #[must_use]
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let mut texts = Vec::new();
        let mut lines = Vec::new();
        for secret in secrets.into_iter().map(Zeroizing::new) {
            add_texts(&secret, &mut texts, &mut lines);
        }
        // The sort is stable, so of equally long lines the first ones are kept.
        lines.sort_by_key(|line| std::cmp::Reverse(line.len()));
        texts.extend(lines.into_iter().take(LINES));
        texts.sort_unstable_by(|one, other| one.as_slice().cmp(other));
        texts.dedup();
        if texts.is_empty() {
            return Self::default();
        }
        let percent_texts = texts.iter().map(|text| Zeroizing::new(percents::read(text)));
        let percent_texts: Vec<_> = percent_texts.filter(|text| text.len() >= SHORTEST).collect();
        let mut wakes: [bool; 256] = std::array::from_fn(|byte| escapes::begins(byte as u8));
        wakes[usize::from(b'%')] = true;
        for text in texts.iter().chain(&percent_texts) {
            wakes[usize::from(text[0])] = true;
        }
        wakes[usize::from(b'+')] |= wakes[usize::from(b' ')];
        let [texts, percent_texts] =
            [texts, percent_texts].map(|texts| texts.into_iter().map(SearchPattern::new).collect());
        Self(Some(Arc::new(Secrets { texts, percent_texts, wakes })))
    }

    /// Masks the values of the secret parameters. Of lists and objects, it masks every text and number in
    /// them.
    #[must_use]
    pub fn of(parameters: &EffectiveParameters) -> Self {
        let mut secrets = Vec::new();
        for (_, parameter) in parameters.iter().filter(|(_, parameter)| parameter.secret) {
            add_leaves(&parameter.value, &mut secrets);
        }
        Self::new(secrets)
    }

    /// Returns whether there is nothing to mask.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Returns the text with every secret in it replaced. Overlapping secrets are replaced together.
    #[must_use]
    pub fn mask(&self, text: impl Into<String>) -> String {
        let text = text.into();
        if self.is_empty() {
            return text;
        }
        let mut stream = self.stream();
        let mut masked = stream.push(text.as_bytes());
        masked.append(&mut stream.finish());
        // Secrets consist of whole characters, and so does the text between them.
        String::from_utf8(masked)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }

    /// Returns a masker for one stream of text that arrives in pieces.
    #[must_use]
    pub fn stream(&self) -> MaskingStream {
        let (texts, percent_texts) = match &self.0 {
            Some(secrets) => (secrets.texts.clone(), secrets.percent_texts.clone()),
            None => Default::default(),
        };
        MaskingStream {
            secrets: self.0.clone(),
            held: Vec::new(),
            base: 0,
            input: WithEscapes::new(WithPercents::new(texts, percent_texts)),
            is_awake: false,
            hidden: Vec::new(),
        }
    }
}

impl fmt::Debug for Masker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Masker(***)")
    }
}

/// Collects the texts and numbers of a value.
fn add_leaves(value: &Value, leaves: &mut Vec<String>) {
    match value {
        Value::String(text) => leaves.push(text.clone()),
        Value::Number(number) => leaves.push(number.to_string()),
        Value::Array(items) => {
            for item in items {
                add_leaves(item, leaves);
            }
        }
        Value::Object(members) => {
            for item in members.values() {
                add_leaves(item, leaves);
            }
        }
        Value::Bool(_) | Value::Null => {}
    }
}

/// Collects a secret without surrounding blanks, and each of its lines.
fn add_texts(secret: &str, texts: &mut Vec<Zeroizing<Vec<u8>>>, lines: &mut Vec<Zeroizing<Vec<u8>>>) {
    let bytes = |text: &str| Zeroizing::new(text.as_bytes().to_vec());
    let is_long_enough = |text: &&str| text.chars().nth(SHORTEST - 1).is_some();
    texts.extend([secret, secret.trim()].into_iter().filter(is_long_enough).map(bytes));
    if secret.trim().contains('\n') {
        lines.extend(secret.lines().map(str::trim).filter(is_long_enough).map(bytes));
    }
}

/// Part of the input that is hidden, as the offsets of its first byte and of the byte after it.
#[derive(Debug, Clone, Copy)]
struct Hidden {
    start: u64,
    end: u64,
    /// True if its mask has already been passed on.
    is_masked: bool,
}

/// Masks a stream of text whose pieces may end anywhere, even within a character.
///
/// It holds back no more than the possible beginning of a secret.
pub struct MaskingStream {
    secrets: Option<Arc<Secrets>>,
    /// Bytes that were not passed on yet.
    held: Vec<u8>,
    /// Offset of the first byte of `held` in the stream.
    base: u64,
    input: WithEscapes<WithPercents>,
    /// True if any byte of the input is undecided.
    is_awake: bool,
    /// Hidden parts in order, without overlaps, none before `base`.
    hidden: Vec<Hidden>,
}

impl MaskingStream {
    /// Takes a piece and returns the text that can be shown so far.
    #[must_use]
    pub fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        let Some(secrets) = self.secrets.clone() else { return piece.to_vec() };
        for byte in piece {
            let place = self.base + self.held.len() as u64;
            self.held.push(*byte);
            if self.is_awake || secrets.wakes[usize::from(*byte)] {
                let (mut found, read) = (Vec::new(), Decoded { byte: *byte, start: place, end: place + 1 });
                self.input.take(read, &mut |start, end| found.push((start, end)));
                self.is_awake = !self.input.is_idle();
                self.hide_all(found);
            }
        }
        self.release(self.undecided())
    }

    /// Ends the text and returns the rest of it.
    #[must_use]
    pub fn finish(&mut self) -> Vec<u8> {
        let mut found = Vec::new();
        self.input.finish(&mut |start, end| found.push((start, end)));
        self.hide_all(found);
        let shown = self.release(self.end());
        *self = Masker(self.secrets.take()).stream();
        shown
    }

    /// Ends a text whose rest is lost, and returns what can be shown of it.
    ///
    /// Like [`finish`](Self::finish), but a possible beginning of a secret is masked if it has four or more
    /// characters.
    #[must_use]
    pub fn cut(&mut self) -> Vec<u8> {
        let undecided = self.undecided();
        let rest = &self.held[(undecided - self.base) as usize..];
        if String::from_utf8_lossy(rest).chars().nth(SHORTEST - 1).is_some() {
            self.hide(undecided, self.end());
        }
        self.finish()
    }

    /// Returns whether no byte is held back.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    fn end(&self) -> u64 {
        self.base + self.held.len() as u64
    }

    /// Returns the offset of the first undecided byte, which may begin a secret.
    fn undecided(&self) -> u64 {
        self.input.undecided().unwrap_or(self.end())
    }

    fn hide_all(&mut self, found: Vec<(u64, u64)>) {
        for (start, end) in found {
            self.hide(start, end);
        }
    }

    fn hide(&mut self, start: u64, end: u64) {
        debug_assert!(start >= self.base, "a secret that was passed on already");
        let mut all = Hidden { start, end, is_masked: false };
        let first = self.hidden.partition_point(|own| own.end <= start);
        let count = self.hidden[first..].partition_point(|own| own.start < end);
        for own in &self.hidden[first..first + count] {
            all.start = all.start.min(own.start);
            all.end = all.end.max(own.end);
            all.is_masked |= own.is_masked;
        }
        self.hidden.splice(first..first + count, [all]);
    }

    /// Passes on the bytes before the offset `end`, with secrets masked.
    fn release(&mut self, end: u64) -> Vec<u8> {
        let mut shown = Vec::new();
        let mut next = self.base;
        let mut going_on = None;
        let count = self.hidden.partition_point(|own| own.start < end);
        for own in self.hidden.drain(..count) {
            shown
                .extend_from_slice(&self.held[(next - self.base) as usize..(own.start - self.base) as usize]);
            if !own.is_masked {
                shown.extend_from_slice(MASK.as_bytes());
            }
            next = own.end.min(end);
            going_on = (own.end > end).then_some(Hidden { start: end, end: own.end, is_masked: true });
        }
        shown.extend_from_slice(&self.held[(next - self.base) as usize..(end - self.base) as usize]);
        if let Some(going_on) = going_on {
            self.hidden.insert(0, going_on);
        }
        self.held.drain(..(end - self.base) as usize);
        self.base = end;
        shown
    }
}

impl fmt::Debug for MaskingStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("MaskingStream(***)")
    }
}

#[cfg(test)]
mod tests;
