//! Any operations in any order: what holds at each step, and what is left at the end.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Admit { webhook: usize, overlap: usize },
    Claim { limit: usize, ahead: usize },
    Begin(usize),
    Settle { index: usize, how: usize },
    Cancel(usize),
    Pass(u64),
    Close(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_usize, 0..4_usize).prop_map(|(webhook, overlap)| Step::Admit { webhook, overlap }),
        4 => (0..3_usize, 0..3_usize).prop_map(|(limit, ahead)| Step::Claim { limit, ahead }),
        2 => (0..8_usize).prop_map(Step::Begin),
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
        is_cached: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _guard = runtime.enter();
        let mut live = LiveRuns::with_cache(if is_cached { usize::MAX } else { 0 });
        let mut instant = Instant::now();
        let mut webhooks = [webhook(), webhook(), webhook()];
        let rules = [OnOverlap::Queue, OnOverlap::Skip, OnOverlap::Replace, OnOverlap::Coalesce];
        let mut ended: HashMap<RunId, RunState> = HashMap::new();
        let mut admitted: Vec<RunId> = Vec::new();
        let mut claims: Vec<Arc<Run>> = Vec::new();
        let drain = (0..400).map(|index| match index % 2 {
            0 => Step::Claim { limit: 3, ahead: 1 },
            _ => Step::Settle { index: 0, how: 0 },
        });
        for step in steps.into_iter().chain(drain) {
            let mut over: Vec<Arc<Run>> = Vec::new();
            match step {
                Step::Admit { webhook, overlap } => {
                    let admission = admit(&mut live, webhooks[webhook], Some(2), rules[overlap]);
                    admitted.push(admission.run.id());
                    over.extend(admission.superseded);
                    over.push(admission.run);
                }
                Step::Claim { limit, ahead } => {
                    let outcome = claim_or_end(&mut live, limit, ahead, instant);
                    claims.extend(outcome.claimed);
                    claims.extend(outcome.ahead);
                    over.extend(outcome.ended);
                }
                Step::Begin(index) if !claims.is_empty() => {
                    let run = &claims[index % claims.len()];
                    if let Some(begun) = live.begin(&Begun::new(run.id(), run.fence(), NOW)) {
                        prop_assert_eq!((begun.state(), begun.fence()), (RunState::Running, run.fence()));
                    }
                }
                Step::Begin(_) => {}
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
                    match cancel(&mut live, id, CancelReason::Requested) {
                        Some(LiveCancel::Missing) => prop_assert!(false, "{} was provided", id),
                        Some(LiveCancel::Ended(run)) => over.push(run),
                        Some(LiveCancel::Requested(run)) => {
                            prop_assert_eq!(run.state() == RunState::Queued, live.ahead.contains_key(&id));
                        }
                        None => prop_assert!(ended.contains_key(&id), "{} was not found", id),
                    }
                }
                Step::Cancel(_) => {}
                Step::Pass(seconds) => instant += Duration::from_secs(seconds),
                Step::Close(webhook) => {
                    over.extend(close(&mut live, webhooks[webhook]));
                    let left = RunQuery::default().of_webhook(Some(webhooks[webhook])).in_state(Some(RunState::Queued));
                    let left = live.list(&left, 99);
                    prop_assert!(left.iter().all(|(id, _)| live.ahead.contains_key(id)));
                    // Nothing is enqueued for a webhook that is gone.
                    webhooks[webhook] = self::webhook();
                }
            }
            for run in over.into_iter().filter(|run| run.state().is_ended()) {
                prop_assert!(ended.insert(run.id(), run.state()).is_none(), "{} ended twice", run.id());
            }
            let queued = live.list(&RunQuery::default().in_state(Some(RunState::Queued)), 999);
            prop_assert!(queued.is_sorted_by(|newer, older| newer.0 > older.0));
            prop_assert_eq!(queued.len(), live.queued());
            for webhook in webhooks {
                let query = RunQuery::default().of_webhook(Some(webhook)).in_state(Some(RunState::Running));
                let ahead = live.ahead.values().filter(|run| run.webhook_id() == webhook).count();
                prop_assert!(live.list(&query, 99).len() + ahead <= 2);
            }
        }
        prop_assert_eq!((live.queued(), live.running()), (0, 0));
        prop_assert!(live.index.queues().next().is_none() && live.index.next(&Workflows::All).is_none() && live.index.first_due().is_none());
        prop_assert!(live.index.is_empty() && live.ahead.is_empty() && live.records.is_empty() && live.queued_bytes() == 0);
        prop_assert_eq!(ended.len(), admitted.len());
    }
}
