//! Parameter blocks: the parameters that a workflow declares.

use std::fmt;
use std::str::FromStr;

use serde::ser::{Serialize, SerializeStruct, Serializer};
use serde_json::Value;

use super::convert;
use super::limits::DEEPEST_JSON;
use super::problem::{MASKED, excerpt, shortened};
use super::query::TOKEN;
use super::size::can_be_stored;

/// Upper bound on a block's name, in bytes.
const NAME_BYTES: usize = 128;

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

/// Type of a parameter. On the wire it is snake_case.
///
/// | type | text (query, form, JSON string) | other JSON values |
/// |---|---|---|
/// | `text` | as given | an integer or boolean becomes its JSON text |
/// | `integer` | `-?(0\|[1-9][0-9]*)` from -2^63 to 2^63-1 | an integer in that range; `5.0`, below 2^53 either way |
/// | `number` | a JSON number (RFC 8259 §6); an integer within 64 bits stays exact, another number is the nearest double, and neither overflows nor vanishes | a number as given |
/// | `boolean` | `true` or `false` in any case, `1`, `0` | `true`, `false`, `1`, `0` |
/// | `date` | a calendar day `YYYY-MM-DD` (ISO 8601), kept as text | none |
/// | `datetime` | RFC 3339 with offset, kept as text | none |
/// | `choice` | one of the choices, byte for byte | an integer or boolean whose JSON text is a choice |
/// | `list` | each repetition of the name is an item, one value is a list of one text | an array as given |
/// | `json` | JSON text; in a JSON body a string stays a string | as given |
///
/// Every other value is a problem. A JSON `null` means that no value was given, also for `json`. The *text*
/// `null` for a `json` block is the value `null`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ParameterType {
    /// Text of any content.
    Text,
    /// An integer from -2^63 to 2^63-1.
    Integer,
    /// A number in JSON's grammar.
    Number,
    /// True or false.
    Boolean,
    /// A calendar day (ISO 8601).
    Date,
    /// An instant with its offset from UTC (RFC 3339).
    Datetime,
    /// One of the block's choices.
    Choice,
    /// A list of values.
    List,
    /// Any JSON value.
    Json,
}

impl ParameterType {
    const ALL: [Self; 9] = [
        Self::Text,
        Self::Integer,
        Self::Number,
        Self::Boolean,
        Self::Date,
        Self::Datetime,
        Self::Choice,
        Self::List,
        Self::Json,
    ];

    /// Returns the text on the wire, such as `integer`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Date => "date",
            Self::Datetime => "datetime",
            Self::Choice => "choice",
            Self::List => "list",
            Self::Json => "json",
        }
    }
}

impl fmt::Display for ParameterType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for ParameterType {
    type Err = UnknownParameterType;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|known| known.as_str() == text)
            .ok_or_else(|| UnknownParameterType { text: shortened(text) })
    }
}

/// Error for a text that names no [`ParameterType`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a parameter type; the types are text, integer, number, boolean, date, datetime, choice, \
     list and json"
)]
#[non_exhaustive]
pub struct UnknownParameterType {
    /// The text, shortened if it is long.
    pub text: String,
}

/// The checked blocks of one workflow, in the order declared.
///
/// Each has a unique name, and each default is converted to the type of its block.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ParameterBlocks {
    declared: Vec<ParameterBlock>,
    /// Indexes into `declared`, ordered by name.
    by_name: Vec<usize>,
}

impl ParameterBlocks {
    /// Checks the declaration of a workflow.
    ///
    /// # Errors
    ///
    /// All problems at once:
    ///
    /// - A name is empty, longer than 128 bytes, repeated, or the reserved name `token`.
    /// - A choice has no choices, or another type has some.
    /// - A default does not convert.
    pub fn new(mut declared: Vec<ParameterBlock>) -> Result<Self, InvalidBlocks> {
        let mut by_name: Vec<usize> = (0..declared.len()).collect();
        by_name.sort_by(|one, other| declared[*one].name.cmp(&declared[*other].name));
        let mut is_repetition = vec![false; declared.len()];
        for pair in by_name.windows(2) {
            is_repetition[pair[1]] = declared[pair[0]].name == declared[pair[1]].name;
        }

        let mut problems = Vec::new();
        for (block, is_repetition) in declared.iter_mut().zip(is_repetition) {
            let mut messages: Vec<String> = form_problem(block, is_repetition).into_iter().collect();
            messages.extend(choices_problem(block));
            match convert_default(block) {
                Ok(converted) => block.default = converted,
                Err(message) => messages.push(message),
            }
            problems.extend(
                messages
                    .into_iter()
                    .map(|message| BlockProblem { parameter: shortened(&block.name), message }),
            );
        }
        if problems.is_empty() { Ok(Self { declared, by_name }) } else { Err(InvalidBlocks { problems }) }
    }

    /// Iterates over the blocks in the order declared.
    pub fn iter(&self) -> std::slice::Iter<'_, ParameterBlock> {
        self.declared.iter()
    }

    /// Returns the block with this name.
    pub fn get(&self, name: &str) -> Option<&ParameterBlock> {
        let found =
            self.by_name.binary_search_by(|place| self.declared[*place].name.as_str().cmp(name)).ok()?;
        Some(&self.declared[self.by_name[found]])
    }

    /// Returns the number of blocks.
    pub fn len(&self) -> usize {
        self.declared.len()
    }

    /// Returns whether the workflow declares no parameters.
    pub fn is_empty(&self) -> bool {
        self.declared.is_empty()
    }

    /// Returns whether any block is secret. Runs of such a workflow need a token key that seals the values.
    pub fn has_secret(&self) -> bool {
        self.declared.iter().any(|block| block.secret)
    }
}

impl<'a> IntoIterator for &'a ParameterBlocks {
    type Item = &'a ParameterBlock;
    type IntoIter = std::slice::Iter<'a, ParameterBlock>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

fn form_problem(block: &ParameterBlock, is_repetition: bool) -> Option<String> {
    if block.name.is_empty() {
        Some("a parameter needs a name".to_owned())
    } else if block.name == TOKEN {
        Some("the name \"token\" is reserved for the webhook's token; choose another".to_owned())
    } else if block.name.len() > NAME_BYTES {
        Some(format!("a name has at most {NAME_BYTES} bytes, this one has {}", block.name.len()))
    } else if is_repetition {
        Some(format!("the name {} is declared more than once", excerpt(&block.name)))
    } else {
        None
    }
}

fn choices_problem(block: &ParameterBlock) -> Option<String> {
    match (block.parameter_type, block.choices.is_empty()) {
        (ParameterType::Choice, true) => Some("a choice needs at least one entry in its choices".to_owned()),
        (ParameterType::Choice, false) | (_, true) => None,
        (other, false) => Some(format!("only a choice has choices, and the type is {other}")),
    }
}

fn convert_default(block: &ParameterBlock) -> Result<Option<Value>, String> {
    match &block.default {
        None | Some(Value::Null) => Ok(None),
        // The missing choices are already reported; the default would only repeat that.
        Some(default) if block.parameter_type == ParameterType::Choice && block.choices.is_empty() => {
            Ok(Some(default.clone()))
        }
        Some(default) if !can_be_stored(default) => {
            Err(format!("the default is nested more than {DEEPEST_JSON} levels deep"))
        }
        Some(default) => match convert::from_json(block, default) {
            Ok(converted) => Ok(Some(converted)),
            Err(problem) => Err(format!("the default does not fit: {}", problem.message)),
        },
    }
}

/// Error for unusable blocks of a workflow. Holds all problems at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid parameter blocks: {}", listed(.problems))]
#[non_exhaustive]
pub struct InvalidBlocks {
    /// The problems, in the order declared; never empty.
    pub problems: Vec<BlockProblem>,
}

/// One problem of one block. It never shows the default of a secret block.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct BlockProblem {
    /// Name of the block, shortened if it is too long.
    pub parameter: String,
    /// The problem, and what is expected instead.
    pub message: String,
}

fn listed(problems: &[BlockProblem]) -> String {
    let lines: Vec<_> =
        problems.iter().map(|problem| format!("{:?}: {}", problem.parameter, problem.message)).collect();
    lines.join("; ")
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

impl Serialize for ParameterBlocks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self)
    }
}
