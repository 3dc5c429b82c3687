//! Parameters of a run at rest, with secret values sealed.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use crate::id::RunId;
use crate::masking::MASK;
use crate::parameters::{EffectiveParameter, EffectiveParameters, Source, can_be_stored};
use crate::token::{Sealed, TokenKeys, UnsealError};

/// Parameters of a run as stores keep them: as JSON text, in which a secret value is sealed.
///
/// Text takes as much memory as it has bytes; a tree of values may take a hundred times as much. All versions
/// of a run share the text.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(from = "ByName")]
pub struct RunParameters(Option<Arc<str>>);

type ByName = BTreeMap<String, RunParameter>;

/// An empty set takes no memory, since most runs have no parameters.
impl From<ByName> for RunParameters {
    fn from(parameters: ByName) -> Self {
        if parameters.is_empty() {
            return Self(None);
        }
        let text = serde_json::to_string(&parameters).expect("names are texts and values are JSON");
        Self(Some(text.into()))
    }
}

impl Serialize for RunParameters {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

/// One parameter of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunParameter {
    /// The value or its sealed form.
    #[serde(flatten)]
    pub value: ParameterValue,
    /// Source of the value.
    pub source: Source,
}

/// Value of a parameter at rest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ParameterValue {
    /// A value that is not secret.
    #[serde(rename = "value")]
    Plain(Value),
    /// A secret value, sealed with the host's key.
    Sealed(Sealed),
    /// The beginning of a long value, for lists and events; see [`RunParameters::excerpt`]. It is not stored,
    /// and no run can be executed with it.
    Truncated(String),
}

impl RunParameters {
    /// Seals the secret values for the run `id` and keeps the others as they are.
    ///
    /// Fails with a [`SealError`] that names the first secret parameter if there are no `keys`, or a
    /// parameter that could not be read back.
    pub fn seal(
        parameters: EffectiveParameters,
        keys: Option<&TokenKeys>,
        id: RunId,
    ) -> Result<Self, SealError> {
        let mut sealed = BTreeMap::new();
        for (name, parameter) in parameters {
            let EffectiveParameter { value, source, secret, .. } = parameter;
            if !can_be_stored(&value) {
                return Err(SealError::TooDeep { name });
            }
            let value = match (secret, keys) {
                (false, _) => ParameterValue::Plain(value),
                (true, None) => return Err(SealError::NoKey { name }),
                (true, Some(keys)) => {
                    let plaintext = zeroize::Zeroizing::new(value.to_string());
                    ParameterValue::Sealed(keys.seal(plaintext.as_bytes(), &place(id, &name)))
                }
            };
            sealed.insert(name, RunParameter { value, source });
        }
        Ok(sealed.into())
    }

    /// Parses the result of [`as_json`](Self::as_json).
    ///
    /// # Errors
    /// The text is not the JSON of parameters.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        let is_empty = serde_json::from_str::<ByName>(text)?.is_empty();
        Ok(Self((!is_empty).then(|| text.into())))
    }

    /// Returns the parameters as one JSON object, secret values sealed.
    #[must_use]
    pub fn as_json(&self) -> &str {
        self.0.as_deref().unwrap_or("{}")
    }

    /// Returns the length of their JSON in bytes; 0 if there are none.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.as_deref().map_or(0, str::len)
    }

    /// Opens the secret values for the run `id`.
    ///
    /// Fails with [`UnsealError`] when none of the keys sealed them.
    pub fn open(&self, keys: Option<&TokenKeys>, id: RunId) -> Result<EffectiveParameters, UnsealError> {
        let open = |(name, RunParameter { value, source }): (String, RunParameter)| {
            let (value, secret) = match value {
                ParameterValue::Plain(value) => (value, false),
                ParameterValue::Sealed(sealed) => {
                    let unknown =
                        || UnsealError::UnknownKey { key_id: "that is no longer configured".to_owned() };
                    let plaintext = keys.ok_or_else(unknown)?.open(&sealed, &place(id, &name))?;
                    (serde_json::from_slice(&plaintext).map_err(|_| UnsealError::Damaged)?, true)
                }
                ParameterValue::Truncated(_) => return Err(UnsealError::Damaged),
            };
            let parameter = EffectiveParameter::new(value, source);
            Ok((name, if secret { parameter.secret() } else { parameter }))
        };
        self.iter().map(open).collect()
    }

    /// Iterates over the parameters in the order of their names, secret values still sealed. Each call parses
    /// the JSON.
    pub fn iter(&self) -> impl Iterator<Item = (String, RunParameter)> + use<> {
        let read = |text: &str| serde_json::from_str::<ByName>(text);
        // This text was written by us or has been parsed before, so it parses.
        let parameters = self.0.as_deref().map(read).and_then(Result::ok).unwrap_or_default();
        parameters.into_iter()
    }

    /// Returns whether there are no parameters.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl RunParameter {
    /// Returns the value as people may see it: `***` in place of a secret.
    #[must_use]
    pub fn shown(&self) -> Value {
        match &self.value {
            ParameterValue::Plain(value) => value.clone(),
            ParameterValue::Sealed(_) => Value::from(MASK),
            ParameterValue::Truncated(text) => Value::from(text.as_str()),
        }
    }
}

/// Error for parameters that cannot be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// A parameter is secret, and there is no key to seal it.
    #[error("parameter `{name}` is secret, and this server has no token key to seal it with")]
    NoKey {
        /// Name of the parameter.
        name: String,
    },
    /// A parameter is nested so deeply that it could not be read back.
    #[error("parameter `{name}` is nested too deeply to be stored and read back")]
    TooDeep {
        /// Name of the parameter.
        name: String,
    },
}

/// Returns the associated data of a sealed value, so it opens only for its own run and name.
fn place(id: RunId, name: &str) -> Vec<u8> {
    [id.as_bytes().as_slice(), name.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use serde_json::{Value, json};

    use super::*;
    use crate::token::TokenKey;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    #[test]
    fn secret_parameters_are_sealed_at_rest_and_open_for_their_run_only() {
        let keys = TokenKeys::new(TokenKey::generate());
        let effective: EffectiveParameters = [
            ("region".to_owned(), EffectiveParameter::new(json!("EMEA"), Source::Query)),
            ("password".to_owned(), EffectiveParameter::new(json!("canary"), Source::Body).secret()),
        ]
        .into_iter()
        .collect();
        let id = RunId::generate(NOW);
        let refused = RunParameters::seal(effective.clone(), None, id).unwrap_err();
        assert_eq!(refused, SealError::NoKey { name: "password".to_owned() });
        let parameters = RunParameters::seal(effective.clone(), Some(&keys), id).unwrap();
        let stored = serde_json::to_string(&parameters).unwrap();
        assert!(!stored.contains("canary") && !format!("{parameters:?}").contains("canary"));
        let read: RunParameters = serde_json::from_str(&stored).unwrap();
        assert_eq!(read, parameters);
        let shown: Vec<Value> = read.iter().map(|(_, parameter)| parameter.shown()).collect();
        assert_eq!(shown, [json!("***"), json!("EMEA")]);
        let opened = read.open(Some(&keys), id).unwrap();
        assert_eq!(opened.get("password").unwrap().value, json!("canary"));
        assert!(read.open(Some(&keys), RunId::generate(NOW)).is_err());
        assert!(read.open(None, id).is_err());
    }
}
