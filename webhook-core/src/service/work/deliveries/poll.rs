//! The poller: claims due deliveries, and tries each in a task of its own.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::breaker::{BreakerChange, Breakers, Reached};
use super::sender::{CLAIMING, DeliverySender, LEASE, WORKING};
use super::slots::{DeliverySlots, Recipient};
use crate::executor::Cancellation;
use crate::notifier::Delivery;
use crate::service::meters::outages;
use crate::service::parts::Parts;
use crate::service::work::supervised::caught;
use crate::store::{Channels, DeliveryClaimRequest, StoreError, Work};
use crate::webhook::Channel;

/// Pause after a claim failed.
const PAUSE: Duration = Duration::from_secs(1);

/// Sends due deliveries until told to drain, and then lets the tries in progress end.
pub(in crate::service::work) async fn send_deliveries(sender: DeliverySender, draining: Cancellation) {
    let slots = DeliverySlots::new(sender.slots);
    let (sender, breakers) = (Arc::new(sender), Breakers::default());
    let mut poller = Poller { sender, breakers, slots, tries: JoinSet::new(), failed_until: None };
    while !draining.is_cancelled() {
        let found = poller.poll_unless_failed().await;
        poller.wait(found, &draining).await;
        while let Some(ended) = poller.tries.try_join_next() {
            poller.end(ended);
        }
    }
    while let Some(ended) = poller.tries.join_next().await {
        poller.end(ended);
    }
}

/// Claims deliveries and starts tries.
struct Poller {
    sender: Arc<DeliverySender>,
    breakers: Breakers,
    slots: DeliverySlots,
    tries: JoinSet<(Try, Reached)>,
    /// End of the pause after a failed claim.
    failed_until: Option<Instant>,
}

/// A try in progress.
struct Try {
    number: u64,
    channel: Channel,
    is_probe: bool,
}

impl Poller {
    /// Polls, unless a claim failed within the last pause. Returns whether any delivery was claimed.
    async fn poll_unless_failed(&mut self) -> bool {
        if self.failed_until.is_some_and(|until| until > Instant::now()) {
            return false;
        }
        self.failed_until = None;
        let sender = self.sender.clone();
        match caught(&sender.parts, "deliveries", self.poll()).await {
            Ok(found) => found,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "deliveries cannot be claimed");
                self.failed_until = Some(Instant::now() + PAUSE);
                false
            }
        }
    }

    /// Waits until another poll may claim a delivery. Returns at once if the last one did.
    async fn wait(&mut self, found: bool, draining: &Cancellation) {
        let now = Instant::now();
        let work = self.awaited(now).filter(|_| self.failed_until.is_none());
        let until = self.failed_until.into_iter().chain(self.next_change(now)).min();
        tokio::select! {
            biased;
            _ = draining.cancelled() => {}
            Some(ended) = self.tries.join_next() => self.end(ended),
            () = std::future::ready(()), if found => {}
            () = sleep_until(until.unwrap_or(now)), if until.is_some() => {}
            () = wait_for(&self.sender.parts, work) => {}
        }
    }

    /// Makes one claim, of deliveries that may begin, and begins them. Returns whether any was claimed.
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
        let claimed = self.sender.parts.store.claim_deliveries(request).await?;
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
        let sender = self.sender.clone();
        self.tries.spawn(async move {
            let delivering = AssertUnwindSafe(sender.deliver(delivery, outage, record_until)).catch_unwind();
            (begun, delivering.await.unwrap_or(Reached::NotAsked))
        });
    }

    fn end(&mut self, ended: Result<(Try, Reached), JoinError>) {
        // A try catches its panics, and none is aborted while the poller lives, so there is no error.
        let Ok((ended, reached)) = ended else { return };
        let now = Instant::now();
        self.slots.end(ended.number, now);
        let name = ended.channel.as_str();
        match self.breakers.end(ended.channel, ended.is_probe, reached, now) {
            Some(BreakerChange::Closed { after }) => {
                tracing::info!(channel = name, lasted_s = after.as_secs(), "a channel can be used again");
                outages::ended(ended.channel);
            }
            Some(BreakerChange::Opened { why }) => {
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

    /// Returns when a delivery may begin without the end of another: a probe is due, or a slow try gives up
    /// its slot.
    fn next_change(&self, now: Instant) -> Option<Instant> {
        let no_slot = self.slots.free(now) == 0;
        let next_free = self.slots.next_free(now).filter(|_| no_slot);
        self.breakers.next_probe(now).into_iter().chain(next_free).min()
    }
}

async fn wait_for(parts: &Parts, channels: Option<Channels>) {
    match channels {
        Some(channels) => {
            let waiting = parts.store.wait_for_work(Work::Deliveries(channels)).map(Ok);
            if caught(parts, "deliveries", waiting).await.is_err() {
                tokio::time::sleep(PAUSE).await;
            }
        }
        None => std::future::pending().await,
    }
}
