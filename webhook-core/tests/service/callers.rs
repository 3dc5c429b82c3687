//! Tests of common mistakes of callers: tokens in values, look-alikes, values that cannot be kept.

use serde_json::{Map, Value, json};
use webhook_core::Webhooks;
use webhook_core::executor::Workflow;
use webhook_core::intake::{Method, TriggerCall, TriggerError, Triggered};
use webhook_core::manage::ManagementError;
use webhook_core::parameters::{ParameterBlock, ParameterBlocks, ParameterType, ProblemCode, WarningCode};
use webhook_core::run::Caller;
use webhook_core::token::{Token, TokenKey};
use webhook_testing::{Fixture, ScriptedExecutor, Step};

fn json_call(fixture: &Fixture, query: &str) -> TriggerCall {
    let mut call = fixture.call(Method::Post, query);
    call.content_type = Some("application/json".to_owned());
    call
}

/// Returns the secret digits of a token, which must appear nowhere.
fn digits(token: &str) -> &str {
    &token[4..47]
}

#[tokio::test]
async fn a_token_in_a_value_is_masked_before_the_value_is_kept() {
    let fixture = Fixture::new(json!({})).await;
    let other = Token::generate();
    let token = &fixture.token;
    let encoded = token.replace('_', "%255F");
    let query = format!("callback=https://a.example/?token={encoded}%26x=1&{token}=name");
    let body = json!({
        "token": token,
        "hook": {"config": [{"url": format!("https://a.example/webhook?token={token}&region=EMEA")}]},
        "escaped": format!("{{\"token\":\"{}\"}}", token.replace('_', "\\u005f")),
        "names": {(token): 1},
        "password": format!("x{}x", other.expose()),
    });
    let mut call = json_call(&fixture, &query);
    call.caller.user_agent = Some(format!("agent {token}"));
    call.caller.content_type = Some(format!("application/json; note={token}"));
    let Ok(Triggered::Accepted { run, .. }) = fixture.send(call, &body.to_string()).await else {
        panic!("not accepted")
    };
    fixture.webhooks.run_until_idle().await.unwrap();
    let executed = fixture.executor.executed(1).await;
    let given: Vec<String> = executed[0]
        .parameters
        .iter()
        .map(|(name, parameter)| format!("{name}={}", parameter.value))
        .collect();
    assert_eq!(
        given,
        [
            "callback=\"https://a.example/?token=whk_***&x=1\"",
            "escaped=\"{\\\"token\\\":\\\"whk_***\\\"}\"",
            "hook={\"config\":[{\"url\":\"https://a.example/webhook?token=whk_***&region=EMEA\"}]}",
            "names={\"whk_***\":1}",
            "password=\"xwhk_***x\"",
            "region=\"EMEA\"",
            "token=\"whk_***\"",
            "whk_***=\"name\"",
        ]
    );
    let stored = fixture.run(run.id()).await;
    let shown = format!("{}{stored:?}", serde_json::to_string(&*stored).unwrap());
    assert!(!shown.contains(digits(token)) && !shown.contains(digits(other.expose())), "{shown}");
}

#[tokio::test]
async fn a_token_in_a_value_shows_in_no_dry_run_and_no_problem() {
    let fixture = Fixture::new(json!({})).await;
    let token = fixture.token.clone();
    for query in [
        format!("note={token}"),
        format!("rows={token}"),
        format!("region=EMEA%26token%3D{token}"),
        format!("{token}=%zz"),
    ] {
        let mut call = fixture.call(Method::Post, &query);
        call.dry_run = true;
        let shown = format!("{:?}", fixture.send(call, "").await);
        assert!(!shown.contains(digits(&token)), "{shown}");
    }
}

#[tokio::test]
async fn the_request_under_an_idempotency_key_is_compared_before_tokens_are_masked() {
    let fixture = Fixture::new(json!({})).await;
    let send = async |value: &str| {
        let mut call = json_call(&fixture, "");
        call.idempotency_key = Some("k".to_owned());
        fixture.send(call, &json!({"url": value, "Rows": 1}).to_string()).await
    };
    let (one, other) = (Token::generate(), Token::generate());
    let Ok(Triggered::Accepted { replayed: false, warnings: first, .. }) = send(one.expose()).await else {
        panic!("not accepted")
    };
    let Ok(Triggered::Accepted { replayed: true, warnings: again, .. }) = send(one.expose()).await else {
        panic!("not replayed")
    };
    assert_eq!((first.len(), &first), (1, &again), "a replay has the warnings of the first call");
    assert!(matches!(send(other.expose()).await, Err(TriggerError::IdempotencyMismatch)));
}

#[tokio::test]
async fn a_token_with_white_space_around_it_is_the_token() {
    let fixture = Fixture::new(json!({})).await;
    let mut call = TriggerCall::new(fixture.webhook.workflow.clone(), Method::Post);
    call.query = format!("token=+{}%0D%0A", fixture.token).into();
    call.bearer = Some(format!(" {}\n", fixture.token).into());
    assert!(fixture.send(call, "").await.is_ok());
}

#[tokio::test]
async fn a_value_under_a_name_that_looks_like_a_secret_one_is_kept_as_a_secret() {
    let fixture = Fixture::new(json!({})).await;
    for query in ["pasword=canary", "Password=canary", "%EF%BD%90assword=canary", "amp;password=canary"] {
        let call = fixture.call(Method::Post, query);
        let Ok(Triggered::Accepted { run, warnings, .. }) = fixture.send(call, "").await else {
            panic!("not accepted")
        };
        assert_eq!(warnings[0].code, WarningCode::LookAlike);
        let shown = format!("{}{run:?}{warnings:?}", serde_json::to_string(&*run).unwrap());
        assert!(!shown.contains("canary"), "{shown}");
    }
    let strict = Fixture::new(json!({"strict": true})).await;
    let refused = strict.send(strict.call(Method::Post, "pasword=1%C2%AEcanary%3D2"), "").await;
    assert!(!format!("{refused:?}").contains("canary"), "{refused:?}");
}

#[tokio::test]
async fn warnings_are_bounded_in_number_and_bytes() {
    let fixture = Fixture::new(json!({})).await;
    let names: Vec<String> = (0..250)
        .map(|n| format!("{}region=1", "amp;".repeat(1 + n % 15) + &"\u{feff}".repeat(n / 15)))
        .collect();
    let Ok(Triggered::Accepted { warnings, .. }) =
        fixture.send(fixture.call(Method::Post, &names.join("&")), "").await
    else {
        panic!("not accepted")
    };
    assert_eq!(warnings.len(), 17);
    assert_eq!((warnings[16].parameter.as_str(), warnings[16].code), ("*", WarningCode::More));
    assert!(serde_json::to_string(&warnings).unwrap().len() < 16 * 1024);
}

fn nested(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inner, _| json!([inner]))
}

#[tokio::test]
async fn a_run_by_hand_is_held_to_the_limits_of_a_call() {
    let fixture = Fixture::new(json!({})).await;
    let start = async |value: Value| {
        let parameters = Map::from_iter([("doc".to_owned(), value)]);
        fixture.webhooks.manage().start_run(fixture.webhook.id, parameters, Caller::default()).await
    };
    assert!(start(nested(64)).await.is_ok());
    let long = || Value::from("x".repeat(1024 * 1024));
    for (value, code) in [
        (nested(65), ProblemCode::TooDeep),
        (nested(500), ProblemCode::TooDeep),
        (Value::from(vec![0; 10_000]), ProblemCode::TooMany),
        (Value::from(vec![long(), long()]), ProblemCode::TooLarge),
    ] {
        let Err(ManagementError::Trigger(TriggerError::Parameters(problems))) = start(value).await else {
            panic!("not refused")
        };
        assert_eq!(problems[0].code, code);
    }
    let started = fixture.webhooks.manage();
    let names = Map::from_iter([("Rows".to_owned(), json!(1))]);
    let started = started.start_run(fixture.webhook.id, names, Caller::default()).await.unwrap();
    assert_eq!(started.warnings.len(), 1);
}

#[tokio::test]
async fn a_retry_seals_what_became_secret_and_refuses_what_does_not_fit_any_more() {
    let fixture = Fixture::new(json!({})).await;
    fixture.executor.script_next([Step::FailFatal("no".to_owned())]);
    let first = fixture.trigger("rows=5&note=canary-note").await;
    fixture.webhooks.run_until_idle().await.unwrap();
    let retry = async |blocks: Vec<ParameterBlock>| {
        let workflow =
            Workflow::new("report/sales".parse().unwrap(), "Sales", ParameterBlocks::new(blocks).unwrap());
        let changed = Webhooks::builder()
            .store(fixture.store.clone())
            .executor(ScriptedExecutor::new([workflow]))
            .forget_unknown_keys()
            .token_key(TokenKey::generate())
            .base_url("http://a.example".parse().unwrap());
        changed.build().await.unwrap().manage().retry_run(first.id(), Caller::default()).await
    };
    let again = retry(vec![ParameterBlock::new("note", ParameterType::Text).secret()]).await.unwrap();
    assert_eq!(again.retried_from(), Some(first.id()));
    assert!(!serde_json::to_string(&*again).unwrap().contains("canary"));
    let refused = retry(vec![ParameterBlock::new("note", ParameterType::Integer).secret()]).await;
    let Err(ManagementError::Trigger(TriggerError::Parameters(problems))) = refused else {
        panic!("not refused: {refused:?}")
    };
    assert_eq!(problems[0].parameter, "note");
    assert!(!problems[0].message.contains("canary"));
}
