//! Circuit breakers: one for each channel whose other side cannot be reached.
//!
//! A breaker opens when a try reaches no recipient. After a pause it lets one try through, the probe, and is
//! half-open until that ends.
//! It closes if the other side was reached, and opens again for longer if it was not. So an outage costs
//! neither a connection nor a write for each delivery, and its end is noticed within seconds for all.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::webhook::Channel;

/// Pause after the first try that reached no recipient; it doubles with each failed probe.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Upper bound on the pause between probes.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Reach of a try, whatever its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reached {
    /// The other side responded.
    OtherSide,
    /// Every delivery through this channel would fail in the same way at present.
    Nobody {
        /// Error of the notifier.
        why: String,
    },
    /// The notifier was never called, which says nothing about the channel.
    NotAsked,
}

/// Effect of a try on its channel's breaker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BreakerChange {
    /// The channel became unreachable.
    Opened {
        /// Error of the notifier.
        why: String,
    },
    /// The channel is reachable again.
    Closed {
        /// Duration of the outage.
        after: Duration,
    },
}

/// Breakers that are not closed. A channel without one is reachable.
#[derive(Debug, Default)]
pub(super) struct Breakers(BTreeMap<Channel, Breaker>);

#[derive(Debug)]
struct Breaker {
    opened_at: Instant,
    pause: Duration,
    state: BreakerState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BreakerState {
    Open { until: Instant },
    HalfOpen,
}

impl Breakers {
    /// Returns the channels that only a probe may use.
    pub(super) fn out(&self) -> BTreeSet<Channel> {
        self.0.keys().copied().collect()
    }

    /// Returns the channels for which a probe is due.
    pub(super) fn to_probe(&self, now: Instant) -> Vec<Channel> {
        let may_go =
            |breaker: &Breaker| matches!(breaker.state, BreakerState::Open { until } if until <= now);
        self.0.iter().filter(|(_, breaker)| may_go(breaker)).map(|(channel, _)| *channel).collect()
    }

    /// Returns the end of the next pause.
    pub(super) fn next_probe(&self, now: Instant) -> Option<Instant> {
        let until = |breaker: &Breaker| match breaker.state {
            BreakerState::Open { until } if until > now => Some(until),
            _ => None,
        };
        self.0.values().filter_map(until).min()
    }

    /// Returns for how long this process has known that a channel is unreachable.
    pub(super) fn out_for(&self, channel: Channel, now: Instant) -> Option<Duration> {
        self.0.get(&channel).map(|breaker| now.saturating_duration_since(breaker.opened_at))
    }

    /// Records the start of a probe.
    pub(super) fn probe(&mut self, channel: Channel) {
        if let Some(breaker) = self.0.get_mut(&channel) {
            breaker.state = BreakerState::HalfOpen;
        }
    }

    /// Records the end of a try.
    pub(super) fn end(
        &mut self,
        channel: Channel,
        is_probe: bool,
        reached: Reached,
        now: Instant,
    ) -> Option<BreakerChange> {
        match (reached, self.0.get_mut(&channel)) {
            (Reached::OtherSide, Some(breaker)) => {
                let after = now.saturating_duration_since(breaker.opened_at);
                self.0.remove(&channel);
                Some(BreakerChange::Closed { after })
            }
            (Reached::Nobody { why }, None) => {
                let state = BreakerState::Open { until: now + FIRST_PAUSE };
                self.0.insert(channel, Breaker { opened_at: now, pause: FIRST_PAUSE, state });
                Some(BreakerChange::Opened { why })
            }
            (Reached::Nobody { .. } | Reached::NotAsked, Some(breaker)) if is_probe => {
                breaker.pause = (breaker.pause * 2).min(LONGEST_PAUSE);
                breaker.state = BreakerState::Open { until: now + breaker.pause };
                None
            }
            // Tries that began before it opened carry no new information.
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMAIL: Channel = Channel::EMAIL;

    fn nobody() -> Reached {
        Reached::Nobody { why: "refused".to_owned() }
    }

    fn open(now: Instant) -> Breakers {
        let mut breakers = Breakers::default();
        let opened = Some(BreakerChange::Opened { why: "refused".to_owned() });
        assert_eq!(breakers.end(EMAIL, false, nobody(), now), opened);
        breakers
    }

    #[test]
    fn one_probe_at_a_time_goes_out_after_pauses_that_double_up_to_a_bound() {
        let mut now = Instant::now();
        let mut breakers = open(now);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let next = breakers.next_probe(now).unwrap();
            pauses.push((next - now).as_millis());
            assert_eq!(breakers.to_probe(next - Duration::from_millis(1)), []);
            assert_eq!(breakers.to_probe(next), [EMAIL]);
            breakers.probe(EMAIL);
            assert_eq!((breakers.to_probe(next), breakers.next_probe(next)), (vec![], None), "one at a time");
            now = next;
            assert_eq!(breakers.end(EMAIL, true, nobody(), now), None);
        }
        assert_eq!(pauses, [500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000]);
    }

    #[test]
    fn tries_that_had_begun_before_do_not_make_the_pause_longer() {
        let now = Instant::now();
        let mut breakers = open(now);
        let next = breakers.next_probe(now);
        for _ in 0..16 {
            assert_eq!(breakers.end(EMAIL, false, nobody(), now), None);
        }
        assert_eq!(breakers.next_probe(now), next);
        breakers.probe(EMAIL);
        breakers.end(EMAIL, false, nobody(), now);
        assert_eq!(breakers.next_probe(now), None, "the probe is still under way");
    }

    #[test]
    fn only_a_try_that_reached_the_other_side_closes_a_breaker() {
        let now = Instant::now();
        let mut breakers = open(now);
        let minute = Duration::from_secs(60);
        breakers.probe(EMAIL);
        assert_eq!(breakers.end(EMAIL, true, Reached::NotAsked, now + minute), None);
        assert_eq!(breakers.out_for(EMAIL, now + minute), Some(minute));
        assert_eq!(breakers.to_probe(now + minute), [], "the next one waits again");
        breakers.probe(EMAIL);
        let closed = breakers.end(EMAIL, true, Reached::OtherSide, now + 2 * minute);
        assert_eq!(closed, Some(BreakerChange::Closed { after: 2 * minute }));
        assert_eq!((breakers.out_for(EMAIL, now), breakers.out()), (None, BTreeSet::new()));
    }

    #[test]
    fn the_outage_of_one_channel_is_none_of_another() {
        let now = Instant::now();
        let mut breakers = open(now);
        assert_eq!(breakers.end(Channel::SLACK, false, Reached::OtherSide, now), None);
        assert_eq!(breakers.end(Channel::SLACK, false, Reached::NotAsked, now), None);
        assert_eq!(breakers.out(), BTreeSet::from([EMAIL]));
    }
}
