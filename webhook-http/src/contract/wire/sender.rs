//! Secrets of senders, samples of their calls, and answers to calls that start no run.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use webhook_core::id::SecretId;
use webhook_core::intake::Method;
use webhook_core::manage::{AddedSecret, CallPreview, SampleCall};
use webhook_core::mapping::Condition;
use webhook_core::parameters::{EffectiveParameters, ParameterWarning};
use webhook_core::secret::{SealedSecret, Secret};
use webhook_core::webhook::{SettingCode, SettingProblem};

use crate::contract::wire::problem::ErrorItem;
use crate::contract::wire::request::{Member, Unknown, found, refuse};
use crate::contract::wire::run::ParameterView;
use crate::contract::wire::value::Timestamp;

/// A call that does not meet a condition of its webhook.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Ignored<'a> {
    #[schemars(extend("const" = "ignored"))]
    status: &'static str,
    /// The first condition that is not met.
    condition: &'a Condition,
}

impl<'a> Ignored<'a> {
    pub(crate) fn new(condition: &'a Condition) -> Self {
        Self { status: "ignored", condition }
    }
}

/// The answer to a sender that checks the URL.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Handshake<'a> {
    /// To GitHub.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a str>,
    /// To Slack.
    #[serde(skip_serializing_if = "Option::is_none")]
    challenge: Option<&'a str>,
    /// To Azure Event Grid.
    #[serde(rename = "validationResponse", skip_serializing_if = "Option::is_none")]
    validation_response: Option<&'a str>,
}

/// A secret with which a sender signs its calls.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Secret")]
pub(crate) struct SecretView<'a> {
    id: SecretId,
    /// Last four characters of the secret; empty where it is short.
    hint: &'a str,
    created_at: Timestamp,
}

impl<'a> SecretView<'a> {
    pub(crate) fn new(secret: &'a SealedSecret) -> Self {
        Self { id: secret.id, hint: &secret.hint, created_at: Timestamp(secret.created_at) }
    }
}

/// A secret that was stored.
#[derive(Serialize, JsonSchema)]
pub(crate) struct NewSecret<'a> {
    #[serde(flatten)]
    record: SecretView<'a>,
    /// The secret, if it was generated. It is shown this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    secret: Option<&'a str>,
}

impl<'a> NewSecret<'a> {
    pub(crate) fn new(added: &'a AddedSecret) -> Self {
        let secret = added.generated.as_ref().map(Secret::expose);
        Self { record: SecretView::new(&added.record), secret }
    }
}

/// A secret to store; without one, it is generated.
#[derive(Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct SecretToStore {
    /// The secret that the sender shows or takes, of 8 to 512 bytes.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    secret: Member<String>,
    #[serde(flatten)]
    #[schemars(skip)]
    unknown: Unknown,
}

impl SecretToStore {
    /// # Errors
    /// All problems at once.
    pub(crate) fn read(self) -> Result<Option<String>, Vec<SettingProblem>> {
        let mut problems = Vec::new();
        let wrong = || SettingProblem::new("secret", SettingCode::WrongType, "a text is expected");
        let secret = self.secret.take(wrong, &mut problems);
        refuse(&self.unknown, "", &mut problems);
        found(secret, problems)
    }
}

/// Sample of a call.
#[derive(Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Sample {
    /// `GET`, `POST` (the default), `HEAD` or `OPTIONS`.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    method: Member<String>,
    /// Query, without the question mark. The token may be left out.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    query: Member<String>,
    /// Headers by name.
    #[serde(default)]
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    headers: Member<BTreeMap<String, String>>,
    /// Body as it was sent. A value that is no text stands for its JSON text, which no signature fits.
    #[serde(default)]
    #[schemars(with = "Option<Value>")]
    body: Member<Value>,
    #[serde(flatten)]
    #[schemars(skip)]
    unknown: Unknown,
}

impl Sample {
    /// # Errors
    /// All problems at once.
    pub(crate) fn read(self) -> Result<SampleCall, Vec<SettingProblem>> {
        let mut problems = Vec::new();
        let wrong = |field: &'static str, expected: &'static str| {
            move || SettingProblem::new(field, SettingCode::WrongType, format!("{expected} is expected"))
        };
        let methods = [Method::Get, Method::Post, Method::Head, Method::Options];
        let method = self.method.take(wrong("method", "a text"), &mut problems);
        let known = method
            .as_deref()
            .map_or(Some(Method::Post), |given| methods.into_iter().find(|method| method.as_str() == given));
        if known.is_none() {
            let message = "GET, POST, HEAD or OPTIONS is expected";
            problems.push(SettingProblem::new("method", SettingCode::Unknown, message));
        }
        let query = self.query.take(wrong("query", "a text"), &mut problems);
        let headers = self.headers.take(wrong("headers", "an object of names and texts"), &mut problems);
        let body = self.body.take(wrong("body", "a text"), &mut problems);
        refuse(&self.unknown, "", &mut problems);
        let mut sample = SampleCall::new(known.unwrap_or(Method::Post));
        sample.query = query.unwrap_or_default();
        sample.headers = headers.unwrap_or_default().into_iter().collect();
        sample.body = match body {
            Some(Value::String(text)) => text,
            Some(value) => value.to_string(),
            None => String::new(),
        };
        found(sample, problems)
    }
}

/// The way of a sample through the settings of a webhook.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Preview")]
pub(crate) struct PreviewView<'a> {
    /// Verdict on the signature, or on the verify token of a handshake; `null` where nothing is verified.
    verification: Option<Verdict>,
    /// True if the call is a handshake, which starts no run. It is answered unless the verdict refuses it.
    handshake: bool,
    conditions: Met<'a>,
    /// Parameters that a run would get; none if there are problems with them. Secret values are masked.
    #[schemars(with = "BTreeMap<String, ParameterView>")]
    parameters: &'a EffectiveParameters,
    /// Problems of the call, and settings that look where the sample has nothing.
    problems: Vec<ErrorItem>,
    warnings: &'a [ParameterWarning],
}

/// Verdict on a signature.
#[derive(Debug, Serialize, JsonSchema)]
struct Verdict {
    ok: bool,
    /// The reason for a refusal.
    detail: Option<String>,
}

/// States whether a sample meets the conditions of a webhook.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ConditionsMet")]
struct Met<'a> {
    met: bool,
    /// The first condition that is not met.
    failed: Option<&'a Condition>,
}

impl<'a> PreviewView<'a> {
    pub(crate) fn new(preview: &'a CallPreview, problems: Vec<ErrorItem>) -> Self {
        let verdict = |detail: Option<String>| Verdict { ok: detail.is_none(), detail };
        let verified = preview.verification.as_ref();
        Self {
            verification: verified.map(|verified| verdict(verified.as_ref().err().map(ToString::to_string))),
            handshake: preview.handshake,
            conditions: Met { met: preview.unmet.is_none(), failed: preview.unmet.as_ref() },
            parameters: &preview.parameters,
            problems,
            warnings: &preview.warnings,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_sample_is_read_with_its_defaults_and_every_problem_is_named() {
        let read = |given: Value| serde_json::from_value::<Sample>(given).unwrap().read();
        let sample = read(json!({})).unwrap();
        assert_eq!((sample.method, sample.body.as_str()), (Method::Post, ""));
        let given = json!({"method": "OPTIONS", "query": "a=1", "headers": {"X-A": "b"}, "body": {"a": [1]}});
        let sample = read(given).unwrap();
        assert_eq!((sample.method, sample.query.as_str()), (Method::Options, "a=1"));
        assert_eq!(
            (sample.headers, sample.body.as_str()),
            (vec![("X-A".to_owned(), "b".to_owned())], r#"{"a":[1]}"#)
        );
        let wrong = read(json!({"method": "PUT", "query": 1, "headers": {"a": 1}, "more": 1})).unwrap_err();
        let fields: Vec<_> = wrong.iter().map(|problem| problem.field.as_str()).collect();
        assert_eq!(fields, ["method", "query", "headers", "more"]);
    }

    #[test]
    fn a_secret_to_store_is_a_text_or_left_out() {
        let read = |given: Value| serde_json::from_value::<SecretToStore>(given).unwrap().read();
        assert_eq!(read(json!({})), Ok(None));
        assert_eq!(read(json!({"secret": "x"})), Ok(Some("x".to_owned())));
        assert_eq!(read(json!({"secret": 7, "hint": 1})).unwrap_err().len(), 2);
    }
}
