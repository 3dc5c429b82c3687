//! Requests of the outbox: claiming deliveries, and recording the outcome of a try.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use crate::id::DeliveryId;
use crate::notifier::{Delivery, DeliveryOutcome, DeliveryState};
use crate::webhook::Channel;

/// Set of channels whose deliveries a worker requests. Default: all channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Channels {
    /// All channels except these.
    Except(BTreeSet<Channel>),
    /// One channel only.
    Only(Channel),
}

impl Channels {
    /// Returns whether the set contains `channel`.
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

/// Request of a worker for due deliveries.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeliveryClaimRequest {
    /// Upper bound on the claimed deliveries.
    pub limit: usize,
    /// Time during which no other worker gets a claimed delivery.
    pub lease: Duration,
    /// Channels whose deliveries are claimed.
    pub channels: Channels,
}

impl DeliveryClaimRequest {
    /// Requests at most `limit` deliveries, through any channel.
    #[must_use]
    pub fn new(limit: usize, lease: Duration) -> Self {
        Self { limit, lease, channels: Channels::default() }
    }

    /// Restricts the request to these channels.
    #[must_use]
    pub fn through(mut self, channels: Channels) -> Self {
        self.channels = channels;
        self
    }
}

/// Outcome of one try of a delivery, with the delivery's state when it was claimed.
///
/// That state shows whether another try was recorded since the claim.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeliverySettlement {
    /// Id of the delivery.
    pub id: DeliveryId,
    /// Number of recorded tries when the delivery was claimed.
    pub attempts: u32,
    /// Value of [`Delivery::asked_at`] when the delivery was claimed.
    pub asked_at: Option<SystemTime>,
    /// Outcome to record.
    pub outcome: DeliveryOutcome,
}

impl DeliverySettlement {
    /// Combines the delivery as it was claimed with the outcome of its try.
    #[must_use]
    pub fn new(claimed: &Delivery, outcome: DeliveryOutcome) -> Self {
        Self { id: claimed.id, attempts: claimed.attempts, asked_at: claimed.asked_at, outcome }
    }

    /// Returns the stored delivery after this try, or `None` if the outcome comes too late and changes
    /// nothing.
    ///
    /// An outcome is too late once the delivery has been settled finally or sent again, or once another try
    /// has been recorded.
    /// Exception: [`Delivered`](DeliveryOutcome::Delivered) counts even after another failed try, since the
    /// message must not go out again.
    ///
    /// A store calls this inside its atomic step.
    #[must_use]
    pub fn applied_to(&self, stored: &Delivery) -> Option<Delivery> {
        let is_newest = self.attempts == stored.attempts || self.outcome == DeliveryOutcome::Delivered;
        let applies = stored.state == DeliveryState::Pending && self.asked_at == stored.asked_at && is_newest;
        applies.then(|| stored.after(&self.outcome))
    }

    /// Returns the pause before the next try, zero if there is none.
    #[must_use]
    pub fn pause(&self) -> Duration {
        match self.outcome {
            DeliveryOutcome::Retry { delay, .. } => delay,
            _ => Duration::ZERO,
        }
    }
}
