//! Tests of live runs: one decision after another, and any in any order.

mod cache;
mod model;
mod workflows;

use std::cell::RefCell;
use std::collections::HashMap;

use super::*;
use crate::backend::live::outcome::ClaimedRuns;
use crate::run::{Caller, ErrorKind, RunError, RunParameters};
use crate::store::{Begun, ClaimRequest, RunQuery};
use crate::webhook::{Concurrency, OnOverlap};

const NOW: SystemTime = SystemTime::UNIX_EPOCH;
const LEASE: Duration = Duration::from_secs(30);

fn webhook() -> WebhookId {
    WebhookId::generate(NOW)
}

fn enqueue(webhook: WebhookId, max: Option<u32>, on_overlap: OnOverlap) -> Enqueue {
    let workflow = "report/a".parse().unwrap();
    let run = Run::new(
        RunId::generate(NOW),
        workflow,
        webhook,
        RunParameters::default(),
        3,
        Caller::default(),
        NOW,
    );
    Enqueue::new(run).with_concurrency(Concurrency::new(max, on_overlap))
}

fn admit(live: &mut LiveRuns, webhook: WebhookId, max: Option<u32>, on_overlap: OnOverlap) -> Admission {
    let request = enqueue(webhook, max, on_overlap);
    let admission = loop {
        match live.admit(&request, request.concurrency.bound()) {
            Ok(admission) => break admission,
            Err(NotAdmitted::Missing(missing)) => provide(live, &missing),
            Err(refused) => panic!("{refused}"),
        }
    };
    live.commit(admission.run.id());
    store(&admission.run);
    admission
}

fn claim(live: &mut LiveRuns, limit: usize, instant: Instant) -> Vec<Arc<Run>> {
    claim_or_end(live, limit, 0, instant).claimed
}

fn claim_or_end(live: &mut LiveRuns, limit: usize, ahead: usize, instant: Instant) -> ClaimedRuns {
    let mut all = ClaimedRuns::default();
    loop {
        let request =
            ClaimRequest::new(limit - all.claimed.len(), LEASE, NOW).with_ahead(ahead - all.ahead.len());
        let outcome = live.claim(&request, instant);
        outcome.interrupted.iter().for_each(store);
        all.ended.extend(outcome.ended);
        all.claimed.extend(outcome.claimed);
        all.ahead.extend(outcome.ahead);
        if outcome.missing.is_empty() {
            return all;
        }
        provide(live, &outcome.missing);
    }
}

thread_local! {
    /// The records of a store: the newest one of each queued run.
    static STORED: RefCell<HashMap<RunId, Arc<Run>>> = RefCell::default();
}

fn store(run: &Arc<Run>) {
    STORED.with_borrow_mut(|stored| stored.insert(run.id(), run.clone()));
}

fn provide(live: &mut LiveRuns, missing: &[RunId]) {
    for id in missing.iter().rev() {
        live.provide(STORED.with_borrow(|stored| stored[id].clone()));
    }
}

fn cancel(live: &mut LiveRuns, id: RunId, reason: CancelReason) -> Option<LiveCancel> {
    match live.cancel(id, reason, NOW) {
        Some(LiveCancel::Missing) => {
            provide(live, &[id]);
            live.cancel(id, reason, NOW)
        }
        outcome => outcome,
    }
}

/// Deletes a webhook, as a store does, and answers its queued runs at their end.
fn close(live: &mut LiveRuns, webhook: WebhookId) -> Vec<Arc<Run>> {
    let queued = live.close_webhook(webhook);
    let ended = |id: RunId| match cancel(live, id, CancelReason::WebhookDeleted) {
        Some(LiveCancel::Ended(run)) => run,
        other => panic!("{id} was queued: {other:?}"),
    };
    queued.into_iter().map(ended).collect()
}

fn settle(live: &mut LiveRuns, run: &Run, outcome: Outcome, instant: Instant) -> Option<Arc<Run>> {
    let settled = live.settle(&Settlement::new(run.id(), run.fence(), outcome, NOW), instant)?;
    store(&settled);
    Some(settled)
}

fn success() -> Outcome {
    Outcome::Ended { ending: Ending::Succeeded { summary: None, artifacts: vec![] }, deliveries: vec![] }
}

#[tokio::test]
async fn runs_are_claimed_oldest_first_and_each_once() {
    let (mut live, instant) = (LiveRuns::new(), Instant::now());
    let webhook = webhook();
    let admitted: Vec<RunId> =
        (0..5).map(|_| admit(&mut live, webhook, None, OnOverlap::Queue).run.id()).collect();
    let first: Vec<RunId> = claim(&mut live, 3, instant).iter().map(|run| run.id()).collect();
    let second: Vec<RunId> = claim(&mut live, 9, instant).iter().map(|run| run.id()).collect();
    assert_eq!([first, second].concat(), admitted);
    assert!(claim(&mut live, 9, instant).is_empty());
    assert_eq!((live.queued(), live.running()), (0, 5));
}

#[tokio::test]
async fn a_run_is_not_claimed_before_it_is_durable() {
    let (mut live, instant) = (LiveRuns::new(), Instant::now());
    let admission = live.admit(&enqueue(webhook(), None, OnOverlap::Queue), None).unwrap();
    assert!(claim(&mut live, 1, instant).is_empty());
    assert!(live.list(&RunQuery::default(), 10).is_empty());
    live.commit(admission.run.id());
    assert_eq!(claim(&mut live, 1, instant).len(), 1);
}

#[tokio::test]
async fn no_webhook_runs_more_than_its_concurrency_allows() {
    let (mut live, instant) = (LiveRuns::new(), Instant::now());
    let (bounded, free) = (webhook(), webhook());
    for _ in 0..4 {
        admit(&mut live, bounded, Some(2), OnOverlap::Queue);
    }
    admit(&mut live, free, None, OnOverlap::Queue);
    let claimed = claim(&mut live, 9, instant);
    assert_eq!(claimed.iter().filter(|run| run.webhook_id() == bounded).count(), 2);
    assert_eq!(claimed.len(), 3);
    assert!(!live.has_work(instant));
    settle(&mut live, &claimed[0], success(), instant).unwrap();
    assert!(live.has_work(instant));
    assert_eq!(claim(&mut live, 9, instant).len(), 1);
    live.set_bound(bounded, None);
    assert_eq!(claim(&mut live, 9, instant).len(), 1);
}

#[tokio::test]
async fn cancelling_a_queued_run_lets_the_one_behind_it_move_up() {
    let (mut live, instant) = (LiveRuns::new(), Instant::now());
    let webhook = webhook();
    let ids: Vec<RunId> =
        (0..3).map(|_| admit(&mut live, webhook, Some(1), OnOverlap::Queue).run.id()).collect();
    let running = claim(&mut live, 9, instant);
    settle(&mut live, &running[0], success(), instant).unwrap();
    live.cancel(ids[1], CancelReason::Requested, NOW).unwrap();
    assert_eq!(claim(&mut live, 9, instant)[0].id(), ids[2]);
}

#[tokio::test]
async fn skip_records_the_new_run_as_skipped() {
    let mut live = LiveRuns::new();
    let webhook = webhook();
    admit(&mut live, webhook, Some(1), OnOverlap::Skip);
    let second = admit(&mut live, webhook, Some(1), OnOverlap::Skip);
    assert_eq!(second.run.state(), RunState::Skipped);
    assert_eq!(second.run.attempt(), 0);
    assert_eq!(live.queued(), 1);
}

#[tokio::test]
async fn replace_stops_the_running_one_and_ends_the_waiting_one() {
    let (mut live, instant) = (LiveRuns::new(), Instant::now());
    let webhook = webhook();
    admit(&mut live, webhook, Some(1), OnOverlap::Replace);
    let running = claim(&mut live, 1, instant).remove(0);
    let second = admit(&mut live, webhook, Some(1), OnOverlap::Replace);
    assert_eq!(second.asked_to_stop[0].id(), running.id());
    let third = admit(&mut live, webhook, Some(1), OnOverlap::Replace);
    assert!(third.asked_to_stop.is_empty());
    assert_eq!(third.superseded[0].id(), second.run.id());
    assert_eq!(third.superseded[0].error().unwrap().kind, ErrorKind::Superseded);
    assert!(claim(&mut live, 9, instant).is_empty());
    let renewed = live.renew(&Renewal::new(running.id(), running.fence(), None), instant);
    assert_eq!(renewed, Renewed::Held { cancel: Some(CancelReason::Superseded) });
    let ended = settle(&mut live, &running, Outcome::HandBack, instant).unwrap();
    assert_eq!(ended.state(), RunState::Cancelled);
    assert_eq!(claim(&mut live, 9, instant)[0].id(), third.run.id());
}

#[tokio::test]
async fn coalesce_lets_only_the_newest_wait() {
    let (mut live, instant) = (LiveRuns::new(), Instant::now());
    let webhook = webhook();
    let first = admit(&mut live, webhook, Some(1), OnOverlap::Coalesce);
    assert_eq!(claim(&mut live, 1, instant)[0].id(), first.run.id());
    let second = admit(&mut live, webhook, Some(1), OnOverlap::Coalesce);
    assert!(second.superseded.is_empty());
    let third = admit(&mut live, webhook, Some(1), OnOverlap::Coalesce);
    assert_eq!(third.superseded[0].id(), second.run.id());
    assert_eq!(live.queued(), 1);
}

#[tokio::test]
async fn coalesce_counts_runs_that_are_about_to_start_as_not_waiting() {
    let mut live = LiveRuns::new();
    let webhook = webhook();
    for _ in 0..2 {
        assert!(admit(&mut live, webhook, Some(1), OnOverlap::Coalesce).superseded.is_empty());
    }
    assert_eq!(admit(&mut live, webhook, Some(1), OnOverlap::Coalesce).superseded.len(), 1);
    assert_eq!(live.queued(), 2);
}

#[tokio::test]
async fn a_full_queue_refuses_and_changes_nothing() {
    let mut live = LiveRuns::new();
    let (first, second) = (webhook(), webhook());
    let request = |webhook| enqueue(webhook, None, OnOverlap::Queue).with_queue_limits(Some(1), 2);
    live.admit(&request(first), None).unwrap();
    assert_eq!(live.admit(&request(first), None).unwrap_err(), NotAdmitted::QueueFull);
    live.admit(&request(second), None).unwrap();
    assert_eq!(live.admit(&request(webhook()), None).unwrap_err(), NotAdmitted::QueueFull);
    assert_eq!((live.queued(), live.index.queues().count()), (2, 2));
}

/// A request for a run whose parameters take so many bytes.
fn sized(webhook: WebhookId, bytes: usize) -> Enqueue {
    let mut request = enqueue(webhook, None, OnOverlap::Queue);
    let run = Arc::unwrap_or_clone(request.run).with_parameters(parameters(bytes));
    assert_eq!(run.parameters().bytes(), bytes);
    request.run = Arc::new(run);
    request
}

fn parameters(bytes: usize) -> RunParameters {
    let empty = r#"{"a":{"source":"body","value":""}}"#;
    let text = "x".repeat(bytes - empty.len());
    RunParameters::from_json(&format!(r#"{{"a":{{"source":"body","value":"{text}"}}}}"#)).unwrap()
}

#[tokio::test]
async fn the_bytes_of_queued_parameters_are_bounded_for_each_webhook_and_in_all() {
    let (mut live, first, second, instant) = (LiveRuns::new(), webhook(), webhook(), Instant::now());
    let request = |webhook, bytes| sized(webhook, bytes).with_queue_bytes(1_000, 1_500);
    let id = live.admit(&request(first, 600), None).unwrap().run.id();
    assert_eq!(live.admit(&request(first, 401), None).unwrap_err(), NotAdmitted::QueueFull);
    live.admit(&request(first, 400), None).unwrap();
    assert_eq!(live.admit(&request(second, 501), None).unwrap_err(), NotAdmitted::QueueFull);
    live.admit(&request(second, 500), None).unwrap();
    assert_eq!(live.queued_bytes(), 1_500);
    live.commit(id);
    let running = claim(&mut live, 1, instant).remove(0);
    assert_eq!(live.queued_bytes(), 900, "a running run is no longer in the queue");
    live.admit(&request(second, 500), None).unwrap();
    settle(&mut live, &running, Outcome::HandBack, instant).unwrap();
    assert_eq!(live.queued_bytes(), 2_000, "what was accepted comes back, whatever came meanwhile");
    cancel(&mut live, id, CancelReason::Requested).unwrap();
    assert_eq!(live.queued_bytes(), 1_400);
}

#[tokio::test]
async fn what_is_superseded_makes_room_for_the_bytes_of_its_successor() {
    let (mut live, webhook) = (LiveRuns::new(), webhook());
    for _ in 0..5 {
        let request =
            Enqueue { concurrency: Concurrency::new(Some(1), OnOverlap::Replace), ..sized(webhook, 600) };
        live.admit(&request.with_queue_bytes(1_000, 1_000), Some(1)).unwrap();
    }
    assert_eq!((live.queued(), live.queued_bytes()), (1, 600));
}

#[tokio::test]
async fn a_refused_run_leaves_the_bound_as_it_was_whatever_its_call_had_read() {
    let (mut live, webhook, instant) = (LiveRuns::new(), webhook(), Instant::now());
    for _ in 0..3 {
        admit(&mut live, webhook, Some(1), OnOverlap::Queue);
    }
    let stale = enqueue(webhook, None, OnOverlap::Queue).with_queue_limits(Some(1), 9);
    assert_eq!(live.admit(&stale, Some(1)).unwrap_err(), NotAdmitted::QueueFull);
    assert_eq!(claim(&mut live, 9, instant).len(), 1);
}

#[tokio::test]
async fn a_stale_fence_neither_renews_nor_settles() {
    let (mut live, instant) = (LiveRuns::new(), Instant::now());
    admit(&mut live, webhook(), None, OnOverlap::Queue);
    let first = claim(&mut live, 1, instant).remove(0);
    let over = instant + LEASE;
    assert_eq!(live.work_at(&Workflows::All, instant), Some(over));
    let claimed = live.claim(&ClaimRequest::new(1, LEASE, NOW), over);
    assert_eq!(claimed.interrupted.len(), 1);
    let second = &claimed.claimed[0];
    assert!(second.fence() > first.fence());
    assert_eq!((second.attempt(), second.interruptions()), (2, 1));
    assert!(settle(&mut live, &first, success(), over).is_none());
    assert_eq!(live.renew(&Renewal::new(first.id(), first.fence(), None), over), Renewed::Lost);
    assert_eq!(settle(&mut live, second, success(), over).unwrap().state(), RunState::Succeeded);
}

#[tokio::test]
async fn a_renewed_lease_holds_on() {
    let (mut live, instant) = (LiveRuns::new(), Instant::now());
    admit(&mut live, webhook(), None, OnOverlap::Queue);
    let run = claim(&mut live, 1, instant).remove(0);
    let half = instant + LEASE / 2;
    live.renew(&Renewal::new(run.id(), run.fence(), None), half + LEASE);
    assert!(claim(&mut live, 1, instant + LEASE).is_empty());
    assert_eq!(claim(&mut live, 1, half + LEASE).len(), 1);
}

#[tokio::test]
async fn a_retry_waits_for_its_due_time() {
    let (mut live, instant) = (LiveRuns::new(), Instant::now());
    admit(&mut live, webhook(), None, OnOverlap::Queue);
    let run = claim(&mut live, 1, instant).remove(0);
    let error = RunError::new(ErrorKind::Retryable, "no");
    let outcome = Outcome::Retry { error, delay: Duration::from_secs(10) };
    let queued = settle(&mut live, &run, outcome, instant).unwrap();
    assert_eq!(queued.due_at(), NOW + Duration::from_secs(10));
    assert!(claim(&mut live, 1, instant + Duration::from_secs(9)).is_empty());
    assert_eq!(claim(&mut live, 1, instant + Duration::from_secs(10))[0].attempt(), 2);
}

#[tokio::test]
async fn a_deleted_webhook_loses_its_queued_runs_and_its_running_one_is_not_retried() {
    let (mut live, instant) = (LiveRuns::new(), Instant::now());
    let webhook = webhook();
    admit(&mut live, webhook, None, OnOverlap::Queue);
    let running = claim(&mut live, 1, instant).remove(0);
    admit(&mut live, webhook, None, OnOverlap::Queue);
    assert_eq!(close(&mut live, webhook).len(), 1);
    let error = RunError::new(ErrorKind::Retryable, "no");
    let ended = settle(&mut live, &running, Outcome::Retry { error, delay: LEASE }, instant).unwrap();
    assert_eq!(ended.state(), RunState::Failed);
}

#[tokio::test]
async fn what_was_running_when_the_store_was_closed_is_interrupted() {
    let (mut live, instant) = (LiveRuns::new(), Instant::now());
    let run = enqueue(webhook(), None, OnOverlap::Queue).run.claimed(8, 5, NOW).unwrap();
    let restored = Arc::new(live.restore(run, 700, NOW, instant));
    assert_eq!((restored.state(), restored.interruptions()), (RunState::Queued, 1));
    assert_eq!((live.queued(), live.queued_bytes(), live.record(restored.id())), (1, 700, None));
    store(&restored);
    assert!(claim(&mut live, 1, instant)[0].fence() > 8);
}

#[tokio::test]
async fn a_run_of_a_deleted_webhook_that_would_be_executed_again_is_cancelled() {
    let (mut live, instant) = (LiveRuns::new(), Instant::now());
    let webhooks = [webhook(), webhook()];
    for webhook in webhooks {
        admit(&mut live, webhook, None, OnOverlap::Queue);
    }
    let running = claim(&mut live, 2, instant);
    assert!(webhooks.iter().all(|webhook| close(&mut live, *webhook).is_empty()));
    let handed_back = settle(&mut live, &running[0], Outcome::HandBack, instant).unwrap();
    let expired = live.claim(&ClaimRequest::new(9, LEASE, NOW), instant + LEASE);
    assert!(expired.interrupted.is_empty() && expired.claimed.is_empty());
    assert_eq!([handed_back.state(), expired.ended[0].state()], [RunState::Cancelled; 2]);
    assert!(live.index.queues().next().is_none());
}

#[tokio::test]
async fn a_closed_queue_gives_out_nothing_while_its_runs_are_being_cancelled() {
    let (mut live, webhook, instant) = (LiveRuns::new(), webhook(), Instant::now());
    let ids: Vec<RunId> =
        (0..3).map(|_| admit(&mut live, webhook, None, OnOverlap::Queue).run.id()).collect();
    assert_eq!(live.close_webhook(webhook), ids);
    assert!(!live.has_work(instant) && claim(&mut live, 9, instant).is_empty());
    assert_eq!(live.queued(), 3, "they are queued until they are cancelled");
}
