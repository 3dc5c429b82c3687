//! Senders from the bytes of their calls to the parameters of a run.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::*;
use crate::mapping::EventKey;
use crate::parameters::{
    ParameterBlock, ParameterBlocks, ParameterLimits, ParameterType, QueryParameters, merge_over,
};
use crate::raw_call::RawCall;
use crate::secret::Secret;
use crate::setting::{SettingCode, SettingProblem, SettingsForm};
use crate::verification::Refusal;

const KEY: &str = "It's a Secret to Everybody";
const TIME: u64 = 1_700_000_000;

fn read(value: Value) -> (SenderSettings, Vec<SettingProblem>) {
    let mut problems = Vec::new();
    let mut form = SettingsForm::new("", value, &mut problems);
    let settings = SenderSettings::read(&mut form);
    form.refuse_the_rest();
    (settings, problems)
}

fn settings(value: Value) -> SenderSettings {
    let (settings, problems) = read(value);
    assert_eq!(problems, []);
    settings
}

fn fields(value: Value) -> Vec<String> {
    read(value).1.into_iter().map(|problem| problem.field).collect()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hmac(text: &str) -> String {
    let mut code = Hmac::<Sha256>::new_from_slice(KEY.as_bytes()).unwrap();
    code.update(text.as_bytes());
    hexadecimal(&code.finalize().into_bytes())
}

/// A call signed as GitHub does.
fn github(event: &str, body: &str) -> Vec<(String, String)> {
    let signature = format!("sha256={}", hmac(body));
    [("X-GitHub-Event", event), ("X-GitHub-Delivery", "72d3162e"), ("X-Hub-Signature-256", &signature)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
}

fn look<R>(
    headers: &[(String, String)],
    content_type: &str,
    body: &str,
    look: impl FnOnce(&ReceivedCall<'_>) -> R,
) -> R {
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let raw = RawCall::new("POST", "https://a.example/w?token=x", &headers, body.as_bytes());
    look(&ReceivedCall::new(&raw, &QueryParameters::default(), Some(content_type)))
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(TIME)
}

fn receive(
    settings: &SenderSettings,
    headers: &[(String, String)],
    body: &str,
) -> Result<Reception, ReceptionError> {
    let secrets = [Secret::new(KEY).unwrap()];
    look(headers, "application/json", body, |call| {
        settings.receive(call, &secrets, &ParameterLimits::default(), now())
    })
}

/// Settings by which a push to a branch starts the sales report of its region.
fn sales() -> SenderSettings {
    settings(json!({
        "verification": {"preset": "github"},
        "conditions": {"all": [
            {"from": "header", "name": "X-GitHub-Event", "op": "equals", "value": "push"},
            {"from": "body", "pointer": "/ref", "op": "matches", "value": "^refs/heads/"},
        ]},
        "mapping": [{"parameter": "region", "from": "body", "pointer": "/repository/custom_properties/region"}],
        "pass_through": "declared",
        "fixed": {"currency": "EUR"},
    }))
}

const PUSH: &str =
    r#"{"ref":"refs/heads/main","day":"2026-01-14","repository":{"custom_properties":{"region":"APAC"}}}"#;

fn parameters(content: &RunContent) -> Value {
    let blocks = ParameterBlocks::new(vec![
        ParameterBlock::new("region", ParameterType::Choice)
            .with_choices(["EMEA", "APAC"])
            .with_default("EMEA"),
        ParameterBlock::new("day", ParameterType::Date),
        ParameterBlock::new("currency", ParameterType::Text),
    ])
    .unwrap();
    let (query, limits) = (QueryParameters::default(), ParameterLimits::default());
    let merged = merge_over(&blocks, &query, &content.body, &content.overlay, false, &limits).unwrap();
    serde_json::to_value(merged.parameters).unwrap()
}

#[test]
fn a_push_starts_a_run_with_the_region_of_its_payload_and_the_delivery_as_key() {
    let Reception::Run(content) = receive(&sales(), &github("push", PUSH), PUSH).unwrap() else {
        panic!("no run")
    };
    let expected = json!({
        "region": {"value": "APAC", "source": "mapping"}, "day": {"value": "2026-01-14", "source": "body"},
        "currency": {"value": "EUR", "source": "fixed"},
    });
    assert_eq!(parameters(&content), expected);
    assert_eq!(content.key, EventKey::Key("72d3162e".to_owned()));
}

#[test]
fn a_ping_is_a_handshake_and_another_event_is_ignored() {
    let ping = receive(&sales(), &github("ping", "{}"), "{}").unwrap();
    assert!(matches!(ping, Reception::Handshake(_)), "{ping:?}");
    let issue = receive(&sales(), &github("issues", "{}"), "{}").unwrap();
    let Reception::Ignored(unmet) = issue else { panic!("{issue:?}") };
    assert_eq!(serde_json::to_value(unmet).unwrap()["name"], "X-GitHub-Event");
}

#[test]
fn nothing_of_a_call_is_looked_at_before_its_signature() {
    for (event, body) in [("ping", "{}"), ("push", PUSH), ("issues", "{}"), ("push", "not JSON")] {
        let mut headers = github(event, body);
        headers.pop();
        let refused = receive(&sales(), &headers, body).unwrap_err();
        assert!(matches!(refused, ReceptionError::Refused(Refusal::HeaderMissing { .. })), "{refused:?}");
        headers.push(("X-Hub-Signature-256".to_owned(), format!("sha256={}", hmac("other"))));
        let refused = receive(&sales(), &headers, body).unwrap_err();
        assert_eq!(refused, ReceptionError::Refused(Refusal::Mismatch));
    }
    let slack = settings(json!({"verification": {"preset": "slack"}}));
    let challenge = r#"{"type":"url_verification","challenge":"x"}"#;
    assert!(matches!(receive(&slack, &[], challenge), Err(ReceptionError::Refused(_))));
    let signature = format!("v0={}", hmac(&format!("v0:{TIME}:{challenge}")));
    let headers = [("X-Slack-Request-Timestamp", TIME.to_string()), ("X-Slack-Signature", signature)];
    let headers = headers.map(|(name, value)| (name.to_owned(), value));
    let Reception::Handshake(answer) = receive(&slack, &headers, challenge).unwrap() else {
        panic!("no handshake")
    };
    assert_eq!(answer.body, r#"{"challenge":"x"}"#);
}

#[test]
fn a_form_of_github_holds_the_payload_as_json_and_is_signed_as_a_form() {
    let form = "payload=%7B%22ref%22%3A%22refs%2Fheads%2Fmain%22%7D";
    let secrets = [Secret::new(KEY).unwrap()];
    let content_type = "application/x-www-form-urlencoded";
    let received = look(&github("push", form), content_type, form, |call| {
        sales().receive(call, &secrets, &ParameterLimits::default(), now())
    });
    assert!(matches!(received, Ok(Reception::Run(_))), "{received:?}");
}

#[test]
fn an_array_is_taken_where_it_is_mapped_or_does_not_count() {
    let body = r#"[{"id":"9aeb","data":{"region":"APAC"}}]"#;
    let received = |value: Value| receive(&settings(value), &[], body);
    let mapping = json!([{"parameter": "region", "from": "body", "pointer": "/0/data/region"}]);
    let Ok(Reception::Run(content)) = received(json!({"mapping": mapping})) else { panic!("no run") };
    assert_eq!(parameters(&content)["region"]["value"], "APAC");
    assert!(matches!(received(json!({"pass_through": "none"})), Ok(Reception::Run(_))));
    for refused in [json!({}), json!({"fixed": {"region": "APAC"}})] {
        assert!(matches!(received(refused), Err(ReceptionError::Body(_))));
    }
}

#[test]
fn a_preview_shows_every_step_although_one_fails() {
    let preview = |headers: &[(String, String)], body: &str| {
        look(headers, "application/json", body, |call| {
            sales().preview(call, &[Secret::new(KEY).unwrap()], &ParameterLimits::default(), now())
        })
    };
    let good = preview(&github("push", PUSH), PUSH);
    assert!(good.verification.unwrap().is_ok() && !good.handshake && good.unmet.is_none());
    assert_eq!(good.missing, []);
    assert_eq!(parameters(&good.content.unwrap())["region"]["value"], "APAC");
    let bad = preview(&[], r#"{"repository":{"name":"sales"}}"#);
    assert!(bad.verification.unwrap().is_err() && bad.unmet.is_some());
    let fields: Vec<_> = bad.missing.iter().map(|problem| problem.field.as_str()).collect();
    assert_eq!(fields, ["conditions.all[0].name", "conditions.all[1].pointer", "mapping[0].pointer"]);
    assert!(bad.missing[2].message.contains("\"name\""), "{:?}", bad.missing[2]);
    assert!(preview(&[], "not JSON").content.is_err());
}

#[test]
fn the_wire_form_is_the_documented_one_and_reads_back() {
    let default = json!({
        "verification": null, "idempotency_from": null, "allowed_networks": null, "conditions": null, "mapping": [],
        "pass_through": "all", "fixed": {}, "answer": null,
    });
    assert_eq!(serde_json::to_value(SenderSettings::default()).unwrap(), default);
    assert_eq!(settings(default), SenderSettings::default());
    let all = json!({
        "verification": {"preset": "stripe"}, "idempotency_from": {"from": "body", "pointer": "/id"},
        "allowed_networks": ["192.0.2.0/24"],
        "conditions": {"all": [{"from": "body", "pointer": "/type", "op": "equals", "value": "invoice.paid"}]},
        "mapping": [{"parameter": "region", "from": "body", "pointer": "/data/region", "default": "EMEA"}],
        "pass_through": "none", "fixed": {"rows": 5}, "answer": {"status": 204},
    });
    let read = settings(all.clone());
    assert_eq!(serde_json::to_value(&read).unwrap(), all);
    assert_eq!(serde_json::from_value::<SenderSettings>(all.clone()).unwrap(), read);
    let mut copied = SenderSettings::default();
    for name in SenderSettings::NAMES {
        assert!(all.get(name).is_some(), "{name}");
        copied.copy_setting(name, &read);
    }
    assert_eq!(copied, read);
    assert_eq!(serde_json::from_value::<SenderSettings>(json!({})).unwrap(), SenderSettings::default());
}

#[test]
fn every_problem_is_named_at_once() {
    let found = fields(json!({
        "verification": {"preset": "githup"}, "idempotency_from": {"from": "query"}, "allowed_networks": ["x"],
        "conditions": {}, "mapping": [{}], "pass_through": "some", "fixed": [], "answer": {"status": 500},
    }));
    let expected = [
        "pass_through",
        "verification.preset",
        "idempotency_from.from",
        "allowed_networks[0]",
        "conditions.all",
        "mapping[0].parameter",
        "mapping[0].from",
        "fixed",
        "answer.status",
    ];
    assert_eq!(found, expected);
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let mapping = json!([
        {"parameter": "a", "from": "method"},
        {"parameter": "b", "from": "header", "name": "x-gitlab-token"},
    ]);
    let both = json!({"verification": {"preset": "gitlab"}, "fixed": {"a": 1}, "mapping": mapping});
    assert_eq!(fields(both), ["mapping[0].parameter", "mapping[1].name"]);
    let basic = json!({
        "verification": {"scheme": "shared-secret", "header": "X-Api-Key"},
        "idempotency_from": {"from": "header", "name": "x-api-key"},
    });
    assert_eq!(fields(basic), ["idempotency_from.name"]);
    assert_eq!(
        read(json!({"fixed": {"a": 1}, "mapping": [{"parameter": "a", "from": "method"}]})).1[0].code,
        SettingCode::Repeated
    );
}

#[test]
fn the_answer_is_the_one_set_or_the_one_that_the_sender_takes_for_success() {
    let status = |value: Value| settings(value).success_status();
    assert_eq!(status(json!({})), 202);
    assert_eq!(status(json!({"verification": {"preset": "github"}})), 202);
    assert_eq!(status(json!({"verification": {"preset": "linear"}})), 200);
    assert_eq!(status(json!({"verification": {"preset": "twilio"}})), 204);
    assert_eq!(status(json!({"verification": {"preset": "linear"}, "answer": {"status": 202}})), 202);
}

#[test]
fn a_webhook_without_these_settings_looks_into_no_call() {
    assert!(!SenderSettings::default().looks_into_calls());
    let networks_alone = settings(json!({"allowed_networks": ["192.0.2.1"], "answer": {"status": 200}}));
    assert!(!networks_alone.looks_into_calls());
    for value in [
        json!({"verification": {"preset": "cloudevents"}}),
        json!({"idempotency_from": {"from": "header", "name": "X-Id"}}),
        json!({"fixed": {"a": 1}}),
        json!({"pass_through": "none"}),
        json!({"mapping": [{"parameter": "a", "from": "method"}]}),
    ] {
        assert!(settings(value.clone()).looks_into_calls(), "{value}");
    }
}
