//! Each recipe is followed with its own sample.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::*;
use crate::parameters::{
    ParameterBlock, ParameterBlocks, ParameterLimits, ParameterType, QueryParameters, Source, merge_over,
};
use crate::raw_call::RawCall;
use crate::sender::{Preview, ReceivedCall};
use crate::verification::Preset;
use crate::webhook::WebhookSettings;

/// The parameter blocks of the demo workflow.
fn daily_sales() -> ParameterBlocks {
    ParameterBlocks::new(vec![
        ParameterBlock::new("date", ParameterType::Date).with_default("2026-01-14"),
        ParameterBlock::new("region", ParameterType::Choice)
            .with_choices(["EMEA", "APAC", "AMER"])
            .with_default("EMEA"),
    ])
    .unwrap()
}

fn preview(recipe: &Recipe, body: &str) -> Preview {
    let settings = WebhookSettings::default().patched(&recipe.settings()).unwrap();
    let headers: Vec<(&[u8], &[u8])> =
        recipe.sample.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let content_type = recipe.sample.headers.iter().find(|(name, _)| *name == "Content-Type");
    let raw = RawCall::new("POST", "https://a.example/w?token=x", &headers, body.as_bytes());
    let query = QueryParameters::default();
    let call = ReceivedCall::new(&raw, &query, content_type.map(|(_, value)| *value));
    settings.sender.preview(&call, &[], &ParameterLimits::default(), std::time::SystemTime::UNIX_EPOCH)
}

#[test]
fn each_recipe_fits_its_sample_and_daily_sales() {
    for recipe in Recipe::all() {
        let name = recipe.name;
        let preview = preview(recipe, recipe.sample.body());
        assert_eq!(preview.unmet, None, "{name}");
        assert_eq!(preview.missing, [], "{name}");
        assert!(!preview.handshake, "{name}");
        let content = preview.content.unwrap();
        let (blocks, limits) = (daily_sales(), ParameterLimits::default());
        let query = QueryParameters::default();
        let merged = merge_over(&blocks, &query, &content.body, &content.overlay, true, &limits).unwrap();
        let taken: BTreeMap<&str, Value> = merged
            .parameters
            .iter()
            .filter(|(_, parameter)| matches!(parameter.source, Source::Mapping | Source::Fixed))
            .map(|(name, parameter)| (name, parameter.value.clone()))
            .collect();
        let expected: BTreeMap<&str, Value> =
            recipe.parameters.iter().map(|(name, value)| (*name, Value::from(*value))).collect();
        assert_eq!(taken, expected, "{name}");
        assert!(taken.contains_key("region"), "{name}");
    }
}

#[test]
fn each_recipe_says_how_to_set_up_what_is_verified_and_what_is_not() {
    let mut names = BTreeSet::new();
    for recipe in Recipe::all() {
        let name = recipe.name;
        assert!(names.insert(name), "{name} is there twice");
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{name}");
        let values: Vec<FieldValue> =
            recipe.steps.iter().flat_map(|step| step.fields).map(|field| field.value).collect();
        let codes: Vec<&str> = recipe.steps.iter().filter_map(|step| step.code).collect();
        let has_address =
            values.contains(&FieldValue::Address) || codes.iter().any(|code| code.contains("{address}"));
        assert!(
            values.contains(&FieldValue::Url) || (has_address && values.contains(&FieldValue::Token)),
            "{name} does not say where the URL and the token go"
        );
        let needs_secret = recipe.verification().is_some_and(|verification| verification.needs_secret());
        assert_eq!(recipe.secret != SecretOrigin::None, needs_secret, "{name}");
        assert_eq!(values.contains(&FieldValue::Secret), recipe.secret == SecretOrigin::Webhook, "{name}");
        let sentences = recipe.verified.iter().chain(recipe.not_verified);
        for sentence in sentences.chain([&recipe.starts]).chain(recipe.steps.iter().map(|step| &step.text)) {
            assert!(sentence.ends_with('.') || sentence.ends_with("APAC"), "{name}: {sentence}");
        }
        assert!(!recipe.verified.is_empty() && !recipe.not_verified.is_empty(), "{name}");
    }
    let asked = [
        "github",
        "gitlab",
        "stripe",
        "slack",
        "grafana",
        "alertmanager",
        "dbt-cloud",
        "airbyte",
        "snowflake",
        "bigquery",
        "azure-event-grid",
    ];
    assert!(names.is_superset(&asked.into_iter().collect()));
}

#[test]
fn each_preset_has_its_recipe() {
    for preset in Preset::all() {
        assert!(Recipe::all().any(|recipe| recipe.preset() == Some(preset)), "{preset:?}");
    }
}

#[test]
fn other_events_of_the_sender_start_nothing() {
    let changed = [
        ("github", "refs/heads/main", "refs/heads/draft"),
        ("gitlab", "\"status\":\"success\"", "\"status\":\"failed\""),
        ("stripe", "charge.succeeded", "charge.failed"),
        ("grafana", "\"status\":\"firing\",\"alerts\"", "\"status\":\"resolved\",\"alerts\""),
        ("alertmanager", "\"status\":\"firing\",\"receiver\"", "\"status\":\"resolved\",\"receiver\""),
        ("dbt-cloud", "\"Success\"", "\"Error\""),
        ("airbyte", "\"success\":true", "\"success\":false"),
        ("bigquery", "SUCCEEDED", "FAILED"),
        ("azure-event-grid", "DayLoaded", "DayDropped"),
        ("twilio", "Body=APAC", "Body=Hello"),
        ("meta", "\"body\":\"APAC\"", "\"body\":\"Hello\""),
        ("microsoft-graph", "updated", "deleted"),
        ("standard-webhooks", "sales.loaded", "sales.dropped"),
        ("linear", "\"completed\"", "\"started\""),
        ("trello", "\"listAfter\":{\"name\":\"Done\"", "\"listAfter\":{\"name\":\"Later\""),
    ];
    for (name, from, to) in changed {
        let recipe = Recipe::all().find(|recipe| recipe.name == name).unwrap();
        let body = recipe.sample.body().replacen(from, to, 1);
        assert_ne!(body, recipe.sample.body(), "{name}");
        assert!(preview(recipe, &body).unmet.is_some(), "{name}");
    }
}
