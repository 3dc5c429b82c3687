//! One try of a delivery: prepares it, calls its notifier, and records the outcome.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::breaker::Reached;
use super::outbox_bound::OutboxBound;
use crate::error::chain;
use crate::notifier::{
    DELIVERY_TIMEOUT, DeliverError, Delivery, DeliveryOutcome, DeliveryState, Notification, Notifier, guarded,
};
use crate::retry::RetryPolicy;
use crate::run::shortened;
use crate::service::parts::Parts;
use crate::service::work::options::WorkerOptions;
use crate::service::work::supervised::caught;
use crate::store::{DeliveryQuery, DeliverySettlement};
use crate::webhook::Channel;

/// Upper bound on the time of a claim. Deliveries of a slower claim are not tried; they are claimed again
/// when their lease has ended.
pub(super) const CLAIMING: Duration = Duration::from_secs(15);
/// Upper bound on the time for reading the run and its title.
const PREPARING: Duration = Duration::from_secs(15);
/// Lower bound on the time for which recording an outcome is tried.
const RECORDING: Duration = Duration::from_secs(30);
/// Upper bound on the time from before a claim until the outcome is recorded.
pub(super) const WORKING: Duration =
    CLAIMING.saturating_add(PREPARING).saturating_add(DELIVERY_TIMEOUT).saturating_add(RECORDING);
/// Lease of a claimed delivery: longer than any work on it.
pub(super) const LEASE: Duration = WORKING.saturating_add(Duration::from_secs(10));
/// First and longest pause after the store failed to record an outcome.
const RECORD_PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Upper bound on the pause that the other side may request.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3_600);
/// Lower bound on the time between two searches for expired deliveries of a channel.
const SEARCH_EVERY: Duration = Duration::from_secs(600);
/// Upper bound on expired deliveries that are given up in one step.
const EXPIRED_AT_ONCE: usize = 256;
/// Error of a delivery that is given up without a try.
const EXPIRED: &str = "it waited too long for a channel that could not be used; send it again once it can";
/// Upper bound on a kept error, in bytes.
const ERROR_BYTES: usize = 1_024;

/// Sends single deliveries.
pub(in crate::service::work) struct DeliverySender {
    pub(super) parts: Arc<Parts>,
    retries: RetryPolicy,
    expiry: Duration,
    /// Upper bound on concurrent quick tries.
    pub(super) slots: usize,
    outbox: Arc<OutboxBound>,
    /// Times of the last searches for expired deliveries, by channel.
    searched_at: Mutex<BTreeMap<Channel, Instant>>,
}

impl DeliverySender {
    pub(in crate::service::work) fn new(
        parts: Arc<Parts>,
        options: &WorkerOptions,
        outbox: Arc<OutboxBound>,
    ) -> Self {
        Self {
            parts,
            retries: options.delivery_retries,
            expiry: options.delivery_expiry,
            slots: options.delivery_slots.max(1),
            outbox,
            searched_at: Mutex::default(),
        }
    }

    /// Tries one delivery and records its outcome. Returns whether the other side was reached.
    ///
    /// `outage` is the time for which the channel's circuit breaker has not been closed.
    pub(super) async fn deliver(
        &self,
        delivery: Delivery,
        outage: Option<Duration>,
        record_until: Instant,
    ) -> Reached {
        let prepared = guarded("looking up the run", PREPARING, self.prepare(&delivery)).await;
        let (outcome, reached) = match prepared {
            Ok((notifier, notification)) => {
                // The error is formatted in here, where a panic of its `Display` is caught.
                let trying = async {
                    let tried = notifier.deliver(&notification).await;
                    let reached = match &tried {
                        Err(DeliverError::Unreachable(why)) => {
                            Reached::Nobody { why: shortened(chain(&**why), ERROR_BYTES) }
                        }
                        _ => Reached::OtherSide,
                    };
                    Ok((self.judge(&delivery, tried, outage), reached))
                };
                let tried = guarded("the notifier", DELIVERY_TIMEOUT, trying).await;
                tried.unwrap_or_else(|error| (self.judge(&delivery, Err(error), outage), Reached::OtherSide))
            }
            Err(error) => (self.judge(&delivery, Err(error), outage), Reached::NotAsked),
        };
        if let DeliveryOutcome::GivenUp { error } = &outcome {
            let (channel, run) = (delivery.channel.as_str(), delivery.run);
            tracing::warn!(%delivery.id, %run, channel, error, "a delivery is given up");
        }
        self.record(vec![DeliverySettlement::new(&delivery, outcome)], record_until).await;
        if matches!(reached, Reached::Nobody { .. }) && outage.is_some_and(|lasts| lasts >= self.expiry) {
            self.give_up_expired(delivery.channel).await;
        }
        reached
    }

    /// Finds the notifier of a delivery, and builds its notification.
    async fn prepare(&self, delivery: &Delivery) -> Result<(&dyn Notifier, Notification), DeliverError> {
        let serving = self.parts.notifier(delivery.channel);
        let notifier =
            serving.ok_or_else(|| DeliverError::permanent("no integration serves this channel"))?;
        let run = self.parts.store.get_run(delivery.run).await.map_err(DeliverError::retryable)?;
        let run = run.ok_or_else(|| DeliverError::permanent("the run no longer exists"))?;
        let title = self.parts.title(run.workflow()).await.map_err(DeliverError::retryable)?;
        let page = self.parts.run_url(&run);
        let (recipient, event) = (delivery.recipient.clone(), delivery.event);
        let notification = Notification::new(delivery.id, delivery.channel, recipient, event, title, run);
        let notification = match page {
            Some(page) => notification.with_run_url(page),
            None => notification,
        };
        Ok((&**notifier, notification))
    }

    fn judge(
        &self,
        delivery: &Delivery,
        tried: Result<(), DeliverError>,
        outage: Option<Duration>,
    ) -> DeliveryOutcome {
        let attempt = delivery.attempts + 1;
        let Err(error) = tried else { return DeliveryOutcome::Delivered };
        let after = match &error {
            DeliverError::Retryable { after, .. } => Some(after.unwrap_or_default()),
            DeliverError::Unreachable(_) if self.is_expired(delivery, outage) => None,
            DeliverError::Unreachable(_) => Some(Duration::ZERO),
            DeliverError::Permanent(_) => None,
        };
        let error = shortened(chain(&error), ERROR_BYTES);
        match after {
            Some(after) if self.retries.allows_another(attempt) => {
                let delay = self.retries.delay(attempt, rand::random()).max(after.min(LONGEST_PAUSE));
                let now = self.parts.now();
                DeliveryOutcome::Retry { error, delay, at: now.checked_add(delay).unwrap_or(now) }
            }
            _ => DeliveryOutcome::GivenUp { error },
        }
    }

    /// Returns whether a delivery has waited too long for a channel that has been unreachable for this long.
    ///
    /// The outage itself must have lasted so long, as this process knows it: neither a jump of the clock nor
    /// a standstill of the process counts.
    fn is_expired(&self, delivery: &Delivery, outage: Option<Duration>) -> bool {
        let lasts_long = outage.is_some_and(|lasts| lasts >= self.expiry);
        lasts_long && delivery.age(self.parts.now()) >= self.expiry
    }

    /// Gives up deliveries that have waited too long for a channel whose outage has lasted as long. The only
    /// try in progress is the probe that just failed.
    async fn give_up_expired(&self, channel: Channel) {
        let (parts, now) = (&self.parts, Instant::now());
        if self.searched_at.lock().get(&channel).is_some_and(|last| now - *last < SEARCH_EVERY) {
            return;
        }
        self.searched_at.lock().insert(channel, now);
        let mut before = None;
        loop {
            let pending = DeliveryQuery::default().in_state(Some(DeliveryState::Pending));
            let query = pending.through(Some(channel)).before(before).limit(EXPIRED_AT_ONCE);
            let page = match parts.store.find_deliveries(query).await {
                Ok(page) => page,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "expired deliveries cannot be found");
                    return;
                }
            };
            let is_old = |delivery: &&Delivery| delivery.age(parts.now()) >= self.expiry;
            let expired: Vec<_> = page.items.iter().filter(is_old).map(dropped).collect();
            if !expired.is_empty() {
                let (channel, count) = (channel.as_str(), expired.len());
                tracing::warn!(channel, count, "deliveries that waited too long are given up");
                if !self.record(expired, Instant::now() + RECORDING).await {
                    return;
                }
            }
            match page.next {
                None => return,
                next => before = next,
            }
        }
    }

    /// Records outcomes, and tries again until `until`. Returns whether they are recorded.
    async fn record(&self, settlements: Vec<DeliverySettlement>, until: Instant) -> bool {
        let parts = &self.parts;
        let recording = async {
            let (mut pause, longest) = RECORD_PAUSES;
            let settle = async || {
                let settling = parts.store.settle_deliveries(settlements.clone());
                caught(&self.parts, "deliveries", settling).await
            };
            while let Err(error) = settle().await {
                let why = chain(&error);
                tracing::error!(error = why, "the outcome of a delivery cannot be recorded yet");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(longest);
            }
        };
        let is_recorded = tokio::time::timeout_at(until, recording).await.is_ok();
        if !is_recorded {
            tracing::error!(
                count = settlements.len(),
                "outcomes of deliveries are lost; they are tried again"
            );
        }
        for settlement in &settlements {
            parts.meters.delivery(&settlement.outcome);
            if is_recorded && !matches!(settlement.outcome, DeliveryOutcome::Retry { .. }) {
                self.outbox.note_settled();
            }
        }
        parts.progress.notify_waiters();
        is_recorded
    }
}

fn dropped(delivery: &Delivery) -> DeliverySettlement {
    let error = match &delivery.last_error {
        Some(last) if delivery.attempts > 0 => {
            shortened(format!("{EXPIRED}; its last try: {last}"), ERROR_BYTES)
        }
        _ => EXPIRED.to_owned(),
    };
    DeliverySettlement::new(delivery, DeliveryOutcome::Dropped { error })
}
