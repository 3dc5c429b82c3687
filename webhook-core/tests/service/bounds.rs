//! Tests of the bounds that a host sets.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use webhook_core::intake::{Method, TriggerError, Triggered};
use webhook_core::parameters::{ParameterLimits, ProblemCode};
use webhook_core::run::RunState;
use webhook_core::store::{RunQuery, Workflows};
use webhook_core::work::WorkerOptions;
use webhook_core::{ServiceOptions, Webhooks};
use webhook_testing::Fixture;

/// Returns a fixture with these limits on calls.
async fn limited(limits: ParameterLimits) -> Fixture {
    let options = ServiceOptions::default().with_limits(limits);
    Fixture::with_builder(Webhooks::builder().options(options), json!({})).await
}

#[tokio::test]
async fn a_body_or_a_query_that_is_longer_than_the_host_allows_is_refused() {
    let fixture = limited(ParameterLimits::default().with_body_bytes(10).with_query_bytes(100)).await;
    let call = || {
        let mut call = fixture.call(Method::Post, "");
        call.content_type = Some("application/json".to_owned());
        call
    };
    assert!(fixture.send(call(), "{\"rows\":1}").await.is_ok());
    let refused = fixture.send(call(), "{\"rows\":12}").await;
    assert!(matches!(refused, Err(TriggerError::BodyTooLarge { limit: 10 })), "{refused:?}");
    let refused = fixture.send(fixture.call(Method::Post, &"a".repeat(100)), "").await;
    assert!(matches!(refused, Err(TriggerError::QueryTooLong { limit: 100 })), "{refused:?}");
}

#[tokio::test]
async fn no_more_parameters_are_given_than_the_host_allows() {
    let fixture = limited(ParameterLimits::default().with_parameters(2)).await;
    fixture.trigger("a=1&b=2").await;
    let refused = fixture.send(fixture.call(Method::Post, "a=1&b=2&c=3"), "").await;
    let Err(TriggerError::Parameters(problems)) = refused else { panic!("{refused:?}") };
    assert_eq!(problems[0].code, ProblemCode::TooMany);
}

#[tokio::test(start_paused = true)]
async fn an_idempotency_key_stands_for_its_run_as_long_as_the_host_keeps_it() {
    let hour = Duration::from_secs(3_600);
    let options = ServiceOptions::default().with_keep_idempotency_keys(hour);
    let fixture = Fixture::with_builder(Webhooks::builder().options(options), json!({})).await;
    let run = async || {
        let mut call = fixture.call(Method::Post, "");
        call.idempotency_key = Some("k".to_owned());
        let Ok(Triggered::Accepted { run, .. }) = fixture.send(call, "").await else { panic!("refused") };
        run.id()
    };
    let first = run().await;
    tokio::time::advance(hour / 2).await;
    assert_eq!(run().await, first);
    tokio::time::advance(hour).await;
    assert_ne!(run().await, first);
}

#[tokio::test]
async fn the_newest_ended_runs_of_a_webhook_are_kept_in_the_number_that_the_host_says() {
    let options = ServiceOptions::default().with_keep_runs(Duration::from_secs(3_600), Some(2));
    let fixture = Fixture::with_builder(Webhooks::builder().options(options), json!({})).await;
    for _ in 0..4 {
        fixture.trigger("").await;
    }
    let newest = fixture.trigger("").await;
    fixture.webhooks.run_until_idle().await.unwrap();
    // The second time finds all of them ended.
    fixture.webhooks.run_until_idle().await.unwrap();
    let kept = fixture.webhooks.manage().list_runs(RunQuery::default()).await.unwrap().items;
    assert_eq!((kept.len(), kept[0].id()), (2, newest.id()));
}

#[tokio::test(start_paused = true)]
async fn a_host_chooses_the_workflows_that_its_workers_execute() {
    let fixture = Fixture::new(json!({})).await;
    let run = fixture.trigger("").await;
    let workers = |workflow: &str| {
        let only = Workflows::Only(Arc::new(BTreeSet::from([workflow.parse().unwrap()])));
        fixture.webhooks.start_workers(WorkerOptions::default().with_threads(false).with_workflows(only))
    };
    let others = workers("report/other");
    let waited = fixture.webhooks.wait_for_end(run.id(), Duration::from_secs(60)).await.unwrap();
    assert_eq!(waited.unwrap().state(), RunState::Queued);
    let own = workers("report/sales");
    assert_eq!(fixture.ended(run.id()).await.state(), RunState::Succeeded);
    others.shutdown(Duration::from_secs(5)).await;
    own.shutdown(Duration::from_secs(5)).await;
}
