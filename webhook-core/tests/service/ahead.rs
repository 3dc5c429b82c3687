//! Runs that are claimed before a slot is free.

use std::time::Duration;

use serde_json::json;
use webhook_core::run::RunState;
use webhook_testing::Step;

use super::faults::{Faulty, MINUTE, PATIENCE};
use super::unsteady::Fault;

#[tokio::test(start_paused = true)]
async fn what_is_claimed_ahead_shows_as_queued_can_be_cancelled_and_is_handed_back_when_no_slot_comes_free() {
    let faulty = Faulty::new(json!({}), Faulty::with_slots(2)).await;
    let fixture = &faulty.fixture;
    // Claims that take longer than runs make the worker claim ahead.
    faulty.store.always(&["claim"], Fault::Stalls(Duration::from_millis(50)));
    let mut runs = Vec::new();
    for number in 0..60 {
        let long = (40..42).contains(&number);
        let time = if long { 60 * MINUTE } else { Duration::from_millis(10) };
        fixture.executor.script_next([Step::Sleep(time)]);
        runs.push(fixture.trigger("").await);
    }
    fixture.executor.ended(40).await;
    fixture.executor.executed(42).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let ahead = faulty.workers.executing() - 2;
    assert!(ahead > 0, "none was claimed ahead");
    assert_eq!((faulty.count(RunState::Running).await, faulty.count(RunState::Queued).await), (2, 18));
    fixture.webhooks.manage().cancel_run(runs[42].id()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(fixture.run(runs[42].id()).await.state(), RunState::Cancelled);
    assert_eq!(faulty.workers.executing(), 2, "what waits too long is handed back");
    for run in &runs[43..] {
        let run = fixture.run(run.id()).await;
        assert_eq!((run.state(), run.attempt(), run.started_at()), (RunState::Queued, 0, None));
    }
    for run in &runs[40..42] {
        fixture.webhooks.manage().cancel_run(run.id()).await.unwrap();
    }
    for run in &runs[43..] {
        assert_eq!(fixture.ended(run.id()).await.attempt(), 1);
    }
    assert_eq!(fixture.executor.executed(59).await.len(), 59);
    faulty.workers.shutdown(PATIENCE).await;
}

#[tokio::test(start_paused = true)]
async fn a_time_out_counts_from_the_start_of_the_execution() {
    let faulty = Faulty::new(json!({"timeout_s": 1}), Faulty::with_slots(1)).await;
    let fixture = &faulty.fixture;
    faulty.store.always(&["claim"], Fault::Stalls(Duration::from_millis(450)));
    // With one slot, runs claimed ahead wait for nearly as long as their time-out.
    for _ in 0..12 {
        fixture.executor.script_next([Step::Sleep(Duration::from_millis(400))]);
        fixture.trigger("").await;
    }
    fixture.executor.ended(12).await;
    tokio::time::sleep(MINUTE).await;
    assert_eq!(faulty.count(RunState::Succeeded).await, 12);
    faulty.workers.shutdown(PATIENCE).await;
}
