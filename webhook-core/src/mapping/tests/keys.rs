//! The event ids of senders as idempotency keys.

use serde_json::json;

use super::*;
use crate::verification::{Preset, Verified};

fn preset_key(preset: Preset, sent: &Sent) -> EventKey {
    sent.read(|content| event_key(None, Some(&preset.into()), &Verified::default(), content))
}

fn key(text: &str) -> EventKey {
    EventKey::Key(text.to_owned())
}

#[test]
fn presets_bring_the_key_that_their_sender_repeats() {
    for (preset, sent, expected) in [
        (Preset::GitHub, Sent::json("{}").with("x-github-delivery", "72d3162e"), key("72d3162e")),
        (Preset::GitLab, Sent::json("{}").with("Idempotency-Key", "f5e5f430"), key("f5e5f430")),
        (Preset::Stripe, Sent::json(r#"{"id":"evt_1"}"#), key("evt_1")),
        (Preset::Slack, Sent::json(r#"{"event_id":"Ev08"}"#), key("Ev08")),
        (Preset::Slack, Sent::form("command=%2Freport"), EventKey::Absent),
        (Preset::Shopify, Sent::json("{}").with("X-Shopify-Webhook-Id", "b54557e4"), key("b54557e4")),
        (Preset::Twilio, Sent::form("a=1").with("I-Twilio-Idempotency-Token", "t1"), key("t1")),
        (Preset::Linear, Sent::json("{}").with("Linear-Delivery", "234d1a4e"), key("234d1a4e")),
        (Preset::Sentry, Sent::json(r#"{"data":{"event":{"event_id":"e1"}}}"#), key("e1")),
        (Preset::Sentry, Sent::json(r#"{"data":{"issue":{"id":"1"}}}"#), EventKey::Absent),
        (Preset::Trello, Sent::json(r#"{"action":{"id":"51f9"}}"#), key("51f9")),
        (Preset::Meta, Sent::json(r#"{"object":"page"}"#), EventKey::FromCaller),
        (Preset::MicrosoftGraph, Sent::json(r#"{"value":[]}"#), EventKey::FromCaller),
        (Preset::GitHub, Sent::json("{}").with("Idempotency-Key", "other"), EventKey::Absent),
    ] {
        assert_eq!(preset_key(preset, &sent), expected, "{preset:?}");
    }
    let plain = Sent::json("{}");
    let none = plain.read(|content| event_key(None, None, &Verified::default(), content));
    assert_eq!(none, EventKey::FromCaller);
}

#[test]
fn an_id_that_was_signed_goes_before_one_that_was_not() {
    let verified = Verified { id: Some("signed".to_owned()) };
    for preset in [Preset::StandardWebhooks, Preset::GitLab] {
        let sent = Sent::json("{}").with("webhook-id", "forged").with("Idempotency-Key", "forged");
        let found = sent.read(|content| event_key(None, Some(&preset.into()), &verified, content));
        assert_eq!(found, key("signed"));
    }
}

#[test]
fn a_setting_goes_before_the_preset() {
    let source: KeySource = from_json(json!({"from": "body", "pointer": "/n"}));
    let found = |body: &str| {
        let sent = Sent::json(body).with("X-GitHub-Delivery", "other");
        sent.read(|content| {
            event_key(Some(&source), Some(&Preset::GitHub.into()), &Verified::default(), content)
        })
    };
    assert_eq!(found(r#"{"n": 5}"#), key("5"));
    assert_eq!(found(r#"{"n": "a b"}"#), key("a b"));
    for absent in [r#"{"n": null}"#, r#"{"n": ""}"#, r#"{"n": [1]}"#, r#"{"n": true}"#, "{}"] {
        assert_eq!(found(absent), EventKey::Absent, "{absent}");
    }
}

#[test]
fn a_key_that_no_store_keeps_as_it_is_becomes_its_hash() {
    let token = crate::token::Token::generate();
    let mut keys = std::collections::BTreeSet::new();
    for id in ["é".to_owned(), "x".repeat(256), "x".repeat(257), "a\tb".to_owned(), token.expose().to_owned()]
    {
        let EventKey::Key(found) = preset_key(Preset::Stripe, &Sent::json(&json!({"id": id}).to_string()))
        else {
            panic!("{id}")
        };
        assert!(found.starts_with("sha256:") && found.len() == 71, "{found}");
        assert!(keys.insert(found));
    }
    assert_eq!(
        preset_key(Preset::Stripe, &Sent::json(&json!({"id": "x".repeat(255)}).to_string())),
        key(&"x".repeat(255))
    );
}

#[test]
fn a_cloud_event_is_named_by_source_and_id_in_every_mode() {
    let found = |sent: Sent| preset_key(Preset::CloudEvents, &sent);
    let binary = found(Sent::json("{}").with("ce-id", "1").with("ce-source", "/s"));
    let structured = found(Sent::json(r#"{"specversion":"1.0","id":"1","source":"/s"}"#));
    let batch = found(Sent::json(r#"[{"specversion":"1.0","id":"1","source":"/s"}]"#));
    assert_eq!(binary, structured);
    assert_eq!(binary, batch);
    let others = [
        found(Sent::json("{}").with("ce-id", "/s1").with("ce-source", "")),
        found(Sent::json("{}").with("ce-id", "1").with("ce-source", "/t")),
        found(Sent::json(r#"[{"id":"1","eventType":"x"}]"#)),
        found(Sent::json(r#"[{"id":"1","source":"/s"},{"id":"2","source":"/s"}]"#)),
        found(Sent::json(r#"[{"id":"1","source":"/s"},{"id":"3","source":"/s"}]"#)),
    ];
    for (index, other) in others.iter().enumerate() {
        assert!(matches!(other, EventKey::Key(_)) && *other != binary, "{index}");
        assert!(!others[..index].contains(other), "{index}");
    }
    for body in ["[]", "{}", "5", r#"[{"id":"1"},{}]"#, r#"{"id":5}"#] {
        assert_eq!(found(Sent::json(body)), EventKey::Absent, "{body}");
    }
}
