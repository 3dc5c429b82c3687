//! Fixtures of the promises: webhooks, runs and deliveries, and the shortest way to each state.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use webhook_core::clock::{Clock, SystemClock};
use webhook_core::id::{DeliveryId, RunId, WebhookId};
use webhook_core::notifier::{Delivery, DeliveryOutcome};
use webhook_core::run::{Caller, Ending, ErrorKind, Run, RunError, RunParameters, RunState};
use webhook_core::store::{
    Channels, Claim, ClaimRequest, DeliveryClaimRequest, DeliverySettlement, Enqueue, Enqueued, Idempotency,
    Outcome, RunQuery, Settled, Settlement, Store, Work, Workflows,
};
use webhook_core::token::Token;
use webhook_core::webhook::{Channel, Concurrency, EventKind, OnOverlap, Webhook, WebhookSettings};

/// Lease that does not expire during a test.
pub(super) const LONG: Duration = Duration::from_secs(300);
/// Lease that expires soon.
pub(super) const SHORT: Duration = Duration::from_millis(80);
/// Upper bound on the wait for an event that must happen.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// Time for which an event must not happen.
pub(super) const WATCH: Duration = Duration::from_millis(300);

/// Unwraps a result that a promise requires.
pub(super) trait Must<T> {
    fn must(self, what: &str) -> T;
}

impl<T, E: Debug> Must<T> for Result<T, E> {
    #[track_caller]
    fn must(self, what: &str) -> T {
        match self {
            Ok(value) => value,
            Err(error) => panic!("the store could not {what}: {error:?}"),
        }
    }
}

impl<T> Must<T> for Option<T> {
    #[track_caller]
    fn must(self, what: &str) -> T {
        match self {
            Some(value) => value,
            None => panic!("the store did not {what}"),
        }
    }
}

/// Returns the time of day in whole milliseconds, like every record.
pub(super) fn now() -> SystemTime {
    SystemClock.now()
}

/// Waits for an event that must happen.
pub(super) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} in vain for {what}"),
    }
}

/// Builds a webhook that is not recorded yet.
pub(super) fn webhook_for(workflow: &str, settings: WebhookSettings) -> Webhook {
    webhook_with(workflow, settings, &Token::generate())
}

pub(super) fn webhook_with(workflow: &str, settings: WebhookSettings, token: &Token) -> Webhook {
    let now = now();
    let workflow = workflow.parse().must("read a workflow key");
    Webhook::new(WebhookId::generate(now), workflow, settings, token, None, now)
}

/// Records a webhook with default settings.
pub(super) async fn webhook(store: &dyn Store) -> Webhook {
    recorded(store, webhook_for("report/sales", WebhookSettings::default())).await
}

pub(super) async fn recorded(store: &dyn Store, webhook: Webhook) -> Webhook {
    store.create_webhook(webhook.clone()).await.must("create a webhook");
    webhook
}

/// Records a webhook with bounded concurrency.
pub(super) async fn bounded(store: &dyn Store, max: u32, on_overlap: OnOverlap) -> Webhook {
    recorded(store, webhook_for("report/sales", concurrency(Some(max), on_overlap))).await
}

pub(super) fn concurrency(max: Option<u32>, on_overlap: OnOverlap) -> WebhookSettings {
    let mut settings = WebhookSettings::default();
    settings.concurrency = Concurrency::new(max, on_overlap);
    settings
}

/// Builds a run that is not recorded yet.
pub(super) fn run_of(webhook: &Webhook) -> Run {
    let now = now();
    let (workflow, parameters) = (webhook.workflow.clone(), RunParameters::default());
    Run::new(RunId::generate(now), workflow, webhook.id, parameters, 3, Caller::default(), now)
}

/// Builds the request for a new run under its webhook's settings.
pub(super) fn request(webhook: &Webhook) -> Enqueue {
    Enqueue::new(run_of(webhook)).with_concurrency(webhook.settings.concurrency)
}

pub(super) fn keyed(webhook: &Webhook, key: &str, fingerprint: u8) -> Enqueue {
    let idempotency = Idempotency::new(key, [fingerprint; 32], Duration::from_secs(3_600));
    request(webhook).with_idempotency(Some(idempotency))
}

/// Records a new run, whatever the overlap rule makes of it.
pub(super) async fn enqueue(store: &dyn Store, webhook: &Webhook) -> Arc<Run> {
    created(store.enqueue(request(webhook)).await.must("enqueue a run"))
}

pub(super) async fn enqueue_many(store: &dyn Store, webhook: &Webhook, count: usize) -> Vec<RunId> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(enqueue(store, webhook).await.id());
    }
    ids
}

#[track_caller]
pub(super) fn created(enqueued: Enqueued) -> Arc<Run> {
    match enqueued {
        Enqueued::Created { run, .. } => run,
        other => panic!("a run was to be created, but the store answered {other:?}"),
    }
}

pub(super) async fn claim(store: &dyn Store, limit: usize) -> Vec<Claim> {
    claim_for(store, limit, LONG).await
}

pub(super) async fn claim_for(store: &dyn Store, limit: usize, lease: Duration) -> Vec<Claim> {
    store.claim(ClaimRequest::new(limit, lease, now())).await.must("claim runs")
}

pub(super) async fn claim_ids(store: &dyn Store, limit: usize) -> Vec<RunId> {
    claim(store, limit).await.iter().map(|claim| claim.run.id()).collect()
}

/// Claims until at least one run is due, waiting in between as a worker does.
pub(super) async fn claim_when_due(store: &dyn Store, lease: Duration) -> Vec<Claim> {
    within("a run to come due", async {
        loop {
            let claims = claim_for(store, 100, lease).await;
            if !claims.is_empty() {
                return claims;
            }
            store.wait_for_work(Work::Runs).await;
        }
    })
    .await
}

/// Starts a new run under a long lease.
pub(super) async fn running(store: &dyn Store, webhook: &Webhook) -> Arc<Run> {
    let id = enqueue(store, webhook).await.id();
    let claims = claim(store, 1_000).await;
    claims.iter().find(|claim| claim.run.id() == id).map(|claim| claim.run.clone()).must("claim a new run")
}

/// Records a new run that succeeded at `at`.
pub(super) async fn succeeded_at(store: &dyn Store, webhook: &Webhook, at: SystemTime) -> RunId {
    let run = running(store, webhook).await;
    let settlement = Settlement::new(run.id(), run.fence(), success(), at);
    applied(store.settle(vec![settlement]).await.must("settle a run").pop().must("answer a settlement")).id()
}

pub(super) async fn succeeded(store: &dyn Store, webhook: &Webhook) -> RunId {
    succeeded_at(store, webhook, now()).await
}

pub(super) async fn settle(store: &dyn Store, run: &Run, outcome: Outcome) -> Settled {
    settle_with(store, run.id(), run.fence(), outcome).await
}

pub(super) async fn settle_with(store: &dyn Store, run: RunId, fence: u64, outcome: Outcome) -> Settled {
    let settlement = Settlement::new(run, fence, outcome, now());
    let mut settled = store.settle(vec![settlement]).await.must("settle a run");
    assert_eq!(settled.len(), 1, "one settlement must get one answer");
    settled.pop().must("answer a settlement")
}

#[track_caller]
pub(super) fn applied(settled: Settled) -> Arc<Run> {
    match settled {
        Settled::Applied(run) => run,
        refused => panic!("the settlement of the holder of a claim was refused: {refused:?}"),
    }
}

pub(super) fn success() -> Outcome {
    success_with(Vec::new())
}

pub(super) fn success_with(deliveries: Vec<Delivery>) -> Outcome {
    let ending = Ending::Succeeded { summary: Some("done".to_owned()), artifacts: Vec::new() };
    Outcome::Ended { ending, deliveries }
}

pub(super) fn failure() -> Outcome {
    let error = RunError::new(ErrorKind::Fatal, "it failed");
    Outcome::Ended { ending: Ending::failed(error), deliveries: Vec::new() }
}

pub(super) fn retry(delay: Duration) -> Outcome {
    Outcome::Retry { error: RunError::new(ErrorKind::Retryable, "try again"), delay }
}

pub(super) fn delivery(run: RunId, recipient: &str) -> Delivery {
    let now = now();
    Delivery::new(DeliveryId::generate(now), run, Channel::EMAIL, recipient, EventKind::Success, now)
}

/// Records a run that succeeded with this many deliveries.
pub(super) async fn delivering(store: &dyn Store, webhook: &Webhook, count: usize) -> Vec<Delivery> {
    let run = running(store, webhook).await;
    let deliveries: Vec<Delivery> =
        (0..count).map(|number| delivery(run.id(), &format!("{number}@example.com"))).collect();
    applied(settle(store, &run, success_with(deliveries.clone())).await);
    deliveries
}

/// Records a succeeded run with a delivery to a Slack channel.
pub(super) async fn delivering_to_slack(store: &dyn Store, webhook: &Webhook) -> Delivery {
    let run = running(store, webhook).await;
    let mut told = delivery(run.id(), "#ops");
    told.channel = Channel::SLACK;
    applied(settle(store, &run, success_with(vec![told.clone()])).await);
    told
}

pub(super) async fn get(store: &dyn Store, id: RunId) -> Arc<Run> {
    store.get_run(id).await.must("read a run").must("keep a run")
}

pub(super) async fn state(store: &dyn Store, id: RunId) -> RunState {
    get(store, id).await.state()
}

/// Collects the runs of all pages of a query.
pub(super) async fn list(store: &dyn Store, query: RunQuery) -> Vec<RunId> {
    let (mut ids, mut before, limit) = (Vec::new(), None, query.limit);
    loop {
        let page = store.list_runs(query.clone().before(before)).await.must("list runs");
        assert!(page.items.len() <= limit, "a page of at most {limit} runs had {}", page.items.len());
        assert!(page.items.iter().all(|run| query.matches(run)), "a list held a run nobody asked for");
        ids.extend(page.items.iter().map(|run| run.id()));
        match page.next {
            Some(next) => before = Some(next),
            None => return ids,
        }
    }
}

#[track_caller]
pub(super) fn assert_newest_first<I: Ord + Debug>(ids: &[I]) {
    let falling = ids.windows(2).all(|pair| pair[0] > pair[1]);
    assert!(falling, "a list must be newest first and without repetition: {ids:?}");
}

/// Records the outcome of a try of a delivery, given as it was claimed.
pub(super) async fn settle_delivery(store: &dyn Store, claimed: &Delivery, outcome: DeliveryOutcome) {
    let settlement = DeliverySettlement::new(claimed, outcome);
    store.settle_deliveries(vec![settlement]).await.must("settle a delivery");
}

/// Returns the set of this workflow alone.
pub(super) fn workflows_only(workflow: &str) -> Workflows {
    Workflows::Only(Arc::new([workflow.parse().must("read a workflow key")].into_iter().collect()))
}

/// Returns the work of waiting for deliveries of all channels.
pub(super) fn any_delivery() -> Work {
    Work::Deliveries(Channels::default())
}

/// Counts the wake-ups in [`WATCH`] of a worker that finds nothing to claim, and claims and waits in turn.
pub(super) async fn wake_ups_without_work(store: &dyn Store, work: Work) -> usize {
    let (start, mut count) = (Instant::now(), 0);
    while let Some(left) = WATCH.checked_sub(start.elapsed()) {
        match &work {
            Work::Runs => assert!(claim(store, 10).await.is_empty(), "there was nothing to claim"),
            Work::RunsOf(workflows) => {
                let request = ClaimRequest::new(10, LONG, now()).with_workflows(workflows.clone());
                let claimed = store.claim(request).await.must("claim runs");
                assert!(claimed.is_empty(), "there was nothing to claim");
            }
            Work::Deliveries(channels) => {
                let request = DeliveryClaimRequest::new(10, LONG).through(channels.clone());
                let claimed = store.claim_deliveries(request).await.must("claim deliveries");
                assert_eq!(claimed, vec![], "there was nothing to claim");
            }
            other => panic!("no promise is about {other:?}"),
        }
        if tokio::time::timeout(left, store.wait_for_work(work.clone())).await.is_err() {
            break;
        }
        count += 1;
    }
    count
}
