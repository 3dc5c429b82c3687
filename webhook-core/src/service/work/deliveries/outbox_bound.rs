//! Bound of the outbox: a mail server that is down for a day must not fill the disk.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::notifier::{Delivery, DeliveryOutcome};
use crate::service::parts::Parts;
use crate::service::work::supervised::caught;
use crate::store::{Outcome, Settlement};

/// Interval at which the store is asked for the number of pending deliveries, and upper bound on the wait for
/// its reply.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Error of a delivery that is given up before its first try.
const FULL: &str = "the outbox was full when the run ended; send it again once others have gone out";

/// Bound on the number of pending deliveries.
pub(in crate::service::work) struct OutboxBound {
    limit: u64,
    known: Mutex<Known>,
}

/// Number of pending deliveries: the store's last count, plus those that these workers added since, minus
/// those that they settled.
#[derive(Default)]
struct Known {
    pending: u64,
    asked: Option<Instant>,
}

impl OutboxBound {
    pub(in crate::service::work) fn new(limit: u64) -> Self {
        Self { limit, known: Mutex::default() }
    }

    /// Marks deliveries without space as given up.
    pub(in crate::service::work) async fn bound(&self, parts: &Parts, settlements: &mut [Settlement]) {
        for settlement in settlements {
            if let Outcome::Ended { deliveries, .. } = &mut settlement.outcome
                && !deliveries.is_empty()
            {
                self.ask(parts).await;
                *deliveries = self.bounded(std::mem::take(deliveries));
            }
        }
    }

    async fn ask(&self, parts: &Parts) {
        {
            let mut known = self.known.lock();
            if known.asked.is_some_and(|asked| asked.elapsed() < ASK_EVERY) {
                return;
            }
            known.asked = Some(Instant::now());
        }
        // A slow store delays no settlement; the work of these workers is known without it.
        let asking = caught(parts, "settling", parts.store.health());
        if let Ok(Ok(health)) = tokio::time::timeout(ASK_EVERY, asking).await {
            self.known.lock().pending = health.pending_deliveries;
        }
    }

    /// Records that a delivery is no longer pending.
    pub(super) fn note_settled(&self) {
        let mut known = self.known.lock();
        known.pending = known.pending.saturating_sub(1);
    }

    fn bounded(&self, deliveries: Vec<Delivery>) -> Vec<Delivery> {
        let mut known = self.known.lock();
        let room = usize::try_from(self.limit.saturating_sub(known.pending)).unwrap_or(usize::MAX);
        let given_up = deliveries.len().saturating_sub(room);
        known.pending += (deliveries.len() - given_up) as u64;
        drop(known);
        if given_up > 0 {
            tracing::warn!(limit = self.limit, given_up, "the outbox is full; deliveries are given up");
        }
        let full = DeliveryOutcome::Dropped { error: FULL.to_owned() };
        let bounded = |(index, delivery): (usize, Delivery)| {
            if index < room { delivery } else { delivery.after(&full) }
        };
        deliveries.into_iter().enumerate().map(bounded).collect()
    }
}
