//! Sending notifications from the outbox.
//!
//! The poller claims due deliveries and tries each in a task of its own. [`breaker`] decides which channels it may ask for.
//! [`slots`] decides how many tries may begin, and to which recipients. Both decide without I/O and without a clock.
//! A claimed delivery may not begin while another one to the same slow recipient is under way. It is claimed again when
//! its lease has ended.

mod breaker;
mod outbox_bound;
mod slots;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::WorkerOptions;
use super::supervised::caught;
use crate::error::chain;
use crate::executor::Cancellation;
use crate::notifier::{
    DELIVERY_TIMEOUT, DeliverError, Delivery, DeliveryOutcome, DeliveryState, Notification, Notifier, guarded,
};
use crate::retry::RetryPolicy;
use crate::run::shortened;
use crate::service::Webhooks;
use crate::service::meters::outages;
use crate::store::{Channels, DeliveryClaimRequest, DeliveryQuery, DeliverySettlement, StoreError, Work};
use crate::webhook::Channel;

use breaker::{Breakers, Change, Reached};
pub(super) use outbox_bound::OutboxBound;
use slots::{Recipient, Slots};

/// How long a claim may take. Deliveries of a slower claim are not tried; they are claimed again when their lease has ended.
const CLAIMING: Duration = Duration::from_secs(15);
/// How long reading the run and its title may take.
const PREPARING: Duration = Duration::from_secs(15);
/// For how long recording an outcome is tried, at least.
const RECORDING: Duration = Duration::from_secs(30);
/// Upper bound on the time from before a claim until the outcome is recorded.
const WORKING: Duration =
    CLAIMING.saturating_add(PREPARING).saturating_add(DELIVERY_TIMEOUT).saturating_add(RECORDING);
/// Lease of a claimed delivery: longer than any work on it.
const LEASE: Duration = WORKING.saturating_add(Duration::from_secs(10));
/// The pause after a claim failed.
const PAUSE: Duration = Duration::from_secs(1);
/// The first and the longest pause after the store failed to record an outcome.
const RECORD_PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// The longest pause that the other side may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3_600);
/// How often expired deliveries are searched for.
const SEARCH_EVERY: Duration = Duration::from_secs(600);
/// How many expired deliveries are given up in one step.
const EXPIRED_AT_ONCE: usize = 256;
/// Why a delivery is given up that was not tried.
const EXPIRED: &str = "it waited too long for a channel that could not be used; send it again once it can";
/// The longest error that is kept, in bytes.
const ERROR_BYTES: usize = 1_024;

/// Sends notifications.
pub(super) struct Deliveries {
    webhooks: Webhooks,
    retries: RetryPolicy,
    expiry: Duration,
    slots: usize,
    outbox: Arc<OutboxBound>,
    /// When expired deliveries of a channel were last searched for.
    searched_at: Mutex<BTreeMap<Channel, Instant>>,
}

/// Asks for deliveries and starts tries.
struct Poller {
    deliveries: Arc<Deliveries>,
    breakers: Breakers,
    slots: Slots,
    tries: JoinSet<(Try, Reached)>,
}

/// A try under way.
struct Try {
    number: u64,
    channel: Channel,
    is_probe: bool,
}

impl Deliveries {
    pub(super) fn new(webhooks: Webhooks, options: &WorkerOptions, outbox: Arc<OutboxBound>) -> Arc<Self> {
        let (retries, expiry) = (options.delivery_retries, options.delivery_expiry);
        let (slots, searched_at) = (options.delivery_slots.max(1), Mutex::default());
        Arc::new(Self { webhooks, retries, expiry, slots, outbox, searched_at })
    }

    /// Sends due deliveries until told to drain, and then lets the tries that are under way end.
    pub(super) async fn run(self: Arc<Self>, draining: Cancellation) {
        let (breakers, slots) = (Breakers::default(), Slots::new(self.slots));
        let mut poller = Poller { deliveries: self.clone(), breakers, slots, tries: JoinSet::new() };
        let mut failed_until = None;
        loop {
            let mut found = false;
            if failed_until.is_none_or(|until| until <= Instant::now()) {
                failed_until = None;
                match caught(&self.webhooks, "deliveries", poller.poll()).await {
                    Ok(any) => found = any,
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::error!(error, "deliveries cannot be claimed");
                        failed_until = Some(Instant::now() + PAUSE);
                    }
                }
            }
            let now = Instant::now();
            let work = poller.awaited(now).filter(|_| failed_until.is_none());
            let until = failed_until.into_iter().chain(poller.next_change(now)).min();
            tokio::select! {
                biased;
                _ = draining.cancelled() => break,
                Some(ended) = poller.tries.join_next() => poller.end(ended),
                () = std::future::ready(()), if found => {}
                () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {}
                () = wait_for(&self.webhooks, work) => {}
            }
            while let Some(ended) = poller.tries.try_join_next() {
                poller.end(ended);
            }
        }
        while let Some(ended) = poller.tries.join_next().await {
            poller.end(ended);
        }
    }

    /// Tries one delivery and records its outcome. Returns whether the other side was reached. `outage` is how long the
    /// channel's circuit breaker has not been closed.
    async fn deliver(&self, delivery: Delivery, outage: Option<Duration>, record_until: Instant) -> Reached {
        let prepared = guarded("looking up the run", PREPARING, self.prepare(&delivery)).await;
        let (outcome, reached) = match prepared {
            Ok((notifier, notification)) => {
                // The error is made a text in here, where a panic of its `Display` is caught.
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

    /// Finds the notifier that is to deliver this, and what it is given.
    async fn prepare(&self, delivery: &Delivery) -> Result<(&dyn Notifier, Notification), DeliverError> {
        let inner = &self.webhooks.inner;
        let serving = inner.notifier(delivery.channel);
        let notifier =
            serving.ok_or_else(|| DeliverError::permanent("no integration serves this channel"))?;
        let run = inner.store.get_run(delivery.run).await.map_err(DeliverError::retryable)?;
        let run = run.ok_or_else(|| DeliverError::permanent("the run does not exist any more"))?;
        let title = inner.title(&run.workflow).await.map_err(DeliverError::retryable)?;
        let page = inner.run_url(&run);
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
                let now = self.webhooks.inner.now();
                DeliveryOutcome::Retry { error, delay, at: now.checked_add(delay).unwrap_or(now) }
            }
            _ => DeliveryOutcome::GivenUp { error },
        }
    }

    /// Whether a delivery has waited too long for a channel that has been out for this long. The outage itself must have
    /// lasted so long, as this process knows it: neither a jump of the clock nor a standstill of the process counts.
    fn is_expired(&self, delivery: &Delivery, outage: Option<Duration>) -> bool {
        let lasts_long = outage.is_some_and(|lasts| lasts >= self.expiry);
        lasts_long && delivery.age(self.webhooks.inner.now()) >= self.expiry
    }

    /// Gives up deliveries that have waited too long for a channel whose outage has lasted as long. The probe that just
    /// failed is the only try under way.
    async fn give_up_expired(&self, channel: Channel) {
        let (inner, now) = (&self.webhooks.inner, Instant::now());
        if self.searched_at.lock().get(&channel).is_some_and(|last| now - *last < SEARCH_EVERY) {
            return;
        }
        self.searched_at.lock().insert(channel, now);
        let mut before = None;
        loop {
            let pending = DeliveryQuery::default().in_state(Some(DeliveryState::Pending));
            let query = pending.through(Some(channel)).before(before).limit(EXPIRED_AT_ONCE);
            let page = match inner.store.find_deliveries(query).await {
                Ok(page) => page,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "expired deliveries cannot be found");
                    return;
                }
            };
            let is_old = |delivery: &&Delivery| delivery.age(inner.now()) >= self.expiry;
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
        let inner = &self.webhooks.inner;
        let recording = async {
            let (mut pause, longest) = RECORD_PAUSES;
            let settle = async || {
                let settling = inner.store.settle_deliveries(settlements.clone());
                caught(&self.webhooks, "deliveries", settling).await
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
            inner.meters.delivery(&settlement.outcome);
            if is_recorded && !matches!(settlement.outcome, DeliveryOutcome::Retry { .. }) {
                self.outbox.note_settled();
            }
        }
        inner.progress.notify_waiters();
        is_recorded
    }
}

impl Poller {
    /// Claims once what may begin, and begins it. Returns whether the claims gave anything.
    async fn poll(&mut self) -> Result<bool, StoreError> {
        let mut found = false;
        for channel in self.breakers.to_probe(Instant::now()) {
            found |= self.claim(Channels::Only(channel), 1).await?;
        }
        let mut left_out = self.breakers.out();
        left_out.extend(self.slots.saturated(Instant::now()));
        Ok(found | self.claim(Channels::Except(left_out), usize::MAX).await?)
    }

    async fn claim(&mut self, channels: Channels, most: usize) -> Result<bool, StoreError> {
        let limit = self.slots.free(Instant::now()).min(most);
        if limit == 0 {
            return Ok(false);
        }
        let request = DeliveryClaimRequest::new(limit, LEASE).through(channels);
        let asked_at = Instant::now();
        let claimed = self.deliveries.webhooks.inner.store.claim_deliveries(request).await?;
        let count = claimed.len();
        if asked_at.elapsed() > CLAIMING {
            tracing::warn!(count, "deliveries were claimed too slowly; they are left to their lease");
            return Ok(false);
        }
        for delivery in claimed {
            self.begin(delivery, asked_at + WORKING);
        }
        Ok(count > 0)
    }

    fn begin(&mut self, delivery: Delivery, record_until: Instant) {
        let (now, channel) = (Instant::now(), delivery.channel);
        let recipient = Recipient::of(&delivery);
        let outage = self.breakers.out_for(channel, now);
        let number = match outage {
            Some(_) => Some(self.slots.begin_probe(recipient, now)),
            None => self.slots.begin(recipient, now),
        };
        let Some(number) = number else { return };
        self.breakers.probe(channel);
        let begun = Try { number, channel, is_probe: outage.is_some() };
        let deliveries = self.deliveries.clone();
        self.tries.spawn(async move {
            let delivering =
                AssertUnwindSafe(deliveries.deliver(delivery, outage, record_until)).catch_unwind();
            (begun, delivering.await.unwrap_or(Reached::NotAsked))
        });
    }

    fn end(&mut self, ended: Result<(Try, Reached), JoinError>) {
        // A try catches its panics, and none is aborted while the poller lives: there is no error.
        let Ok((ended, reached)) = ended else { return };
        let now = Instant::now();
        self.slots.end(ended.number, now);
        let name = ended.channel.as_str();
        match self.breakers.end(ended.channel, ended.is_probe, reached, now) {
            Some(Change::Closed { after }) => {
                tracing::info!(channel = name, lasted_s = after.as_secs(), "a channel can be used again");
                outages::ended(ended.channel);
            }
            Some(Change::Opened { why }) => {
                tracing::warn!(channel = name, error = why, "a channel cannot be used; its deliveries wait");
                outages::began(ended.channel);
            }
            None => {}
        }
    }

    /// Returns the channels through which a delivery could begin now, or `None` if no slot is free.
    fn awaited(&self, now: Instant) -> Option<Channels> {
        let mut left_out = self.breakers.out();
        for channel in self.breakers.to_probe(now) {
            left_out.remove(&channel);
        }
        left_out.extend(self.slots.saturated(now));
        (self.slots.free(now) > 0).then_some(Channels::Except(left_out))
    }

    /// Returns when a delivery may begin without the end of another: a probe is due, or a slow try gives its slot up.
    fn next_change(&self, now: Instant) -> Option<Instant> {
        let no_slot = self.slots.free(now) == 0;
        let next_free = self.slots.next_free(now).filter(|_| no_slot);
        self.breakers.next_probe(now).into_iter().chain(next_free).min()
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

async fn wait_for(webhooks: &Webhooks, channels: Option<Channels>) {
    match channels {
        Some(channels) => {
            let waiting = webhooks.inner.store.wait_for_work(Work::Deliveries(channels)).map(Ok);
            if caught(webhooks, "deliveries", waiting).await.is_err() {
                tokio::time::sleep(PAUSE).await;
            }
        }
        None => std::future::pending().await,
    }
}
