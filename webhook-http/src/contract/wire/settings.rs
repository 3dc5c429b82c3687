//! Settings as requests change them.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use webhook_core::webhook::WebhookSettings;

/// Settings to change. Any may be left out, and `null` sets the default.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct SettingsPatch(pub(crate) Map<String, Value>);

impl JsonSchema for SettingsPatch {
    fn schema_name() -> Cow<'static, str> {
        "Settings".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let settings = SchemaSettings::draft2020_12().for_deserialize().with(|settings| {
            settings.inline_subschemas = true;
            settings.meta_schema = None;
        });
        let mut schema = settings.into_generator().into_root_schema_for::<WebhookSettings>();
        add_verify_token(&mut schema);
        let replaced = take_replaced(schema.ensure_object());
        make_optional(schema.ensure_object());
        put_back(replaced, schema.ensure_object());
        let description = "Settings to change. Any may be left out, and `null` sets the default.";
        schema.insert("description".to_owned(), description.into());
        schema
    }
}

/// Settings that a patch replaces as a whole, so their members are as optional as in a new webhook.
const REPLACED: [&str; 3] = ["verification", "idempotency_from", "conditions"];

/// Adds the one member that is taken and never returned, beside the preset that has it.
fn add_verify_token(schema: &mut Schema) {
    let alternatives = schema.pointer_mut("/properties/verification/anyOf/0/anyOf");
    let Some(alternatives) = alternatives.and_then(Value::as_array_mut) else { return };
    let description = "Text that Meta presents when it checks the URL. It is sealed, and never returned.";
    alternatives.push(json!({
        "type": "object",
        "description": "As Meta signs them.",
        "properties": {
            "preset": {"const": "meta"},
            "verify_token": {"type": "string", "description": description},
        },
        "required": ["preset"],
    }));
}

fn take_replaced(schema: &mut Map<String, Value>) -> Vec<(String, Value)> {
    let Some(members) = schema.get_mut("properties").and_then(Value::as_object_mut) else {
        return Vec::new();
    };
    REPLACED.iter().filter_map(|name| members.remove_entry(*name)).collect()
}

fn put_back(replaced: Vec<(String, Value)>, schema: &mut Map<String, Value>) {
    let Some(members) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return };
    for (name, mut member) in replaced {
        let_optional_be_null(&mut member);
        members.insert(name, member);
    }
}

/// Lets each member that is not required be `null`, in every form of a setting.
fn let_optional_be_null(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else { return };
    let required = schema.get("required").cloned().unwrap_or_default();
    let is_required =
        |name: &String| required.as_array().is_some_and(|names| names.iter().any(|it| it == name));
    for (name, member) in schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        let_optional_be_null(member);
        if let Some(member) = member.as_object_mut().filter(|_| !is_required(name)) {
            make_nullable(member);
        }
    }
    for name in ["anyOf", "oneOf", "allOf"] {
        for part in schema.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten() {
            let_optional_be_null(part);
        }
    }
    if let Some(items) = schema.get_mut("items") {
        let_optional_be_null(items);
    }
}

/// Lets each member of an object be left out or `null`, and so on within its members.
fn make_optional(schema: &mut Map<String, Value>) {
    schema.remove("required");
    schema.remove("title");
    for member in
        schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut)
    {
        if let Some(object) = member.as_object_mut() {
            make_optional(object);
            make_nullable(object);
        }
    }
    if let Some(object) = schema.get_mut("additionalProperties").and_then(Value::as_object_mut) {
        make_optional(object);
        make_nullable(object);
    }
    for alternative in schema.get_mut("anyOf").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(object) = alternative.as_object_mut() {
            make_optional(object);
        }
    }
}

fn make_nullable(schema: &mut Map<String, Value>) {
    let has_alternatives = schema.contains_key("anyOf");
    match schema.get_mut("type") {
        Some(Value::String(name)) => {
            let name = std::mem::take(name);
            schema.insert("type".to_owned(), Value::from(vec![name, "null".to_owned()]));
            if let Some(Value::Array(names)) = schema.get_mut("enum") {
                names.push(Value::Null);
            }
        }
        // It is nullable already.
        Some(_) => {}
        None if has_alternatives => {}
        None => {
            let description = schema.remove("description");
            let inner = Value::Object(std::mem::take(schema));
            schema.insert("anyOf".to_owned(), Value::from(vec![inner, json!({"type": "null"})]));
            if let Some(description) = description {
                schema.insert("description".to_owned(), description);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_may_be_left_out_or_null() {
        let mut schema = SchemaGenerator::default().into_root_schema_for::<SettingsPatch>();
        fn check(schema: &Map<String, Value>) {
            assert!(!schema.contains_key("required"), "{schema:?}");
            for (name, member) in schema["properties"].as_object().unwrap() {
                let one_of_types =
                    member["type"].as_array().is_some_and(|types| types.contains(&json!("null")));
                let nullable = json!([member["anyOf"][1]["type"], one_of_types]);
                assert!(nullable == json!(["null", false]) || one_of_types, "{name}: {member}");
                let object =
                    [member, &member["anyOf"][0]].into_iter().find(|it| it["properties"].is_object());
                if let Some(object) = object.filter(|_| !REPLACED.contains(&name.as_str())) {
                    check(object.as_object().unwrap());
                }
            }
        }
        check(schema.ensure_object());
    }

    /// Settings in which nothing is unset.
    fn full() -> WebhookSettings {
        let patch = json!({
            "label": "CI", "timeout_s": 1, "queue_limit": 1, "retention_days": 1, "keep_bodies_s": 1, "concurrency": {"max": 1},
            "rate_limit": {"per_minute": 1, "burst": 1},
            "notifications": {
                "email": {"recipients": ["a@example.com"], "on": ["success"]},
                "slack": {"channel": "#a", "on": ["failure"]},
            },
        });
        WebhookSettings::default().patched(&patch).unwrap()
    }

    /// Every setting that is no group, with the names of the groups around it and its schema.
    fn plain(schema: &Value, path: &[String], found: &mut Vec<(Vec<String>, Value)>) {
        let members = schema["properties"].as_object().or(schema["anyOf"][0]["properties"].as_object());
        let Some(members) = members else {
            let schema = if schema["anyOf"].is_array() { &schema["anyOf"][0] } else { schema };
            return found.push((path.to_vec(), schema.clone()));
        };
        for (name, member) in members {
            plain(member, &[path, std::slice::from_ref(name)].concat(), found);
        }
    }

    #[test]
    fn the_bounds_are_those_of_the_service() {
        let takes = |path: &[String], value: Value| {
            let patch = path.iter().rev().fold(value, |inner, name| json!({name: inner}));
            full().patched(&patch).is_ok()
        };
        let schema = SchemaGenerator::default().into_root_schema_for::<SettingsPatch>();
        let (mut settings, mut bounded) = (Vec::new(), 0);
        plain(schema.as_value(), &[], &mut settings);
        for (path, schema) in settings {
            if let (Some(least), Some(most)) = (schema["minimum"].as_f64(), schema["maximum"].as_f64()) {
                let is_whole = schema["type"] == json!(["integer", "null"]);
                let number = |number: f64| if is_whole { json!(number as i64) } else { json!(number) };
                let below = if is_whole { least - 1.0 } else { least - 0.000_5 };
                assert!(takes(&path, number(least)) && takes(&path, number(most)), "{path:?}");
                assert!(!takes(&path, number(below)) && !takes(&path, number(most + 1.0)), "{path:?}");
                bounded += 1;
            }
            if let Some(most) = schema["maxLength"].as_u64() {
                let text = |length: u64| json!("x".repeat(length as usize));
                assert!(takes(&path, text(most)) && !takes(&path, text(most + 1)), "{path:?}");
                bounded += 1;
            }
            if let Some(most) = schema["maxItems"].as_u64() {
                let item = |at: u64| match path[0].as_str() {
                    "conditions" => {
                        json!({"from": "body", "pointer": format!("/{at}"), "op": "exists", "value": true})
                    }
                    _ => json!(format!("a{at}@example.com")),
                };
                let items = |count| json!((0..count).map(item).collect::<Vec<_>>());
                assert!(takes(&path, items(most)) && !takes(&path, items(most + 1)), "{path:?}");
                assert!(!takes(&path, json!([])));
                bounded += 1;
            }
        }
        assert_eq!(bounded, 16);
    }
}
