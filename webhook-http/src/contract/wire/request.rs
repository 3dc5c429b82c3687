//! Bodies of management requests. Each is parsed leniently, so that all its problems are named at once.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use webhook_core::id::{DeliveryId, WorkflowKey};
use webhook_core::notifier::DeliveryState;
use webhook_core::webhook::{Channel, SettingCode, SettingProblem, WebhookSettings};

use crate::contract::fields;
use crate::contract::wire::settings::SettingsPatch;

const NO_SUCH_FIELD: &str = "there is no such field";

/// A member of a request. `null` counts as omitted.
#[derive(Debug, Default, PartialEq)]
pub(super) enum Member<T> {
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
    pub(super) fn take(
        self,
        problem: impl FnOnce() -> SettingProblem,
        problems: &mut Vec<SettingProblem>,
    ) -> Option<T> {
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
pub(super) type Unknown = Map<String, Value>;

pub(super) fn refuse(unknown: &Unknown, prefix: &str, problems: &mut Vec<SettingProblem>) {
    for name in unknown.keys() {
        problems.push(SettingProblem::new(format!("{prefix}{name}"), SettingCode::Unknown, NO_SUCH_FIELD));
    }
}

pub(super) fn found<T>(value: T, problems: Vec<SettingProblem>) -> Result<T, Vec<SettingProblem>> {
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
    pub(crate) fn read(self) -> Result<(WorkflowKey, Value), Vec<SettingProblem>> {
        let workflow = workflow(self.workflow);
        let patch = Value::Object(self.settings.0);
        match (workflow, WebhookSettings::default().patched(&patch)) {
            (Ok(workflow), Ok(_)) => Ok((workflow, patch)),
            (workflow, settings) => {
                let mut problems = workflow.err().unwrap_or_default();
                problems.extend(settings.err().map(|invalid| invalid.problems).unwrap_or_default());
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
        let expected = Resend { state, channel: Some(Channel::SLACK), before: None, dry_run: true };
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
        let (workflow, patch) =
            new(json!({"workflow": {"kind": "report", "id": "sales"}, "label": "CI"})).unwrap();
        assert_eq!((workflow.to_string().as_str(), patch), ("report/sales", json!({"label": "CI"})));
    }

    #[test]
    fn the_parameters_of_a_run_are_an_object_and_nothing_else_is_taken() {
        let run = |given| read::<NewRun>(given).read();
        assert_eq!(run(json!({})).unwrap(), Map::new());
        assert_eq!(named(run(json!({"parameters": [], "more": 1}))), ["parameters"]);
        assert_eq!(named(run(json!({"parameters": null, "more": 1, "other": 2}))), ["more", "other"]);
        assert_eq!(named(read::<NoFields>(json!({"more": 1})).check()), ["more"]);
    }
}
