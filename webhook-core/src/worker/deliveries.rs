//! Sending notifications from the outbox.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::lanes::{Lanes, Try};
use super::outage::{Admitted, Held, Reached};
use super::{Phase, Shared};
use crate::error::chain;
use crate::notifier::{DeliverError, Delivery, DeliveryOutcome, Notification, Notifier};
use crate::run::shortened;
use crate::store::{Channels, DeliveryClaimRequest, DeliverySettlement, Work};

/// How long one try may take.
const TRY_TIMEOUT: Duration = Duration::from_secs(60);
/// After how long a try gives its slot to others.
const SLOW: Duration = Duration::from_secs(5);
/// The longest pause that the other side may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3_600);
/// For how long a claimed delivery is left alone: longer than a try and recording it takes.
const LEASE: Duration = Duration::from_secs(120);
/// For how long a claimed delivery waits here for its channel: what is left of its lease suffices for a try.
const HOLD: Duration = Duration::from_secs(50);
/// How long to wait after the store failed.
const PAUSE: Duration = Duration::from_secs(1);
/// Why a delivery is given up that was not tried.
const EXPIRED: &str = "it waited too long for a channel that could not be used; send it again once it can";
/// The longest error that is kept, in bytes.
const ERROR_BYTES: usize = 1_024;

/// Sends due deliveries until told to drain.
pub(super) async fn deliver(shared: Arc<Shared>, mut phase: watch::Receiver<Phase>) {
    let slots = Arc::new(Semaphore::new(shared.options.delivery_slots.max(1)));
    let lanes = Lanes::new(shared.options.delivery_slots.max(1));
    let mut tries = JoinSet::new();
    let mut held = Held::default();
    while *phase.borrow_and_update() == Phase::Working {
        while tries.try_join_next().is_some() {}
        let first = tokio::select! {
            permit = slots.clone().acquire_owned() => permit,
            _ = phase.changed() => continue,
        };
        let Ok(first) = first else { break };
        let limit = 1 + slots.available_permits();
        // Made before looking, so that no outage ends unnoticed in between.
        let channel_changed = Lanes::channel_changed(&lanes);
        let mut due = held.taken(limit, HOLD, |channel| Lanes::lets_through(&lanes, channel));
        let claimed = if due.is_empty() {
            shared.webhooks.inner.store.claim_deliveries(DeliveryClaimRequest::new(limit, LEASE)).await
        } else {
            Ok(Vec::new())
        };
        let just_now = Instant::now();
        let waited = match claimed {
            Ok(claimed) if claimed.is_empty() && due.is_empty() => {
                shared.webhooks.inner.store.wait_for_work(Work::Deliveries(Channels::default()))
            }
            Ok(claimed) => {
                due.extend(claimed.into_iter().map(|delivery| (just_now, delivery)));
                let more = std::iter::repeat_with(|| slots.clone().try_acquire_owned().ok());
                let mut permits = std::iter::once(Some(first)).chain(more);
                let mut expired = Vec::new();
                for (claimed_at, delivery) in due {
                    let Some(begun) = Try::begin(&lanes, &delivery) else {
                        // What may not begin now comes back when its lease is over, or sooner when its channel does.
                        // One that waited here may have been sent again since.
                        let outage = Lanes::outage_lasts(&lanes, delivery.channel);
                        if claimed_at == just_now && is_expired(&shared, &delivery, outage) {
                            expired.push(delivery);
                        } else if Lanes::lets_through(&lanes, delivery.channel) == Admitted::None {
                            held.put(claimed_at, delivery);
                        }
                        continue;
                    };
                    let outage = Lanes::outage_lasts(&lanes, delivery.channel);
                    let (shared, permit) = (shared.clone(), permits.next().flatten());
                    tries.spawn(async move {
                        let delivering = deliver_one(&shared, delivery, outage);
                        giving_way(delivering, begun, permit).await;
                    });
                }
                if !expired.is_empty() {
                    drop_expired(&shared, expired).await;
                }
                continue;
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "deliveries cannot be claimed");
                Box::pin(tokio::time::sleep(PAUSE))
            }
        };
        drop(first);
        tokio::select! {
            () = waited => {}
            () = channel_changed => {}
            _ = phase.changed() => {}
        }
    }
    while tries.join_next().await.is_some() {}
}

/// Goes on with a try that takes long without its slot.
async fn giving_way(
    delivering: impl Future<Output = Option<Reached>>,
    mut begun: Try,
    permit: Option<OwnedSemaphorePermit>,
) {
    tokio::pin!(delivering);
    let reached = match tokio::time::timeout(SLOW, &mut delivering).await {
        Ok(reached) => reached,
        Err(_) => {
            begun.is_slow();
            drop(permit);
            delivering.await
        }
    };
    if let Some(reached) = reached {
        begun.came_back(reached);
    }
}

/// Tries one delivery, whose channel has been out for this long if it is, and records how it went. Answers whether the
/// other side was reached, if the notifier was asked at all.
pub(super) async fn deliver_one(
    shared: &Shared,
    delivery: Delivery,
    outage: Option<Duration>,
) -> Option<Reached> {
    let inner = &shared.webhooks.inner;
    let (tried, reached) = match guarded(prepare(shared, &delivery)).await {
        Ok((notifier, notification)) => {
            let tried = guarded(notifier.deliver(&notification)).await;
            let reached = match &tried {
                Err(DeliverError::Unreachable(why)) => {
                    Reached::Nobody { why: shortened(chain(&**why), ERROR_BYTES) }
                }
                _ => Reached::OtherSide,
            };
            (tried, Some(reached))
        }
        Err(error) => (Err(error), None),
    };
    let outcome = judge(shared, &delivery, tried, outage);
    inner.meters.delivery(&outcome);
    if let DeliveryOutcome::GivenUp { error } = &outcome {
        let (channel, run) = (delivery.channel.as_str(), delivery.run);
        tracing::warn!(%delivery.id, %run, channel, error, "a delivery is given up");
    }
    if let Err(error) = inner.store.settle_deliveries(vec![DeliverySettlement::new(&delivery, outcome)]).await
    {
        tracing::error!(error = &error as &dyn std::error::Error, "a delivery's outcome was not recorded");
    }
    reached
}

/// Whether a delivery has waited too long for a channel that has been out for this long. The outage itself must have
/// lasted so long, as this process knows it: neither a jump of the clock nor a standstill of the process counts.
fn is_expired(shared: &Shared, delivery: &Delivery, outage: Option<Duration>) -> bool {
    let expiry = shared.options.delivery_expiry;
    outage.is_some_and(|lasts| lasts >= expiry) && delivery.age(shared.webhooks.inner.now()) >= expiry
}

/// Gives up deliveries that have waited too long behind others.
async fn drop_expired(shared: &Shared, expired: Vec<Delivery>) {
    let inner = &shared.webhooks.inner;
    tracing::warn!(count = expired.len(), "deliveries that waited too long are given up");
    let dropped = |delivery: Delivery| {
        let error = match &delivery.last_error {
            Some(last) if delivery.attempts > 0 => {
                shortened(format!("{EXPIRED}; its last try: {last}"), ERROR_BYTES)
            }
            _ => EXPIRED.to_owned(),
        };
        DeliverySettlement::new(&delivery, DeliveryOutcome::Dropped { error })
    };
    let outcomes: Vec<_> = expired.into_iter().map(dropped).collect();
    match inner.store.settle_deliveries(outcomes.clone()).await {
        Ok(()) => outcomes.iter().for_each(|settled| inner.meters.delivery(&settled.outcome)),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "expired deliveries are not recorded as such");
        }
    }
}

/// Gives a notifier a bounded time, and turns its panic into an error.
pub(crate) async fn guarded<T>(
    delivering: impl Future<Output = Result<T, DeliverError>>,
) -> Result<T, DeliverError> {
    let caught = AssertUnwindSafe(delivering).catch_unwind();
    match tokio::time::timeout(TRY_TIMEOUT, caught).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(DeliverError::retryable("the notifier panicked")),
        Err(_) => Err(DeliverError::retryable(format!("no answer within {TRY_TIMEOUT:?}"))),
    }
}

/// The notifier that is to deliver this, and what it is given.
async fn prepare<'a>(
    shared: &'a Shared,
    delivery: &Delivery,
) -> Result<(&'a dyn Notifier, Notification), DeliverError> {
    let inner = &shared.webhooks.inner;
    let serving = inner.notifier(delivery.channel);
    let notifier = serving.ok_or_else(|| DeliverError::permanent("no integration serves this channel"))?;
    let run = inner.store.get_run(delivery.run).await.map_err(DeliverError::retryable)?;
    let run = run.ok_or_else(|| DeliverError::permanent("the run does not exist any more"))?;
    let title = inner.title(&run.workflow).await.map_err(DeliverError::retryable)?;
    let page = inner.run_url(&run);
    let notification = Notification::new(
        delivery.id,
        delivery.channel,
        delivery.recipient.clone(),
        delivery.event,
        title,
        run,
    );
    let notification = match page {
        Some(page) => notification.with_run_url(page),
        None => notification,
    };
    Ok((&**notifier, notification))
}

fn judge(
    shared: &Shared,
    delivery: &Delivery,
    tried: Result<(), DeliverError>,
    outage: Option<Duration>,
) -> DeliveryOutcome {
    let policy = &shared.options.delivery_retries;
    let attempt = delivery.attempts + 1;
    let Err(error) = tried else { return DeliveryOutcome::Delivered };
    let after = match &error {
        DeliverError::Retryable { after, .. } => Some(after.unwrap_or_default()),
        DeliverError::Unreachable(_) if is_expired(shared, delivery, outage) => None,
        DeliverError::Unreachable(_) => Some(Duration::ZERO),
        DeliverError::Permanent(_) => None,
    };
    let error = shortened(chain(&error), ERROR_BYTES);
    match after {
        Some(after) if policy.allows_another(attempt) => {
            let delay = policy.delay(attempt, rand::random()).max(after.min(LONGEST_PAUSE));
            let now = shared.webhooks.inner.now();
            DeliveryOutcome::Retry { error, delay, at: now.checked_add(delay).unwrap_or(now) }
        }
        _ => DeliveryOutcome::GivenUp { error },
    }
}
