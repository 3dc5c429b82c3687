//! Tests of workers over a store that fails, stalls and loses answers.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;
use webhook_core::Webhooks;
use webhook_core::executor::{FnExecutor, RunOutput};
use webhook_core::id::RunId;
use webhook_core::memory::MemoryStore;
use webhook_core::run::{Caller, ErrorKind, RunState};
use webhook_core::store::{Outcome, RunQuery, Settlement, Store};
use webhook_core::token::TokenKey;
use webhook_core::webhook::WebhookSettings;
use webhook_core::work::{WorkerOptions, Workers};
use webhook_testing::{Fixture, Step, sales_workflow};

use super::unsteady::{Fault, UnsteadyStore};

pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct Faulty {
    pub(super) fixture: Fixture,
    pub(super) store: UnsteadyStore,
    pub(super) workers: Workers,
}

impl Faulty {
    pub(super) async fn new(settings: Value, options: WorkerOptions) -> Self {
        let memory = MemoryStore::new();
        let store = UnsteadyStore::new(memory.clone());
        let fixture = Fixture::with_store(Webhooks::builder(), memory, store.clone(), settings).await;
        let workers = fixture.webhooks.start_workers(options.with_threads(false));
        Self { fixture, store, workers }
    }

    pub(super) fn with_slots(slots: usize) -> WorkerOptions {
        WorkerOptions::default().with_slots(slots)
    }

    pub(super) async fn count(&self, state: RunState) -> usize {
        let query = RunQuery::default().in_state(Some(state)).limit(1_000);
        self.fixture.webhooks.manage().list_runs(query).await.unwrap().items.len()
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_away_for_longer_than_a_lease_no_run_executes_twice() {
    let faulty = Faulty::new(json!({"concurrency": {"max": 1}}), Faulty::with_slots(4)).await;
    let fixture = &faulty.fixture;
    fixture.executor.script_next([Step::Sleep(10 * MINUTE)]);
    let run = fixture.trigger("").await;
    fixture.executor.executed(1).await;
    faulty.store.always(&["renew", "claim", "settle", "health"], Fault::Fails);
    // The stop comes within its lease, and the next attempt begins once the store is back.
    fixture.executor.ended(1).await;
    tokio::time::sleep(MINUTE).await;
    assert_eq!(fixture.executor.executed(1).await.len(), 1);
    faulty.store.heal();
    assert_eq!(fixture.ended(run.id()).await.state(), RunState::Succeeded);
    assert_eq!((fixture.executor.executed(2).await.len(), fixture.executor.most_at_once()), (2, 1));
    faulty.workers.shutdown(PATIENCE).await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_renewals_fail_stops_what_it_executes_within_the_lease_and_claims_nothing() {
    let options = Faulty::with_slots(4).with_cancel_grace(MINUTE);
    let faulty = Faulty::new(json!({}), options.with_lease(Duration::from_secs(30))).await;
    let fixture = &faulty.fixture;
    fixture.executor.script_next([Step::IgnoreCancellation, Step::Sleep(Duration::from_secs(50))]);
    let first = fixture.trigger("").await;
    fixture.executor.executed(1).await;
    faulty.store.always(&["renew"], Fault::Fails);
    tokio::time::sleep(Duration::from_secs(31)).await;
    let second = fixture.trigger("").await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(
        fixture.executor.executed(1).await.len(),
        1,
        "another may execute the first, so nothing is claimed"
    );
    faulty.store.heal();
    for run in [first.id(), second.id()] {
        assert_eq!(fixture.ended(run).await.state(), RunState::Succeeded);
    }
    assert_eq!(fixture.executor.executed(2).await.len(), 2);
    faulty.workers.shutdown(PATIENCE).await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_another_process_cancels_stops_long_before_its_lease_is_renewed() {
    let options = Faulty::with_slots(2).with_lease(60 * MINUTE);
    let faulty = Faulty::new(json!({}), options).await;
    let fixture = &faulty.fixture;
    fixture.executor.script_next([Step::WaitForRelease]);
    fixture.executor.script_next([Step::WaitForRelease]);
    let (cancelled, other) = (fixture.trigger("").await, fixture.trigger("").await);
    fixture.executor.executed(2).await;
    faulty.store.cancel_elsewhere(cancelled.id()).await;
    assert_eq!(fixture.ended(cancelled.id()).await.state(), RunState::Cancelled);
    assert_eq!(faulty.count(RunState::Running).await, 1, "the other goes on");
    fixture.executor.release_all();
    assert_eq!(fixture.ended(other.id()).await.state(), RunState::Succeeded);
    faulty.workers.shutdown(PATIENCE).await;
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_cannot_be_recorded_fails_its_run_and_holds_up_no_other() {
    let faulty = Faulty::new(json!({}), Faulty::with_slots(8)).await;
    let fixture = &faulty.fixture;
    faulty.store.refuse_summary("bad");
    fixture.executor.script_next([Step::SucceedWith("bad".to_owned())]);
    let bad = fixture.trigger("").await;
    for _ in 0..20 {
        let other = fixture.trigger("").await;
        let begun = Instant::now();
        assert_eq!(fixture.ended(other.id()).await.state(), RunState::Succeeded);
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
    assert_eq!(fixture.webhooks.work_health().unrecorded_outcomes, 1);
    let ended = fixture.ended(bad.id()).await;
    assert_eq!((ended.state(), ended.error().unwrap().kind), (RunState::Failed, ErrorKind::Fatal));
    assert!(ended.error().unwrap().message.contains("could not be recorded"));
    assert_eq!(fixture.executor.executed(21).await.len(), 21, "nothing was executed twice");
    tokio::time::sleep(MINUTE).await;
    assert!(!fixture.webhooks.work_health().is_stuck());
    faulty.workers.shutdown(PATIENCE).await;
}

#[tokio::test(start_paused = true)]
async fn outcomes_that_wait_for_an_answer_of_the_store_show_as_stuck() {
    let faulty = Faulty::new(json!({}), Faulty::with_slots(4)).await;
    let fixture = &faulty.fixture;
    faulty.store.next("settle", Fault::Stalls(MINUTE), 1);
    let run = fixture.trigger("").await;
    tokio::time::sleep(MINUTE / 2).await;
    assert_eq!(fixture.webhooks.work_health().unrecorded_outcomes, 1);
    tokio::time::sleep(2 * MINUTE).await;
    assert_eq!(fixture.ended(run.id()).await.state(), RunState::Succeeded);
    assert!(!fixture.webhooks.work_health().is_stuck());
    faulty.workers.shutdown(PATIENCE).await;
}

#[tokio::test(start_paused = true)]
async fn outcomes_that_are_recorded_one_by_one_show_as_stuck_too() {
    let faulty = Faulty::new(json!({}), Faulty::with_slots(4)).await;
    let fixture = &faulty.fixture;
    faulty.store.refuse_summary("bad");
    faulty.store.next("settle", Fault::Stalls(MINUTE), 1);
    let second = Duration::from_secs(1);
    for summary in ["bad", "good"] {
        fixture.executor.script_next([Step::Sleep(second), Step::SucceedWith(summary.to_owned())]);
    }
    let runs = [fixture.trigger("").await, fixture.trigger("").await];
    tokio::time::sleep(MINUTE / 2).await;
    assert_eq!(fixture.webhooks.work_health().unrecorded_outcomes, 2, "one is refused, the other waits");
    tokio::time::sleep(2 * MINUTE).await;
    let states = [fixture.ended(runs[0].id()).await.state(), fixture.ended(runs[1].id()).await.state()];
    assert_eq!(states, [RunState::Failed, RunState::Succeeded]);
    assert!(!fixture.webhooks.work_health().is_stuck());
    faulty.workers.shutdown(PATIENCE).await;
}

#[tokio::test(start_paused = true)]
async fn outcomes_that_are_recorded_one_by_one_keep_their_order() {
    let faulty = Faulty::new(json!({}), Faulty::with_slots(5)).await;
    let fixture = &faulty.fixture;
    faulty.store.refuse_summary("bad");
    // The first outcome holds up the store, so that the others gather in the order in which they come.
    faulty.store.next("settle", Fault::Stalls(MINUTE), 1);
    let mut runs = Vec::new();
    for (second, summary) in (1..).zip(["first", "second", "bad", "third", "fourth"]) {
        let pause = Step::Sleep(Duration::from_secs(second));
        fixture.executor.script_next([pause, Step::SucceedWith(summary.to_owned())]);
        runs.push(fixture.trigger("").await.id());
    }
    for run in &runs {
        fixture.ended(*run).await;
    }
    let refused = runs.remove(2);
    runs.push(refused);
    assert_eq!(*faulty.store.settled.lock(), runs);
    faulty.workers.shutdown(PATIENCE).await;
}

#[tokio::test(start_paused = true)]
async fn outcomes_wait_for_a_store_that_is_away_and_hold_back_claims() {
    let faulty = Faulty::new(json!({}), Faulty::with_slots(4)).await;
    let fixture = &faulty.fixture;
    faulty.store.always(&["settle", "health"], Fault::Fails);
    for _ in 0..3_000 {
        fixture.trigger("").await;
    }
    tokio::time::sleep(MINUTE).await;
    let executed = fixture.executor.executed(4).await.len();
    assert!(executed < 1_500, "{executed} outcomes are held");
    assert!(fixture.webhooks.work_health().is_stuck());
    faulty.store.heal();
    fixture.executor.ended(3_000).await;
    tokio::time::sleep(MINUTE).await;
    assert_eq!(fixture.executor.executed(3_000).await.len(), 3_000, "nothing was executed twice");
    assert_eq!(fixture.webhooks.health().await.unwrap().running, 0);
    assert!(!fixture.webhooks.work_health().is_stuck(), "nothing is stuck any more");
    faulty.workers.shutdown(PATIENCE).await;
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_lost_lose_no_run_and_record_none_twice() {
    let faulty = Faulty::new(json!({}), Faulty::with_slots(4)).await;
    let fixture = &faulty.fixture;
    faulty.store.next("settle", Fault::LosesItsAnswer, 3);
    faulty.store.next("renew", Fault::LosesItsAnswer, 3);
    fixture.executor.script_next([Step::Sleep(MINUTE), Step::SucceedWith("once".to_owned())]);
    let run = fixture.trigger("").await;
    let ended = fixture.ended(run.id()).await;
    assert_eq!((ended.summary(), ended.interruptions()), (Some("once"), 0));
    // Runs claimed by a lost answer are due again when their lease expires.
    faulty.store.next("claim", Fault::LosesItsAnswer, 1);
    let run = fixture.trigger("").await;
    let ended = fixture.ended(run.id()).await;
    assert_eq!((ended.state(), ended.interruptions()), (RunState::Succeeded, 1));
    assert_eq!(fixture.executor.executed(2).await.len(), 2);
    faulty.workers.shutdown(PATIENCE).await;
}

#[tokio::test(start_paused = true)]
async fn the_last_lines_and_progress_are_recorded_before_the_end_however_slow_the_store_is() {
    let faulty = Faulty::new(json!({}), Faulty::with_slots(4)).await;
    let fixture = &faulty.fixture;
    faulty.store.always(&["append_log", "renew"], Fault::Stalls(Duration::from_secs(1)));
    fixture.executor.script_next([
        Step::Log("first".to_owned()),
        Step::Sleep(Duration::from_millis(500)),
        Step::Log("traceback".to_owned()),
        Step::Progress(1.0, "all".to_owned()),
        Step::FailFatal("no".to_owned()),
    ]);
    let run = fixture.trigger("").await;
    let ended = fixture.ended(run.id()).await;
    assert_eq!(ended.progress().map(|progress| progress.fraction), Some(1.0));
    let log = fixture.webhooks.manage().read_log(run.id(), 0).await.unwrap().text;
    assert_eq!(log, "first\ntraceback\n");
    faulty.workers.shutdown(PATIENCE).await;
}

#[tokio::test(start_paused = true)]
async fn lines_that_the_store_refuses_are_kept_and_recorded_later_in_order() {
    let faulty = Faulty::new(json!({}), Faulty::with_slots(4)).await;
    let fixture = &faulty.fixture;
    faulty.store.next("append_log", Fault::Fails, 3);
    let steps = (0..5).flat_map(|line| [Step::Log(line.to_string()), Step::Sleep(Duration::from_secs(1))]);
    fixture.executor.script_next(steps);
    let run = fixture.trigger("").await;
    fixture.ended(run.id()).await;
    assert_eq!(fixture.webhooks.manage().read_log(run.id(), 0).await.unwrap().text, "0\n1\n2\n3\n4\n");
    faulty.workers.shutdown(PATIENCE).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_takes_the_last_lines_holds_up_the_outcome_for_a_lease_at_most() {
    let faulty = Faulty::new(json!({}), Faulty::with_slots(4)).await;
    let fixture = &faulty.fixture;
    faulty.store.always(&["append_log"], Fault::Stalls(60 * MINUTE));
    fixture.executor.script_next([Step::Log("said".to_owned())]);
    let begun = Instant::now();
    let run = fixture.trigger("").await;
    assert_eq!(fixture.ended(run.id()).await.state(), RunState::Succeeded);
    assert!(begun.elapsed() < Duration::from_secs(32), "{:?}", begun.elapsed());
    faulty.workers.shutdown(PATIENCE).await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_to_progress_does_not_shorten_a_lease_that_was_renewed_since() {
    let faulty = Faulty::new(json!({}), Faulty::with_slots(4)).await;
    let fixture = &faulty.fixture;
    // The answer comes after 29 of the 30 seconds of a lease, and five seconds after the last renewal.
    fixture.executor.script_next([
        Step::Sleep(Duration::from_secs(5)),
        Step::Progress(0.5, "half".to_owned()),
        Step::Sleep(MINUTE),
    ]);
    let run = fixture.trigger("").await;
    fixture.executor.executed(1).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    faulty.store.next("renew", Fault::Stalls(Duration::from_millis(14_500)), 1);
    assert_eq!(
        (fixture.ended(run.id()).await.state(), fixture.executor.executed(1).await.len()),
        (RunState::Succeeded, 1)
    );
    faulty.workers.shutdown(PATIENCE).await;
}

#[tokio::test(start_paused = true)]
async fn while_a_run_executes_whose_lease_the_store_has_given_away_nothing_is_claimed() {
    let faulty = Faulty::new(json!({}), Faulty::with_slots(4)).await;
    let fixture = &faulty.fixture;
    fixture.executor.script_next([Step::IgnoreCancellation, Step::Sleep(10 * MINUTE)]);
    let run = fixture.trigger("").await;
    fixture.executor.executed(1).await;
    // The store releases the run before the lease ends by the worker's clock. The worker learns of it at its
    // next renewal.
    faulty.store.always(&["claim"], Fault::Fails);
    let fence = fixture.run(run.id()).await.fence();
    let now = std::time::SystemTime::now();
    fixture.store.settle(vec![Settlement::new(run.id(), fence, Outcome::HandBack, now)]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(11)).await;
    faulty.store.heal();
    assert_eq!(fixture.ended(run.id()).await.state(), RunState::Succeeded);
    assert_eq!((fixture.executor.executed(2).await.len(), fixture.executor.most_at_once()), (2, 1));
    faulty.workers.shutdown(PATIENCE).await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_keeps_to_its_patience_where_last_uses_cannot_be_recorded() {
    for fault in [Fault::Stalls(60 * MINUTE), Fault::Panics] {
        let faulty = Faulty::new(json!({}), Faulty::with_slots(4)).await;
        let run = faulty.fixture.trigger("").await;
        faulty.fixture.ended(run.id()).await;
        faulty.store.always(&["record_use"], fault);
        let begun = Instant::now();
        faulty.workers.shutdown(PATIENCE).await;
        assert!(begun.elapsed() <= PATIENCE + Duration::from_secs(1), "{fault:?}: {:?}", begun.elapsed());
    }
}

pub(super) async fn webhooks(store: impl Store, executor: FnExecutor) -> Webhooks {
    let builder = Webhooks::builder().store(store).executor(executor).token_key(TokenKey::generate());
    builder.base_url("https://app.example.com/hooks".parse().unwrap()).build().await.unwrap()
}

/// Starts a run of a new webhook through the management API.
pub(super) async fn start_run(webhooks: &Webhooks) -> RunId {
    let manage = webhooks.manage();
    let workflow = "report/sales".parse().unwrap();
    let id = manage.create_webhook(workflow, WebhookSettings::default()).await.unwrap().webhook.id;
    manage.start_run(id, serde_json::Map::new(), Caller::default()).await.unwrap().run.id()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_ends_after_its_workers_were_dropped_starts_nothing_and_keeps_nothing_alive() {
    let store = UnsteadyStore::new(MemoryStore::new());
    let alive = Arc::new(());
    let watched = Arc::downgrade(&alive);
    let executor = FnExecutor::new([sales_workflow()], move |_| {
        let held = alive.clone();
        async move {
            std::future::pending::<()>().await;
            drop(held);
            Ok(RunOutput::default())
        }
    });
    let webhooks = webhooks(store.clone(), executor).await;
    start_run(&webhooks).await;
    let (entered, claiming) = tokio::sync::oneshot::channel();
    let (leave, left) = std::sync::mpsc::channel();
    let gate = Mutex::new(Some((entered, left)));
    store.set(move |method| {
        if method == "claim"
            && let Some((entered, left)) = gate.lock().take()
        {
            entered.send(()).unwrap();
            left.recv().unwrap();
        }
        None
    });
    let workers = webhooks.start_workers(Faulty::with_slots(1).with_threads(false));
    claiming.await.unwrap();
    drop((workers, webhooks));
    leave.send(()).unwrap();
    let freed = async {
        while watched.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(MINUTE, freed).await.expect("the service is freed");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_only_yields_makes_nobody_wait_for_a_timer() {
    let faulty = Faulty::new(json!({}), Faulty::with_slots(16)).await;
    let fixture = &faulty.fixture;
    faulty.store.always(&["claim", "begin", "settle"], Fault::Stalls(Duration::ZERO));
    for _ in 0..500 {
        fixture.trigger("").await;
    }
    let begun = Instant::now();
    fixture.executor.ended(500).await;
    // Each step of tokio's clock is a millisecond.
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    faulty.workers.shutdown(PATIENCE).await;
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_run_is_noticed_although_events_cannot_be_read() {
    let faulty = Faulty::new(json!({}), Faulty::with_slots(1)).await;
    faulty.store.always(&["events_since"], Fault::Fails);
    let started = Instant::now();
    let run = faulty.fixture.trigger("").await;
    assert_eq!(faulty.fixture.ended(run.id()).await.state(), RunState::Succeeded);
    assert!(started.elapsed() < PATIENCE, "by the clock of the test: {:?}", started.elapsed());
    faulty.workers.shutdown(PATIENCE).await;
}
