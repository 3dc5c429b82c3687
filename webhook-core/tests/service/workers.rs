use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use webhook_core::events::Change;
use webhook_core::notifier::DeliveryState;
use webhook_core::run::{ErrorKind, RunState};
use webhook_core::webhook::EventKind;
use webhook_core::work::WorkerOptions;
use webhook_testing::{DeliverFailure, Fixture, Step};

fn tasks() -> WorkerOptions {
    WorkerOptions::default().with_threads(false)
}

fn retryable() -> Step {
    Step::FailRetryable("not yet".to_owned())
}

#[tokio::test]
async fn a_run_is_executed_in_the_background_and_its_end_can_be_awaited() {
    let fixture = Fixture::new(json!({})).await;
    let workers = fixture.webhooks.start_workers(WorkerOptions::default());
    fixture.executor.script_next([Step::SucceedWith("8 rows".to_owned())]);
    let run = fixture.trigger("").await;
    let ended = fixture.ended(run.id()).await;
    assert_eq!((ended.state(), ended.attempt()), (RunState::Succeeded, 1));
    assert_eq!(ended.summary(), Some("8 rows"));
    assert!(ended.started_at().is_some() && ended.finished_at() >= ended.started_at());
    workers.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test(start_paused = true)]
async fn waiting_for_an_end_gives_up_without_touching_the_run() {
    let fixture = Fixture::new(json!({})).await;
    let run = fixture.trigger("").await;
    let seen = fixture.webhooks.wait_for_end(run.id(), Duration::from_secs(3)).await.unwrap().unwrap();
    assert_eq!(seen.state(), RunState::Queued);
}

#[tokio::test(start_paused = true)]
async fn a_retryable_failure_is_tried_again_after_its_pause_until_attempts_are_used_up() {
    let retries = json!({"retries": {"max_attempts": 3, "base_s": 60, "jitter": 0}});
    let fixture = Fixture::new(retries).await;
    fixture.executor.script_next([retryable(), retryable(), retryable()]);
    let run = fixture.trigger("").await;
    let started = tokio::time::Instant::now();
    fixture.webhooks.run_until_idle().await.unwrap();
    let ended = fixture.run(run.id()).await;
    assert_eq!((ended.state(), ended.attempt(), ended.max_attempts()), (RunState::Failed, 3, 3));
    assert_eq!(ended.error().unwrap().kind, ErrorKind::Retryable);
    assert_eq!(ended.error().unwrap().message, "not yet");
    assert!(started.elapsed() >= Duration::from_secs(180));
}

#[tokio::test]
async fn a_fatal_failure_is_not_tried_again() {
    let fixture = Fixture::new(json!({"retries": {"max_attempts": 3}})).await;
    fixture.executor.script_next([Step::FailFatal("broken".to_owned())]);
    let run = fixture.trigger("").await;
    fixture.webhooks.run_until_idle().await.unwrap();
    let ended = fixture.run(run.id()).await;
    assert_eq!((ended.attempt(), ended.error().unwrap().kind), (1, ErrorKind::Fatal));
}

#[tokio::test]
async fn a_panic_fails_its_attempt_and_no_other_run() {
    let fixture = Fixture::new(json!({})).await;
    let workers = fixture.webhooks.start_workers(WorkerOptions::default().with_slots(1));
    fixture.executor.script_next([Step::Panic("out of cheese".to_owned())]);
    let (first, second) = (fixture.trigger("").await, fixture.trigger("").await);
    let ended = fixture.ended(first.id()).await;
    let error = ended.error().unwrap();
    assert_eq!((ended.state(), error.kind), (RunState::Failed, ErrorKind::Panicked));
    assert!(error.message.contains("out of cheese"));
    assert_eq!(fixture.ended(second.id()).await.state(), RunState::Succeeded);
    workers.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test(start_paused = true)]
async fn an_attempt_beyond_its_timeout_ends_timed_out() {
    let fixture = Fixture::new(json!({"timeout_s": 30})).await;
    fixture.executor.script_next([Step::Sleep(Duration::from_secs(3600))]);
    let run = fixture.trigger("").await;
    fixture.webhooks.run_until_idle().await.unwrap();
    let ended = fixture.run(run.id()).await;
    assert_eq!(ended.state(), RunState::TimedOut);
    assert_eq!(ended.error().unwrap().message, "the attempt took longer than its time-out of 30s");
}

#[tokio::test(start_paused = true)]
async fn an_executor_that_ignores_its_cancellation_is_given_up_after_the_grace() {
    let fixture = Fixture::new(json!({"timeout_s": 30})).await;
    let workers = fixture.webhooks.start_workers(tasks().with_cancel_grace(Duration::from_secs(7)));
    fixture.executor.script_next([Step::IgnoreCancellation, Step::Sleep(Duration::from_secs(3600))]);
    let run = fixture.trigger("").await;
    let started = tokio::time::Instant::now();
    assert_eq!(fixture.ended(run.id()).await.state(), RunState::TimedOut);
    assert!((37..39).contains(&started.elapsed().as_secs()));
    fixture.executor.ended(1).await;
    workers.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn executors_that_block_their_threads_do_not_hold_up_the_others() {
    let fixture = Fixture::new(json!({})).await;
    let workers = fixture.webhooks.start_workers(WorkerOptions::default().with_slots(8));
    for _ in 0..4 {
        fixture.executor.script_next([Step::Block(Duration::from_secs(3))]);
    }
    let started = std::time::Instant::now();
    for _ in 0..4 {
        fixture.trigger("").await;
    }
    fixture.executor.executed(4).await;
    let free = fixture.trigger("").await;
    assert_eq!(fixture.ended(free.id()).await.state(), RunState::Succeeded);
    assert!(started.elapsed() < Duration::from_secs(3));
    workers.shutdown(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_executor_that_blocks_past_its_time_is_counted_and_another_thread_takes_its_place() {
    let fixture = Fixture::new(json!({"timeout_s": 1})).await;
    let options = WorkerOptions::default().with_slots(1).with_cancel_grace(Duration::from_millis(100));
    let workers = fixture.webhooks.start_workers(options);
    for _ in 0..2 {
        fixture.executor.script_next([Step::Block(Duration::from_secs(5))]);
        let run = fixture.trigger("").await;
        assert_eq!(fixture.ended(run.id()).await.state(), RunState::TimedOut);
    }
    assert_eq!(fixture.webhooks.work_health().blocked_executors, 2);
    let third = fixture.trigger("").await;
    let early = fixture.webhooks.wait_for_end(third.id(), Duration::from_millis(500)).await.unwrap().unwrap();
    assert_eq!(early.state(), RunState::Queued, "two for one slot are too many");
    assert_eq!(fixture.ended(third.id()).await.state(), RunState::Succeeded);
    fixture.executor.ended(3).await;
    workers.shutdown(Duration::from_secs(10)).await;
}

#[tokio::test(start_paused = true)]
async fn working_until_idle_ends_when_the_last_queued_run_is_cancelled() {
    let fixture = Fixture::new(json!({"retries": {"max_attempts": 3, "base_s": 3600}})).await;
    fixture.executor.script_next([retryable()]);
    let run = fixture.trigger("").await;
    let cancelling = async {
        fixture.executor.ended(1).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        fixture.webhooks.manage().cancel_run(run.id()).await.unwrap();
    };
    let idle = tokio::time::timeout(Duration::from_secs(120), fixture.webhooks.run_until_idle());
    let (idle, ()) = tokio::join!(idle, cancelling);
    idle.expect("nothing is left to do").unwrap();
}

#[tokio::test]
async fn a_running_run_can_be_cancelled() {
    let fixture = Fixture::new(json!({"retries": {"max_attempts": 3}})).await;
    let workers = fixture.webhooks.start_workers(WorkerOptions::default());
    fixture.executor.script_next([Step::WaitForRelease]);
    let run = fixture.trigger("").await;
    fixture.executor.executed(1).await;
    fixture.webhooks.manage().cancel_run(run.id()).await.unwrap();
    let ended = fixture.ended(run.id()).await;
    assert_eq!((ended.state(), ended.error().cloned(), ended.attempt()), (RunState::Cancelled, None, 1));
    workers.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_newer_run_replaces_the_running_one() {
    let fixture = Fixture::new(json!({"concurrency": {"max": 1, "on_overlap": "replace"}})).await;
    let workers = fixture.webhooks.start_workers(WorkerOptions::default());
    fixture.executor.script_next([Step::WaitForRelease]);
    let first = fixture.trigger("").await;
    fixture.executor.executed(1).await;
    let second = fixture.trigger("").await;
    let ended = fixture.ended(first.id()).await;
    assert_eq!(ended.state(), RunState::Cancelled);
    assert_eq!(ended.error().unwrap().kind, ErrorKind::Superseded);
    assert_eq!(fixture.ended(second.id()).await.state(), RunState::Succeeded);
    workers.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn no_more_runs_execute_at_once_than_the_webhook_allows() {
    let fixture = Fixture::new(json!({"concurrency": {"max": 2}})).await;
    let workers = fixture.webhooks.start_workers(WorkerOptions::default());
    for _ in 0..10 {
        fixture.executor.script_next([Step::Sleep(Duration::from_millis(20))]);
        fixture.trigger("").await;
    }
    fixture.executor.ended(10).await;
    assert_eq!(fixture.executor.most_at_once(), 2);
    workers.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn shutdown_lets_runs_finish_and_hands_back_what_does_not() {
    let fixture = Fixture::new(json!({})).await;
    let workers = fixture.webhooks.start_workers(WorkerOptions::default());
    fixture.executor.script_next([Step::Sleep(Duration::from_millis(100))]);
    fixture.executor.script_next([Step::WaitForRelease]);
    fixture.executor.script_next([Step::IgnoreCancellation, Step::WaitForRelease]);
    let quick = fixture.trigger("").await;
    fixture.executor.executed(1).await;
    let slow = fixture.trigger("").await;
    fixture.executor.executed(2).await;
    let stubborn = fixture.trigger("").await;
    fixture.executor.executed(3).await;
    workers.shutdown(Duration::from_secs(2)).await;
    assert_eq!(fixture.run(quick.id()).await.state(), RunState::Succeeded);
    for run in [slow.id(), stubborn.id()] {
        let run = fixture.run(run).await;
        assert_eq!((run.state(), run.attempt(), run.interruptions()), (RunState::Queued, 0, 0));
    }
    fixture.executor.release_all();
    fixture.webhooks.run_until_idle().await.unwrap();
    assert_eq!(fixture.run(slow.id()).await.attempt(), 1);
    assert_eq!(fixture.run(stubborn.id()).await.state(), RunState::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_workers_vanish_each_time_fails_at_its_bound() {
    let fixture = Fixture::new(json!({})).await;
    let run = fixture.trigger("").await;
    for _ in 0..5 {
        fixture.executor.script_run(run.id(), [Step::Sleep(Duration::from_secs(3600))]);
        let attempts = fixture.run(run.id()).await.attempt() as usize;
        let workers = fixture.webhooks.start_workers(tasks());
        fixture.executor.executed(attempts + 1).await;
        drop(workers);
        tokio::time::sleep(Duration::from_secs(31)).await;
    }
    fixture.webhooks.run_until_idle().await.unwrap();
    let ended = fixture.run(run.id()).await;
    assert_eq!((ended.state(), ended.attempt(), ended.interruptions()), (RunState::Failed, 5, 5));
    assert_eq!(ended.error().unwrap().kind, ErrorKind::Interrupted);
    assert_eq!(fixture.executor.executed(5).await.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_long_run_keeps_its_lease() {
    let fixture = Fixture::new(json!({})).await;
    let workers = fixture.webhooks.start_workers(tasks().with_lease(Duration::from_secs(3)));
    fixture.executor.script_next([Step::Sleep(Duration::from_secs(60))]);
    let run = fixture.trigger("").await;
    let ended = fixture.ended(run.id()).await;
    assert_eq!((ended.attempt(), ended.interruptions(), ended.state()), (1, 0, RunState::Succeeded));
    workers.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn progress_and_log_lines_arrive_while_the_run_goes_on() {
    let fixture = Fixture::new(json!({})).await;
    let mut cursor = fixture.webhooks.events_since(None).await.unwrap().cursor;
    let workers = fixture.webhooks.start_workers(WorkerOptions::default());
    let steps = [Step::Log("begun".to_owned()), Step::Progress(0.5, "half".to_owned()), Step::WaitForRelease];
    fixture.executor.script_next(steps);
    let run = fixture.trigger("").await;
    let (mut progress, mut log) = (None, String::new());
    while progress.is_none() || log.is_empty() {
        let events = fixture.webhooks.events_since(Some(cursor)).await.unwrap();
        cursor = events.cursor;
        for event in events.items {
            assert_eq!(event.run, Some(run.id()));
            match event.change {
                Change::Progress(it) => progress = Some(it),
                Change::Log { text, .. } => log.push_str(&text),
                _ => {}
            }
        }
    }
    assert_eq!((progress.unwrap().fraction, log.as_str()), (0.5, "begun\n"));
    assert_eq!(fixture.run(run.id()).await.progress().unwrap().message.as_deref(), Some("half"));
    fixture.executor.release(1);
    fixture.ended(run.id()).await;
    assert_eq!(fixture.webhooks.manage().read_log(run.id(), 0).await.unwrap().text, "begun\n");
    workers.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test(start_paused = true)]
async fn people_hear_of_the_events_they_asked_for_and_failed_deliveries_are_tried_again() {
    let fixture = Fixture::new(json!({"notifications": {
        "email": {"recipients": ["a@example.com", "b@example.com"], "on": ["failure"]},
        "slack": {"channel": "#ops", "on": ["success", "failure"]},
    }}))
    .await;
    let good = fixture.trigger("").await;
    fixture.webhooks.run_until_idle().await.unwrap();
    let told = fixture.notifier.delivered(1).await;
    assert_eq!((told.len(), told[0].recipient.as_str(), told[0].event), (1, "#ops", EventKind::Success));
    assert_eq!((told[0].run.id(), told[0].title.as_str()), (good.id(), "Sales"));
    assert_eq!(told[0].run_url, None, "nobody said that there is a page");
    fixture.notifier.fail_next(2, DeliverFailure::Retryable);
    fixture.notifier.fail_next(1, DeliverFailure::Permanent);
    fixture.executor.script_next([Step::FailFatal("no".to_owned())]);
    let bad = fixture.trigger("").await;
    fixture.webhooks.run_until_idle().await.unwrap();
    let deliveries = fixture.webhooks.manage().list_deliveries(bad.id()).await.unwrap();
    let states: Vec<_> = deliveries.iter().map(|delivery| delivery.state).collect();
    let delivered = states.iter().filter(|state| **state == DeliveryState::Delivered).count();
    let given_up = states.iter().filter(|state| **state == DeliveryState::GivenUp).count();
    assert_eq!((delivered, given_up), (2, 1));
    assert_eq!(fixture.run(bad.id()).await.state(), RunState::Failed);
    let lost = deliveries.iter().find(|delivery| delivery.state == DeliveryState::GivenUp).unwrap();
    fixture.webhooks.manage().resend_delivery(lost.id).await.unwrap();
    fixture.webhooks.run_until_idle().await.unwrap();
    assert_eq!(fixture.notifier.delivered(4).await.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn cancelled_runs_tell_nobody() {
    let on = json!(["success", "failure"]);
    let fixture = Fixture::new(json!({"notifications": {"slack": {"channel": "#ops", "on": on}}})).await;
    let run = fixture.trigger("").await;
    fixture.webhooks.manage().cancel_run(run.id()).await.unwrap();
    fixture.webhooks.run_until_idle().await.unwrap();
    assert!(fixture.webhooks.manage().list_deliveries(run.id()).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn ended_runs_are_removed_after_their_retention() {
    let fixture = Fixture::new(json!({"retention_days": 1})).await;
    let run = fixture.trigger("").await;
    fixture.webhooks.run_until_idle().await.unwrap();
    assert_eq!(fixture.run(run.id()).await.state(), RunState::Succeeded);
    // The service's clock is the machine's here, so the test makes the run old instead of letting time pass.
    let pruned = webhook_core::store::PruneRequest::new(
        std::time::SystemTime::now() + Duration::from_secs(2 * 86_400),
        Duration::from_secs(30 * 86_400),
        10,
    );
    let removed = webhook_core::store::Store::prune(&fixture.store, pruned).await.unwrap();
    assert_eq!(removed.runs, [run.id()]);
    assert!(fixture.webhooks.manage().get_run(run.id()).await.is_err());
}

#[tokio::test]
async fn many_runs_from_many_callers_all_end_once() {
    let fixture = Arc::new(Fixture::new(json!({})).await);
    let workers = fixture.webhooks.start_workers(WorkerOptions::default().with_threads(false));
    let callers = (0..20).map(|_| {
        let fixture = fixture.clone();
        tokio::spawn(async move {
            for _ in 0..50 {
                fixture.trigger("").await;
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    let mut executed: Vec<_> = fixture.executor.executed(1000).await.iter().map(|it| it.run).collect();
    executed.sort_unstable();
    executed.dedup();
    assert_eq!(executed.len(), 1000);
    workers.shutdown(Duration::from_secs(5)).await;
    assert_eq!(fixture.webhooks.health().await.unwrap().running, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_short_attempt_logs_is_there_when_its_run_has_ended() {
    let fixture = Fixture::new(json!({})).await;
    let workers = fixture.webhooks.start_workers(WorkerOptions::default());
    for _ in 0..20 {
        fixture.executor.script_next([Step::Log("said".to_owned()), Step::SucceedWith("done".to_owned())]);
        let run = fixture.trigger("").await;
        let ended = fixture.webhooks.wait_for_end(run.id(), Duration::from_secs(20)).await.unwrap().unwrap();
        assert_eq!(ended.state(), RunState::Succeeded);
        assert_eq!(fixture.webhooks.manage().read_log(run.id(), 0).await.unwrap().text, "said\n");
    }
    workers.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_attempts_at_once_each_get_a_thread_when_they_take_their_time() {
    let fixture = Fixture::new(json!({})).await;
    let workers = fixture.webhooks.start_workers(WorkerOptions::default().with_slots(64));
    for _ in 0..64 {
        fixture.executor.script_next([Step::WaitForRelease]);
    }
    for _ in 0..64 {
        fixture.trigger("").await;
    }
    fixture.executor.executed(64).await;
    assert_eq!(fixture.executor.most_at_once(), 64);
    fixture.executor.release_all();
    fixture.executor.ended(64).await;
    workers.shutdown(Duration::from_secs(5)).await;
}
