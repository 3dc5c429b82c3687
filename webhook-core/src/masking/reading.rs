//! Searches for secrets in several readings of the input at once: as it is, with its escapes decoded, and
//! with its percent-encoding decoded.

use std::collections::VecDeque;
use std::sync::Arc;

use super::escapes::{self, Decoded, Escapes};
use super::percents::Percents;
use super::secret::SearchPattern;

/// Search for secrets in bytes that arrive one by one.
pub(super) trait Look {
    /// Takes one byte, and reports the offsets of each secret that ends with it.
    fn take(&mut self, read: Decoded, found: &mut impl FnMut(u64, u64));

    /// Ends the text: the bytes of an incomplete escape or encoded byte stand for themselves.
    fn finish(&mut self, found: &mut impl FnMut(u64, u64));

    /// Returns the offset of the first byte that may begin a secret.
    fn undecided(&self) -> Option<u64>;

    /// Returns whether no byte is undecided.
    fn is_idle(&self) -> bool;

    /// Copies the state of another search for the same secrets.
    fn copy_from(&mut self, other: &Self);
}

/// Searches the bytes as they are and, from the first escape on, also with their escapes decoded.
#[derive(Clone)]
pub(super) struct WithEscapes<L> {
    as_they_are: L,
    escapes: Escapes,
    unescaped: L,
    /// Set by an escape, and cleared when no byte is undecided. While it is unset, both readings are the
    /// same.
    has_escapes: bool,
}

impl<L: Look + Clone> WithEscapes<L> {
    pub(super) fn new(look: L) -> Self {
        Self { as_they_are: look.clone(), escapes: Escapes::default(), unescaped: look, has_escapes: false }
    }

    fn take_unescaped(&mut self, found: &mut impl FnMut(u64, u64)) {
        while let Some(read) = self.escapes.next() {
            self.unescaped.take(read, found);
        }
    }
}

impl<L: Look + Clone> Look for WithEscapes<L> {
    fn take(&mut self, read: Decoded, found: &mut impl FnMut(u64, u64)) {
        if !self.has_escapes && escapes::begins(read.byte) {
            self.has_escapes = true;
            self.unescaped.copy_from(&self.as_they_are);
        }
        self.as_they_are.take(read, found);
        if self.has_escapes {
            self.escapes.take(read);
            self.take_unescaped(found);
            self.has_escapes = !self.is_idle();
        }
    }

    fn finish(&mut self, found: &mut impl FnMut(u64, u64)) {
        self.escapes.finish();
        self.take_unescaped(found);
        self.as_they_are.finish(found);
        self.unescaped.finish(found);
    }

    fn undecided(&self) -> Option<u64> {
        let begun = [self.as_they_are.undecided(), self.escapes.open(), self.unescaped.undecided()];
        begun.into_iter().flatten().min()
    }

    fn is_idle(&self) -> bool {
        let is_same = !self.has_escapes;
        self.as_they_are.is_idle() && (is_same || self.escapes.open().is_none() && self.unescaped.is_idle())
    }

    fn copy_from(&mut self, other: &Self) {
        self.as_they_are.copy_from(&other.as_they_are);
        self.escapes.copy_from(&other.escapes);
        self.unescaped.copy_from(&other.unescaped);
        self.has_escapes = other.has_escapes;
    }
}

/// Searches the bytes as they are, and with their percent-encoding decoded.
#[derive(Clone)]
pub(super) struct WithPercents {
    as_they_are: Search,
    percents: Percents,
    /// Searches the decoded bytes. They may contain escapes, as with JSON in a URL.
    decoded: WithEscapes<Search>,
}

impl WithPercents {
    /// Searches for `texts`, and for `percent_texts`, whose percent-encoding is decoded.
    pub(super) fn new(texts: Arc<[SearchPattern]>, percent_texts: Arc<[SearchPattern]>) -> Self {
        let decoded = WithEscapes::new(Search::new(percent_texts));
        Self { as_they_are: Search::new(texts), percents: Percents::default(), decoded }
    }
}

impl Look for WithPercents {
    fn take(&mut self, read: Decoded, found: &mut impl FnMut(u64, u64)) {
        self.as_they_are.take(read, found);
        let decoded = &mut self.decoded;
        self.percents.take(read, &mut |read| decoded.take(read, found));
    }

    fn finish(&mut self, found: &mut impl FnMut(u64, u64)) {
        let decoded = &mut self.decoded;
        self.percents.finish(&mut |read| decoded.take(read, found));
        self.decoded.finish(found);
    }

    fn undecided(&self) -> Option<u64> {
        let begun = [self.as_they_are.undecided(), self.percents.open(), self.decoded.undecided()];
        begun.into_iter().flatten().min()
    }

    fn is_idle(&self) -> bool {
        self.as_they_are.is_idle() && self.percents.open().is_none() && self.decoded.is_idle()
    }

    fn copy_from(&mut self, other: &Self) {
        self.as_they_are.copy_from(&other.as_they_are);
        self.percents.copy_from(&other.percents);
        self.decoded.copy_from(&other.decoded);
    }
}

/// For each secret, the length of its longest prefix that the input so far ends with.
#[derive(Clone)]
pub(super) struct Search {
    secrets: Arc<[SearchPattern]>,
    matched: Vec<u32>,
    /// Offsets in the input of the decoded bytes that the longest such prefix consists of.
    starts: Starts,
}

impl Search {
    fn new(secrets: Arc<[SearchPattern]>) -> Self {
        let matched = vec![0; secrets.len()];
        Self { secrets, matched, starts: Starts::default() }
    }
}

impl Look for Search {
    fn take(&mut self, read: Decoded, found: &mut impl FnMut(u64, u64)) {
        let (mut longest, mut depth) = (0, 0);
        for (SearchPattern { text, fallback }, matched) in self.secrets.iter().zip(&mut self.matched) {
            let mut length = *matched as usize;
            while length > 0 && text[length] != read.byte {
                length = fallback[length - 1] as usize;
            }
            length += usize::from(text[length] == read.byte);
            if length == text.len() {
                longest = longest.max(length);
                length = fallback[length - 1] as usize;
            }
            *matched = length as u32;
            depth = depth.max(length);
        }
        if longest == 0 && depth == 0 && self.starts.count == 0 {
            return;
        }
        self.starts.push(read.start);
        if longest > 0 {
            found(self.starts.of_last(longest), read.end);
        }
        self.starts.keep_last(depth);
    }

    fn finish(&mut self, _found: &mut impl FnMut(u64, u64)) {}

    fn undecided(&self) -> Option<u64> {
        self.starts.rows.front().map(|(place, _)| *place)
    }

    fn is_idle(&self) -> bool {
        self.starts.count == 0
    }

    fn copy_from(&mut self, other: &Self) {
        self.matched.clone_from(&other.matched);
        self.starts.rows.clone_from(&other.starts.rows);
        self.starts.count = other.starts.count;
    }
}

/// Offsets in the input, in ascending order. A row of consecutive offsets takes one entry.
#[derive(Clone, Default)]
struct Starts {
    /// Each row's first offset and its number of offsets.
    rows: VecDeque<(u64, usize)>,
    count: usize,
}

impl Starts {
    fn push(&mut self, place: u64) {
        self.count += 1;
        match self.rows.back_mut() {
            Some((first, count)) if *first + *count as u64 == place => *count += 1,
            _ => self.rows.push_back((place, 1)),
        }
    }

    /// Returns the first of the last `wanted` offsets. There must be that many.
    fn of_last(&self, mut wanted: usize) -> u64 {
        debug_assert!((1..=self.count).contains(&wanted), "{wanted} of {}", self.count);
        for (first, count) in self.rows.iter().rev() {
            if wanted <= *count {
                return first + (count - wanted) as u64;
            }
            wanted -= count;
        }
        0
    }

    fn keep_last(&mut self, count: usize) {
        while let Some((first, length)) = self.rows.front_mut() {
            let surplus = self.count - count;
            if surplus < *length {
                *first += surplus as u64;
                *length -= surplus;
                self.count = count;
                return;
            }
            self.count -= *length;
            self.rows.pop_front();
        }
    }
}
