//! Tests of webhooks with settings for a sender, as a front end calls the service.

use serde_json::{Value, json};
use webhook_core::intake::{Method, SentHead, TriggerError, Triggered};
use webhook_core::manage::{ManagementError, PreviewProblem, SampleCall};
use webhook_core::token::TokenKey;
use webhook_core::verification::Refusal;
use webhook_core::webhook::SettingCode;
use webhook_core::{Webhooks, WebhooksBuilder};
use webhook_testing::Fixture;

const SECRET: &str = "a secret of the sender";

/// Returns a webhook whose sender puts a secret into a header.
async fn fixture_with_secret() -> Fixture {
    let fixture =
        Fixture::new(json!({"verification": {"scheme": "shared-secret", "header": "X-Api-Key"}})).await;
    fixture.webhooks.manage().add_secret(fixture.webhook.id, Some(SECRET)).await.unwrap();
    fixture
}

/// Returns a builder of another service over the store of a fixture.
fn other_service(fixture: &Fixture) -> WebhooksBuilder {
    Webhooks::builder().store(fixture.store.clone()).executor(fixture.executor.clone())
}

/// Sends a call with its head, as a front end does.
async fn send(
    webhooks: &Webhooks,
    fixture: &Fixture,
    method: Method,
    query: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<Triggered, TriggerError> {
    let mut call = fixture.call(method, query);
    call.content_type = Some("application/json".to_owned());
    let call = webhooks.authenticate(call).await?;
    let call = call.with_head(SentHead::new(String::new().into(), headers.iter().copied()));
    webhooks.trigger(webhooks.admit(call).await?, body.as_bytes()).await
}

async fn post(fixture: &Fixture, headers: &[(&str, &str)], body: &str) -> Result<Triggered, TriggerError> {
    send(&fixture.webhooks, fixture, Method::Post, "", headers, body).await
}

async fn queued(fixture: &Fixture) -> u64 {
    fixture.webhooks.health().await.unwrap().queued
}

#[tokio::test]
async fn a_call_starts_a_run_only_with_a_present_secret_of_its_webhook() {
    let fixture = fixture_with_secret().await;
    let (manage, id) = (fixture.webhooks.manage(), fixture.webhook.id);
    let large = format!("{{\"note\":\"{}\"}}", "x".repeat(100_000));
    for body in ["{}", large.as_str()] {
        let accepted = post(&fixture, &[("x-api-key", SECRET)], body).await;
        assert!(matches!(accepted, Ok(Triggered::Accepted { .. })), "{accepted:?}");
        let wrong = post(&fixture, &[("x-api-key", "another secret")], body).await;
        assert!(matches!(wrong, Err(TriggerError::SignatureInvalid(Refusal::SecretMismatch))), "{wrong:?}");
    }
    let missing = fixture.send(fixture.call(Method::Post, ""), "").await;
    assert!(matches!(missing, Err(TriggerError::SignatureInvalid(Refusal::HeaderMissing { .. }))));
    let second = manage.add_secret(id, None).await.unwrap();
    let generated = second.generated.unwrap();
    let by_second = async || post(&fixture, &[("x-api-key", generated.expose())], "{}").await;
    assert!(by_second().await.is_ok());
    manage.remove_secret(id, second.record.id).await.unwrap();
    assert!(matches!(by_second().await, Err(TriggerError::SignatureInvalid(Refusal::SecretMismatch))));
    assert!(matches!(manage.remove_secret(id, second.record.id).await, Err(ManagementError::NotFound(_))));
    assert_eq!(queued(&fixture).await, 3);
}

#[tokio::test]
async fn a_secret_that_cannot_be_opened_refuses_every_call_and_shows_in_a_preview() {
    let fixture = fixture_with_secret().await;
    let other = other_service(&fixture).token_key(TokenKey::generate()).forget_unknown_keys();
    let other = other.build().await.unwrap();
    let refused = send(&other, &fixture, Method::Post, "", &[("x-api-key", SECRET)], "{}").await;
    assert!(matches!(refused, Err(TriggerError::SignatureInvalid(Refusal::UnusableSecret))), "{refused:?}");
    let preview = other.manage().preview_call(fixture.webhook.id, &SampleCall::new(Method::Post)).await;
    assert_eq!(preview.unwrap().verification, Some(Err(Refusal::UnusableSecret)));
    assert_eq!(queued(&fixture).await, 0);
}

#[tokio::test]
async fn a_new_token_key_seals_the_secrets_of_senders_so_that_the_former_is_no_longer_needed() {
    let mut fixture = Fixture::new(json!({})).await;
    let (old, new) = (TokenKey::generate(), TokenKey::generate());
    let first = other_service(&fixture).token_key(old.clone()).forget_unknown_keys().build().await.unwrap();
    let settings = json!({"verification": {"scheme": "shared-secret", "header": "X-Api-Key"}});
    let manage = first.manage();
    let created = manage.create_webhook_from_patch("report/sales".parse().unwrap(), &settings).await.unwrap();
    manage.add_secret(created.webhook.id, Some(SECRET)).await.unwrap();
    fixture.token = created.url.expose().split_once("token=").unwrap().1.to_owned();
    let between = other_service(&fixture).token_key(new.clone()).opening_key(old).forget_unknown_keys();
    between.build().await.unwrap();
    let last = other_service(&fixture).token_key(new).forget_unknown_keys().build().await.unwrap();
    let accepted = send(&last, &fixture, Method::Post, "", &[("x-api-key", SECRET)], "{}").await;
    assert!(matches!(accepted, Ok(Triggered::Accepted { .. })), "{accepted:?}");
}

#[tokio::test]
async fn the_public_key_of_a_sender_is_given_and_never_generated() {
    let scheme = json!({"scheme": "ed25519", "header": "X-Signature", "encoding": "hex", "signed": "{body}"});
    let fixture = Fixture::new(json!({"verification": scheme})).await;
    let refused = fixture.webhooks.manage().add_secret(fixture.webhook.id, None).await;
    let Err(ManagementError::Settings(problems)) = refused else { panic!("{refused:?}") };
    assert_eq!((problems[0].field.as_str(), problems[0].code), ("secret", SettingCode::Required));
}

#[tokio::test]
async fn an_event_is_one_run_by_its_id_and_events_without_an_id_are_different_ones() {
    let fixture = Fixture::new(json!({"idempotency_from": {"from": "body", "pointer": "/id"}})).await;
    let run = async |body: &str| {
        let accepted = post(&fixture, &[("idempotency-key", "a")], body).await;
        let Ok(Triggered::Accepted { run, replayed, .. }) = accepted else { panic!("{accepted:?}") };
        (run.id(), replayed)
    };
    let first = run(r#"{"id": 7, "rows": 1}"#).await;
    assert_eq!(run(r#"{"id": 7, "rows": 2}"#).await, (first.0, true));
    assert_ne!(run(r#"{"id": 8}"#).await.0, first.0);
    let (without, again) = (run("{}").await, run("{}").await);
    assert!(without.0 != again.0 && !again.1);
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_refused_where_parameters_are_taken_from_it() {
    let mapping = json!([{"parameter": "rows", "from": "body", "pointer": "/rows"}]);
    let fixture = Fixture::new(json!({"mapping": mapping})).await;
    let refused = post(&fixture, &[], "{\"rows\": 1").await;
    assert!(matches!(refused, Err(TriggerError::Body(_))), "{refused:?}");
    assert!(matches!(post(&fixture, &[], "{\"rows\": 1}").await, Ok(Triggered::Accepted { .. })));
}

#[tokio::test]
async fn a_preview_names_the_parameters_that_cannot_be_used() {
    let mapping = json!([{"parameter": "rows", "from": "body", "pointer": "/count"}]);
    let fixture = Fixture::new(json!({"mapping": mapping})).await;
    let mut sample = SampleCall::new(Method::Post);
    sample.body = r#"{"count": "many"}"#.to_owned();
    sample.headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
    let shown = fixture.webhooks.manage().preview_call(fixture.webhook.id, &sample).await.unwrap();
    let [PreviewProblem::Parameter(problem)] = &shown.problems[..] else { panic!("{shown:?}") };
    assert_eq!(problem.parameter, "rows");
    assert!(shown.parameters.is_empty());
}

#[tokio::test]
async fn a_url_is_confirmed_by_its_verify_token_and_never_by_one_that_cannot_be_opened() {
    let fixture = Fixture::new(json!({})).await;
    let verify: Value = json!({"verification": {"preset": "meta", "verify_token": "my-verify-token"}});
    fixture.webhooks.manage().update_webhook(fixture.webhook.id, &verify, None).await.unwrap();
    let query = "hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=my-verify-token";
    let confirmed = send(&fixture.webhooks, &fixture, Method::Get, query, &[], "").await;
    assert!(matches!(confirmed, Ok(Triggered::Handshake(_))), "{confirmed:?}");
    let other = other_service(&fixture).token_key(TokenKey::generate()).forget_unknown_keys();
    let without_key = other_service(&fixture);
    for other in [other, without_key] {
        let refused = send(&other.build().await.unwrap(), &fixture, Method::Get, query, &[], "").await;
        assert!(matches!(refused, Err(TriggerError::SignatureInvalid(_))), "{refused:?}");
    }
    assert_eq!(queued(&fixture).await, 0);
}
