//! Bodies of management requests. Each is parsed leniently, so that all its problems are named at once.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use webhook_core::id::{DeliveryId, WorkflowKey};
use webhook_core::notifier::DeliveryState;
use webhook_core::webhook::{Channel, SettingCode, SettingProblem, WebhookSettings};

use crate::contract::fields;

const NO_SUCH_FIELD: &str = "there is no such field";

/// A member of a request. `null` counts as omitted.
#[derive(Debug, Default, PartialEq)]
enum Member<T> {
    #[default]
    Absent,
    Value(T),
    /// Another JSON type, or a value that is not well-formed.
    Wrong,
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Member<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Value::deserialize(deserializer)? {
            Value::Null => Self::Absent,
            value => serde_json::from_value(value).map_or(Self::Wrong, Self::Value),
        })
    }
}

impl<T> Member<T> {
    /// Returns the value, and reports a wrong one as a problem.
    fn take(self, problem: impl FnOnce() -> SettingProblem, problems: &mut Vec<SettingProblem>) -> Option<T> {
        match self {
            Self::Absent => None,
            Self::Value(value) => Some(value),
            Self::Wrong => {
                problems.push(problem());
                None
            }
        }
    }
}

/// Members that a request does not have.
type Unknown = Map<String, Value>;

fn refuse(unknown: &Unknown, prefix: &str, problems: &mut Vec<SettingProblem>) {
    for name in unknown.keys() {
        problems.push(SettingProblem::new(format!("{prefix}{name}"), SettingCode::Unknown, NO_SUCH_FIELD));
    }
}

fn found<T>(value: T, problems: Vec<SettingProblem>) -> Result<T, Vec<SettingProblem>> {
    if problems.is_empty() { Ok(value) } else { Err(problems) }
}

/// Body of an operation that takes no fields.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "Empty", deny_unknown_fields)]
pub(crate) struct NoFields {
    #[serde(flatten)]
    #[schemars(skip)]
    unknown: Unknown,
}

impl NoFields {
    /// # Errors
    /// A problem for each member.
    pub(crate) fn check(self) -> Result<(), Vec<SettingProblem>> {
        let mut problems = Vec::new();
        refuse(&self.unknown, "", &mut problems);
        found((), problems)
    }
}

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
        make_optional(schema.ensure_object());
        let description = "Settings to change. Any may be left out, and `null` sets the default.";
        schema.insert("description".to_owned(), description.into());
        schema
    }
}

/// Allows each member of an object to be omitted or `null`, recursively.
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
            schema.insert("anyOf".to_owned(), Value::from(vec![inner, serde_json::json!({"type": "null"})]));
            if let Some(description) = description {
                schema.insert("description".to_owned(), description);
            }
        }
    }
}

/// A webhook to make: its workflow and any settings.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct NewWebhook {
    #[serde(default)]
    #[schemars(with = "WorkflowKey", !default)]
    workflow: Member<Value>,
    #[serde(flatten)]
    settings: SettingsPatch,
}

impl NewWebhook {
    /// # Errors
    /// All problems of the workflow and of the settings.
    pub(crate) fn read(self) -> Result<(WorkflowKey, WebhookSettings), Vec<SettingProblem>> {
        let workflow = workflow(self.workflow);
        let settings = WebhookSettings::default().patched(&Value::Object(self.settings.0));
        match (workflow, settings) {
            (Ok(workflow), Ok(settings)) => Ok((workflow, settings)),
            (workflow, settings) => {
                let mut problems = workflow.err().unwrap_or_default();
                problems.extend(settings.err().unwrap_or_default());
                Err(problems)
            }
        }
    }
}

fn workflow(given: Member<Value>) -> Result<WorkflowKey, Vec<SettingProblem>> {
    let form = "an object with kind and id, such as {\"kind\": \"report\", \"id\": \"sales\"}, is expected";
    let problem = |code| vec![SettingProblem::new("workflow", code, form)];
    match given {
        Member::Value(Value::Object(given)) => {
            let unknown = given.iter().filter(|(name, _)| !["kind", "id"].contains(&name.as_str()));
            let unknown: Unknown = unknown.map(|(name, value)| (name.clone(), value.clone())).collect();
            let mut problems = Vec::new();
            refuse(&unknown, "workflow.", &mut problems);
            found((), problems)?;
            serde_json::from_value(Value::Object(given)).map_err(|_| problem(SettingCode::Invalid))
        }
        Member::Absent => Err(problem(SettingCode::Required)),
        Member::Value(_) | Member::Wrong => Err(problem(SettingCode::WrongType)),
    }
}

/// A run to start by hand.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct NewRun {
    /// Values that override the workflow's parameter blocks.
    #[serde(default)]
    #[schemars(with = "Option<Map<String, Value>>")]
    parameters: Member<Map<String, Value>>,
    #[serde(flatten)]
    #[schemars(skip)]
    unknown: Unknown,
}

impl NewRun {
    /// # Errors
    /// A problem for parameters that are not an object; otherwise one for each unknown member.
    pub(crate) fn read(self) -> Result<Map<String, Value>, Vec<SettingProblem>> {
        let mut problems = Vec::new();
        let message = "an object of names and values is expected";
        let problem = || SettingProblem::new("parameters", SettingCode::WrongType, message);
        let parameters = self.parameters.take(problem, &mut problems);
        let parameters = found(parameters, problems)?;
        let mut problems = Vec::new();
        refuse(&self.unknown, "", &mut problems);
        found(parameters.unwrap_or_default(), problems)
    }
}

/// Notifications to send again.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct ResendDeliveries {
    #[serde(default)]
    #[schemars(with = "DeliveryFilter", !default)]
    filter: Member<DeliveryFilter>,
    /// Counts them and sends nothing.
    #[serde(default)]
    #[schemars(with = "Option<bool>")]
    dry_run: Member<bool>,
    /// The `next_cursor` of the call before.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    cursor: Member<DeliveryId>,
    #[serde(flatten)]
    #[schemars(skip)]
    unknown: Unknown,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields, inline)]
struct DeliveryFilter {
    #[serde(default)]
    #[schemars(with = "DeliveryState", !default)]
    state: Member<DeliveryState>,
    #[serde(default)]
    #[schemars(with = "Option<Channel>")]
    channel: Member<Channel>,
    #[serde(flatten)]
    #[schemars(skip)]
    unknown: Unknown,
}

/// Requested notifications, as a query of the store.
#[derive(Debug, PartialEq)]
pub(crate) struct Resend {
    pub(crate) state: DeliveryState,
    pub(crate) channel: Option<Channel>,
    pub(crate) before: Option<DeliveryId>,
    pub(crate) dry_run: bool,
}

impl ResendDeliveries {
    /// # Errors
    /// All problems at once.
    pub(crate) fn read(self) -> Result<Resend, Vec<SettingProblem>> {
        let mut problems = Vec::new();
        let invalid = |field: &'static str, expected: String| {
            move || SettingProblem::new(field, SettingCode::Invalid, format!("{expected} is expected"))
        };
        let filter = match self.filter {
            Member::Value(filter) => filter,
            Member::Absent | Member::Wrong => {
                let form = "an object such as {\"state\": \"given_up\"}";
                problems.push(SettingProblem::new("filter", SettingCode::Required, form));
                DeliveryFilter::default()
            }
        };
        let states = fields::delivery_states();
        let state = filter.state.take(invalid("filter.state", states.clone()), &mut problems);
        let channel = filter.channel.take(invalid("filter.channel", fields::channels()), &mut problems);
        if state.is_none() && problems.is_empty() {
            let message = format!("{states} is needed, so that nobody is told twice by mistake");
            problems.push(SettingProblem::new("filter.state", SettingCode::Required, message));
        }
        let cursor = "a cursor that was given out here".to_owned();
        let before = self.cursor.take(invalid("cursor", cursor), &mut problems);
        let boolean = || SettingProblem::new("dry_run", SettingCode::WrongType, "true or false is expected");
        let dry_run = self.dry_run.take(boolean, &mut problems).unwrap_or(false);
        refuse(&filter.unknown, "filter.", &mut problems);
        refuse(&self.unknown, "", &mut problems);
        // Without a state there is a problem.
        let state = state.unwrap_or(DeliveryState::GivenUp);
        found(Resend { state, channel, before, dry_run }, problems)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read<T: DeserializeOwned>(given: Value) -> T {
        serde_json::from_value(given).unwrap()
    }

    fn named<T: std::fmt::Debug>(read: Result<T, Vec<SettingProblem>>) -> Vec<String> {
        read.unwrap_err().into_iter().map(|problem| problem.field).collect()
    }

    fn resend(given: Value) -> Result<Resend, Vec<SettingProblem>> {
        read::<ResendDeliveries>(given).read()
    }

    #[test]
    fn a_filter_names_a_state_and_nothing_unknown() {
        assert_eq!(named(resend(json!({}))), ["filter"]);
        assert_eq!(named(resend(json!({"filter": 7}))), ["filter"]);
        assert_eq!(named(resend(json!({"filter": {}}))), ["filter.state"]);
        assert_eq!(named(resend(json!({"filter": {"channel": "email"}}))), ["filter.state"]);
        let wrong = json!({
            "filter": {"state": "lost", "channel": 5, "run": null}, "dry_run": 1, "cursor": "x", "y": null,
        });
        let expected = ["filter.state", "filter.channel", "cursor", "dry_run", "filter.run", "y"];
        assert_eq!(named(resend(wrong)), expected);
        let given =
            json!({"filter": {"state": "given_up", "channel": "slack"}, "dry_run": true, "cursor": null});
        let state = DeliveryState::GivenUp;
        let expected = Resend { state, channel: Some(Channel::Slack), before: None, dry_run: true };
        assert_eq!(resend(given), Ok(expected));
    }

    #[test]
    fn a_webhook_needs_a_workflow_and_all_that_is_wrong_is_named() {
        let new = |given| read::<NewWebhook>(given).read();
        assert_eq!(named(new(json!({"label": 7}))), ["workflow", "label"]);
        for wrong in [json!("report/sales"), json!({"kind": "report"})] {
            assert_eq!(named(new(json!({"workflow": wrong}))), ["workflow"]);
        }
        let more = json!({"workflow": {"kind": "report", "id": "sales", "name": "Sales"}});
        assert_eq!(named(new(more)), ["workflow.name"]);
        let (workflow, settings) =
            new(json!({"workflow": {"kind": "report", "id": "sales"}, "label": "CI"})).unwrap();
        assert_eq!((workflow.to_string().as_str(), settings.label.as_deref()), ("report/sales", Some("CI")));
    }

    #[test]
    fn the_parameters_of_a_run_are_an_object_and_nothing_else_is_taken() {
        let run = |given| read::<NewRun>(given).read();
        assert_eq!(run(json!({})).unwrap(), Map::new());
        assert_eq!(named(run(json!({"parameters": [], "more": 1}))), ["parameters"]);
        assert_eq!(named(run(json!({"parameters": null, "more": 1, "other": 2}))), ["more", "other"]);
        assert_eq!(named(read::<NoFields>(json!({"more": 1})).check()), ["more"]);
    }

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
                if let Some(object) = object {
                    check(object.as_object().unwrap());
                }
            }
        }
        check(schema.ensure_object());
    }

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
                let addresses =
                    |count| json!((0..count).map(|at| format!("a{at}@example.com")).collect::<Vec<_>>());
                assert!(takes(&path, addresses(most)) && !takes(&path, addresses(most + 1)));
                assert!(!takes(&path, json!([])));
                bounded += 1;
            }
        }
        assert_eq!(bounded, 14);
    }
}
