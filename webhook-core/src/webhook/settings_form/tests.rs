use std::time::Duration;

use serde_json::json;

use super::super::settings::{Email, EventKind, Notifications, OnOverlap};
use super::*;

fn fields(patch: Value) -> Vec<String> {
    let problems = WebhookSettings::default().patched(&patch).unwrap_err().problems;
    problems.into_iter().map(|problem| problem.field).collect()
}

#[test]
fn an_empty_patch_changes_nothing_and_the_wire_form_reads_back() {
    let settings = WebhookSettings::default();
    assert_eq!(settings.patched(&json!({})).unwrap(), settings);
    let wire = serde_json::to_value(&settings).unwrap();
    assert_eq!(settings.patched(&wire).unwrap(), settings);
    assert_eq!(serde_json::from_value::<WebhookSettings>(wire).unwrap(), settings);
}

#[test]
fn the_wire_form_is_the_documented_one() {
    let wire = serde_json::to_value(WebhookSettings::default()).unwrap();
    let expected = json!({
        "label": null, "enabled": true, "allow_get": true, "strict": false, "timeout_s": null,
        "retries": {"max_attempts": 1, "base_s": 10, "factor": 2.0, "cap_s": 600, "jitter": 0.2},
        "concurrency": {"max": null, "on_overlap": "queue"}, "queue_limit": null, "rate_limit": null,
        "retention_days": null, "keep_bodies_s": null, "notifications": {"email": null, "slack": null},
        "verification": null, "idempotency_from": null, "allowed_networks": null, "conditions": null, "mapping": [],
        "pass_through": "all", "fixed": {}, "answer": null,
    });
    assert_eq!(wire, expected);
}

#[test]
fn nested_objects_merge_and_null_restores_the_default() {
    let settings = WebhookSettings::default();
    let settings = settings.patched(&json!({"retries": {"max_attempts": 4}, "timeout_s": 1.5})).unwrap();
    let settings = settings.patched(&json!({"retries": {"base_s": 3}})).unwrap();
    assert_eq!(settings.retries.max_attempts, 4);
    assert_eq!(settings.retries.base, Duration::from_secs(3));
    assert_eq!(settings.timeout, Some(Duration::from_millis(1500)));
    let settings = settings.patched(&json!({"retries": null, "timeout_s": null})).unwrap();
    assert_eq!(settings, WebhookSettings::default());
}

#[test]
fn every_problem_is_named_at_once() {
    let fields = fields(json!({
        "colour": "red", "enabled": "yes", "timeout_s": 0, "queue_limit": -1, "label": "x".repeat(201),
        "retries": {"max_attempts": 0, "jitter": 2, "speed": 1}, "concurrency": {"on_overlap": "explode"},
        "rate_limit": {"burst": 1}, "notifications": {"email": {"recipients": [], "on": []}, "Teams": {}},
    }));
    let expected = [
        "enabled",
        "timeout_s",
        "queue_limit",
        "colour",
        "label",
        "retries.max_attempts",
        "retries.jitter",
        "retries.speed",
        "concurrency.on_overlap",
        "rate_limit.per_minute",
        "notifications.Teams",
        "notifications.email.on",
        "notifications.email.recipients",
    ];
    assert_eq!(fields, expected);
}

#[test]
fn an_unknown_name_is_a_problem_also_where_it_looks_like_a_place_or_holds_a_token() {
    let token = crate::token::Token::generate();
    for (name, field) in [
        ("retries.max_attempts", "retries.max_attempts"),
        ("notifications.email", "notifications.email"),
        ("label[0]", "label[0]"),
        (".", "."),
        ("", ""),
        (token.expose(), "whk_***"),
    ] {
        assert_eq!(fields(json!({name: 5, "strict": true})), [field], "{name}");
        assert_eq!(fields(json!({name: null})), [field], "{name}");
    }
}

#[test]
fn an_unknown_name_is_a_problem_also_with_null_and_within_other_settings() {
    let patch = json!({
        "time_out_s": null, "label": null, "retries": {"tries": null, "jitter": null},
        "concurrency": {"maximum": null}, "rate_limit": {"per_minute": 5, "per_hour": null},
        "notifications": {"Teams": null, "email": null, "slack": {"channel": "#a", "on": ["failure"], "to": null}},
    });
    let expected = [
        "time_out_s",
        "retries.tries",
        "concurrency.maximum",
        "rate_limit.per_hour",
        "notifications.Teams",
        "notifications.slack.to",
    ];
    assert_eq!(fields(patch), expected);
}

#[test]
fn a_stored_value_out_of_bounds_stays_and_blocks_no_other_change() {
    let stored = WebhookSettings {
        label: Some("x".repeat(300)),
        timeout: Some(Duration::from_secs(45 * 86_400)),
        rate_limit: Some(RateLimit::new(0, 10)),
        notifications: Notifications {
            others: Default::default(),
            email: Some(Email::new(vec!["no".to_owned()], Vec::new())),
            slack: None,
        },
        ..WebhookSettings::default()
    };
    let disabled = stored.patched(&json!({"enabled": false})).unwrap();
    assert_eq!(disabled, WebhookSettings { enabled: false, ..stored.clone() });
    let named = |patch| {
        let problems = stored.patched(&patch).unwrap_err().problems;
        problems.into_iter().map(|problem| problem.field).collect::<Vec<_>>()
    };
    assert_eq!(named(json!({"timeout_s": 46 * 86_400, "enabled": false})), ["timeout_s"]);
    assert_eq!(named(json!({"rate_limit": {"burst": 5}})), ["rate_limit.per_minute"]);
    assert_eq!(stored.patched(&json!({"timeout_s": null})).unwrap().timeout, None);
}

#[test]
fn every_setting_can_be_patched() {
    let all = json!({
        "label": "CI", "enabled": false, "allow_get": false, "strict": true, "timeout_s": 5,
        "retries": {"max_attempts": 3, "base_s": 1, "factor": 3.0, "cap_s": 9, "jitter": 0.5},
        "concurrency": {"max": 2, "on_overlap": "skip"}, "queue_limit": 7,
        "rate_limit": {"per_minute": 5, "burst": 6}, "retention_days": 8, "keep_bodies_s": 9,
        "notifications": {
            "email": {"recipients": ["a@example.com"], "on": ["failure"]},
            "slack": {"channel": "#a", "on": ["success"]},
        },
        "verification": {"preset": "github"}, "idempotency_from": {"from": "header", "name": "X-Id"},
        "allowed_networks": ["192.0.2.0/24"],
        "conditions": {"all": [{"from": "header", "name": "X-GitHub-Event", "op": "equals", "value": "push"}]},
        "mapping": [{"parameter": "region", "from": "body", "pointer": "/region", "default": null}],
        "pass_through": "declared", "fixed": {"currency": "EUR"}, "answer": {"status": 200},
    });
    let patched = WebhookSettings::default().patched(&all).unwrap();
    assert_eq!(serde_json::to_value(&patched).unwrap(), all);
    assert_eq!(patched.validated().unwrap(), patched);
}

#[test]
fn settings_made_in_code_are_held_to_the_same_bounds() {
    let mut settings = WebhookSettings {
        timeout: Some(Duration::from_secs(45 * 86_400)),
        rate_limit: Some(RateLimit::new(0, 10)),
        concurrency: Concurrency::new(Some(0), OnOverlap::Queue),
        notifications: Notifications {
            others: Default::default(),
            email: Some(Email::new(vec!["a@b.c\r\nBcc: x@y.z".to_owned()], vec![EventKind::Failure])),
            slack: None,
        },
        ..WebhookSettings::default()
    };
    settings.retries.max_attempts = 0;
    settings.retries.factor = f64::NAN;
    let problems = settings.validated().unwrap_err().problems;
    let fields: Vec<_> = problems.iter().map(|problem| problem.field.as_str()).collect();
    let expected = [
        "timeout_s",
        "retries.max_attempts",
        "concurrency.max",
        "rate_limit.per_minute",
        "notifications.email.recipients[0]",
        "retries.factor",
    ];
    assert_eq!(fields, expected);
    assert!(WebhookSettings::default().validated().is_ok());
}

#[test]
fn notifications_name_recipients_by_event() {
    let settings = WebhookSettings::default()
        .patched(&json!({"notifications": {
            "email": {"recipients": ["a@example.com", "b@example.com"], "on": ["failure"]},
            "slack": {"channel": "#ops", "on": ["success", "failure"]},
        }}))
        .unwrap();
    assert_eq!(settings.notifications.recipients(EventKind::Failure).count(), 3);
    assert_eq!(settings.notifications.recipients(EventKind::Success).count(), 1);
    let settings = settings.patched(&json!({"notifications": {"email": null}})).unwrap();
    assert!(settings.notifications.email.is_none() && settings.notifications.slack.is_some());
}

#[test]
fn a_recipient_must_be_an_address_and_can_add_no_header() {
    let long = format!("{}@example.com", "a".repeat(250));
    for bad in ["nomail", "@example.com", "a@", "a b@c.d", "a@b.c\r\nBcc: x@y.z", "a@b.c\n", long.as_str()] {
        let email = json!({"recipients": ["good@example.com", bad], "on": ["failure"]});
        let found = fields(json!({"notifications": {"email": email}}));
        assert_eq!(found, ["notifications.email.recipients[1]"], "{bad:?}");
    }
    let slack = json!({"channel": "#a\r\nb", "on": ["failure"]});
    assert_eq!(fields(json!({"notifications": {"slack": slack}})), ["notifications.slack.channel"]);
}

#[test]
fn a_text_with_a_token_is_refused_and_not_repeated() {
    let token = crate::token::Token::generate();
    let url = format!("https://example.com/api/v1/report/sales/webhook?token={}", token.expose());
    let patch = json!({
        "label": url, token.expose(): 1,
        "notifications": {
            "email": {"recipients": ["a@example.com", format!("{}@example.com", token.expose())], "on": ["failure"]},
            "slack": {"channel": token.expose(), "on": ["failure"]},
        },
    });
    let problems = WebhookSettings::default().patched(&patch).unwrap_err().problems;
    let refused = problems.iter().filter(|problem| problem.code == SettingCode::ContainsToken);
    let refused: Vec<_> = refused.map(|problem| problem.field.as_str()).collect();
    let expected = ["label", "notifications.email.recipients[1]", "notifications.slack.channel"];
    assert_eq!(refused, expected);
    assert!(!format!("{problems:?}").contains(token.expose()), "{problems:?}");
    let settings = WebhookSettings { label: Some(url), ..WebhookSettings::default() };
    assert_eq!(settings.validated().unwrap_err().problems[0].field, "label");
    assert!(WebhookSettings::default().patched(&json!({"label": "whk_ and no token"})).is_ok());
}

#[test]
fn a_rule_for_overlap_implies_a_bound() {
    let settings = WebhookSettings::default();
    assert_eq!(settings.concurrency.bound(), None);
    let settings = settings.patched(&json!({"concurrency": {"on_overlap": "skip"}})).unwrap();
    assert_eq!(settings.concurrency, Concurrency::new(None, OnOverlap::Skip));
    assert_eq!(settings.concurrency.bound(), Some(1));
}

#[test]
fn a_setting_with_several_forms_is_replaced_and_a_conflict_is_found_from_either_side() {
    let settings = WebhookSettings::default();
    let scheme = json!({"scheme": "shared-secret", "header": "X-Api-Key"});
    let settings = settings.patched(&json!({"verification": scheme})).unwrap();
    let settings = settings.patched(&json!({"verification": {"preset": "github"}})).unwrap();
    let mapping = json!([{"parameter": "region", "from": "header", "name": "X-Api-Key"}]);
    let mapped = settings.patched(&json!({"mapping": mapping, "fixed": {"a": 1, "b": 2}})).unwrap();
    let named = |patch| {
        let problems = mapped.patched(&patch).unwrap_err().problems;
        problems.into_iter().map(|problem| problem.field).collect::<Vec<_>>()
    };
    assert_eq!(named(json!({"verification": scheme})), ["mapping[0].name"]);
    assert_eq!(named(json!({"fixed": {"region": "EMEA"}})), ["mapping[0].parameter"]);
    let fixed = mapped.patched(&json!({"fixed": {"a": null}})).unwrap().sender.fixed;
    assert_eq!(serde_json::to_value(fixed).unwrap(), json!({"b": 2}));
}

#[test]
fn only_an_object_is_a_patch() {
    assert_eq!(fields(json!([1])), [""]);
    assert_eq!(fields(json!({"retries": 5})), ["retries"]);
}
