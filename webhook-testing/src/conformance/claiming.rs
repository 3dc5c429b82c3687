//! Promises about claims: exclusive, ordered, fenced, and lost when their lease expires.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::scene::*;
use webhook_core::id::RunId;
use webhook_core::run::{CancelReason, Progress, RunState};
use webhook_core::store::{
    Begun, Cancelled, ClaimRequest, Renewal, Renewed, RunQuery, Settled, Settlement, Store, Workflows,
};
use webhook_core::webhook::{OnOverlap, WebhookSettings};

/// Eight claimers at once over two hundred runs: each run goes to one of them.
pub async fn each_run_goes_to_one_claimer(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let all = BTreeSet::from_iter(enqueue_many(&*store, &webhook, 200).await);
    let mut claimers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = store.clone();
        claimers.spawn(async move {
            let mut mine = Vec::new();
            loop {
                let claimed = claim_ids(&*store, 7).await;
                if claimed.is_empty() {
                    return mine;
                }
                mine.extend(claimed);
            }
        });
    }
    let claimed = within("eight claimers", claimers.join_all()).await.concat();
    assert_eq!(claimed.len(), 200, "two hundred runs must be claimed two hundred times in all");
    assert_eq!(BTreeSet::from_iter(claimed), all, "each run must go to one claimer");
}

/// Runs are claimed oldest first, never more than asked for, and never twice.
pub async fn runs_are_claimed_oldest_first(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    assert!(claim(&*store, 10).await.is_empty(), "an empty store must give no claim");
    let ids = enqueue_many(&*store, &webhook, 10).await;
    assert_eq!(claim_ids(&*store, 4).await, ids[..4], "the four oldest must come first");
    assert_eq!(claim_ids(&*store, 100).await, ids[4..], "then the others, each once");
    assert!(claim(&*store, 100).await.is_empty(), "a claimed run must not be claimed again");
}

/// Each webhook with due runs gets its share of every claim, however many runs of another were there before.
pub async fn no_webhook_waits_behind_the_backlog_of_another(store: Arc<dyn Store>) {
    let (busy, quiet) = (webhook(&*store).await, webhook(&*store).await);
    let backlog = enqueue_many(&*store, &busy, 30).await;
    let few = enqueue_many(&*store, &quiet, 3).await;
    let mut of_quiet = Vec::new();
    let mut of_busy = Vec::new();
    for _ in 0..3 {
        let claimed = claim(&*store, 4).await;
        assert_eq!(claimed.len(), 4, "what one webhook leaves of its share must go to the others");
        for claim in claimed {
            let of = if claim.run.webhook_id() == quiet.id { &mut of_quiet } else { &mut of_busy };
            of.push(claim.run.id());
        }
    }
    assert_eq!(of_quiet, few, "a webhook with few runs must get an equal share of each claim");
    assert_eq!(of_busy, backlog[..9], "of each webhook, the oldest runs must come first");
    let third = webhook(&*store).await;
    let late = enqueue(&*store, &third).await.id();
    let mut next = Vec::new();
    for _ in 0..4 {
        next.extend(claim_ids(&*store, 1).await);
    }
    assert!(next.contains(&late), "claims of one run must serve the webhooks in turn");
}

/// A claim of some workflows gives their runs only, and leaves the others to claims of theirs.
pub async fn only_runs_of_the_workflows_asked_for_are_claimed(store: Arc<dyn Store>) {
    let settings = WebhookSettings::default;
    let report = recorded(&*store, webhook_for("report/sales", settings())).await;
    let notebook = recorded(&*store, webhook_for("notebook/sales", settings())).await;
    let reports = enqueue_many(&*store, &report, 2).await;
    let notebooks = enqueue_many(&*store, &notebook, 2).await;
    let claim_of = async |workflows: Workflows| -> Vec<RunId> {
        let request = ClaimRequest::new(10, LONG, now()).with_ahead(10).with_workflows(workflows);
        store.claim(request).await.must("claim runs").iter().map(|claim| claim.run.id()).collect()
    };
    assert_eq!(
        claim_of(workflows_only("report/costs")).await,
        [],
        "no run of another workflow must be claimed"
    );
    assert_eq!(claim_of(workflows_only("report/sales")).await, reports);
    let kinds = [notebook.workflow.kind.clone()].into_iter().collect();
    assert_eq!(claim_of(Workflows::OfKinds(Arc::new(kinds))).await, notebooks);
    let late = enqueue(&*store, &notebook).await.id();
    assert_eq!(claim_of(Workflows::All).await, [late]);
}

/// A claim shows the run as running, with its attempt, start and fence, and so does the store.
pub async fn a_claim_marks_the_run_as_running(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let queued = enqueue(&*store, &webhook).await;
    let at = now();
    let mut claims = store.claim(ClaimRequest::new(1, LONG, at)).await.must("claim a run");
    let run = claims.remove(0).run;
    assert_eq!((run.id(), run.state(), run.attempt()), (queued.id(), RunState::Running, 1));
    assert_eq!(run.started_at(), Some(at));
    assert!(run.fence() > queued.fence(), "a claim must have a fence greater than before");
    assert_eq!(get(&*store, run.id()).await, run, "a claim must be what the store shows");
}

/// Each claim of a run has a greater fence than the claim before, however the run was released.
pub async fn fences_grow_with_every_claim(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    enqueue(&*store, &webhook).await;
    let mut last = 0;
    for round in 0..6 {
        let lease = if round % 3 == 2 { SHORT } else { LONG };
        let run = claim_when_due(&*store, lease).await.remove(0).run;
        assert!(run.fence() > last, "fence {} came after fence {last}", run.fence());
        last = run.fence();
        match round % 3 {
            0 => drop(applied(settle(&*store, &run, retry(Duration::ZERO)).await)),
            1 => drop(applied(settle(&*store, &run, webhook_core::store::Outcome::HandBack).await)),
            _ => {}
        }
    }
}

/// A run whose lease has expired is due again, as a new attempt with one more interruption.
pub async fn a_run_whose_lease_is_over_comes_back(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let id = enqueue(&*store, &webhook).await.id();
    let lost = claim_for(&*store, 1, SHORT).await.remove(0).run;
    let again = claim_when_due(&*store, LONG).await.remove(0).run;
    assert_eq!((again.id(), again.state()), (id, RunState::Running));
    assert_eq!((again.attempt(), again.interruptions()), (2, 1), "a lost lease is an interruption");
    assert!(again.fence() > lost.fence());
    assert_eq!(again.started_at(), lost.started_at(), "a run starts with its first attempt");
}

/// A run whose interruptions reached the bound is claimed once more, but not as a further attempt.
pub async fn a_run_interrupted_too_often_gets_no_further_attempt(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    enqueue(&*store, &webhook).await;
    claim_for(&*store, 1, SHORT).await;
    let again = within("a lease to be over", async {
        loop {
            let request = ClaimRequest::new(1, LONG, now()).with_interruption_bound(1);
            if let Some(claim) = store.claim(request).await.must("claim a run").pop() {
                return claim.run;
            }
            store.wait_for_work(webhook_core::store::Work::Runs).await;
        }
    })
    .await;
    assert_eq!((again.state(), again.interruptions()), (RunState::Running, 1));
    assert_eq!(again.attempt(), 1, "a run that is given out only to be failed begins no attempt");
    assert_eq!(applied(settle(&*store, &again, failure()).await).state(), RunState::Failed);
}

/// Runs claimed ahead read as queued until they begin, and are claimed once.
pub async fn what_is_claimed_ahead_stays_queued_until_it_begins(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let ids = enqueue_many(&*store, &webhook, 4).await;
    let at = now();
    let request = ClaimRequest::new(1, LONG, at).with_ahead(2);
    let claims = store.claim(request).await.must("claim ahead");
    let order: Vec<_> = claims.iter().map(|claim| (claim.run.id(), claim.is_ahead)).collect();
    assert_eq!(order, [(ids[0], false), (ids[1], true), (ids[2], true)], "oldest first, then those ahead");
    assert!(claims.iter().all(|claim| claim.run.state() == RunState::Running && claim.run.attempt() == 1));
    assert_eq!(claim_ids(&*store, 9).await, ids[3..], "what is claimed ahead is claimed");

    let queued = RunQuery::default().in_state(Some(RunState::Queued));
    assert_eq!(list(&*store, queued.clone()).await, [ids[2], ids[1]]);
    let seen = get(&*store, ids[1]).await;
    assert_eq!((seen.state(), seen.attempt(), seen.started_at()), (RunState::Queued, 0, None));
    let health = store.health().await.must("tell its health");
    assert_eq!((health.queued, health.running), (2, 2));

    let ahead = &claims[1].run;
    let begun = |fence: u64| vec![Begun::new(ahead.id(), fence, at + SHORT)];
    store.begin(begun(ahead.fence() + 1)).await.must("pass over a stale fence");
    assert_eq!(state(&*store, ahead.id()).await, RunState::Queued, "a stale fence begins nothing");
    for _ in 0..2 {
        store.begin(begun(ahead.fence())).await.must("begin");
        let seen = get(&*store, ahead.id()).await;
        assert_eq!((seen.state(), seen.attempt(), seen.fence()), (RunState::Running, 1, ahead.fence()));
        assert_eq!(seen.started_at(), Some(at + SHORT), "it starts when it begins");
    }
    assert_eq!(list(&*store, queued).await, [ids[2]]);
    assert_eq!(applied(settle(&*store, ahead, success()).await).state(), RunState::Succeeded);
}

/// Runs claimed ahead count towards their webhook's concurrency, and are due again when their lease expires.
pub async fn what_is_claimed_ahead_counts_towards_the_bound(store: Arc<dyn Store>) {
    let webhook = bounded(&*store, 2, OnOverlap::Queue).await;
    let ids = enqueue_many(&*store, &webhook, 4).await;
    let request = ClaimRequest::new(0, SHORT, now()).with_ahead(9);
    let ahead = store.claim(request).await.must("claim ahead");
    assert_eq!(ahead.iter().map(|claim| claim.run.id()).collect::<Vec<_>>(), ids[..2]);
    assert!(claim(&*store, 9).await.is_empty(), "two of two are claimed");
    assert_eq!(
        applied(settle(&*store, &ahead[0].run, webhook_core::store::Outcome::HandBack).await).attempt(),
        0
    );
    let first = claim_ids(&*store, 9).await;
    assert_eq!(first, ids[..1], "what was handed back is the next");
    let again = claim_when_due(&*store, LONG).await.remove(0).run;
    assert_eq!(again.id(), ids[1], "it comes back when its lease is over");
    assert!(again.fence() > ahead[1].run.fence());
}

/// A run claimed ahead can be settled without a `begin`, with the time at which its execution began.
pub async fn what_was_claimed_ahead_can_be_settled_at_once(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let id = enqueue(&*store, &webhook).await.id();
    let at = now();
    let request = ClaimRequest::new(0, LONG, at).with_ahead(1);
    let run = store.claim(request).await.must("claim ahead").remove(0).run;
    let settlement = Settlement::new(id, run.fence(), success(), at + LONG).with_started_at(Some(at + SHORT));
    let settled = applied(store.settle(vec![settlement]).await.must("settle").remove(0));
    assert_eq!((settled.state(), settled.attempt()), (RunState::Succeeded, 1));
    assert_eq!((settled.started_at(), settled.finished_at()), (Some(at + SHORT), Some(at + LONG)));
    store.begin(vec![Begun::new(id, run.fence(), at)]).await.must("pass over what has ended");
    assert_eq!(get(&*store, id).await, settled);
}

/// A run claimed ahead may already have begun, so it is asked to stop.
pub async fn what_is_claimed_ahead_is_asked_to_stop(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let id = enqueue(&*store, &webhook).await.id();
    let request = ClaimRequest::new(0, LONG, now()).with_ahead(1);
    let run = store.claim(request).await.must("claim ahead").remove(0).run;
    let cancelled = store.cancel_run(id, now()).await.must("cancel a run");
    assert!(matches!(cancelled, Cancelled::Requested(_)), "{cancelled:?}");
    let renewed = store.renew(vec![Renewal::new(id, run.fence(), None)], LONG).await.must("renew a claim");
    assert_eq!(renewed, [Renewed::Held { cancel: Some(CancelReason::Requested) }]);
    let back = applied(settle(&*store, &run, webhook_core::store::Outcome::HandBack).await);
    assert_eq!(back.state(), RunState::Cancelled, "it does not come back");
}

/// A claim with a stale fence can neither renew nor settle nor log, and changes nothing.
pub async fn a_stale_fence_changes_nothing(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    enqueue(&*store, &webhook).await;
    let lost = claim_for(&*store, 1, SHORT).await.remove(0).run;
    let held = claim_when_due(&*store, LONG).await.remove(0).run;

    let progress = Some(Progress::new(0.5, Some("from beyond".to_owned())));
    let renewals =
        vec![Renewal::new(lost.id(), lost.fence(), progress), Renewal::new(held.id(), held.fence(), None)];
    let renewed = store.renew(renewals, LONG).await.must("renew claims");
    assert_eq!(renewed, vec![Renewed::Lost, Renewed::Held { cancel: None }], "answers must come in order");
    let recipient = delivery(lost.id(), "nobody@example.com");
    for outcome in [
        success_with(vec![recipient]),
        retry(Duration::ZERO),
        webhook_core::store::Outcome::HandBack,
        failure(),
    ] {
        let settled = settle(&*store, &lost, outcome.clone()).await;
        assert!(matches!(settled, Settled::Stale), "a stale fence settled {outcome:?}: {settled:?}");
    }
    store.append_log(lost.id(), lost.fence(), "from beyond\n".to_owned()).await.must("pass over a stale log");

    assert_eq!(get(&*store, held.id()).await, held, "a stale fence must not change the run");
    assert_eq!(store.list_deliveries(&[held.id()]).await.must("list deliveries"), vec![]);
    assert_eq!(store.read_log(held.id(), 0).await.must("read a log").text, "");
    assert_eq!(applied(settle(&*store, &held, success()).await).state(), RunState::Succeeded);
    let settled = settle(&*store, &held, failure()).await;
    assert!(matches!(settled, Settled::Stale), "an ended run was settled again: {settled:?}");
    assert_eq!(state(&*store, held.id()).await, RunState::Succeeded);
}

/// A fence greater than the newest is as stale as a smaller one, and an unknown run is lost.
pub async fn only_the_exact_fence_holds(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let run = running(&*store, &webhook).await;
    let unknown = run_of(&webhook);
    let renewals =
        vec![Renewal::new(run.id(), run.fence() + 1, None), Renewal::new(unknown.id(), run.fence(), None)];
    let renewed = store.renew(renewals, LONG).await.must("renew claims");
    assert_eq!(renewed, vec![Renewed::Lost, Renewed::Lost]);
    assert!(matches!(settle_with(&*store, run.id(), run.fence() + 1, success()).await, Settled::Stale));
    assert!(matches!(settle(&*store, &unknown, success()).await, Settled::Stale));
    let queued = enqueue(&*store, &webhook).await;
    assert!(matches!(settle(&*store, &queued, success()).await, Settled::Stale), "nobody claimed this run");
    assert_eq!(state(&*store, queued.id()).await, RunState::Queued);
    assert_eq!(get(&*store, run.id()).await, run);
}

/// A renewed claim holds beyond its first lease, and the renewal's progress is recorded.
pub async fn a_renewed_claim_holds_on(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    enqueue(&*store, &webhook).await;
    let lease = Duration::from_millis(500);
    let run = claim_for(&*store, 1, lease).await.remove(0).run;
    let progress = Progress::new(0.25, Some("a quarter – ¼".to_owned()));
    let renewal = Renewal::new(run.id(), run.fence(), Some(progress.clone()));
    let renewed = store.renew(vec![renewal], LONG).await.must("renew a claim");
    assert_eq!(renewed, vec![Renewed::Held { cancel: None }]);
    assert_eq!(get(&*store, run.id()).await.progress(), Some(&progress), "progress must be recorded");
    // Only passing time can show that nothing happens at the end of the first lease.
    tokio::time::sleep(lease + Duration::from_millis(100)).await;
    assert!(claim(&*store, 1).await.is_empty(), "a renewed claim must not be given to another");
    assert_eq!(applied(settle(&*store, &run, success()).await).state(), RunState::Succeeded);
}

/// A renewal returns the reason of a requested cancellation.
pub async fn a_renewal_says_when_to_stop(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let (one, other) = (running(&*store, &webhook).await, running(&*store, &webhook).await);
    let cancelled = store.cancel_run(other.id(), now()).await.must("cancel a run");
    assert!(matches!(cancelled, Cancelled::Requested(_)), "a running run was cancelled: {cancelled:?}");
    let renewals = [&one, &other].map(|run| Renewal::new(run.id(), run.fence(), None));
    let renewed = store.renew(renewals.to_vec(), LONG).await.must("renew claims");
    let stop = Renewed::Held { cancel: Some(CancelReason::Requested) };
    assert_eq!(renewed, vec![Renewed::Held { cancel: None }, stop]);
}

/// A run that was asked to stop and whose worker then vanished is claimed again, but not as a further
/// attempt.
pub async fn a_run_asked_to_stop_begins_no_further_attempt(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    enqueue(&*store, &webhook).await;
    let run = claim_for(&*store, 1, SHORT).await.remove(0).run;
    store.cancel_run(run.id(), now()).await.must("cancel a run");
    let again = claim_when_due(&*store, LONG).await.remove(0).run;
    assert_eq!(again.cancel_requested(), Some(CancelReason::Requested), "a request to stop must not be lost");
    assert_eq!(again.attempt(), 1, "a run that is given out only to be cancelled begins no attempt");
}
