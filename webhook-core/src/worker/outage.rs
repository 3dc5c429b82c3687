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

/// Whether a try could use its channel, whatever became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reached {
    /// The other side answered.
    OtherSide,
    /// Every delivery through this channel would fare the same at present.
    Nobody {
        /// What the notifier said.
        why: String,
    },
}

/// How many tries may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admitted {
    None,
    One,
    All,
}

/// An outage of one channel.
#[derive(Debug)]
pub(super) struct Outage {
    since: Instant,
    pause: Duration,
    until: Option<Instant>,
    probing: bool,
}

impl Outage {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, pause: Duration::ZERO, until: None, probing: false }
    }

    /// For how long this process has known that nobody can be reached.
    pub(super) fn lasts(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

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
        // One that was sent again is claimed anew, and must not go out twice.
        held.retain(|(_, earlier)| earlier.id != delivery.id);
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

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::id::{DeliveryId, RunId};
    use crate::webhook::EventKind;

    fn delivery(channel: Channel) -> Delivery {
        let now = SystemTime::now();
        Delivery::new(DeliveryId::generate(now), RunId::generate(now), channel, "a", EventKind::Failure, now)
    }

    #[tokio::test(start_paused = true)]
    async fn one_try_at_a_time_finds_out_after_pauses_that_double_up_to_a_bound() {
        let mut outage = Outage::new(Instant::now());
        let mut pauses: Vec<u128> = Vec::new();
        outage.goes_on(false, Instant::now());
        for _ in 0..8 {
            let next = outage.next_try().unwrap();
            assert_eq!(outage.admits(next - Duration::from_millis(1)), Admitted::None);
            assert_eq!(outage.admits(next), Admitted::One);
            pauses.push((next - Instant::now()).as_millis());
            tokio::time::sleep_until(next).await;
            outage.probe();
            assert_eq!((outage.admits(next), outage.next_try()), (Admitted::None, None), "one at a time");
            outage.goes_on(true, Instant::now());
        }
        assert_eq!(pauses, [500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000]);
    }

    #[tokio::test(start_paused = true)]
    async fn tries_that_had_begun_before_do_not_make_the_pause_longer() {
        let mut outage = Outage::new(Instant::now());
        outage.goes_on(false, Instant::now());
        let next = outage.next_try();
        for _ in 0..16 {
            outage.goes_on(false, Instant::now());
        }
        assert_eq!(outage.next_try(), next);
        tokio::time::sleep_until(next.unwrap()).await;
        outage.probe();
        outage.goes_on(false, Instant::now());
        assert_eq!(outage.next_try(), None, "the probe is still under way");
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_are_taken_as_their_channel_admits() {
        let mut held = Held::default();
        let longest = Duration::from_secs(50);
        for _ in 0..3 {
            held.put(Instant::now(), delivery(Channel::Email));
            held.put(Instant::now(), delivery(Channel::Slack));
        }
        assert!(held.taken(9, longest, |_| Admitted::None).is_empty());
        let slack_is_out = |channel| if channel == Channel::Slack { Admitted::One } else { Admitted::None };
        let one = held.taken(9, longest, slack_is_out);
        assert_eq!(one.iter().map(|(_, delivery)| delivery.channel).collect::<Vec<_>>(), [Channel::Slack]);
        assert_eq!(held.taken(4, longest, |_| Admitted::All).len(), 4, "as many as there are slots");
        assert_eq!(held.taken(9, longest, |_| Admitted::All).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_held_is_bounded_in_number_and_time() {
        let mut held = Held::default();
        let longest = Duration::from_secs(50);
        for _ in 0..HELD + 5 {
            held.put(Instant::now(), delivery(Channel::Email));
        }
        tokio::time::sleep(longest / 2).await;
        held.put(Instant::now(), delivery(Channel::Slack));
        assert_eq!(held.0[&Channel::Email].len(), HELD);
        let again = held.0[&Channel::Email][7].1.clone();
        held.put(Instant::now() - longest, again);
        assert_eq!(held.0[&Channel::Email].len(), HELD, "the same is not held twice");
        tokio::time::sleep(longest / 2).await;
        let left = held.taken(9, longest, |_| Admitted::All);
        assert_eq!(left.len(), 1, "the lease of the others is nearly over");
        assert_eq!(left[0].1.channel, Channel::Slack);
    }
}
