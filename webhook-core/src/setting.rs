//! Settings that people send: parsing an object of them, and what may be wrong with each.

use std::borrow::Cow;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::listed;
use crate::token::mask_tokens;

/// Most bytes in the name of a header.
const HEADER_BYTES: usize = 128;

/// Problem of one setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[error("{field}: {message}")]
#[non_exhaustive]
pub struct SettingProblem {
    /// Name of the setting, with dots between levels, such as `retries.max_attempts`.
    pub field: String,
    /// Kind of the problem, stable for programs.
    pub code: SettingCode,
    /// The problem and its remedy, in words for people.
    pub message: String,
}

/// Error: settings cannot be used. The list of their problems is complete.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("these settings cannot be used: {}", listed(.problems.iter().map(SettingProblem::to_string)))]
#[non_exhaustive]
pub struct InvalidSettings {
    /// The problems, each with its field.
    pub problems: Vec<SettingProblem>,
}

impl InvalidSettings {
    pub(crate) fn new(problems: Vec<SettingProblem>) -> Self {
        Self { problems }
    }
}

/// Kind of a [`SettingProblem`]. Its text on the wire is snake_case, such as `out_of_range`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SettingCode {
    /// The field is required and was not given.
    Required,
    /// The field may be given only once.
    Repeated,
    /// There is no field, or no value, of this name.
    Unknown,
    /// The value has another JSON type.
    WrongType,
    /// The value is too small, too large or too long.
    OutOfRange,
    /// The value has the right type but an invalid form.
    Invalid,
    /// The text contains a webhook's token, which everyone who sees the settings would see.
    ContainsToken,
    /// The sample has nothing at this place.
    NotInSample,
    /// The server has no notifier for this channel.
    IntegrationMissing,
    /// The server has no token key to seal a secret. Only the operator can correct that.
    NoTokenKey,
}

impl SettingProblem {
    /// Creates a problem of `field`. Tokens in the caller's texts are masked.
    #[must_use]
    pub fn new(field: impl Into<String>, code: SettingCode, message: impl Into<String>) -> Self {
        let masked = |text: String| mask_tokens(&text).into_owned();
        Self { field: masked(field.into()), code, message: masked(message.into()) }
    }
}

/// Object of settings from which fields are taken. The remaining fields are unknown.
pub(crate) struct SettingsForm<'a> {
    prefix: Cow<'static, str>,
    fields: Map<String, Value>,
    problems: &'a mut Vec<SettingProblem>,
}

impl<'a> SettingsForm<'a> {
    pub(crate) fn new(
        prefix: impl Into<Cow<'static, str>>,
        value: Value,
        problems: &'a mut Vec<SettingProblem>,
    ) -> Self {
        let prefix = prefix.into();
        let fields = match value {
            Value::Object(fields) => fields,
            _ => {
                let field = prefix.trim_end_matches('.');
                problems.push(SettingProblem::new(field, SettingCode::WrongType, "an object is expected"));
                Map::new()
            }
        };
        Self { prefix, fields, problems }
    }

    /// Returns the problems found so far, for parsers of inner objects.
    pub(crate) fn problems(&mut self) -> &mut Vec<SettingProblem> {
        self.problems
    }

    pub(crate) fn problem(&mut self, name: &str, code: SettingCode, message: String) {
        self.problems.push(SettingProblem::new(format!("{}{name}", self.prefix), code, message));
    }

    pub(crate) fn inner(&mut self, name: &str) -> Option<Value> {
        self.fields.remove(name).filter(|value| !value.is_null())
    }

    /// Takes the remaining fields whose names are of a form, unless they are `null`.
    pub(crate) fn named<T: FromStr>(&mut self) -> Vec<(T, Value)> {
        let parsed = |name: &String| Some((name.parse::<T>().ok()?, name.clone()));
        let names: Vec<_> = self.fields.keys().filter_map(parsed).collect();
        names.into_iter().filter_map(|(parsed, name)| Some((parsed, self.inner(&name)?))).collect()
    }

    pub(crate) fn take<T: DeserializeOwned>(&mut self, name: &str, expected: &str) -> Option<T> {
        let value = self.inner(name)?;
        let read = serde_json::from_value(value).ok();
        if read.is_none() {
            self.problem(name, SettingCode::WrongType, format!("{expected} is expected"));
        }
        read
    }

    pub(crate) fn optional(&mut self, name: &str, expected: &str) -> Option<String> {
        self.take(name, expected)
    }

    /// Takes a field that must be given.
    pub(crate) fn required<T: DeserializeOwned>(&mut self, name: &str, expected: &str) -> Option<T> {
        if self.fields.get(name).is_none_or(Value::is_null) {
            self.fields.remove(name);
            self.problem(name, SettingCode::Required, format!("{expected} is needed"));
            return None;
        }
        self.take(name, expected)
    }

    /// Takes the name of a header, which must be given.
    pub(crate) fn header(&mut self, name: &str) -> Option<String> {
        let header = self.required(name, "the name of a header")?;
        self.checked_header(name, header)
    }

    /// Takes the name of a header, if it is given.
    pub(crate) fn optional_header(&mut self, name: &str) -> Option<String> {
        let header = self.optional(name, "the name of a header")?;
        self.checked_header(name, header)
    }

    fn checked_header(&mut self, name: &str, header: String) -> Option<String> {
        // RFC 9110 section 5.6.2.
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if (1..=HEADER_BYTES).contains(&header.len()) && header.bytes().all(is_token) {
            return Some(header);
        }
        self.problem(
            name,
            SettingCode::Invalid,
            "the name of a header, such as X-Event, is expected".to_owned(),
        );
        None
    }

    /// Returns whether a problem with this field was found.
    pub(crate) fn has_problem(&self, name: &str) -> bool {
        let field = format!("{}{name}", self.prefix);
        self.problems.iter().any(|problem| problem.field == field)
    }

    pub(crate) fn number(&mut self, name: &str, (least, most): (f64, f64)) -> Option<f64> {
        let number: f64 = self.take(name, "a number")?;
        if (least..=most).contains(&number) {
            return Some(number);
        }
        self.problem(name, SettingCode::OutOfRange, format!("a number from {least} to {most} is expected"));
        None
    }

    pub(crate) fn whole(&mut self, name: &str, (least, most): (u32, u32)) -> Option<u32> {
        let number: i64 = self.take(name, "a whole number")?;
        match u32::try_from(number) {
            Ok(number) if (least..=most).contains(&number) => Some(number),
            _ => {
                self.problem(
                    name,
                    SettingCode::OutOfRange,
                    format!("a whole number from {least} to {most} is expected"),
                );
                None
            }
        }
    }

    pub(crate) fn seconds(&mut self, name: &str, bounds: (f64, f64)) -> Option<Duration> {
        self.number(name, bounds).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    }

    pub(crate) fn refuse_the_rest(self) {
        for name in self.fields.keys() {
            let field = format!("{}{name}", self.prefix);
            self.problems.push(SettingProblem::new(field, SettingCode::Unknown, "there is no such setting"));
        }
    }
}
