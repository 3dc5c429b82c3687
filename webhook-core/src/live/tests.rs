use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::run::{Caller, ErrorKind, RunError, RunParameters};
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
    let admission = live.admit(&enqueue(webhook, max, on_overlap)).unwrap();
    live.commit(admission.run.id);
    admission
}

fn claim(live: &mut LiveRuns, limit: usize, instant: Instant) -> Vec<Arc<Run>> {
    live.claim(&ClaimRequest::new(limit, LEASE, NOW), instant).claimed
}

fn settle(live: &mut LiveRuns, run: &Run, outcome: Outcome, instant: Instant) -> Option<Arc<Run>> {
    live.settle(&Settlement::new(run.id, run.fence, outcome, NOW), instant)
}

fn success() -> Outcome {
    Outcome::Ended { ending: Ending::Succeeded { summary: None, artifacts: vec![] }, deliveries: vec![] }
}

#[tokio::test]
async fn runs_are_claimed_oldest_first_and_each_once() {
    let (mut live, instant) = (LiveRuns::new(), Instant::now());
    let webhook = webhook();
    let admitted: Vec<RunId> =
        (0..5).map(|_| admit(&mut live, webhook, None, OnOverlap::Queue).run.id).collect();
    let first: Vec<RunId> = claim(&mut live, 3, instant).iter().map(|run| run.id).collect();
    let second: Vec<RunId> = claim(&mut live, 9, instant).iter().map(|run| run.id).collect();
    assert_eq!([first, second].concat(), admitted);
    assert!(claim(&mut live, 9, instant).is_empty());
    assert_eq!((live.queued(), live.running()), (0, 5));
}

#[tokio::test]
async fn a_run_is_not_claimed_before_it_is_durable() {
    let (mut live, instant) = (LiveRuns::new(), Instant::now());
    let admission = live.admit(&enqueue(webhook(), None, OnOverlap::Queue)).unwrap();
    assert!(claim(&mut live, 1, instant).is_empty());
    assert!(live.list(&RunQuery::default(), 10).is_empty());
    live.commit(admission.run.id);
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
    assert_eq!(claimed.iter().filter(|run| run.webhook_id == bounded).count(), 2);
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
        (0..3).map(|_| admit(&mut live, webhook, Some(1), OnOverlap::Queue).run.id).collect();
    let running = claim(&mut live, 9, instant);
    settle(&mut live, &running[0], success(), instant).unwrap();
    live.cancel(ids[1], CancelReason::Requested, NOW).unwrap();
    assert_eq!(claim(&mut live, 9, instant)[0].id, ids[2]);
}

#[tokio::test]
async fn skip_records_the_new_run_as_skipped() {
    let mut live = LiveRuns::new();
    let webhook = webhook();
    admit(&mut live, webhook, Some(1), OnOverlap::Skip);
    let second = admit(&mut live, webhook, Some(1), OnOverlap::Skip);
    assert_eq!(second.run.state, RunState::Skipped);
    assert_eq!(second.run.attempt, 0);
    assert_eq!(live.queued(), 1);
}

#[tokio::test]
async fn replace_stops_the_running_one_and_ends_the_waiting_one() {
    let (mut live, instant) = (LiveRuns::new(), Instant::now());
    let webhook = webhook();
    admit(&mut live, webhook, Some(1), OnOverlap::Replace);
    let running = claim(&mut live, 1, instant).remove(0);
    let second = admit(&mut live, webhook, Some(1), OnOverlap::Replace);
    assert_eq!(second.asked_to_stop[0].id, running.id);
    let third = admit(&mut live, webhook, Some(1), OnOverlap::Replace);
    assert!(third.asked_to_stop.is_empty());
    assert_eq!(third.superseded[0].id, second.run.id);
    assert_eq!(third.superseded[0].error.as_ref().unwrap().kind, ErrorKind::Superseded);
    assert!(claim(&mut live, 9, instant).is_empty());
    let renewed = live.renew(&Renewal::new(running.id, running.fence, None), instant);
    assert_eq!(renewed, Renewed::Held { cancel: Some(CancelReason::Superseded) });
    let ended = settle(&mut live, &running, Outcome::HandBack, instant).unwrap();
    assert_eq!(ended.state, RunState::Cancelled);
    assert_eq!(claim(&mut live, 9, instant)[0].id, third.run.id);
}

#[tokio::test]
async fn coalesce_lets_only_the_newest_wait() {
    let (mut live, instant) = (LiveRuns::new(), Instant::now());
    let webhook = webhook();
    let first = admit(&mut live, webhook, Some(1), OnOverlap::Coalesce);
    assert_eq!(claim(&mut live, 1, instant)[0].id, first.run.id);
    let second = admit(&mut live, webhook, Some(1), OnOverlap::Coalesce);
    assert!(second.superseded.is_empty());
    let third = admit(&mut live, webhook, Some(1), OnOverlap::Coalesce);
    assert_eq!(third.superseded[0].id, second.run.id);
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
    live.admit(&request(first)).unwrap();
    assert_eq!(live.admit(&request(first)).unwrap_err(), QueueFull);
    live.admit(&request(second)).unwrap();
    assert_eq!(live.admit(&request(webhook())).unwrap_err(), QueueFull);
    assert_eq!(live.queued(), 2);
}

#[tokio::test]
async fn a_stale_fence_neither_renews_nor_settles() {
    let (mut live, instant) = (LiveRuns::new(), Instant::now());
    admit(&mut live, webhook(), None, OnOverlap::Queue);
    let first = claim(&mut live, 1, instant).remove(0);
    let over = instant + LEASE;
    assert_eq!(live.work_at(instant), Some(over));
    let claimed = live.claim(&ClaimRequest::new(1, LEASE, NOW), over);
    assert_eq!(claimed.interrupted.len(), 1);
    let second = &claimed.claimed[0];
    assert!(second.fence > first.fence);
    assert_eq!((second.attempt, second.interruptions), (2, 1));
    assert!(settle(&mut live, &first, success(), over).is_none());
    assert_eq!(live.renew(&Renewal::new(first.id, first.fence, None), over), Renewed::Lost);
    assert_eq!(settle(&mut live, second, success(), over).unwrap().state, RunState::Succeeded);
}

#[tokio::test]
async fn a_renewed_lease_holds_on() {
    let (mut live, instant) = (LiveRuns::new(), Instant::now());
    admit(&mut live, webhook(), None, OnOverlap::Queue);
    let run = claim(&mut live, 1, instant).remove(0);
    let half = instant + LEASE / 2;
    live.renew(&Renewal::new(run.id, run.fence, None), half + LEASE);
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
    assert_eq!(queued.due_at, NOW + Duration::from_secs(10));
    assert!(claim(&mut live, 1, instant + Duration::from_secs(9)).is_empty());
    assert_eq!(claim(&mut live, 1, instant + Duration::from_secs(10))[0].attempt, 2);
}

#[tokio::test]
async fn a_deleted_webhook_loses_its_queued_runs_and_its_running_one_is_not_retried() {
    let (mut live, instant) = (LiveRuns::new(), Instant::now());
    let webhook = webhook();
    admit(&mut live, webhook, None, OnOverlap::Queue);
    let running = claim(&mut live, 1, instant).remove(0);
    admit(&mut live, webhook, None, OnOverlap::Queue);
    assert_eq!(live.close_webhook(webhook, NOW).len(), 1);
    let error = RunError::new(ErrorKind::Retryable, "no");
    let ended = settle(&mut live, &running, Outcome::Retry { error, delay: LEASE }, instant).unwrap();
    assert_eq!(ended.state, RunState::Failed);
}

#[tokio::test]
async fn what_was_running_when_the_store_was_closed_is_interrupted() {
    let (mut live, instant) = (LiveRuns::new(), Instant::now());
    let run = enqueue(webhook(), None, OnOverlap::Queue).run.claimed(8, 5, NOW).unwrap();
    let restored = live.restore(run, NOW, instant);
    assert_eq!((restored.state, restored.interruptions), (RunState::Queued, 1));
    assert!(claim(&mut live, 1, instant)[0].fence > 8);
}

#[derive(Debug, Clone)]
enum Step {
    Admit { webhook: usize, overlap: usize },
    Claim(usize),
    Settle { index: usize, how: usize },
    Cancel(usize),
    Pass(u64),
    Close(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_usize, 0..4_usize).prop_map(|(webhook, overlap)| Step::Admit { webhook, overlap }),
        4 => (1..4_usize).prop_map(Step::Claim),
        4 => (0..8_usize, 0..3_usize).prop_map(|(index, how)| Step::Settle { index, how }),
        1 => (0..16_usize).prop_map(Step::Cancel),
        2 => (1..40_u64).prop_map(Step::Pass),
        1 => (0..3_usize).prop_map(Step::Close),
    ]
}

proptest! {
    /// Whatever happens in whatever order: the bound holds, every admitted run ends exactly once, and when all
    /// is drained nothing is left behind.
    #[test]
    fn every_run_ends_once_and_the_bound_holds(
        steps in proptest::collection::vec(step(), 1..120),
        is_packed: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _guard = runtime.enter();
        let mut live = if is_packed { packed(SHALLOW) } else { LiveRuns::new() };
        let mut instant = Instant::now();
        let webhooks = [webhook(), webhook(), webhook()];
        let rules = [OnOverlap::Queue, OnOverlap::Skip, OnOverlap::Replace, OnOverlap::Coalesce];
        let mut ended: HashMap<RunId, RunState> = HashMap::new();
        let mut admitted: Vec<RunId> = Vec::new();
        let mut claims: Vec<Arc<Run>> = Vec::new();
        let drain = (0..400).map(|index| if index % 2 == 0 { Step::Claim(4) } else { Step::Settle { index: 0, how: 0 } });
        for step in steps.into_iter().chain(drain) {
            let mut over: Vec<Arc<Run>> = Vec::new();
            match step {
                Step::Admit { webhook, overlap } => {
                    let admission = admit(&mut live, webhooks[webhook], Some(2), rules[overlap]);
                    admitted.push(admission.run.id);
                    over.extend(admission.superseded);
                    over.push(admission.run);
                }
                Step::Claim(limit) => claims.extend(claim(&mut live, limit, instant)),
                Step::Settle { index, how } if !claims.is_empty() => {
                    let run = claims.remove(index % claims.len());
                    let outcome = match how {
                        0 => success(),
                        1 => Outcome::HandBack,
                        _ => Outcome::Retry { error: RunError::new(ErrorKind::Retryable, "no"), delay: LEASE / 10 },
                    };
                    over.extend(settle(&mut live, &run, outcome, instant));
                }
                Step::Settle { .. } => instant += LEASE,
                Step::Cancel(index) if index < admitted.len() => {
                    let id = admitted[index];
                    match live.cancel(id, CancelReason::Requested, NOW) {
                        Some(LiveCancel::Ended(run)) => over.push(run),
                        Some(LiveCancel::Requested(run)) => prop_assert_eq!(run.state, RunState::Running),
                        None => prop_assert!(ended.contains_key(&id), "{} was not found", id),
                    }
                }
                Step::Cancel(_) => {}
                Step::Pass(seconds) => instant += Duration::from_secs(seconds),
                Step::Close(webhook) => {
                    over.extend(live.close_webhook(webhooks[webhook], NOW));
                    let left = RunQuery::default().of_webhook(Some(webhooks[webhook])).in_state(Some(RunState::Queued));
                    prop_assert_eq!(live.list(&left, 99), vec![]);
                }
            }
            for run in over.into_iter().filter(|run| run.state.is_ended()) {
                prop_assert!(ended.insert(run.id, run.state).is_none(), "{} ended twice", run.id);
            }
            let queued = live.list(&RunQuery::default().in_state(Some(RunState::Queued)), 999);
            prop_assert!(queued.is_sorted_by(|newer, older| newer.id > older.id));
            prop_assert_eq!(queued.len(), live.queued());
            for webhook in webhooks {
                let query = RunQuery::default().of_webhook(Some(webhook)).in_state(Some(RunState::Running));
                prop_assert!(live.list(&query, 99).len() <= 2);
            }
        }
        prop_assert_eq!((live.queued(), live.running()), (0, 0));
        prop_assert!(live.lanes.is_empty() && live.next.is_empty() && live.delayed.is_empty());
        prop_assert!(live.runs.is_empty() && live.deep.is_empty());
        prop_assert_eq!(ended.len(), admitted.len());
    }
}

/// Packs as JSON, and runs of few others are far already.
fn packed(depth: Depth) -> LiveRuns {
    let packing = Packing::new(
        |run| serde_json::to_vec(run).ok(),
        |id, webhook, workflow, packed| {
            let run: Run = serde_json::from_slice(packed).ok()?;
            assert_eq!((run.id, run.webhook_id, &run.workflow), (id, webhook, workflow));
            Some(run)
        },
    );
    LiveRuns { depth, ..LiveRuns::packed(packing) }
}

const SHALLOW: Depth = Depth { near: 2, newest: 1, step: 1, piece: 3 };

fn is_far(live: &LiveRuns, run: &Run) -> bool {
    !live.runs.contains_key(&run.id)
}

#[tokio::test]
async fn runs_that_wait_behind_many_are_packed_and_claimed_as_they_were() {
    for max in [None, Some(1)] {
        let (mut live, webhook, instant) = (packed(SHALLOW), webhook(), Instant::now());
        let mut admitted: Vec<_> =
            (0..20).map(|_| admit(&mut live, webhook, max, OnOverlap::Queue).run).collect();
        let far: Vec<bool> = admitted.iter().map(|run| is_far(&live, run)).collect();
        assert_eq!(far, [&[false; 2][..], &[true; 17], &[false]].concat());
        assert!(admitted.iter().all(|run| live.get(run.id).as_ref() == Some(run)));

        let cancelled = admitted.remove(7);
        assert!(live.cancel(cancelled.id, CancelReason::Requested, NOW).is_some());
        assert_eq!((live.get(cancelled.id), live.queued()), (None, 19));
        let mut claimed = Vec::new();
        while let Some(run) = claim(&mut live, 1, instant).pop() {
            // What comes meanwhile is newer.
            if claimed.len() < 20 {
                admitted.push(admit(&mut live, webhook, max, OnOverlap::Queue).run);
            }
            settle(&mut live, &run, success(), instant).unwrap();
            claimed.push(run);
        }
        let ids = |runs: &[Arc<Run>]| runs.iter().map(|run| run.id).collect::<Vec<_>>();
        assert_eq!(ids(&claimed), ids(&admitted));
        assert!(claimed.iter().zip(&admitted).all(|(claimed, run)| claimed.parameters == run.parameters));
        assert!(
            live.runs.is_empty() && live.lanes.is_empty() && live.deep.is_empty() && live.next.is_empty()
        );
    }
}

#[tokio::test]
async fn packed_runs_are_listed_newest_first_and_in_no_state_but_queued() {
    let (mut live, first, second) = (packed(SHALLOW), webhook(), webhook());
    let admitted: Vec<_> = (0..40)
        .map(|index| if index % 2 == 0 { first } else { second })
        .map(|webhook| admit(&mut live, webhook, None, OnOverlap::Queue).run)
        .collect();
    let newest: Vec<_> = admitted.iter().rev().cloned().collect();
    for limit in [0, 1, 2, 7, 40, 99] {
        assert_eq!(live.list(&RunQuery::default(), limit), newest[..limit.min(40)]);
    }
    let before = RunQuery::default().before(Some(newest[4].id));
    assert_eq!(live.list(&before, 10), newest[5..15]);
    let of_second = RunQuery::default().of_webhook(Some(second)).in_state(Some(RunState::Queued));
    let expected: Vec<_> = newest.iter().filter(|run| run.webhook_id == second).cloned().collect();
    assert_eq!(live.list(&of_second, 99), expected);
    let running = RunQuery::default().in_state(Some(RunState::Running));
    let other = RunQuery::default().of_workflow(Some("report/b".parse().unwrap()));
    assert!(live.list(&running, 99).is_empty() && live.list(&other, 99).is_empty());
}

#[tokio::test]
async fn a_webhook_that_is_deleted_takes_its_packed_runs_along() {
    let (mut live, webhook) = (packed(SHALLOW), webhook());
    let admitted: Vec<_> =
        (0..20).map(|_| admit(&mut live, webhook, None, OnOverlap::Queue).run.id).collect();
    let ended = live.close_webhook(webhook, NOW);
    assert_eq!(ended.iter().map(|run| run.id).collect::<Vec<_>>(), admitted);
    assert!(ended.iter().all(|run| run.state == RunState::Cancelled));
    assert_eq!((live.queued(), live.list(&RunQuery::default(), 99).len()), (0, 0));
    assert!(live.deep.is_empty() && live.lanes.is_empty());
}

#[tokio::test]
async fn packed_runs_of_webhooks_that_take_turns_are_told_apart() {
    let (mut live, webhooks) = (packed(SHALLOW), [webhook(), webhook()]);
    let admitted: Vec<_> =
        (0..40).map(|index| admit(&mut live, webhooks[index % 2], None, OnOverlap::Queue).run).collect();
    for run in admitted.iter().skip(10).step_by(3) {
        let Some(LiveCancel::Ended(ended)) = live.cancel(run.id, CancelReason::Requested, NOW) else {
            panic!("{} was not found", run.id)
        };
        assert_eq!((ended.id, ended.webhook_id), (run.id, run.webhook_id));
    }
    let far = admitted.iter().skip(10).filter(|run| is_far(&live, run)).count();
    assert_eq!((live.queued(), far), (30, 28), "what was packed with a cancelled run stays packed");
    assert_eq!(live.close_webhook(webhooks[1], NOW).len(), 15);
    let claimed = claim(&mut live, 99, Instant::now());
    assert_eq!(claimed.len(), 15);
    assert!(claimed.iter().all(|run| run.webhook_id == webhooks[0]));
    assert!(claimed.is_sorted_by(|older, newer| older.id < newer.id));
    assert!(live.deep.is_empty());
}

#[tokio::test]
async fn most_of_a_deep_queue_is_packed_also_when_it_has_been_short_in_between() {
    let (mut live, webhook) = (packed(Depth::default()), webhook());
    for _ in 0..2 {
        for _ in 0..4_000 {
            admit(&mut live, webhook, None, OnOverlap::Queue);
        }
        assert_eq!(live.queued(), 4_000);
        assert!(live.runs.len() <= 1_024 + 64 + 512, "{} of 4,000 are not packed", live.runs.len());
        for run in claim(&mut live, 4_000, Instant::now()) {
            settle(&mut live, &run, success(), Instant::now()).unwrap();
        }
        assert_eq!((live.queued(), live.runs.len()), (0, 0));
    }
}

#[tokio::test]
async fn runs_that_their_store_does_not_pack_stay_as_they_are() {
    let packing = Packing::new(|_| None, |_, _, _, _| None);
    let (mut live, webhook) = (LiveRuns { depth: SHALLOW, ..LiveRuns::packed(packing) }, webhook());
    let admitted: Vec<_> =
        (0..20).map(|_| admit(&mut live, webhook, None, OnOverlap::Queue).run.id).collect();
    let claimed: Vec<_> = claim(&mut live, 99, Instant::now()).iter().map(|run| run.id).collect();
    assert_eq!(claimed, admitted);
}
