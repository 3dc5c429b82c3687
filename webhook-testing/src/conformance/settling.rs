//! Promises about the ends of attempts, and about cancellation.

use std::sync::Arc;
use std::time::Duration;

use super::scene::*;
use webhook_core::run::{Artifact, CancelReason, Ending, ErrorKind, Progress, RunError, RunState};
use webhook_core::store::{Cancelled, Outcome, Renewal, RunQuery, Settled, Settlement, Store, StoreError};

/// Each ending is recorded as given, with its time.
pub async fn endings_are_recorded_as_given(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let error = RunError::new(ErrorKind::TimedOut, "too slow");
    let left = Artifact::new("notebook.html", "text/html", 7);
    let endings = [
        (Ending::Succeeded { summary: Some("fine".to_owned()), artifacts: vec![] }, RunState::Succeeded),
        (Ending::failed(RunError::new(ErrorKind::Panicked, "oh")), RunState::Failed),
        (Ending::Failed { error: error.clone(), artifacts: vec![left] }, RunState::Failed),
        (Ending::TimedOut(error), RunState::TimedOut),
        (Ending::Cancelled(CancelReason::Requested), RunState::Cancelled),
    ];
    for (ending, expected) in endings {
        let run = running(&*store, &webhook).await;
        let at = now();
        let outcome = Outcome::Ended { ending: ending.clone(), deliveries: vec![] };
        let settlement = Settlement::new(run.id(), run.fence(), outcome, at);
        let mut settled = store.settle(vec![settlement]).await.must("settle a run");
        let ended = applied(settled.remove(0));
        let by_hand = run.ended(ending, at).must("end a run");
        assert_eq!(*ended, by_hand, "an ending must be recorded as it was given");
        assert_eq!((ended.state(), ended.finished_at()), (expected, Some(at)));
        assert_eq!(get(&*store, run.id()).await, ended, "what was settled must be what the store shows");
    }
}

/// An outcome and its deliveries are recorded in one step: both, or neither.
pub async fn an_outcome_comes_with_its_deliveries(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let run = running(&*store, &webhook).await;
    let deliveries = vec![delivery(run.id(), "a@example.com"), delivery(run.id(), "b@example.com")];
    applied(settle(&*store, &run, success_with(deliveries.clone())).await);
    let listed = store.list_deliveries(&[run.id()]).await.must("list deliveries");
    assert_eq!(listed, deliveries, "a settled run must have the deliveries it was settled with");
    let again = settle(&*store, &run, success_with(vec![delivery(run.id(), "c@example.com")])).await;
    assert!(matches!(again, Settled::Stale), "an ended run was settled again: {again:?}");
    let listed = store.list_deliveries(&[run.id()]).await.must("list deliveries");
    assert_eq!(listed, deliveries, "a refused settlement must add no delivery");
}

/// Texts with characters that databases handle badly survive unchanged, wherever a run has them.
pub async fn every_character_survives_in_every_text(store: Arc<dyn Store>) {
    const TEXT: &str = "a\u{0}b\t\u{1}\r\n\\ \"' %s $1 \u{7f}\u{feff}\u{fffd}\u{10ffff} 日本語";
    let webhook = webhook(&*store).await;
    let run = running(&*store, &webhook).await;
    let progress = Progress::new(0.1 + 0.2, Some(TEXT.to_owned()));
    let renewal = Renewal::new(run.id(), run.fence(), Some(progress.clone()));
    store.renew(vec![renewal], LONG).await.must("renew a claim");
    assert_eq!(get(&*store, run.id()).await.progress(), Some(&progress));
    let line = format!("{TEXT}\n");
    store.append_log(run.id(), run.fence(), line.clone()).await.must("append to a log");
    assert_eq!(store.read_log(run.id(), 0).await.must("read a log").text, line);

    let told = delivery(run.id(), TEXT);
    let artifacts = vec![Artifact::new(TEXT, TEXT, u64::MAX)];
    let ending = Ending::Succeeded { summary: Some(TEXT.to_owned()), artifacts: artifacts.clone() };
    let outcome = Outcome::Ended { ending, deliveries: vec![told.clone()] };
    let ended = applied(settle(&*store, &run, outcome).await);
    assert_eq!((ended.summary(), ended.artifacts()), (Some(TEXT), &artifacts[..]));
    assert_eq!(get(&*store, run.id()).await, ended);
    assert_eq!(store.list_deliveries(&[run.id()]).await.must("list deliveries"), [told]);

    let failed = running(&*store, &webhook).await;
    let error = RunError::new(ErrorKind::Fatal, TEXT);
    let outcome = Outcome::Ended { ending: Ending::failed(error.clone()), deliveries: Vec::new() };
    applied(settle(&*store, &failed, outcome).await);
    assert_eq!(get(&*store, failed.id()).await.error(), Some(&error));
}

/// Many settlements in one call have their results in order, each by itself.
pub async fn settlements_are_answered_in_order(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    enqueue_many(&*store, &webhook, 3).await;
    let runs: Vec<_> = claim(&*store, 3).await.into_iter().map(|claim| claim.run).collect();
    let settlement =
        |index: usize, fence: u64, outcome| Settlement::new(runs[index].id(), fence, outcome, now());
    let batch = vec![
        settlement(2, runs[2].fence(), failure()),
        settlement(0, runs[0].fence() + 7, success()),
        settlement(1, runs[1].fence(), success()),
        settlement(1, runs[1].fence(), failure()),
    ];
    let settled = store.settle(batch).await.must("settle runs");
    let states: Vec<_> = settled
        .iter()
        .map(|settled| match settled {
            Settled::Applied(run) => Some((run.id(), run.state())),
            _ => None,
        })
        .collect();
    let expected =
        vec![Some((runs[2].id(), RunState::Failed)), None, Some((runs[1].id(), RunState::Succeeded)), None];
    assert_eq!(states, expected);
    assert_eq!(state(&*store, runs[0].id()).await, RunState::Running);
    assert!(store.settle(vec![]).await.must("settle nothing").is_empty());
}

/// A retry queues the run for its due time and not earlier.
pub async fn a_retry_waits_for_its_due_time(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let run = running(&*store, &webhook).await;
    let (delay, at, start) = (Duration::from_millis(250), now(), std::time::Instant::now());
    let settlement = Settlement::new(run.id(), run.fence(), retry(delay), at);
    let waiting = applied(store.settle(vec![settlement]).await.must("settle a run").remove(0));
    assert_eq!((waiting.state(), waiting.attempt(), waiting.due_at()), (RunState::Queued, 1, at + delay));
    assert_eq!(waiting.error().map(|error| error.kind), Some(ErrorKind::Retryable));
    assert_eq!(get(&*store, run.id()).await, waiting);
    let again = claim_when_due(&*store, LONG).await.remove(0).run;
    let waited = start.elapsed() + Duration::from_millis(5);
    assert!(waited >= delay, "a retry due after {delay:?} was given out after {waited:?}");
    assert_eq!((again.id(), again.attempt(), again.interruptions()), (run.id(), 2, 0));
}

/// A run that was handed back is due at once, and the attempt does not count.
pub async fn a_hand_back_counts_as_nothing(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let run = running(&*store, &webhook).await;
    let queued = applied(settle(&*store, &run, Outcome::HandBack).await);
    assert_eq!((queued.state(), queued.attempt(), queued.interruptions()), (RunState::Queued, 0, 0));
    let again = claim(&*store, 1).await.remove(0).run;
    assert_eq!((again.id(), again.attempt(), again.interruptions()), (run.id(), 1, 0));
}

/// A queued run is cancelled at once and never claimed.
pub async fn a_queued_run_is_cancelled_at_once(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let (kept, gone) = (enqueue(&*store, &webhook).await.id(), enqueue(&*store, &webhook).await.id());
    let at = now();
    let cancelled = store.cancel_run(gone, at).await.must("cancel a run");
    let Cancelled::Ended(run) = cancelled else { panic!("a queued run was cancelled: {cancelled:?}") };
    assert_eq!((run.state(), run.finished_at(), run.error().cloned()), (RunState::Cancelled, Some(at), None));
    assert_eq!(get(&*store, gone).await, run);
    assert_eq!(claim_ids(&*store, 10).await, vec![kept], "a cancelled run must not be claimed");
    let again = store.cancel_run(gone, now()).await.must("cancel a run");
    assert!(matches!(again, Cancelled::TooLate(_)), "an ended run was cancelled: {again:?}");
}

/// A run that waits for its retry can be cancelled.
pub async fn a_run_that_waits_for_its_retry_is_cancelled(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let run = running(&*store, &webhook).await;
    applied(settle(&*store, &run, retry(Duration::from_millis(50))).await);
    let cancelled = store.cancel_run(run.id(), now()).await.must("cancel a run");
    assert!(matches!(cancelled, Cancelled::Ended(_)), "a waiting run was cancelled: {cancelled:?}");
    // Only passing time can show that nothing happens at the due time.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(claim(&*store, 1).await.is_empty(), "a cancelled run must not come back");
}

/// A running run continues until its worker learns of the cancellation, and then ends as it is settled.
pub async fn a_running_run_is_asked_to_stop(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let outcomes = [
        (retry(Duration::ZERO), RunState::Cancelled),
        (Outcome::HandBack, RunState::Cancelled),
        (success(), RunState::Succeeded),
        (failure(), RunState::Failed),
    ];
    for (outcome, expected) in outcomes {
        let run = running(&*store, &webhook).await;
        let cancelled = store.cancel_run(run.id(), now()).await.must("cancel a run");
        let Cancelled::Requested(asked) = cancelled else {
            panic!("a running run was cancelled: {cancelled:?}")
        };
        assert_eq!(
            (asked.state(), asked.cancel_requested()),
            (RunState::Running, Some(CancelReason::Requested))
        );
        assert_eq!(get(&*store, run.id()).await, asked, "a request to stop must be recorded");
        let ended = applied(settle(&*store, &run, outcome.clone()).await);
        assert_eq!(ended.state(), expected, "a run asked to stop was settled with {outcome:?}");
        assert_eq!(get(&*store, run.id()).await, ended);
    }
    assert!(claim(&*store, 10).await.is_empty(), "a run asked to stop must not be queued again");
}

/// Cancelling an ended run comes too late and changes nothing; an unknown run is not found.
pub async fn cancelling_what_has_ended_changes_nothing(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let id = succeeded(&*store, &webhook).await;
    let before = get(&*store, id).await;
    let cancelled = store.cancel_run(id, now()).await.must("cancel a run");
    let Cancelled::TooLate(run) = cancelled else { panic!("an ended run was cancelled: {cancelled:?}") };
    assert_eq!(run, before);
    assert_eq!(get(&*store, id).await, before);
    let unknown = run_of(&webhook).id();
    let result = store.cancel_run(unknown, now()).await;
    assert!(matches!(result, Err(StoreError::NotFound(_))), "an unknown run was cancelled: {result:?}");
    assert_eq!(store.get_run(unknown).await.must("read a run"), None, "an unknown run is none");
    assert_eq!(list(&*store, RunQuery::default()).await, vec![id]);
}

/// Health counts queued runs, running runs and pending deliveries.
pub async fn health_counts_what_is_there(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let counts = async || {
        let health = store.health().await.must("say how it is");
        (health.queued, health.running, health.pending_deliveries)
    };
    assert_eq!(counts().await, (0, 0, 0));
    let first = running(&*store, &webhook).await;
    enqueue_many(&*store, &webhook, 2).await;
    assert_eq!(counts().await, (2, 1, 0));
    let told = delivery(first.id(), "a@example.com");
    applied(settle(&*store, &first, success_with(vec![told.clone()])).await);
    assert_eq!(counts().await, (2, 0, 1));
    settle_delivery(&*store, &told, webhook_core::notifier::DeliveryOutcome::Delivered).await;
    assert_eq!(counts().await, (2, 0, 0));
    let second = claim(&*store, 1).await.remove(0).run;
    applied(settle(&*store, &second, retry(LONG)).await);
    assert_eq!(counts().await, (2, 0, 0), "a run that waits for its retry is queued");
    store.cancel_run(second.id(), now()).await.must("cancel a run");
    assert_eq!(counts().await, (1, 0, 0));
}
