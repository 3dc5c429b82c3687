//! Names of workflows: kind, id, and both.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use crate::error::{InvalidName, NameKind};

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $expected:literal, $first:expr, $rest:expr, $max:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// Parses a name.
            ///
            /// Fails with [`InvalidName`] when the text does not have the form above.
            pub fn new(text: &str) -> Result<Self, InvalidName> {
                let first: fn(u8) -> bool = $first;
                let rest: fn(u8) -> bool = $rest;
                match text.as_bytes() {
                    [head, tail @ ..]
                        if tail.len() < $max && first(*head) && tail.iter().all(|byte| rest(*byte)) =>
                    {
                        Ok(Self(text.into()))
                    }
                    _ => Err(InvalidName::new(NameKind::$type, $expected)),
                }
            }

            /// Returns the name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::new(&text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0.as_ref().to_owned()
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        crate::schema::text_schema!($type, "pattern", concat!("^", $expected, "$"));

        impl fmt::Display for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, formatter)
            }
        }
    };
}

name!(
    /// Kind of a workflow, such as `report` or `notebook`: `[a-z][a-z0-9-]{0,31}`.
    WorkflowKind,
    "[a-z][a-z0-9-]{0,31}",
    |byte| byte.is_ascii_lowercase(),
    |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-',
    32
);

name!(
    /// Id of a workflow within its kind: `[A-Za-z0-9][A-Za-z0-9._-]{0,127}`.
    WorkflowId,
    "[A-Za-z0-9][A-Za-z0-9._-]{0,127}",
    |byte| byte.is_ascii_alphanumeric(),
    |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'),
    128
);

/// Kind and id of one workflow. As text: `kind/id`.
///
/// ```
/// use webhook_core::id::WorkflowKey;
/// let key: WorkflowKey = "report/daily-sales".parse()?;
/// assert_eq!(key.kind.as_str(), "report");
/// # Ok::<(), webhook_core::error::InvalidName>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct WorkflowKey {
    /// Kind of the workflow.
    pub kind: WorkflowKind,
    /// Id within the kind.
    pub id: WorkflowId,
}

impl WorkflowKey {
    /// Combines a kind and an id.
    pub fn new(kind: WorkflowKind, id: WorkflowId) -> Self {
        Self { kind, id }
    }
}

impl fmt::Display for WorkflowKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.kind, self.id)
    }
}

impl FromStr for WorkflowKey {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let (kind, id) = text.split_once('/').ok_or(InvalidName::new(NameKind::Workflow, "kind/id"))?;
        Ok(Self { kind: kind.parse()?, id: id.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_their_grammar() {
        for good in ["a", "report", "my-kind2", &"k".repeat(32)] {
            assert!(WorkflowKind::new(good).is_ok(), "{good}");
        }
        for bad in ["", "Report", "2kind", "-a", "a_b", "é", &"k".repeat(33)] {
            assert!(WorkflowKind::new(bad).is_err(), "{bad}");
        }
        for good in ["a", "0", "Daily.Sales_2-x", &"i".repeat(128)] {
            assert!(WorkflowId::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".hidden", "-a", "a/b", "a b", "é", "..", &"i".repeat(129)] {
            assert!(WorkflowId::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_workflow_key_is_kind_slash_id() {
        let key: WorkflowKey = "report/daily-sales".parse().unwrap();
        assert_eq!(key.to_string(), "report/daily-sales");
        assert!("report".parse::<WorkflowKey>().is_err());
        assert!("report/a/b".parse::<WorkflowKey>().is_err());
    }
}
