//! The parts of the table of operations: methods, request and answer types, problems.

use http::Method;
use schemars::{JsonSchema, SchemaGenerator};

use crate::contract::fields::{Field, SchemaOf};
use crate::contract::slug::Slug;
use crate::contract::template::Template;

/// Group of clients that a path is for. It decides which token is required.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Audience {
    /// Callers of webhooks that start runs.
    Trigger,
    /// Callers of webhooks that read their runs.
    Status,
    /// People and trusted programs.
    Management,
    /// Programs that read the OpenAPI document.
    Description,
    /// Collectors of metrics.
    Metrics,
    /// Load balancers and monitors.
    Health,
}

/// Method of an operation. A path that answers `Get` answers HEAD as well, unless GET starts something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    Post,
    Patch,
    Delete,
    Head,
    Options,
}

impl Verb {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
        }
    }
}

/// Everything about an operation but its path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spec {
    pub(crate) verb: Verb,
    /// HEAD is answered like GET.
    pub(crate) answers_head: bool,
    pub(crate) summary: &'static str,
    pub(crate) query: &'static [Field],
    pub(crate) headers: &'static [Field],
    pub(crate) takes: Takes,
    pub(crate) answers: &'static [Success],
    /// Problems beyond those that every operation of its audience, path, query and body has.
    pub(crate) problems: &'static [&'static [Slug]],
    /// Name in the audit log of an operation that changes or reveals something.
    pub(crate) audit: Option<&'static str>,
}

/// Body of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Takes {
    Nothing,
    /// A JSON object.
    Json {
        schema: SchemaOf,
        required: bool,
    },
    /// Parameters of a trigger call, as JSON or as a form.
    Parameters,
}

/// An answer that is not a problem.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Success {
    pub(crate) status: u16,
    pub(crate) content: Content,
    /// Headers beyond `X-Request-Id`.
    pub(crate) headers: &'static [AnswerHeader],
}

/// Body of an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Content {
    Nothing,
    Json(SchemaOf),
    /// JSON, or a text that a sender gets back.
    JsonOrText(SchemaOf),
    Text(&'static str),
    /// Any artifact of a run.
    Artifact,
}

/// A header of an answer, by its name in the document.
#[derive(Debug, Clone, Copy)]
pub(crate) enum AnswerHeader {
    Always(&'static str),
    Sometimes(&'static str),
}

pub(crate) const fn get(summary: &'static str) -> Spec {
    Spec {
        verb: Verb::Get,
        answers_head: true,
        summary,
        query: &[],
        headers: &[],
        takes: Takes::Nothing,
        answers: &[],
        problems: &[],
        audit: None,
    }
}

pub(crate) const fn post(summary: &'static str) -> Spec {
    Spec { verb: Verb::Post, answers_head: false, ..get(summary) }
}

pub(crate) const fn patch(summary: &'static str) -> Spec {
    Spec { verb: Verb::Patch, answers_head: false, ..get(summary) }
}

pub(crate) const fn delete(summary: &'static str) -> Spec {
    Spec { verb: Verb::Delete, answers_head: false, ..get(summary) }
}

/// A check of the URL by its sender.
pub(crate) const fn check(verb: Verb, summary: &'static str) -> Spec {
    Spec { verb, answers_head: false, ..get(summary) }
}

/// A JSON body that may be omitted.
pub(crate) const fn optional<T: JsonSchema>() -> Takes {
    Takes::Json { schema: SchemaGenerator::subschema_for::<T>, required: false }
}

/// A required JSON body.
pub(crate) const fn required<T: JsonSchema>() -> Takes {
    Takes::Json { schema: SchemaGenerator::subschema_for::<T>, required: true }
}

pub(crate) const fn json<T: JsonSchema>(status: u16) -> Success {
    Success { status, content: Content::Json(SchemaGenerator::subschema_for::<T>), headers: &[] }
}

pub(crate) const fn text(media_type: &'static str) -> Success {
    Success { status: 200, content: Content::Text(media_type), headers: &[] }
}

pub(crate) const fn nothing(status: u16) -> Success {
    Success { status, content: Content::Nothing, headers: &[] }
}

impl Success {
    pub(crate) const fn with(self, headers: &'static [AnswerHeader]) -> Self {
        Self { headers, ..self }
    }
}

/// A path and its operations.
#[derive(Debug)]
pub(crate) struct Path<O: 'static> {
    pub(crate) template: Template,
    pub(crate) audience: Audience,
    pub(crate) operations: &'static [(O, Spec)],
}

impl<O: Copy> Path<O> {
    /// Returns the operation of a method.
    pub(crate) fn operation(&self, method: &Method) -> Option<&'static (O, Spec)> {
        self.operations.iter().find(|(_, spec)| {
            let is_head = spec.answers_head && *method == Method::HEAD;
            is_head || spec.verb.as_str() == method.as_str()
        })
    }

    /// Returns the methods that the path answers, as `Allow` lists them (RFC 9110 section 10.2.1).
    pub(crate) fn allow(&self) -> String {
        let mut methods = Vec::new();
        for (_, spec) in self.operations {
            methods.push(spec.verb.as_str());
            if spec.answers_head {
                methods.push("HEAD");
            }
        }
        methods.join(", ")
    }
}
