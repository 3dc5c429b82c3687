//! The outbox's requests: which deliveries a worker asks for, and how its tries went.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use crate::id::DeliveryId;
use crate::notifier::{Delivery, DeliveryOutcome, DeliveryState};
use crate::webhook::Channel;

/// Channels of the deliveries that a worker asks for. All of them by default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Channels {
    /// All but these.
    Except(BTreeSet<Channel>),
    /// This one alone.
    Only(Channel),
}

impl Channels {
    /// Returns whether a channel is one of them.
    #[must_use]
    pub fn include(&self, channel: Channel) -> bool {
        match self {
            Self::Except(left_out) => !left_out.contains(&channel),
            Self::Only(only) => *only == channel,
        }
    }
}

impl Default for Channels {
    fn default() -> Self {
        Self::Except(BTreeSet::new())
    }
}

/// A worker's request for deliveries.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeliveryClaimRequest {
    /// At most this many.
    pub limit: usize,
    /// For how long a claimed delivery is given to nobody else.
    pub lease: Duration,
    /// The channels that are asked for.
    pub channels: Channels,
}

impl DeliveryClaimRequest {
    /// Asks for at most `limit` deliveries, through any channel.
    #[must_use]
    pub fn new(limit: usize, lease: Duration) -> Self {
        Self { limit, lease, channels: Channels::default() }
    }

    /// Sets the channels that are asked for.
    #[must_use]
    pub fn through(mut self, channels: Channels) -> Self {
        self.channels = channels;
        self
    }
}

/// How one try of a delivery went, with what tells whether another try was recorded since it was claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeliverySettlement {
    /// The delivery.
    pub id: DeliveryId,
    /// How often it had been tried when it was claimed.
    pub attempts: u32,
    /// Since when it was to go out when it was claimed.
    pub asked_at: Option<SystemTime>,
    /// What to record.
    pub outcome: DeliveryOutcome,
}

impl DeliverySettlement {
    /// Says how a try of a delivery went, which is given as it was claimed.
    #[must_use]
    pub fn new(claimed: &Delivery, outcome: DeliveryOutcome) -> Self {
        Self { id: claimed.id, attempts: claimed.attempts, asked_at: claimed.asked_at, outcome }
    }

    /// Returns the stored delivery after this try, or `None` if the outcome comes too late and changes nothing.
    ///
    /// It is too late once the delivery has been settled for good or sent again, or another try has been recorded.
    /// Only that the other side has taken it counts after another failed try too: it must not go out once more.
    ///
    /// A store calls it inside its atomic step.
    #[must_use]
    pub fn applied_to(&self, stored: &Delivery) -> Option<Delivery> {
        let is_newest = self.attempts == stored.attempts || self.outcome == DeliveryOutcome::Delivered;
        let applies = stored.state == DeliveryState::Pending && self.asked_at == stored.asked_at && is_newest;
        applies.then(|| stored.after(&self.outcome))
    }

    /// Returns how long the delivery is left alone after this try.
    #[must_use]
    pub fn pause(&self) -> Duration {
        match self.outcome {
            DeliveryOutcome::Retry { delay, .. } => delay,
            _ => Duration::ZERO,
        }
    }
}
