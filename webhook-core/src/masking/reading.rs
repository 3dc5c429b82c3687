//! Looking for secrets in one reading of the input: as it is, and with its percent-encoding read.

use std::collections::VecDeque;

use super::escapes::Decoded;
use super::percents::Percents;
use super::{Secret, Secrets};

/// One reading of the input.
pub(super) struct Reading {
    plain: Search,
    percents: Percents,
    /// In what `percents` reads.
    percent: Search,
}

impl Reading {
    /// A reading at its beginning, for so many texts, and so many with percent-encoding read.
    pub(super) fn new((texts, percent_texts): (usize, usize)) -> Self {
        Self { plain: Search::new(texts), percents: Percents::default(), percent: Search::new(percent_texts) }
    }

    /// Takes a byte, and tells where in the input secrets begin and end that end with it.
    pub(super) fn take(&mut self, secrets: &Secrets, read: Decoded, found: &mut impl FnMut(u64, u64)) {
        self.plain.take(&secrets.texts, read, found);
        let percent = &mut self.percent;
        self.percents.take(read, &mut |read| percent.take(&secrets.percent_texts, read, found));
    }

    /// Takes what is open for itself.
    pub(super) fn finish(&mut self, secrets: &Secrets, found: &mut impl FnMut(u64, u64)) {
        let percent = &mut self.percent;
        self.percents.finish(&mut |read| percent.take(&secrets.percent_texts, read, found));
    }

    /// Where in the input begins what may be the beginning of a secret.
    pub(super) fn undecided(&self) -> Option<u64> {
        [self.plain.starts.first(), self.percent.starts.first(), self.percents.open()]
            .into_iter()
            .flatten()
            .min()
    }

    pub(super) fn copy_from(&mut self, other: &Self) {
        self.plain.copy_from(&other.plain);
        self.percents.copy_from(&other.percents);
        self.percent.copy_from(&other.percent);
    }

    /// Begins another text.
    pub(super) fn forget(&mut self) {
        self.plain.forget();
        self.percents = Percents::default();
        self.percent.forget();
    }
}

/// How much of each secret the bytes so far end with.
struct Search {
    matched: Vec<u32>,
    /// Where in the input the bytes begin that the longest of these consists of.
    starts: Starts,
}

impl Search {
    fn new(secrets: usize) -> Self {
        Self { matched: vec![0; secrets], starts: Starts::default() }
    }

    fn take(&mut self, secrets: &[Secret], read: Decoded, found: &mut impl FnMut(u64, u64)) {
        let (mut longest, mut depth) = (0, 0);
        for (Secret { text, fallback }, matched) in secrets.iter().zip(&mut self.matched) {
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

    fn copy_from(&mut self, other: &Self) {
        self.matched.clone_from(&other.matched);
        self.starts.copy_from(&other.starts);
    }

    fn forget(&mut self) {
        self.matched.fill(0);
        self.starts.keep_last(0);
    }
}

/// Places in the input, in order. Those that follow one another take no memory of their own.
#[derive(Default)]
struct Starts {
    /// The first place of each row, and how many places it has.
    rows: VecDeque<(u64, usize)>,
    count: usize,
}

impl Starts {
    fn first(&self) -> Option<u64> {
        self.rows.front().map(|(place, _)| *place)
    }

    fn push(&mut self, place: u64) {
        self.count += 1;
        match self.rows.back_mut() {
            Some((first, count)) if *first + *count as u64 == place => *count += 1,
            _ => self.rows.push_back((place, 1)),
        }
    }

    /// Returns the first of the last so many places.
    fn of_last(&self, mut wanted: usize) -> u64 {
        for (first, count) in self.rows.iter().rev() {
            if wanted <= *count {
                return first + (count - wanted) as u64;
            }
            wanted -= count;
        }
        debug_assert!(false, "more places than there are");
        self.first().unwrap_or_default()
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

    fn copy_from(&mut self, other: &Self) {
        self.rows.clone_from(&other.rows);
        self.count = other.count;
    }
}
