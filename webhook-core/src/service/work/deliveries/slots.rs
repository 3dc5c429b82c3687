//! Slots for delivery tries: a slow recipient delays no other.
//!
//! A long try gives up its slot and continues without one. Its recipient then counts as slow, and gets one
//! try at a time until one is quick again.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::notifier::Delivery;
use crate::webhook::Channel;

/// Time after which a try gives up its slot.
const SLOW: Duration = Duration::from_secs(5);
/// Upper bound on the slow tries of each channel, per slot.
const SLOW_TRIES_PER_SLOT: usize = 4;
/// Upper bound on the slow recipients that are remembered while no try to them is in progress.
const REMEMBERED: usize = 4_096;

/// A recipient of one channel.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Recipient {
    channel: Channel,
    address: String,
}

impl Recipient {
    pub(super) fn of(delivery: &Delivery) -> Self {
        Self { channel: delivery.channel, address: delivery.recipient.clone() }
    }
}

/// Tries in progress, of which at most `slots` are quick.
#[derive(Debug)]
pub(super) struct DeliverySlots {
    slots: usize,
    /// Tries by number.
    under_way: BTreeMap<u64, UnderWay>,
    /// Recipients whose last try was slow.
    slow: HashSet<Recipient>,
}

#[derive(Debug)]
struct UnderWay {
    recipient: Recipient,
    slow_at: Instant,
}

impl DeliverySlots {
    pub(super) fn new(slots: usize) -> Self {
        Self { slots: slots.max(1), under_way: BTreeMap::new(), slow: HashSet::new() }
    }

    /// Returns the number of tries that may begin.
    pub(super) fn free(&self, now: Instant) -> usize {
        let quick = self.under_way.values().filter(|it| it.slow_at > now).count();
        self.slots.saturating_sub(quick)
    }

    /// Returns the latest time at which the next slot becomes free.
    pub(super) fn next_free(&self, now: Instant) -> Option<Instant> {
        self.under_way.values().map(|it| it.slow_at).filter(|slow_at| *slow_at > now).min()
    }

    /// Returns the channels that have reached the upper bound on slow tries.
    pub(super) fn saturated(&self, now: Instant) -> BTreeSet<Channel> {
        let mut counts: BTreeMap<Channel, usize> = BTreeMap::new();
        for it in self.under_way.values().filter(|it| it.slow_at <= now) {
            *counts.entry(it.recipient.channel).or_default() += 1;
        }
        let most = self.slots.saturating_mul(SLOW_TRIES_PER_SLOT);
        counts.into_iter().filter(|(_, count)| *count >= most).map(|(channel, _)| channel).collect()
    }

    /// Begins a try and returns its number, or `None` while another to the same slow recipient is in
    /// progress.
    pub(super) fn begin(&mut self, recipient: Recipient, now: Instant) -> Option<u64> {
        let mut others = self.under_way.values().filter(|it| it.recipient == recipient).peekable();
        let is_busy = others.peek().is_some();
        if is_busy && (self.slow.contains(&recipient) || others.any(|it| it.slow_at <= now)) {
            return None;
        }
        Some(self.begin_probe(recipient, now))
    }

    /// Begins the probe of a channel, whatever its recipient.
    pub(super) fn begin_probe(&mut self, recipient: Recipient, now: Instant) -> u64 {
        let number = self.under_way.last_key_value().map_or(0, |(last, _)| last + 1);
        self.under_way.insert(number, UnderWay { recipient, slow_at: now + SLOW });
        number
    }

    /// Ends a try.
    pub(super) fn end(&mut self, number: u64, now: Instant) {
        let Some(ended) = self.under_way.remove(&number) else { return };
        if ended.slow_at > now {
            self.slow.remove(&ended.recipient);
            return;
        }
        if self.slow.len() >= REMEMBERED {
            self.slow.clear();
        }
        self.slow.insert(ended.recipient);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(channel: Channel, address: &str) -> Recipient {
        Recipient { channel, address: address.to_owned() }
    }

    fn mail_to(address: &str) -> Recipient {
        to(Channel::EMAIL, address)
    }

    #[test]
    fn a_slow_recipient_gets_one_try_at_a_time_until_one_is_quick() {
        let (mut slots, start) = (DeliverySlots::new(4), Instant::now());
        let begun: Vec<u64> = (0..3).filter_map(|_| slots.begin(mail_to("dead"), start)).collect();
        assert_eq!(begun.len(), 3, "a recipient is not slow from the start");
        let later = start + SLOW;
        assert_eq!(slots.begin(mail_to("dead"), later), None);
        let other = slots.begin(mail_to("a"), later).expect("it holds up no other");
        slots.end(other, later);
        for number in begun {
            slots.end(number, later);
        }
        let first = slots.begin(mail_to("dead"), later).unwrap();
        assert_eq!(slots.begin(mail_to("dead"), later), None, "one at a time");
        slots.end(first, later + Duration::from_millis(1));
        let quick = (0..3).filter_map(|_| slots.begin(mail_to("dead"), later)).count();
        assert_eq!(quick, 3, "it was quick again");
        assert!(slots.slow.is_empty());
    }

    #[test]
    fn a_slow_try_gives_its_slot_to_others() {
        let (mut slots, start) = (DeliverySlots::new(2), Instant::now());
        let numbers = ["a", "b"].map(|address| slots.begin(mail_to(address), start).unwrap());
        assert_eq!((slots.free(start), slots.next_free(start)), (0, Some(start + SLOW)));
        slots.end(numbers[0], start);
        assert_eq!(slots.free(start), 1);
        assert_eq!((slots.free(start + SLOW), slots.next_free(start + SLOW)), (2, None));
    }

    #[test]
    fn a_channel_whose_tries_are_all_slow_waits_and_the_other_goes_on() {
        let (mut slots, start) = (DeliverySlots::new(1), Instant::now());
        let mut numbers = Vec::new();
        for number in 0..SLOW_TRIES_PER_SLOT {
            assert_eq!(slots.saturated(start + SLOW), BTreeSet::new());
            numbers.extend(slots.begin(mail_to(&number.to_string()), start));
        }
        assert_eq!(slots.saturated(start), BTreeSet::new(), "they may be quick yet");
        assert_eq!(slots.saturated(start + SLOW), BTreeSet::from([Channel::EMAIL]));
        assert!(slots.begin(to(Channel::SLACK, "#ops"), start + SLOW).is_some());
        slots.end(numbers[0], start + SLOW);
        assert_eq!(slots.saturated(start + SLOW), BTreeSet::new());
    }

    #[test]
    fn slow_recipients_are_remembered_in_bounded_memory() {
        let (mut slots, start) = (DeliverySlots::new(1), Instant::now());
        for number in 0..2 * REMEMBERED + 1 {
            let number = slots.begin(mail_to(&number.to_string()), start).unwrap();
            slots.end(number, start + SLOW);
            assert!(slots.slow.len() <= REMEMBERED);
        }
    }
}
