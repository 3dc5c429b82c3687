//! Records the outcomes of attempts, in batches.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::pool::RunPool;
use crate::notifier::{Delivery, DeliveryState};
use crate::run::{Ending, ErrorKind, RunError};
use crate::service::work::supervised::caught;
use crate::store::{Outcome, Settled, Settlement, StoreError};

/// Upper bound on settlements that are recorded in one call.
const BATCH: usize = 256;
/// First pause after the store failed; it doubles with each further failure.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause after the store failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Interval at which a settlement that was set aside is tried again.
const ASIDE_PAUSE: Duration = Duration::from_secs(1);
/// Time after which outcomes that wait for the store are reported as not recorded.
const SLOW: Duration = Duration::from_secs(5);
/// Number of times that a working store may refuse a settlement, before its run is failed instead.
const TRIES: u32 = 5;

/// Records settlements as they arrive.
///
/// A batch that fails is tried again while the store is unavailable. That is safe: its leases are renewed
/// meanwhile, and settling twice changes nothing.
/// If the store can be written, the batch contains a fault. Then each settlement is recorded by itself, and a
/// refused one is set aside, where it delays no other.
pub(in crate::service::work) async fn settle(pool: Arc<RunPool>) {
    let mut settlements = pool.settlements.receiver.lock().await;
    let (mut batch, mut aside) = (Vec::new(), JoinSet::new());
    loop {
        pool.parts.trouble.set_unrecorded(aside.len());
        tokio::select! {
            _ = settlements.recv_many(&mut batch, BATCH) => {}
            Some(_) = aside.join_next() => continue,
        }
        // Attempts that are about to end get the chance to join the batch.
        tokio::task::yield_now().await;
        while batch.len() < BATCH
            && let Ok(another) = settlements.try_recv()
        {
            batch.push(another);
        }
        let count = aside.len() + batch.len();
        let recording = async {
            pool.outbox.bound(&pool.parts, &mut batch).await;
            record_when_possible(&pool, &batch).await
        };
        if let Err(error) = reported_when_slow(&pool, count, recording).await {
            tracing::error!(error = &error as &dyn std::error::Error, "an outcome cannot be recorded");
            let mut unrecorded = count;
            for settlement in batch.drain(..) {
                let recording = record(&pool, std::slice::from_ref(&settlement));
                match reported_when_slow(&pool, unrecorded, recording).await {
                    Ok(()) => unrecorded -= 1,
                    Err(_) => {
                        aside.spawn(record_aside(pool.clone(), settlement));
                    }
                }
            }
        }
        batch.clear();
    }
}

/// Awaits the recording of outcomes. If that takes long, reports this many as not recorded.
async fn reported_when_slow<T>(pool: &RunPool, count: usize, recording: impl Future<Output = T>) -> T {
    let mut recording = pin!(recording);
    match timeout(SLOW, recording.as_mut()).await {
        Ok(recorded) => recorded,
        Err(_) => {
            tracing::warn!(outcomes = count, "the store takes long to record outcomes");
            pool.parts.trouble.set_unrecorded(count);
            recording.await
        }
    }
}

/// Records a batch, and waits while the store is unavailable. Returns an error if the store refuses the
/// batch.
async fn record_when_possible(pool: &RunPool, batch: &[Settlement]) -> Result<(), StoreError> {
    let mut pause = FIRST_PAUSE;
    loop {
        let Err(error) = record(pool, batch).await else { return Ok(()) };
        if is_in_order(pool).await {
            return Err(error);
        }
        tracing::error!(error = &error as &dyn std::error::Error, "outcomes cannot be recorded now");
        pool.parts.trouble.set_unrecorded(batch.len());
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Tries a refused settlement again. After the last try, its run is recorded as failed instead.
async fn record_aside(pool: Arc<RunPool>, mut settlement: Settlement) {
    let mut tries = 1;
    loop {
        sleep(ASIDE_PAUSE).await;
        let Err(error) = record(&pool, std::slice::from_ref(&settlement)).await else { return };
        if !is_in_order(&pool).await {
            continue;
        }
        tries += 1;
        if tries == TRIES {
            let run = settlement.run;
            tracing::error!(%run, error = &error as &dyn std::error::Error, "the run is failed: its outcome is refused");
            let error =
                RunError::new(ErrorKind::Fatal, "its outcome could not be recorded; the log says why");
            settlement.outcome = Outcome::Ended { ending: Ending::failed(error), deliveries: Vec::new() };
        }
    }
}

/// Returns whether the store reports that it can be written.
async fn is_in_order(pool: &RunPool) -> bool {
    caught(&pool.parts, "settling", pool.parts.store.health()).await.is_ok()
}

/// Records settlements, and releases their claims.
async fn record(pool: &RunPool, batch: &[Settlement]) -> Result<(), StoreError> {
    let settling = pool.parts.store.settle(batch.to_vec());
    let settled = caught(&pool.parts, "settling", settling).await?;
    for (settlement, settled) in batch.iter().zip(settled) {
        match settled {
            Settled::Applied(run) => {
                let meters = &pool.parts.meters;
                meters.settled(&run);
                let born_given_up = |delivery: &&Delivery| delivery.state == DeliveryState::GivenUp;
                meters.dropped(settlement.deliveries().iter().filter(born_given_up).count());
                let (workflow, webhook, attempt) = (run.workflow(), run.webhook_id(), run.attempt());
                let span = tracing::info_span!("settle", run = %run.id(), %workflow, %webhook, attempt);
                span.in_scope(|| tracing::debug!(state = run.state().as_str(), "attempt settled"));
            }
            Settled::Stale => {
                tracing::warn!(run = %settlement.run, "an attempt had lost its lease; its outcome was dropped");
            }
        }
    }
    pool.release(batch);
    Ok(())
}
