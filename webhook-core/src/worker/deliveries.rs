//! Sending notifications from the outbox.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::lanes::{Lanes, Try};
use super::{Phase, Shared};
use crate::error::chain;
use crate::notifier::{DeliverError, Delivery, DeliveryOutcome, Notification};
use crate::run::shortened;
use crate::store::Work;

/// How long one try may take.
const TRY_TIMEOUT: Duration = Duration::from_secs(60);
/// After how long a try gives its slot to others.
const SLOW: Duration = Duration::from_secs(5);
/// The longest pause that the other side may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3_600);
/// For how long a claimed delivery is left alone: longer than a try and recording it takes.
const LEASE: Duration = Duration::from_secs(120);
/// How long to wait after the store failed.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest error that is kept, in bytes.
const ERROR_BYTES: usize = 1_024;

/// Sends due deliveries until told to drain.
pub(super) async fn deliver(shared: Arc<Shared>, mut phase: watch::Receiver<Phase>) {
    let slots = Arc::new(Semaphore::new(shared.options.delivery_slots.max(1)));
    let lanes = Lanes::new(shared.options.delivery_slots.max(1));
    let mut tries = JoinSet::new();
    while *phase.borrow_and_update() == Phase::Working {
        while tries.try_join_next().is_some() {}
        let first = tokio::select! {
            permit = slots.clone().acquire_owned() => permit,
            _ = phase.changed() => continue,
        };
        let Ok(first) = first else { break };
        let limit = 1 + slots.available_permits();
        let waited = match shared.webhooks.inner.store.claim_deliveries(limit, LEASE).await {
            Ok(due) if due.is_empty() => shared.webhooks.inner.store.wait_for_work(Work::Deliveries),
            Ok(due) => {
                let more = std::iter::repeat_with(|| slots.clone().try_acquire_owned().ok());
                let mut permits = std::iter::once(Some(first)).chain(more);
                for delivery in due {
                    // What may not begin now comes back when its lease is over.
                    let Some(begun) = Try::begin(&lanes, &delivery) else { continue };
                    let (shared, permit) = (shared.clone(), permits.next().flatten());
                    tries.spawn(async move {
                        let delivering = deliver_one(&shared, delivery);
                        giving_way(delivering, begun, permit).await;
                    });
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
            _ = phase.changed() => {}
        }
    }
    while tries.join_next().await.is_some() {}
}

/// Goes on with a try that takes long without its slot.
async fn giving_way(
    delivering: impl Future<Output = ()>,
    mut begun: Try,
    permit: Option<OwnedSemaphorePermit>,
) {
    tokio::pin!(delivering);
    if tokio::time::timeout(SLOW, &mut delivering).await.is_err() {
        begun.is_slow();
        drop(permit);
        delivering.await;
    }
}

/// Tries one delivery and records how it went.
pub(super) async fn deliver_one(shared: &Shared, delivery: Delivery) {
    let inner = &shared.webhooks.inner;
    let outcome = judge(shared, &delivery, guarded(try_once(shared, &delivery)).await);
    inner.meters.delivery(&outcome);
    if let Err(error) = inner.store.settle_deliveries(vec![(delivery.id, outcome)]).await {
        tracing::error!(error = &error as &dyn std::error::Error, "a delivery's outcome was not recorded");
    }
}

/// Gives a notifier a bounded time, and turns its panic into an error.
pub(crate) async fn guarded(
    delivering: impl Future<Output = Result<(), DeliverError>>,
) -> Result<(), DeliverError> {
    let caught = AssertUnwindSafe(delivering).catch_unwind();
    match tokio::time::timeout(TRY_TIMEOUT, caught).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(DeliverError::retryable("the notifier panicked")),
        Err(_) => Err(DeliverError::retryable(format!("no answer within {TRY_TIMEOUT:?}"))),
    }
}

async fn try_once(shared: &Shared, delivery: &Delivery) -> Result<(), DeliverError> {
    let inner = &shared.webhooks.inner;
    let serving = inner.notifier(delivery.channel);
    let notifier = serving.ok_or_else(|| DeliverError::permanent("no integration serves this channel"))?;
    let run = inner.store.get_run(delivery.run).await.map_err(DeliverError::retryable)?;
    let run = run.ok_or_else(|| DeliverError::permanent("the run does not exist any more"))?;
    let title = inner.title(&run.workflow).await.map_err(DeliverError::retryable)?;
    let page = inner.url(&format!("/panel#/{}/runs/{}", run.workflow, run.id));
    let notification = Notification::new(
        delivery.id,
        delivery.channel,
        delivery.recipient.clone(),
        delivery.event,
        title,
        run,
    )
    .with_run_url(page);
    notifier.deliver(&notification).await
}

fn judge(shared: &Shared, delivery: &Delivery, tried: Result<(), DeliverError>) -> DeliveryOutcome {
    let policy = &shared.options.delivery_retries;
    let attempt = delivery.attempts + 1;
    match tried {
        Ok(()) => DeliveryOutcome::Delivered,
        Err(DeliverError::Retryable { source, after }) if policy.allows_another(attempt) => {
            let delay =
                policy.delay(attempt, rand::random()).max(after.unwrap_or_default().min(LONGEST_PAUSE));
            let now = shared.webhooks.inner.now();
            let error = shortened(chain(&*source), ERROR_BYTES);
            DeliveryOutcome::Retry { error, delay, at: now.checked_add(delay).unwrap_or(now) }
        }
        Err(error) => DeliveryOutcome::GivenUp { error: shortened(chain(&error), ERROR_BYTES) },
    }
}
