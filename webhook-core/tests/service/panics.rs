//! Panics of stores, and of errors when they are told.

use std::time::Duration;

use serde_json::json;
use webhook_core::executor::{ExecuteError, FnExecutor};
use webhook_core::memory::MemoryStore;
use webhook_core::run::{ErrorKind, RunState};
use webhook_core::work::WorkerOptions;
use webhook_testing::{Step, sales_workflow};

use super::faults::{Faulty, MINUTE, PATIENCE, start_run, webhooks};
use super::unsteady::Fault;

/// An error whose `Display` panics.
#[derive(Debug)]
pub(super) struct Untellable;

impl std::fmt::Display for Untellable {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("it cannot be told, as the test says")
    }
}

impl std::error::Error for Untellable {}

#[tokio::test(start_paused = true)]
async fn a_store_that_panics_at_log_lines_loses_neither_them_nor_the_outcome() {
    let faulty = Faulty::new(json!({}), Faulty::with_slots(4)).await;
    let fixture = &faulty.fixture;
    faulty.store.next("append_log", Fault::Panics, 1);
    let steps = [Step::Log("first".to_owned()), Step::Sleep(MINUTE), Step::Log("last".to_owned())];
    fixture.executor.script_next(steps);
    let run = fixture.trigger("").await;
    tokio::time::sleep(MINUTE / 2).await;
    let log = async || fixture.webhooks.manage().read_log(run.id(), 0).await.unwrap().text;
    assert_eq!(log().await, "first\n", "it is passed on again while the run goes on");
    faulty.store.next("append_log", Fault::Panics, 2);
    assert_eq!(fixture.ended(run.id()).await.state(), RunState::Succeeded);
    assert_eq!(log().await, "first\nlast\n");
    faulty.workers.shutdown(PATIENCE).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_the_outbox_is_measured_loses_no_outcome() {
    let notifications = json!({"notifications": {"slack": {"channel": "#ops", "on": ["success"]}}});
    let faulty = Faulty::new(notifications, Faulty::with_slots(4)).await;
    let fixture = &faulty.fixture;
    faulty.store.next("health", Fault::Panics, 1);
    let run = fixture.trigger("").await;
    assert_eq!(fixture.ended(run.id()).await.state(), RunState::Succeeded);
    assert_eq!(fixture.notifier.delivered(1).await.len(), 1);
    faulty.workers.shutdown(PATIENCE).await;
}

#[tokio::test]
async fn an_error_that_panics_when_it_is_told_fails_its_attempt_and_no_other_run() {
    for threads in [true, false] {
        let executor =
            FnExecutor::new([sales_workflow()], |_| async { Err(ExecuteError::retryable(Untellable)) });
        let webhooks = webhooks(MemoryStore::new(), executor).await;
        let options = WorkerOptions::default().with_slots(1).with_threads(threads);
        let workers = webhooks.start_workers(options);
        for _ in 0..2 {
            let run = start_run(&webhooks).await;
            let ended = webhooks.wait_for_end(run, Duration::from_secs(20)).await.unwrap().unwrap();
            assert_eq!(ended.error().map(|error| error.kind), Some(ErrorKind::Panicked), "{ended:?}");
        }
        workers.shutdown(PATIENCE).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_any_call_of_the_store_ends_no_task_of_the_workers() {
    let faulty = Faulty::new(json!({}), Faulty::with_slots(2).with_prune_every(MINUTE)).await;
    let fixture = &faulty.fixture;
    for call in ["claim", "renew", "settle", "append_log", "prune", "health"] {
        faulty.store.next(call, Fault::Panics, 1);
    }
    for _ in 0..3 {
        fixture.executor.script_next([Step::Log("said".to_owned()), Step::Sleep(2 * MINUTE)]);
        let run = fixture.trigger("").await;
        assert_eq!(fixture.ended(run.id()).await.state(), RunState::Succeeded);
    }
    assert!(fixture.webhooks.work_health().panics >= 3);
    assert_eq!(fixture.executor.executed(3).await.len(), 3);
    faulty.workers.shutdown(PATIENCE).await;
}
