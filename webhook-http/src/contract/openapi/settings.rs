//! The settings of a webhook: as they are asked for, where each may be left out and `null` means its default, and
//! as they are answered, where all are there.

use serde_json::{Map, Value, json};

use super::schemas::{channel_events, exact, maybe, text};

/// The longest duration that may be set: thirty days.
const LONGEST_SECONDS: u32 = 30 * 86_400;

struct Setting {
    name: &'static str,
    content: Content,
    /// Whether it may be without a value, which is `null` on the wire.
    may_be_unset: bool,
}

enum Content {
    Plain(Value),
    Group(Vec<Setting>),
}

/// The properties of a request that sets some of them.
pub(super) fn asked() -> Value {
    asked_of(&table())
}

/// The members of an answer.
pub(super) fn answered() -> Value {
    answered_of(&table())
}

fn asked_of(settings: &[Setting]) -> Value {
    let schema = |setting: &Setting| match &setting.content {
        Content::Plain(schema) => maybe(schema),
        Content::Group(inner) => {
            maybe(&json!({"type": "object", "properties": asked_of(inner), "additionalProperties": false}))
        }
    };
    by_name(settings, schema)
}

fn answered_of(settings: &[Setting]) -> Value {
    by_name(settings, |setting| {
        let schema = match &setting.content {
            Content::Plain(schema) => schema.clone(),
            Content::Group(inner) => exact(&answered_of(inner)),
        };
        if setting.may_be_unset { maybe(&schema) } else { schema }
    })
}

fn by_name(settings: &[Setting], schema: impl Fn(&Setting) -> Value) -> Value {
    let members: Map<String, Value> =
        settings.iter().map(|setting| (setting.name.to_owned(), schema(setting))).collect();
    Value::Object(members)
}

/// All settings with their bounds, which a test compares with what the service takes.
fn table() -> Vec<Setting> {
    let flag = || json!({"type": "boolean"});
    let whole = |most: u32| json!({"type": "integer", "minimum": 1, "maximum": most});
    let number = |least: f64, most: u32| json!({"type": "number", "minimum": least, "maximum": most});
    let label = json!({"type": "string", "maxLength": 200});
    let overlap = json!({"enum": ["queue", "skip", "replace", "coalesce"]});
    let recipients = json!({"type": "array", "minItems": 1, "maxItems": 50, "items": text()});
    let channel = json!({"type": "string", "minLength": 1, "maxLength": 100});
    vec![
        unset("label", label),
        set("enabled", flag()),
        set("allow_get", flag()),
        set("strict", flag()),
        unset("timeout_s", number(0.001, LONGEST_SECONDS)),
        unset("queue_limit", whole(1_000_000)),
        unset("retention_days", whole(3_650)),
        group(
            "retries",
            vec![
                set("max_attempts", whole(100)),
                set("base_s", number(0.0, LONGEST_SECONDS)),
                set("factor", number(1.0, 100)),
                set("cap_s", number(0.0, LONGEST_SECONDS)),
                set("jitter", number(0.0, 1)),
            ],
        ),
        group("concurrency", vec![unset("max", whole(10_000)), set("on_overlap", overlap)]),
        unset_group("rate_limit", vec![set("per_minute", whole(1_000_000)), set("burst", whole(1_000_000))]),
        group(
            "notifications",
            vec![
                unset_group("email", vec![set("recipients", recipients), set("on", channel_events())]),
                unset_group("slack", vec![set("channel", channel), set("on", channel_events())]),
            ],
        ),
    ]
}

fn set(name: &'static str, schema: Value) -> Setting {
    Setting { name, content: Content::Plain(schema), may_be_unset: false }
}

fn unset(name: &'static str, schema: Value) -> Setting {
    Setting { may_be_unset: true, ..set(name, schema) }
}

fn group(name: &'static str, inner: Vec<Setting>) -> Setting {
    Setting { name, content: Content::Group(inner), may_be_unset: false }
}

fn unset_group(name: &'static str, inner: Vec<Setting>) -> Setting {
    Setting { may_be_unset: true, ..group(name, inner) }
}

#[cfg(test)]
mod tests {
    use webhook_core::webhook::WebhookSettings;

    use super::*;

    /// Settings in which nothing is unset.
    fn full() -> WebhookSettings {
        let patch = json!({
            "label": "CI", "timeout_s": 1, "queue_limit": 1, "retention_days": 1, "concurrency": {"max": 1},
            "rate_limit": {"per_minute": 1, "burst": 1},
            "notifications": {
                "email": {"recipients": ["a@example.com"], "on": ["success"]},
                "slack": {"channel": "#a", "on": ["failure"]},
            },
        });
        WebhookSettings::default().patched(&patch).unwrap()
    }

    /// Every plain setting with the names of the groups it stands in.
    fn plain(settings: Vec<Setting>, above: &[&'static str]) -> Vec<(Vec<&'static str>, Value)> {
        let each = settings.into_iter().flat_map(|setting| {
            let path = [above, &[setting.name]].concat();
            match setting.content {
                Content::Plain(schema) => vec![(path, schema)],
                Content::Group(inner) => plain(inner, &path),
            }
        });
        each.collect()
    }

    fn takes(path: &[&str], value: Value) -> bool {
        let patch = path.iter().rev().fold(value, |inner, name| json!({*name: inner}));
        full().patched(&patch).is_ok()
    }

    #[test]
    fn the_settings_are_those_of_the_service() {
        let wire = serde_json::to_value(full()).unwrap();
        let described = plain(table(), &[]);
        for (path, _) in &described {
            let value = path.iter().fold(&wire, |value, name| &value[*name]);
            assert!(!value.is_null(), "{path:?} is no setting");
        }
        fn leaves(value: &Value) -> usize {
            value.as_object().map_or(1, |members| members.values().map(leaves).sum())
        }
        assert_eq!(described.len(), leaves(&wire), "{described:?}");
    }

    #[test]
    fn the_bounds_are_those_of_the_service() {
        for (path, schema) in plain(table(), &[]) {
            if let (Some(least), Some(most)) = (schema["minimum"].as_f64(), schema["maximum"].as_f64()) {
                let number = |number: f64| match schema["type"].as_str() {
                    Some("integer") => json!(number as i64),
                    _ => json!(number),
                };
                assert!(takes(&path, number(least)) && takes(&path, number(most)), "{path:?}");
                let below = if schema["type"] == "integer" { least - 1.0 } else { least - 0.000_5 };
                assert!(!takes(&path, number(below)) && !takes(&path, number(most + 1.0)), "{path:?}");
            }
            if let Some(most) = schema["maxLength"].as_u64() {
                let text = |length: u64| json!("x".repeat(length as usize));
                assert!(takes(&path, text(most)) && !takes(&path, text(most + 1)), "{path:?}");
            }
            if let Some(most) = schema["maxItems"].as_u64() {
                let addresses =
                    |count| (0..count).map(|number| format!("a{number}@example.com")).collect::<Vec<_>>();
                assert!(takes(&path, json!(addresses(most))) && !takes(&path, json!(addresses(most + 1))));
                assert!(!takes(&path, json!([])));
            }
            for name in schema["enum"].as_array().into_iter().flatten() {
                assert!(takes(&path, name.clone()), "{path:?}");
            }
        }
    }
}
