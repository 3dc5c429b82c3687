//! The parameters that a workflow declares, checked together.

use serde::ser::{Serialize, Serializer};
use serde_json::Value;

use super::block::ParameterBlock;
use super::convert;
use super::limits::DEEPEST_JSON;
use super::problem::{excerpt, shortened};
use super::query::TOKEN;
use super::size::can_be_stored;
use super::types::ParameterType;

/// Upper bound on a block's name, in bytes.
const NAME_BYTES: usize = 128;

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

impl Serialize for ParameterBlocks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self)
    }
}
