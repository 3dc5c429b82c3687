//! Tests of the scripted executor.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::time::{Duration, SystemTime};

use webhook_core::executor::{
    ArtifactContent, CancellationSource, ExecuteError, Executor, RunContext, StopReason, Workflow,
};
use webhook_core::id::RunId;
use webhook_core::parameters::{EffectiveParameters, ParameterBlocks};
use webhook_testing::{ScriptedExecutor, Step};

fn executor() -> ScriptedExecutor {
    let key = "report/sales".parse().unwrap();
    ScriptedExecutor::new([Workflow::new(key, "Sales", ParameterBlocks::default())])
}

fn context(run: RunId, attempt: u32) -> RunContext {
    RunContext::new(run, "report/sales".parse().unwrap(), attempt, EffectiveParameters::new())
}

fn run_id() -> RunId {
    RunId::generate(SystemTime::now())
}

#[tokio::test]
async fn each_attempt_goes_on_where_the_one_before_ended() {
    let executor = executor();
    let (first, second) = (run_id(), run_id());
    executor.script_run(first, [Step::FailRetryable("later".into()), Step::FailFatal("never".into())]);
    executor.script_next([Step::SucceedWith("at once".into())]);
    assert!(matches!(executor.execute(context(first, 1)).await, Err(ExecuteError::Retryable(_))));
    let output = executor.execute(context(second, 1)).await.unwrap();
    assert_eq!(output.summary.as_deref(), Some("at once"));
    assert!(matches!(executor.execute(context(first, 2)).await, Err(ExecuteError::Fatal(_))));
    assert!(executor.execute(context(first, 3)).await.is_ok());
    let executed = executor.executed(4).await;
    let attempts: Vec<(RunId, u32)> = executed.iter().map(|attempt| (attempt.run, attempt.attempt)).collect();
    assert_eq!(attempts, [(first, 1), (second, 1), (first, 2), (first, 3)]);
}

#[tokio::test]
async fn a_cancellation_ends_a_wait_unless_it_is_ignored() {
    let executor = executor();
    executor.script_next([Step::WaitForRelease]);
    executor.script_next([Step::IgnoreCancellation, Step::WaitForRelease]);
    let stop = CancellationSource::new();
    let spawn = |run| {
        let (executor, context) = (executor.clone(), context(run, 1).with_cancellation(stop.cancellation()));
        tokio::spawn(async move { executor.execute(context).await })
    };
    let listening = spawn(run_id());
    executor.executed(1).await;
    let deaf = spawn(run_id());
    executor.executed(2).await;
    assert_eq!(executor.most_at_once(), 2);
    stop.cancel(StopReason::TimedOut);
    assert!(listening.await.unwrap().is_err());
    executor.ended(1).await;
    assert!(!deaf.is_finished());
    executor.release(1);
    assert!(deaf.await.unwrap().is_ok());
}

#[tokio::test]
async fn a_panic_and_a_drop_end_an_attempt_too() {
    let executor = executor();
    executor.script_next([Step::Panic("told to".into())]);
    executor.script_next([Step::WaitForRelease]);
    let panicking = tokio::spawn({
        let executor = executor.clone();
        async move { executor.execute(context(run_id(), 1)).await }
    });
    assert!(panicking.await.unwrap_err().is_panic());
    let dropped = tokio::time::timeout(Duration::from_millis(1), executor.execute(context(run_id(), 1)));
    assert!(dropped.await.is_err());
    executor.ended(2).await;
    assert_eq!(executor.most_at_once(), 1);
}

#[tokio::test]
async fn artifacts_are_kept_until_they_are_discarded() {
    let (executor, run) = (executor(), run_id());
    let (name, content_type) = ("report.html".to_owned(), "text/html".to_owned());
    executor.script_run(run, [Step::Artifact { name, content_type, bytes: b"<p>".to_vec() }]);
    let output = executor.execute(context(run, 1)).await.unwrap();
    assert_eq!((output.artifacts[0].name.as_str(), output.artifacts[0].size), ("report.html", 3));
    let content = executor.artifact(run, "report.html").await.unwrap();
    assert!(matches!(content, Some(ArtifactContent::Bytes { bytes, .. }) if bytes == b"<p>"));
    assert!(executor.artifact(run, "../report.html").await.unwrap().is_none());
    executor.discard(&[run]).await.unwrap();
    assert!(executor.artifact(run, "report.html").await.unwrap().is_none());
}
