//! Notifications of the stream of events that are still to be told.

use std::collections::VecDeque;

/// Upper bound on notifications, of 8 kB each.
const MOST: usize = 4_096;
/// Upper bound on their bytes while no one reads.
const IDLE_BYTES: usize = 1024 * 1024;
/// Upper bound on notifications that are told together.
const TOGETHER: usize = 64;

#[derive(Default)]
pub(crate) struct Backlog {
    payloads: VecDeque<String>,
    bytes: usize,
    /// True if some before these were dropped.
    has_gap: bool,
}

impl Backlog {
    pub(crate) fn is_full(&self) -> bool {
        self.payloads.len() >= MOST
    }

    pub(crate) fn push(&mut self, payload: &str) {
        self.bytes += payload.len();
        self.payloads.push_back(payload.to_owned());
    }

    /// Drops the oldest until there is room for another one of so many bytes, while no one reads.
    pub(crate) fn make_room(&mut self, bytes: usize) {
        while self.is_full() || self.bytes + bytes > IDLE_BYTES {
            let Some(oldest) = self.payloads.pop_front() else { return };
            self.bytes -= oldest.len();
            self.has_gap = true;
        }
    }

    /// Takes some of the oldest. Returns them, and whether some before them were dropped.
    pub(crate) fn take(&mut self) -> (Vec<String>, bool) {
        let taken: Vec<String> = self.payloads.drain(..self.payloads.len().min(TOGETHER)).collect();
        self.bytes -= taken.iter().map(String::len).sum::<usize>();
        (taken, std::mem::take(&mut self.has_gap))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_is_a_gap_before_the_rest() {
        let mut backlog = Backlog::default();
        let payload = "x".repeat(8_000);
        let fitting = IDLE_BYTES / payload.len();
        for number in 0..fitting + 3 {
            backlog.make_room(payload.len());
            backlog.push(&payload);
            assert_eq!(backlog.has_gap, number >= fitting);
        }
        let (taken, has_gap) = backlog.take();
        assert!(taken.len() == TOGETHER && has_gap);
        let mut left = 0;
        while let (taken, false) = backlog.take()
            && !taken.is_empty()
        {
            left += taken.len();
        }
        assert_eq!((TOGETHER + left, backlog.bytes), (fitting, 0));
    }

    #[test]
    fn short_ones_are_bounded_in_number() {
        let mut backlog = Backlog::default();
        for _ in 0..2 * MOST {
            backlog.make_room(1);
            backlog.push("e");
        }
        assert!(backlog.is_full() && backlog.payloads.len() == MOST);
    }
}
