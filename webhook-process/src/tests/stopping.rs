//! Commands that are stopped: by a cancellation, a deadline, a lost lease, or a dropped future.

use super::*;

#[tokio::test]
async fn cancelling_ends_the_command_and_what_it_started() {
    let source = CancellationSource::new();
    let trial = Trial::shell("sleep 600 & echo $$ $!; wait").with_cancellation(&source);
    let (execution, processes) = trial.start().await;
    let start = Instant::now();
    source.cancel(StopReason::Cancelled(CancelReason::Requested));
    let error = execution.await.unwrap().unwrap_err();
    assert!(start.elapsed() < PATIENCE / 2, "the grace was waited for");
    assert!(matches!(error, CommandError::Stopped(StopReason::Cancelled(_))), "{error}");
    assert_gone(&processes).await;
}

#[tokio::test]
async fn a_command_may_clean_up_when_it_is_cancelled() {
    let source = CancellationSource::new();
    let trial = Trial::shell("trap 'echo cleaned; exit 0' TERM; echo $$; while :; do sleep 0.01; done");
    let trial = trial.with_cancellation(&source);
    let lines = Arc::new(Mutex::new(Vec::new()));
    let (kept, cancel) = (lines.clone(), source.clone());
    let outcome = trial.execute(move |line| {
        kept.lock().push(line);
        cancel.cancel(StopReason::TimedOut);
    });
    assert!(matches!(outcome.await, Err(CommandError::Stopped(StopReason::TimedOut))));
    // A shell may report on its standard error that its `sleep` was terminated, before or after.
    let lines = lines.lock();
    assert!(lines.iter().any(|line| line == "cleaned"), "{lines:?}");
}

#[tokio::test]
async fn a_command_that_ignores_sigterm_is_killed_after_the_grace() {
    let source = CancellationSource::new();
    let trial = Trial::shell("trap '' TERM; sleep 600 & echo $$ $!; while :; do sleep 1; done");
    let (execution, processes) =
        trial.with_cancellation(&source).with_grace(Duration::from_millis(200)).start().await;
    let start = Instant::now();
    source.cancel(StopReason::ShuttingDown);
    assert!(execution.await.unwrap().is_err());
    assert!(start.elapsed() >= Duration::from_millis(200));
    assert_gone(&processes).await;
}

#[tokio::test]
async fn a_lost_lease_kills_without_any_grace() {
    let source = CancellationSource::new();
    let trial = Trial::shell("trap '' TERM; echo $$; while :; do sleep 1; done");
    let (execution, processes) = trial.with_cancellation(&source).start().await;
    let start = Instant::now();
    source.cancel(StopReason::LeaseLost);
    assert!(execution.await.unwrap().is_err());
    assert!(start.elapsed() < PATIENCE / 2);
    assert_gone(&processes).await;
}

#[tokio::test]
async fn the_deadline_ends_the_command_even_when_nobody_cancels() {
    let mut trial = Trial::shell("sleep 600 & echo $$ $!; wait");
    trial.context = trial.context.with_timeout(Some(Duration::from_millis(100)));
    let (execution, processes) = trial.start().await;
    let error = execution.await.unwrap().unwrap_err();
    assert!(matches!(error, CommandError::Stopped(StopReason::TimedOut)), "{error}");
    assert_gone(&processes).await;
}

#[tokio::test]
async fn dropping_the_future_kills_the_command_and_what_it_started() {
    let trial = Trial::shell("trap '' TERM; sleep 600 & echo $$ $!; while :; do sleep 1; done");
    let (execution, processes) = trial.start().await;
    execution.abort();
    assert!(execution.await.unwrap_err().is_cancelled());
    assert_gone(&processes).await;
}

#[tokio::test]
async fn what_a_command_leaves_behind_is_killed_when_it_ends() {
    let start = Instant::now();
    let (outcome, lines) = Trial::shell("sleep 600 & echo $!").finish().await;
    outcome.unwrap();
    assert!(start.elapsed() < PATIENCE / 2, "the left process held the output open");
    assert_gone(&process_ids(&lines[0])).await;
}

#[tokio::test]
async fn an_attempt_that_is_already_cancelled_starts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("started");
    let source = CancellationSource::new();
    source.cancel(StopReason::ShuttingDown);
    let trial = Trial::new(Command::new("touch").with_arguments([&file])).with_cancellation(&source);
    assert!(matches!(trial.finish().await.0, Err(CommandError::Stopped(StopReason::ShuttingDown))));
    assert!(!file.exists());
}
