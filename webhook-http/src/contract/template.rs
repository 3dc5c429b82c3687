//! Path templates: split at compile time, matched without allocating, and filled to make links.

use std::fmt::{self, Write};

/// Upper bound on the segments of a path.
pub(crate) const MOST_SEGMENTS: usize = 8;

/// The path of one or several operations, such as `/healthz` or `/admin/api/v1/runs/{id}`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Template {
    text: &'static str,
    segments: [Segment; MOST_SEGMENTS],
    count: usize,
}

#[derive(Debug, Clone, Copy)]
enum Segment {
    Literal(&'static str),
    Parameter(PathParameter),
}

/// A parameter of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PathParameter {
    /// `{kind}`: kind of a workflow.
    Kind,
    /// `{workflow_id}`: id of a workflow within its kind.
    WorkflowId,
    /// `{id}`: id of what the path names: a webhook, a run or a delivery.
    Id,
    /// `{run_id}`: id of a run below its workflow.
    RunId,
    /// `{secret_id}`: id of a secret below its webhook.
    SecretId,
    /// `{call_id}`: id of a call below its webhook.
    CallId,
    /// `{name}`: name of an artifact.
    Name,
}

impl PathParameter {
    /// Number of parameters.
    const COUNT: usize = Self::Name as usize + 1;

    /// Returns the name in templates and in the OpenAPI document.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Kind => "kind",
            Self::WorkflowId => "workflow_id",
            Self::Id => "id",
            Self::RunId => "run_id",
            Self::SecretId => "secret_id",
            Self::CallId => "call_id",
            Self::Name => "name",
        }
    }
}

impl Segment {
    const fn new(text: &'static str) -> Self {
        match text.as_bytes() {
            b"{kind}" => Self::Parameter(PathParameter::Kind),
            b"{workflow_id}" => Self::Parameter(PathParameter::WorkflowId),
            b"{id}" => Self::Parameter(PathParameter::Id),
            b"{run_id}" => Self::Parameter(PathParameter::RunId),
            b"{secret_id}" => Self::Parameter(PathParameter::SecretId),
            b"{call_id}" => Self::Parameter(PathParameter::CallId),
            b"{name}" => Self::Parameter(PathParameter::Name),
            [b'{', ..] => panic!("a path parameter is unknown"),
            _ => Self::Literal(text),
        }
    }
}

impl Template {
    /// Splits a template that starts with `/`.
    pub(crate) const fn new(text: &'static str) -> Self {
        let bytes = text.as_bytes();
        assert!(bytes[0] == b'/', "a path starts with a slash");
        let mut segments = [Segment::Literal(""); MOST_SEGMENTS];
        let (mut count, mut start, mut at) = (0, 1, 1);
        while at <= bytes.len() {
            if at == bytes.len() || bytes[at] == b'/' {
                let (_, rest) = text.split_at(start);
                let (segment, _) = rest.split_at(at - start);
                segments[count] = Segment::new(segment);
                count += 1;
                start = at + 1;
            }
            at += 1;
        }
        Self { text, segments, count }
    }

    pub(crate) fn as_str(&self) -> &'static str {
        self.text
    }

    /// Returns the parameters in the order of the path.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = PathParameter> {
        self.segments[..self.count].iter().filter_map(|segment| match segment {
            Segment::Parameter(parameter) => Some(*parameter),
            Segment::Literal(_) => None,
        })
    }

    /// Returns the text of a path in place of each parameter, or `None` if the path is another one.
    ///
    /// A segment that cannot be decoded is `None`. It stands for no literal, but it may stand for a parameter.
    pub(crate) fn captures<'p>(&self, path: &[Option<&'p str>]) -> Option<Captures<'p>> {
        if path.len() != self.count {
            return None;
        }
        let mut captures = Captures::default();
        for (own, given) in self.segments.iter().zip(path) {
            match own {
                Segment::Literal(literal) if *given == Some(*literal) => {}
                Segment::Literal(_) => return None,
                Segment::Parameter(parameter) => captures.0[*parameter as usize] = *given,
            }
        }
        Some(captures)
    }

    /// Writes the path with these values in place of the parameters, in the order of the path.
    pub(crate) fn write(&self, values: &[&dyn fmt::Display], path: &mut String) {
        let mut values = values.iter();
        for segment in &self.segments[..self.count] {
            path.push('/');
            match segment {
                Segment::Literal(literal) => path.push_str(literal),
                Segment::Parameter(parameter) => {
                    let value = values.next();
                    debug_assert!(value.is_some(), "{} has no value for {parameter:?}", self.text);
                    if let Some(value) = value {
                        // Writing to a string never fails.
                        let _ = write!(path, "{value}");
                    }
                }
            }
        }
        debug_assert!(values.next().is_none(), "{} has fewer parameters", self.text);
    }
}

/// Text of a path in place of each parameter.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Captures<'p>([Option<&'p str>; PathParameter::COUNT]);

impl<'p> Captures<'p> {
    pub(crate) fn get(&self, parameter: PathParameter) -> Option<&'p str> {
        self.0[parameter as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARTIFACT: Template = Template::new("/runs/{id}/artifacts/{name}");

    #[test]
    fn a_path_is_matched_by_its_literals_and_its_length() {
        let captures = ARTIFACT.captures(&[Some("runs"), None, Some("artifacts"), Some("a b")]).unwrap();
        assert_eq!(captures.get(PathParameter::Id), None);
        assert_eq!(captures.get(PathParameter::Name), Some("a b"));
        for other in [
            &[Some("runs"), Some("7"), Some("log"), Some("a")][..],
            &[Some("runs"), Some("7"), None, Some("a")],
            &[Some("runs"), Some("7"), Some("artifacts")],
            &[Some("runs"), Some("7"), Some("artifacts"), Some("a"), Some("b")],
        ] {
            assert_eq!(ARTIFACT.captures(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_template_that_is_filled_is_a_path_that_it_matches() {
        let mut path = String::new();
        ARTIFACT.write(&[&7, &"a"], &mut path);
        assert_eq!(path, "/runs/7/artifacts/a");
        assert_eq!(ARTIFACT.parameters().map(PathParameter::name).collect::<Vec<_>>(), ["id", "name"]);
    }
}
