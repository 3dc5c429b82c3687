//! The parameters of a run at rest: secret values are sealed.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use crate::id::RunId;
use crate::parameters::{EffectiveParameter, EffectiveParameters, Source};
use crate::token::{OpenError, Sealed, TokenKeys};

/// The parameters of a run as stores keep them: a secret value is sealed. All versions of a run share them.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(from = "ByName")]
pub struct RunParameters(Option<Arc<ByName>>);

type ByName = BTreeMap<String, RunParameter>;

/// Most runs have no parameters, and none are nothing in memory.
impl From<ByName> for RunParameters {
    fn from(parameters: ByName) -> Self {
        Self((!parameters.is_empty()).then(|| Arc::new(parameters)))
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
}

/// What stands for a secret value wherever parameters are shown.
pub const MASK: &str = "***";

impl RunParameters {
    /// Seals the secret values for the run `id` and keeps the others as they are.
    ///
    /// # Errors
    /// The name of the first secret parameter when there are no `keys`.
    pub fn seal(
        parameters: EffectiveParameters,
        keys: Option<&TokenKeys>,
        id: RunId,
    ) -> Result<Self, String> {
        let mut sealed = BTreeMap::new();
        for (name, parameter) in parameters {
            let EffectiveParameter { value, source, secret, .. } = parameter;
            let value = match (secret, keys) {
                (false, _) => ParameterValue::Plain(value),
                (true, None) => return Err(name),
                (true, Some(keys)) => {
                    let plaintext = zeroize::Zeroizing::new(value.to_string());
                    ParameterValue::Sealed(keys.seal(plaintext.as_bytes(), &place(id, &name)))
                }
            };
            sealed.insert(name, RunParameter { value, source });
        }
        Ok(sealed.into())
    }

    /// Opens the secret values for the run `id`.
    ///
    /// # Errors
    /// [`OpenError`] when the keys at hand did not seal them.
    pub fn open(&self, keys: Option<&TokenKeys>, id: RunId) -> Result<EffectiveParameters, OpenError> {
        let open = |(name, parameter): (&str, &RunParameter)| {
            let (value, secret) = match &parameter.value {
                ParameterValue::Plain(value) => (value.clone(), false),
                ParameterValue::Sealed(sealed) => {
                    let unknown =
                        || OpenError::UnknownKey { key_id: "that is no longer configured".to_owned() };
                    let plaintext = keys.ok_or_else(unknown)?.open(sealed, &place(id, name))?;
                    (serde_json::from_slice(&plaintext).map_err(|_| OpenError::Damaged)?, true)
                }
            };
            let parameter = EffectiveParameter::new(value, parameter.source);
            Ok((name.to_owned(), if secret { parameter.secret() } else { parameter }))
        };
        self.iter().map(open).collect()
    }

    /// The parameters by name, secret values still sealed.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &RunParameter)> {
        let parameters = self.0.iter().flat_map(|parameters| parameters.iter());
        parameters.map(|(name, parameter)| (name.as_str(), parameter))
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
        }
    }
}

/// A sealed value opens only for its own run and name.
fn place(id: RunId, name: &str) -> Vec<u8> {
    [id.as_bytes().as_slice(), name.as_bytes()].concat()
}
