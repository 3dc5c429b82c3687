//! The store, called directly.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tokio::task::JoinSet;
use webhook_core::id::RunId;
use webhook_core::parameters::{EffectiveParameter, EffectiveParameters, Source};
use webhook_core::run::{Caller, Ending, Run, RunParameters};
use webhook_core::store::{Claim, ClaimRequest, Enqueue, Enqueued, Outcome, Settled, Settlement, Store};
use webhook_core::webhook::Webhook;
use webhook_postgres::PostgresStore;
use webhook_testing::postgres::PrivatePostgres;

use crate::calling::{Called, call_for};

pub(crate) const LEASE: Duration = Duration::from_secs(30);
/// Runs of one claim while the queue is drained.
const BATCH: usize = 512;
/// Settlements under way while the next runs are claimed.
const OVERLAPPING: usize = 3;

/// Opens a handle with connections of its own, as another process does.
pub(crate) async fn open(server: &PrivatePostgres) -> PostgresStore {
    let options = format!("{}?schema=webhook", server.url()).parse().unwrap();
    PostgresStore::open(options).await.unwrap()
}

pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

/// A call with the parameters and the caller of the calls over HTTP.
pub(crate) fn request(webhook: &Webhook) -> Enqueue {
    let id = RunId::generate(now());
    let given: EffectiveParameters = [
        ("date".to_owned(), EffectiveParameter::new("2026-01-10", Source::Query)),
        ("region".to_owned(), EffectiveParameter::new("AMER", Source::Query)),
    ]
    .into_iter()
    .collect();
    let parameters = RunParameters::seal(given, None, id).unwrap();
    let mut caller = Caller::default();
    caller.method = "GET".into();
    caller.user_agent = Some("curl/8.14.1".to_owned());
    caller.address = Some(std::net::Ipv4Addr::LOCALHOST.into());
    let run = Run::new(id, webhook.workflow.clone(), webhook.id, parameters, 1, caller, now());
    Enqueue::new(run)
        .with_queue_limits(None, 100_000_000)
        .with_token_digest(webhook.token_digest)
        .with_must_be_enabled(true)
}

pub(crate) async fn enqueue_one(store: &PostgresStore, webhook: &Webhook) {
    let enqueued = store.enqueue(request(webhook)).await.unwrap();
    assert!(matches!(enqueued, Enqueued::Created { .. }), "{enqueued:?}");
}

/// Enqueues from so many callers, each of which awaits its own commit.
pub(crate) async fn enqueue(
    store: &PostgresStore,
    webhook: &Arc<Webhook>,
    callers: usize,
    time: Duration,
) -> Called {
    let (store, webhook) = (store.clone(), webhook.clone());
    call_for(callers, time, move || {
        let (store, webhook) = (store.clone(), webhook.clone());
        async move { enqueue_one(&store, &webhook).await }
    })
    .await
}

pub(crate) fn succeeded(claim: &Claim) -> Settlement {
    let ending = Ending::Succeeded { summary: None, artifacts: Vec::new() };
    let outcome = Outcome::Ended { ending, deliveries: Vec::new() };
    Settlement::new(claim.run.id(), claim.run.fence(), outcome, now())
}

/// Claims and settles so many runs, or all that are there. Settlements go on while the next runs are claimed.
pub(crate) async fn drain(store: &PostgresStore, most: u64) -> Called {
    let (start, count) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let (mut tasks, mut left) = (JoinSet::new(), most);
    while left > 0 {
        let limit = BATCH.min(usize::try_from(left).unwrap());
        let claims = store.claim(ClaimRequest::new(limit, LEASE, now())).await.unwrap();
        if claims.is_empty() {
            break;
        }
        left -= claims.len() as u64;
        let (store, count) = (store.clone(), count.clone());
        tasks.spawn(async move {
            let settled = store.settle(claims.iter().map(succeeded).collect()).await.unwrap();
            assert!(settled.iter().all(|settled| matches!(settled, Settled::Applied(_))));
            count.fetch_add(settled.len() as u64, Ordering::Relaxed);
        });
        while tasks.len() > OVERLAPPING {
            tasks.join_next().await.unwrap().unwrap();
        }
    }
    tasks.join_all().await;
    Called { count: count.load(Ordering::Relaxed), elapsed: start.elapsed() }
}
