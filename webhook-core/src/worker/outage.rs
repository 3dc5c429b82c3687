//! A channel whose other side cannot be reached: one try at a time finds out when it can be again.
//!
//! So an outage costs neither a connection nor a write for each delivery, uses up no attempts but those of the tries
//! that are made, and its end is noticed within seconds for all.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::notifier::Delivery;
use crate::webhook::Channel;

/// The pause after the first try that reached nobody; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause between tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// How many claimed deliveries wait for each channel; more are left to their leases.
const HELD: usize = 1_024;

/// Whether a try reached the other side, whatever it answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reached(pub(super) bool);

/// How many tries may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admitted {
    None,
    One,
    All,
}

/// An outage of one channel.
#[derive(Debug, Default)]
pub(super) struct Outage {
    pause: Duration,
    until: Option<Instant>,
    probing: bool,
}

impl Outage {
    pub(super) fn admits(&self, now: Instant) -> Admitted {
        let is_over = self.until.is_none_or(|until| until <= now);
        if is_over && !self.probing { Admitted::One } else { Admitted::None }
    }

    /// When the next try may begin, unless one is under way.
    pub(super) fn next_try(&self) -> Option<Instant> {
        self.until.filter(|_| !self.probing)
    }

    /// A try begins.
    pub(super) fn probe(&mut self) {
        self.probing = true;
    }

    /// A try reached nobody. Those that had begun before the outage say nothing new.
    pub(super) fn goes_on(&mut self, was_probe: bool, now: Instant) {
        if was_probe || self.until.is_none() {
            self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
            self.until = Some(now + self.pause);
            self.probing = false;
        }
    }
}

/// Deliveries that were claimed while their channel was out, with when.
#[derive(Debug, Default)]
pub(super) struct Held(HashMap<Channel, VecDeque<(Instant, Delivery)>>);

impl Held {
    pub(super) fn put(&mut self, claimed_at: Instant, delivery: Delivery) {
        let held = self.0.entry(delivery.channel).or_default();
        if held.len() < HELD {
            held.push_back((claimed_at, delivery));
        }
    }

    /// Takes up to `limit` deliveries that may begin, and forgets those that have waited for `longest`.
    pub(super) fn taken(
        &mut self,
        limit: usize,
        longest: Duration,
        admitted: impl Fn(Channel) -> Admitted,
    ) -> Vec<(Instant, Delivery)> {
        let mut taken = Vec::new();
        for (channel, held) in &mut self.0 {
            held.retain(|(claimed_at, _)| claimed_at.elapsed() < longest);
            let count = match admitted(*channel) {
                Admitted::None => 0,
                Admitted::One => 1,
                Admitted::All => held.len(),
            };
            let count = count.min(held.len()).min(limit - taken.len());
            taken.extend(held.drain(..count));
        }
        taken
    }
}
