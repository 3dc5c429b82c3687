//! Reading the settings as a person gives them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::condition::{CONDITIONS, Condition, Conditions, Test};
use super::event_key::KeySource;
use super::pattern::Pattern;
use super::rule::MappingRule;
use super::selector::Selector;
use crate::parameters::{Pointer, can_be_stored, is_parameter_name};
use crate::setting::{SettingCode, SettingProblem, SettingsForm};

/// Upper bounds on what a webhook may set.
const ALTERNATIVES: usize = 64;
const RULES: usize = 64;
const FIXED: usize = 64;
/// Most bytes of the JSON text of one value, and of all fixed values.
const VALUE_BYTES: usize = 4 << 10;
const FIXED_BYTES: usize = 32 << 10;
/// Most bytes of a query parameter's name.
const NAME_BYTES: usize = 128;

/// Headers that hold the secrets of callers.
pub(crate) const SECRET_HEADERS: [&str; 3] = ["authorization", "proxy-authorization", "cookie"];

impl Conditions {
    /// Reads the setting, and names every problem in it.
    pub(crate) fn read(value: Value, problems: &mut Vec<SettingProblem>) -> Self {
        let mut form = SettingsForm::new("conditions.", value, problems);
        let items: Vec<Value> = form.required("all", "a list of conditions").unwrap_or_default();
        check_count(&mut form, "all", items.len(), 1, CONDITIONS);
        form.refuse_the_rest();
        let mut all = Vec::new();
        for (index, item) in items.into_iter().take(CONDITIONS).enumerate() {
            all.extend(read_condition(format!("conditions.all[{index}]."), item, problems));
        }
        Self { all }
    }
}

fn read_condition(prefix: String, value: Value, problems: &mut Vec<SettingProblem>) -> Option<Condition> {
    let mut form = SettingsForm::new(prefix, value, problems);
    let selector = read_selector(&mut form, &["body", "header", "query"]);
    let op: Option<String> = form.required("op", "equals, one_of, matches, exists or not_equals");
    let test = match op.as_deref() {
        Some("equals") => read_value(&mut form, selector.as_ref()).map(Test::Equals),
        Some("not_equals") => read_value(&mut form, selector.as_ref()).map(Test::NotEquals),
        Some("one_of") => read_values(&mut form, selector.as_ref()).map(Test::OneOf),
        Some("exists") => form.required("value", "true or false").map(Test::Exists),
        Some("matches") => {
            let text: Option<String> = form.required("value", "a regular expression");
            text.and_then(|text| match Pattern::new(text) {
                Ok(pattern) => Some(Test::Matches(pattern)),
                Err(error) => {
                    form.problem("value", SettingCode::Invalid, error.to_string());
                    None
                }
            })
        }
        Some(_) => {
            let message = "equals, one_of, matches, exists or not_equals is expected";
            form.problem("op", SettingCode::Invalid, message.to_owned());
            form.inner("value");
            None
        }
        None => {
            form.inner("value");
            None
        }
    };
    form.refuse_the_rest();
    Some(Condition { selector: selector?, test: test? })
}

/// A value to compare with. What stands in a header or query is a text, so nothing else could be equal.
fn read_value(form: &mut SettingsForm<'_>, selector: Option<&Selector>) -> Option<Value> {
    let value: Value = form.required("value", "a value")?;
    check_value(form, selector, &value).then_some(value)
}

fn read_values(form: &mut SettingsForm<'_>, selector: Option<&Selector>) -> Option<Vec<Value>> {
    let values: Vec<Value> = form.required("value", "a list of values")?;
    let fits = check_count(form, "value", values.len(), 1, ALTERNATIVES);
    (fits && values.iter().all(|value| check_value(form, selector, value))).then_some(values)
}

fn check_value(form: &mut SettingsForm<'_>, selector: Option<&Selector>, value: &Value) -> bool {
    if matches!(selector, Some(Selector::Header { .. } | Selector::Query { .. })) && !value.is_string() {
        form.problem(
            "value",
            SettingCode::WrongType,
            "a text is expected: headers and queries hold texts".to_owned(),
        );
        return false;
    }
    check_size(form, "value", value)
}

fn check_size(form: &mut SettingsForm<'_>, name: &str, value: &Value) -> bool {
    let fits = can_be_stored(value) && value.to_string().len() <= VALUE_BYTES;
    if !fits {
        form.problem(
            name,
            SettingCode::OutOfRange,
            format!("at most {VALUE_BYTES} bytes of JSON are expected"),
        );
    }
    fits
}

fn check_count(form: &mut SettingsForm<'_>, name: &str, count: usize, least: usize, most: usize) -> bool {
    let fits = (least..=most).contains(&count) || form.has_problem(name);
    if !fits {
        form.problem(name, SettingCode::OutOfRange, format!("{least} to {most} items are expected"));
    }
    fits
}

/// Takes `from`, and `pointer` or `name` with it.
fn read_selector(form: &mut SettingsForm<'_>, allowed: &[&str]) -> Option<Selector> {
    let expected = allowed.join(", ");
    let from: String = form.required("from", &format!("one of {expected}"))?;
    match from.as_str() {
        other if !allowed.contains(&other) => {
            form.problem("from", SettingCode::Invalid, format!("one of {expected} is expected"));
            form.inner("name");
            form.inner("pointer");
            None
        }
        "body" => {
            let text: String = form.required("pointer", "a JSON Pointer such as /repository/full_name")?;
            match text.parse::<Pointer>() {
                Ok(pointer) => Some(Selector::Body { pointer }),
                Err(error) => {
                    form.problem("pointer", SettingCode::Invalid, error.to_string());
                    None
                }
            }
        }
        "header" => {
            let name = form.header("name")?;
            if SECRET_HEADERS.iter().any(|secret| secret.eq_ignore_ascii_case(&name)) {
                let message =
                    format!("the header {name} holds a secret of the caller, which must not be kept");
                form.problem("name", SettingCode::Invalid, message);
                return None;
            }
            Some(Selector::Header { name })
        }
        "query" => {
            let name: String = form.required("name", "the name of a query parameter")?;
            if name == "token" {
                let message = "the token is taken out of the query before anything else sees it";
                form.problem("name", SettingCode::Invalid, message.to_owned());
                return None;
            }
            check_count(form, "name", name.len(), 1, NAME_BYTES).then_some(Selector::Query { name })
        }
        "method" => Some(Selector::Method),
        _ => Some(Selector::RawBody),
    }
}

impl MappingRule {
    /// Reads the setting `mapping`, and names every problem in it.
    pub(crate) fn read_all(value: Value, problems: &mut Vec<SettingProblem>) -> Vec<Self> {
        let Value::Array(items) = value else {
            problems.push(SettingProblem::new("mapping", SettingCode::WrongType, "a list is expected"));
            return Vec::new();
        };
        if items.len() > RULES {
            let message = format!("at most {RULES} items are expected");
            problems.push(SettingProblem::new("mapping", SettingCode::OutOfRange, message));
        }
        let mut names = BTreeSet::new();
        let mut rules = Vec::new();
        for (index, item) in items.into_iter().take(RULES).enumerate() {
            let Some(rule) = read_rule(format!("mapping[{index}]."), item, problems) else { continue };
            if names.insert(rule.parameter.clone()) {
                rules.push(rule);
            } else {
                let field = format!("mapping[{index}].parameter");
                problems.push(SettingProblem::new(field, SettingCode::Repeated, "it is mapped twice"));
            }
        }
        rules
    }
}

fn read_rule(prefix: String, value: Value, problems: &mut Vec<SettingProblem>) -> Option<MappingRule> {
    let mut form = SettingsForm::new(prefix, value, problems);
    let parameter: Option<String> = form.required("parameter", "the name of a parameter");
    if parameter.as_deref().is_some_and(|name| !is_parameter_name(name)) {
        form.problem("parameter", SettingCode::Invalid, "a name of 1 to 128 bytes is expected".to_owned());
    }
    let selector = read_selector(&mut form, &["body", "header", "query", "method", "raw_body"]);
    let default = form.inner("default").filter(|default| check_size(&mut form, "default", default));
    form.refuse_the_rest();
    Some(MappingRule { parameter: parameter?, selector: selector?, default })
}

impl KeySource {
    /// Reads the setting, and names every problem in it.
    pub(crate) fn read(value: Value, problems: &mut Vec<SettingProblem>) -> Option<Self> {
        let mut form = SettingsForm::new("idempotency_from.", value, problems);
        let selector = read_selector(&mut form, &["body", "header"]);
        form.refuse_the_rest();
        selector.map(Self)
    }
}

/// Reads the setting `fixed`, and names every problem in it.
pub(crate) fn read_fixed(value: Value, problems: &mut Vec<SettingProblem>) -> BTreeMap<String, Value> {
    let mut invalid = |field: &str, code, message: String| {
        problems.push(SettingProblem::new(field, code, message));
    };
    let Value::Object(members) = value else {
        invalid("fixed", SettingCode::WrongType, "an object of names and values is expected".to_owned());
        return BTreeMap::new();
    };
    if members.len() > FIXED {
        invalid("fixed", SettingCode::OutOfRange, format!("at most {FIXED} members are expected"));
    }
    for (name, value) in &members {
        let field = format!("fixed.{name}");
        if !is_parameter_name(name) {
            invalid(&field, SettingCode::Invalid, "a name of 1 to 128 bytes is expected".to_owned());
        } else if !can_be_stored(value) {
            invalid(&field, SettingCode::OutOfRange, "it is nested too deeply".to_owned());
        }
    }
    let bytes: usize = members.iter().map(|(name, value)| name.len() + value.to_string().len()).sum();
    if bytes > FIXED_BYTES {
        invalid(
            "fixed",
            SettingCode::OutOfRange,
            format!("at most {FIXED_BYTES} bytes of JSON are expected"),
        );
    }
    // In a patch, null takes a member away.
    members.into_iter().filter(|(_, value)| !value.is_null()).collect()
}
