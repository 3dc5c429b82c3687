//! One parameter that a workflow declares.

use std::fmt;

use serde::ser::{Serialize, SerializeStruct, Serializer};
use serde_json::Value;

use super::problem::MASKED;
use super::types::ParameterType;

/// One parameter that a workflow declares.
///
/// ```
/// use webhook_core::parameters::{ParameterBlock, ParameterBlocks, ParameterType};
///
/// let blocks = ParameterBlocks::new(vec![
///     ParameterBlock::new("region", ParameterType::Choice)
///         .with_choices(["EMEA", "APAC", "AMER"])
///         .with_default("EMEA")
///         .with_description("Which part of the world to report on"),
///     ParameterBlock::new("day", ParameterType::Date).required(),
///     ParameterBlock::new("database_password", ParameterType::Text).secret(),
/// ])?;
/// assert!(blocks.has_secret());
/// # Ok::<(), webhook_core::parameters::InvalidBlocks>(())
/// ```
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct ParameterBlock {
    /// Name that a caller uses, matched by exact bytes: 1 to 128 bytes, and not `token`.
    pub name: String,
    /// Type to which a given value is converted.
    pub parameter_type: ParameterType,
    /// Value when a call gives none. It must convert to the type by the rules for a JSON body.
    pub default: Option<Value>,
    /// True if a call without a value is refused. No effect on a block with a default.
    pub required: bool,
    /// Allowed values of a [`Choice`](ParameterType::Choice); empty for every other type.
    pub choices: Vec<String>,
    /// True if the value is sealed at rest and masked wherever it is shown.
    ///
    /// In log, progress, summary and error of a run it is masked if it has four characters or more. Files
    /// that the executor writes are not masked.
    pub secret: bool,
    /// Purpose of the parameter, in words for people.
    pub description: Option<String>,
}

impl ParameterBlock {
    /// Declares a block without default, neither required nor secret.
    pub fn new(name: impl Into<String>, parameter_type: ParameterType) -> Self {
        Self {
            name: name.into(),
            parameter_type,
            default: None,
            required: false,
            choices: Vec::new(),
            secret: false,
            description: None,
        }
    }

    /// Sets the value when a call gives none. `null` means no default.
    pub fn with_default(mut self, default: impl Into<Value>) -> Self {
        self.default = Some(default.into());
        self
    }

    /// Makes a value required.
    pub fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// Sets the allowed values of a choice.
    pub fn with_choices<I>(mut self, choices: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.choices = choices.into_iter().map(Into::into).collect();
        self
    }

    /// Marks the value as secret.
    pub fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// Sets the purpose of the parameter.
    pub fn with_description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }
}

impl ParameterBlock {
    /// Returns the default as it may be shown.
    fn visible_default(&self) -> Option<Value> {
        match &self.default {
            Some(_) if self.secret => Some(Value::from(MASKED)),
            other => other.clone(),
        }
    }
}

impl fmt::Debug for ParameterBlock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ParameterBlock")
            .field("name", &self.name)
            .field("parameter_type", &self.parameter_type)
            .field("default", &self.visible_default())
            .field("required", &self.required)
            .field("choices", &self.choices)
            .field("secret", &self.secret)
            .field("description", &self.description)
            .finish()
    }
}

/// Serializes to the wire form, with the default of a secret block masked.
impl Serialize for ParameterBlock {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("ParameterBlock", 7)?;
        fields.serialize_field("name", &self.name)?;
        fields.serialize_field("type", &self.parameter_type)?;
        fields.serialize_field("default", &self.visible_default())?;
        fields.serialize_field("required", &self.required)?;
        fields.serialize_field("choices", &self.choices)?;
        fields.serialize_field("secret", &self.secret)?;
        fields.serialize_field("description", &self.description)?;
        fields.end()
    }
}
