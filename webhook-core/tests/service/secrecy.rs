//! Tests that secrets and tokens show nowhere, and that no part of them is kept, wherever a cut falls.

use std::sync::Arc;

use serde_json::json;
use webhook_core::Webhooks;
use webhook_core::executor::{ExecuteError, FnExecutor, RunContext, RunOutput};
use webhook_core::intake::{Method, TriggerCall, TriggerError, Triggered};
use webhook_core::memory::MemoryStore;
use webhook_core::parameters::ProblemCode;
use webhook_core::run::{Artifact, ErrorKind, Run, RunState};
use webhook_core::token::TokenKey;
use webhook_testing::{Fixture, Step, sales_workflow};

const SECRET: &str = "SECRETcanary-0123456789abcdef";

/// Number of consecutive characters of a secret that count as a part of it.
const PART: usize = 8;

/// Upper bound on a summary, error and progress message, in bytes.
const MESSAGE: usize = 4_096;
/// Upper bounds on a line of a log and on the kept log, in bytes.
const LINE: usize = 64 * 1024;
const LOG: usize = 256 * 1024;

fn assert_no_part(text: &str, padding: usize) {
    let mut parts = SECRET.as_bytes().windows(PART).map(|part| std::str::from_utf8(part).unwrap());
    if let Some(part) = parts.find(|part| text.contains(part)) {
        panic!("behind {padding}: {part} is shown");
    }
}

/// Returns the record and the log of a run that is called with a secret.
async fn kept<F>(execute: F) -> (Arc<Run>, String)
where
    F: Fn(RunContext, String) -> Result<RunOutput, ExecuteError> + Send + Sync + 'static,
{
    let executor = FnExecutor::new([sales_workflow()], move |context: RunContext| {
        let secret = context.parameters.get("password").unwrap().value.as_str().unwrap().to_owned();
        std::future::ready(execute(context, secret))
    });
    let builder = Webhooks::builder().store(MemoryStore::new()).executor(executor);
    let webhooks = builder.token_key(TokenKey::generate()).build().await.unwrap();
    let created =
        webhooks.manage().create_webhook("report/sales".parse().unwrap(), Default::default()).await.unwrap();
    let mut call = TriggerCall::new("report/sales".parse().unwrap(), Method::Post);
    call.query = created.url.expose().split_once('?').unwrap().1.to_owned().into();
    let admitted = webhooks.admit(webhooks.authenticate(call).await.unwrap()).await.unwrap();
    let body = json!({"password": SECRET}).to_string();
    let Ok(Triggered::Accepted { run, .. }) = webhooks.trigger(admitted, body.as_bytes()).await else {
        panic!("not accepted")
    };
    webhooks.run_until_idle().await.unwrap();
    let run = webhooks.manage().get_run(run.id()).await.unwrap();
    let log = webhooks.manage().read_log(run.id(), 0).await.unwrap();
    (run, log.text)
}

#[tokio::test]
async fn a_secret_at_any_place_of_a_cut_is_masked_in_summary_error_progress_and_log() {
    for padding in MESSAGE - SECRET.len() - 3..=MESSAGE + 1 {
        let said = move |secret: &str| format!("{}{secret}!", "x".repeat(padding));
        let (run, _) = kept(move |_, secret| Ok(RunOutput::new().with_summary(said(&secret)))).await;
        assert_eq!(run.state(), RunState::Succeeded);
        assert_no_part(&format!("{run:?}"), padding);
        let (run, _) = kept(move |context, secret| {
            context.progress(0.5, said(&secret));
            Err(ExecuteError::fatal(said(&secret)))
        })
        .await;
        assert!(run.error().unwrap().message.starts_with("xxx"), "{run:?}");
        assert_no_part(&format!("{run:?}"), padding);
        // The panic hook writes each panic to standard error, which is slow.
        if padding % 8 == 0 {
            let (run, _) = kept(move |_, secret| panic!("{}", said(&secret))).await;
            assert_eq!(run.state(), RunState::Failed);
            assert_no_part(&format!("{run:?}"), padding);
        }
    }
    for padding in LINE - SECRET.len() - 3..=LINE + 1 {
        let (_, log) = kept(move |context, secret| {
            context.log("x".repeat(padding) + &secret + "!");
            Ok(RunOutput::new())
        })
        .await;
        assert!(log.starts_with("xxx"));
        assert_no_part(&log, padding);
    }
    for padding in (0..2 * SECRET.len()).step_by(5) {
        let (_, log) = kept(move |context, secret| {
            context.log("x".repeat(padding) + &secret);
            for _ in 0..LOG / 1024 {
                context.log("y".repeat(1023));
            }
            context.log(secret);
            Ok(RunOutput::new())
        })
        .await;
        assert!(log.ends_with("***\n"));
        assert_no_part(&log, padding);
    }
}

#[tokio::test]
async fn an_artifact_that_was_left_stays_with_a_run_that_fails() {
    let (run, _) = kept(|context, _| {
        context.leave_artifact(Artifact::new("page.html", "text/html", 1));
        context.leave_artifact(Artifact::new("page.html", "text/html", 2));
        Err(ExecuteError::retryable("broken"))
    })
    .await;
    assert_eq!((run.state(), run.artifacts().len(), run.artifacts()[0].size), (RunState::Failed, 1, 2));
    let (run, _) = kept(|context, _| {
        context.leave_artifact(Artifact::new("log.txt", "text/plain", 1));
        context.leave_artifact(Artifact::new("page.html", "text/html", 1));
        Ok(RunOutput::new().with_artifact(Artifact::new("page.html", "text/html", 2)))
    })
    .await;
    let names: Vec<_> = run.artifacts().iter().map(|own| (own.name.as_str(), own.size)).collect();
    assert_eq!(names, [("log.txt", 1), ("page.html", 2)]);
}

#[tokio::test]
async fn a_secret_that_an_executor_says_aloud_is_masked_wherever_it_would_be_kept() {
    let fixture = Fixture::new(json!({})).await;
    let said = |text: &str| format!("{text} canary-canary");
    fixture.executor.script_next([
        Step::Log(said("log")),
        Step::Progress(0.5, said("progress")),
        Step::FailFatal(said("error")),
    ]);
    fixture.executor.script_next([Step::SucceedWith(said("summary"))]);
    let failed = fixture.trigger("password=canary-canary").await;
    let succeeded = fixture.trigger("password=canary-canary").await;
    fixture.webhooks.run_until_idle().await.unwrap();
    let (failed, succeeded) = (fixture.run(failed.id()).await, fixture.run(succeeded.id()).await);
    assert_eq!(failed.error().unwrap().message, "error ***");
    assert_eq!(succeeded.summary(), Some("summary ***"));
    let log = fixture.webhooks.manage().read_log(failed.id(), 0).await.unwrap().text;
    assert_eq!(log, "log ***\n");
    assert!(!format!("{failed:?}{succeeded:?}").contains("canary"));
}

#[tokio::test]
async fn a_secret_at_the_place_where_a_long_text_is_cut_does_not_show_its_first_part() {
    let fixture = Fixture::new(json!({})).await;
    let (line, message) = (64 * 1024, 4 * 1024);
    // The cut leaves room for its mark, so it falls within the secret.
    let said = |cut: usize| format!("{}canary-canary{}", "x".repeat(cut - 9), "y".repeat(20));
    fixture.executor.script_next([
        Step::Log(said(line)),
        Step::Progress(0.5, said(message)),
        Step::FailFatal(said(message)),
    ]);
    fixture.executor.script_next([Step::SucceedWith(said(message))]);
    let failed = fixture.trigger("password=canary-canary").await;
    let succeeded = fixture.trigger("password=canary-canary").await;
    fixture.webhooks.run_until_idle().await.unwrap();
    let (failed, succeeded) = (fixture.run(failed.id()).await, fixture.run(succeeded.id()).await);
    let log = fixture.webhooks.manage().read_log(failed.id(), 0).await.unwrap().text;
    let texts = [
        failed.error().unwrap().message.as_str(),
        failed.progress().unwrap().message.as_deref().unwrap(),
        succeeded.summary().unwrap(),
        log.as_str(),
    ];
    for text in texts {
        assert!(text.contains("***") && text.trim_end().ends_with('…'), "{}", text.len());
        assert!(!text.contains("can"), "{}", &text[text.len() - 20..]);
    }
}

#[tokio::test]
async fn a_secret_value_shows_nowhere_but_to_the_executor() {
    let fixture = Fixture::new(json!({})).await;
    let run = fixture.trigger("password=canary-canary").await;
    assert!(!format!("{run:?}").contains("canary"));
    assert!(!serde_json::to_string(&*run).unwrap().contains("canary"));
    fixture.webhooks.run_until_idle().await.unwrap();
    let executed = fixture.executor.executed(1).await;
    assert_eq!(executed[0].parameters.get("password").unwrap().value, json!("canary-canary"));
    assert!(!format!("{executed:?}").contains("canary"));
}

#[tokio::test]
async fn the_token_shows_in_no_record_and_no_debug_output() {
    let fixture = Fixture::new(json!({})).await;
    let run = fixture.trigger("rows=1").await;
    let call = fixture.call(Method::Post, "");
    let authenticated = fixture.webhooks.authenticate(fixture.call(Method::Post, "")).await.unwrap();
    let stored = serde_json::to_string(&*fixture.webhook).unwrap() + &serde_json::to_string(&*run).unwrap();
    let shown =
        format!("{stored} {run:?} {call:?} {authenticated:?} {:?} {:?}", fixture.webhook, fixture.webhooks);
    assert!(!shown.contains(&fixture.token[4..47]));
}

#[tokio::test]
async fn a_run_whose_secret_parameter_cannot_be_opened_fails_without_being_executed() {
    let fixture = Fixture::new(json!({"retries": {"max_attempts": 5}})).await;
    let run = fixture.trigger("password=canary-canary").await;
    let other = Webhooks::builder().store(fixture.store.clone()).executor(fixture.executor.clone());
    let other = other.token_key(TokenKey::generate()).forget_unknown_keys().build().await.unwrap();
    other.run_until_idle().await.unwrap();
    let run = fixture.run(run.id()).await;
    let error = run.error().unwrap();
    assert_eq!((run.state(), error.kind, run.attempt()), (RunState::Failed, ErrorKind::Fatal, 1));
    assert!(error.message.contains("secret parameter"), "{error:?}");
    assert!(fixture.executor.executed(0).await.is_empty());
}

#[tokio::test]
async fn a_secret_parameter_is_refused_where_it_cannot_be_sealed() {
    let fixture = Fixture::new(json!({})).await;
    let without_key = Webhooks::builder().store(fixture.store.clone()).executor(fixture.executor.clone());
    let without_key = without_key.build().await.unwrap();
    let call = without_key.authenticate(fixture.call(Method::Post, "password=canary")).await.unwrap();
    let refused = without_key.trigger(without_key.admit(call).await.unwrap(), b"").await;
    let Err(TriggerError::Parameters(problems)) = refused else { panic!("{refused:?}") };
    assert_eq!((problems[0].parameter.as_str(), problems[0].code), ("password", ProblemCode::NoTokenKey));
    assert!(!format!("{problems:?}").contains("canary"));
}
