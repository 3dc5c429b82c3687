//! The parameters of a run at rest: secret values are sealed.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use crate::id::RunId;
use crate::masking::MASK;
use crate::parameters::{EffectiveParameter, EffectiveParameters, Source, can_be_stored};
use crate::token::{OpenError, Sealed, TokenKeys};

/// The parameters of a run as stores keep them: as JSON text, in which a secret value is sealed.
///
/// Text takes as much memory as it has bytes, which a tree of values may exceed a hundredfold. All versions of a run
/// share it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(from = "ByName")]
pub struct RunParameters(Option<Arc<str>>);

type ByName = BTreeMap<String, RunParameter>;

/// Most runs have no parameters, and none are nothing in memory.
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
    /// Where the value came from.
    pub source: Source,
}

/// A parameter's value at rest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ParameterValue {
    /// An ordinary value.
    #[serde(rename = "value")]
    Plain(Value),
    /// A secret value, sealed with the host's key.
    Sealed(Sealed),
    /// The beginning of a long value, for lists and events; see [`RunParameters::excerpt`]. It is not for storing, and
    /// no run can be executed with it.
    Truncated(String),
}

impl RunParameters {
    /// Seals the secret values for the run `id` and keeps the others as they are.
    ///
    /// # Errors
    /// [`SealError`] names the first secret parameter when there are no `keys`, and one that could not be read back.
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

    /// Reads what [`as_json`](Self::as_json) gave.
    ///
    /// # Errors
    /// The text is not the JSON of parameters.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        let is_empty = serde_json::from_str::<ByName>(text)?.is_empty();
        Ok(Self((!is_empty).then(|| text.into())))
    }

    /// The parameters as one JSON object, secret values sealed.
    #[must_use]
    pub fn as_json(&self) -> &str {
        self.0.as_deref().unwrap_or("{}")
    }

    /// The length of their JSON in bytes; 0 when there are none.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.as_deref().map_or(0, str::len)
    }

    /// Opens the secret values for the run `id`.
    ///
    /// # Errors
    /// [`OpenError`] when the keys at hand did not seal them.
    pub fn open(&self, keys: Option<&TokenKeys>, id: RunId) -> Result<EffectiveParameters, OpenError> {
        let open = |(name, RunParameter { value, source }): (String, RunParameter)| {
            let (value, secret) = match value {
                ParameterValue::Plain(value) => (value, false),
                ParameterValue::Sealed(sealed) => {
                    let unknown =
                        || OpenError::UnknownKey { key_id: "that is no longer configured".to_owned() };
                    let plaintext = keys.ok_or_else(unknown)?.open(&sealed, &place(id, &name))?;
                    (serde_json::from_slice(&plaintext).map_err(|_| OpenError::Damaged)?, true)
                }
                ParameterValue::Truncated(_) => return Err(OpenError::Damaged),
            };
            let parameter = EffectiveParameter::new(value, source);
            Ok((name, if secret { parameter.secret() } else { parameter }))
        };
        self.iter().map(open).collect()
    }

    /// The parameters in the order of their names, secret values still sealed. They are read from their JSON at each
    /// call.
    pub fn iter(&self) -> impl Iterator<Item = (String, RunParameter)> + use<> {
        let read = |text: &str| serde_json::from_str::<ByName>(text);
        // The text is what parameters were written as, or was read once before.
        let parameters = self.0.as_deref().map(read).and_then(Result::ok).unwrap_or_default();
        parameters.into_iter()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl RunParameter {
    /// The value for people to see: `***` in place of a secret.
    #[must_use]
    pub fn shown(&self) -> Value {
        match &self.value {
            ParameterValue::Plain(value) => value.clone(),
            ParameterValue::Sealed(_) => Value::from(MASK),
            ParameterValue::Truncated(text) => Value::from(text.as_str()),
        }
    }
}

/// Why parameters cannot be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// A parameter is secret, and there is no key to seal it with.
    #[error("parameter `{name}` is secret, and this server has no token key to seal it with")]
    NoKey {
        /// The name of the parameter.
        name: String,
    },
    /// A parameter has arrays and objects so deeply inside each other that it could not be read back.
    #[error("parameter `{name}` is nested too deeply to be stored and read back")]
    TooDeep {
        /// The name of the parameter.
        name: String,
    },
}

/// A sealed value opens only for its own run and name.
fn place(id: RunId, name: &str) -> Vec<u8> {
    [id.as_bytes().as_slice(), name.as_bytes()].concat()
}
