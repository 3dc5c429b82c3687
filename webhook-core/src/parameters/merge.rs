//! Laying query and body over the declared defaults.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::block::{ParameterBlock, ParameterBlocks, ParameterType};
use super::body::BodyParameters;
use super::convert;
use super::effective::{EffectiveParameter, EffectiveParameters, Source};
use super::limits::ParameterLimits;
use super::paste::paste_hint;
use super::problem::{ParameterProblem, ProblemCode, excerpt, shortened, without_token};
use super::query::{Pairs, QueryParameters};

/// Lays a call's query and body over the defaults of a workflow's blocks: default < query < body.
///
/// - A declared value is converted to its type ([`ParameterType`]); only the value that counts is converted,
///   not one that the body overrides. JSON `null` means not given. A block that is not required and has
///   neither value nor default is absent from the result.
/// - An undeclared value is taken as given: text from a query or form, any JSON value from a JSON body. When
///   the webhook is `strict` it is a problem instead.
/// - A name that is repeated in the query, or in the form, is a problem unless its block is a list, even
///   where the body overrides it.
///
/// # Errors
///
/// *All* problems: those of declared parameters first, in the order declared, then one of code
/// [`TooMany`](ProblemCode::TooMany) for the parameter `*`, or those of undeclared names in the order of
/// their bytes. (When there are too many names, undeclared ones are not reported one by one.)
///
/// ```
/// use webhook_core::parameters::{
///     ParameterBlock, ParameterBlocks, ParameterLimits, ParameterType, ProblemCode, Source, merge,
///     parse_body, parse_query,
/// };
///
/// let blocks = ParameterBlocks::new(vec![
///     ParameterBlock::new("region", ParameterType::Text).with_default("EMEA"),
///     ParameterBlock::new("rows", ParameterType::Integer).with_default(100),
///     ParameterBlock::new("day", ParameterType::Date).required(),
/// ])?;
/// let limits = ParameterLimits::default();
/// let query = parse_query("token=whk_example&rows=20&day=2026-01-31")?.parameters;
/// let body = parse_body(Some("application/json"), br#"{"rows": 30, "note": null}"#, &limits)?;
///
/// let parameters = merge(&blocks, &query, &body, false, &limits).expect("everything converts");
/// let source = |name: &str| parameters.get(name).map(|parameter| parameter.source);
/// assert_eq!(source("region"), Some(Source::Default));
/// assert_eq!(source("day"), Some(Source::Query));
/// assert_eq!(source("rows"), Some(Source::Body));
/// assert_eq!(parameters.get("rows").map(|rows| rows.value.clone()), Some(30.into()));
///
/// let query = parse_query("rows=007&note=hello")?.parameters;
/// let problems = merge(&blocks, &query, &Default::default(), true, &limits).unwrap_err();
/// let codes: Vec<_> = problems.iter().map(|problem| (problem.parameter.as_str(), problem.code)).collect();
/// assert_eq!(
///     codes,
///     [("rows", ProblemCode::WrongType), ("day", ProblemCode::Required), ("note", ProblemCode::Undeclared)]
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn merge(
    blocks: &ParameterBlocks,
    query: &QueryParameters,
    body: &BodyParameters,
    strict: bool,
    limits: &ParameterLimits,
) -> Result<EffectiveParameters, Vec<ParameterProblem>> {
    let query = Given::by_name(query.pairs());
    let body = body.by_name();
    let mut merging = Merging { effective: EffectiveParameters::new(), problems: Vec::new(), limits };

    for block in blocks {
        merging.declared(block, query.get(block.name.as_str()), body.get(block.name.as_str()));
    }
    let names: BTreeSet<&str> = query.keys().chain(body.keys()).copied().collect();
    if names.len() > limits.parameters {
        merging.problems.push(too_many(names.len(), limits));
    } else {
        for name in names.into_iter().filter(|name| blocks.get(name).is_none()) {
            merging.undeclared(name, query.get(name), body.get(name), strict);
        }
    }
    if merging.problems.is_empty() { Ok(merging.effective) } else { Err(merging.problems) }
}

/// What one source gives under one name.
pub(super) enum Given<'a> {
    /// The values of a query or form, in the order sent; never empty.
    Texts(Vec<&'a str>),
    /// The value of a member of a JSON body.
    Json(&'a Value),
}

impl<'a> Given<'a> {
    pub(super) fn by_name(pairs: &'a Pairs) -> BTreeMap<&'a str, Self> {
        let mut by_name = BTreeMap::new();
        for (name, value) in pairs.iter() {
            match by_name.entry(name).or_insert_with(|| Self::Texts(Vec::new())) {
                Self::Texts(values) => values.push(value),
                Self::Json(_) => {}
            }
        }
        by_name
    }

    fn is_repeated(&self) -> bool {
        matches!(self, Self::Texts(values) if values.len() > 1)
    }

    fn is_null(&self) -> bool {
        matches!(self, Self::Json(Value::Null))
    }

    /// A sentence for a problem on this value when it looks like a known accident.
    fn hint(&self) -> Option<String> {
        match self {
            Self::Texts(values) => values.iter().find_map(|text| paste_hint(text)),
            Self::Json(Value::String(text)) => paste_hint(text),
            Self::Json(_) => None,
        }
    }
}

struct Merging<'a> {
    effective: EffectiveParameters,
    problems: Vec<ParameterProblem>,
    limits: &'a ParameterLimits,
}

impl Merging<'_> {
    fn declared(&mut self, block: &ParameterBlock, query: Option<&Given<'_>>, body: Option<&Given<'_>>) {
        let body = body.filter(|given| !given.is_null());
        if block.parameter_type != ParameterType::List {
            self.report_repetitions(&block.name, query, body, block.secret);
        }
        let given = body.map(|given| (given, Source::Body)).or(query.map(|given| (given, Source::Query)));
        let outcome = match given {
            Some((given, source)) => match self.convert(block, given) {
                Some(converted) => converted.map(|value| (value, source)),
                None => return,
            },
            None => match &block.default {
                Some(default) => Ok((default.clone(), Source::Default)),
                None if block.required => Err(required(block)),
                None => return,
            },
        };
        match outcome {
            Ok((value, source)) => {
                let mut parameter = EffectiveParameter::new(value, source);
                parameter.secret = block.secret;
                self.effective.insert(&block.name, parameter);
            }
            Err(problem) => self.problems.push(problem),
        }
    }

    /// Nothing when it cannot be told which of several values is meant, which is reported already.
    fn convert(&self, block: &ParameterBlock, given: &Given<'_>) -> Option<Result<Value, ParameterProblem>> {
        match given {
            Given::Json(value) => Some(convert::from_json(block, value)),
            Given::Texts(texts) => match texts.as_slice() {
                [text] => Some(convert::from_text(block, text, self.limits.json_depth)),
                several if block.parameter_type == ParameterType::List => {
                    Some(Ok(convert::from_texts(several)))
                }
                _ => None,
            },
        }
    }

    fn undeclared(&mut self, name: &str, query: Option<&Given<'_>>, body: Option<&Given<'_>>, strict: bool) {
        if name.is_empty() || name.len() > self.limits.name_bytes {
            self.problems.push(name_invalid(name, self.limits));
            return;
        }
        if strict {
            self.problems.push(undeclared(name, query.into_iter().chain(body)));
            return;
        }
        self.report_repetitions(name, query, body, false);
        let given = body.map(|given| (given, Source::Body)).or(query.map(|given| (given, Source::Query)));
        let parameter = match given {
            Some((Given::Json(value), source)) => EffectiveParameter::new((*value).clone(), source),
            Some((Given::Texts(texts), source)) => match texts.as_slice() {
                [text] => EffectiveParameter::new(*text, source),
                _ => return,
            },
            None => return,
        };
        self.effective.insert(name, parameter);
    }

    fn report_repetitions(
        &mut self,
        name: &str,
        query: Option<&Given<'_>>,
        body: Option<&Given<'_>>,
        secret: bool,
    ) {
        for (given, place) in [(query, "query"), (body, "body")] {
            let Some(given) = given.filter(|given| given.is_repeated()) else { continue };
            let message = format!(
                "The parameter {} is given more than once in the {place}; only one declared as a list may be.",
                excerpt(name)
            );
            let hint = if secret { None } else { given.hint() };
            self.problems.push(problem(name, ProblemCode::Repeated, message, hint));
        }
    }
}

fn required(block: &ParameterBlock) -> ParameterProblem {
    let message = format!(
        "The parameter {} of type {} is required and has no default; give it in the query or in the body.",
        excerpt(&block.name),
        block.parameter_type
    );
    problem(&block.name, ProblemCode::Required, message, None)
}

fn undeclared<'a>(name: &str, mut given: impl Iterator<Item = &'a Given<'a>>) -> ParameterProblem {
    let message = format!(
        "The workflow declares no parameter {}, and this webhook is strict: it takes declared ones only.",
        excerpt(name)
    );
    problem(name, ProblemCode::Undeclared, message, given.find_map(Given::hint))
}

fn name_invalid(name: &str, limits: &ParameterLimits) -> ParameterProblem {
    let message = if name.is_empty() {
        "A parameter without a name is given.".to_owned()
    } else {
        let (length, limit) = (name.len(), limits.name_bytes);
        format!("The name {} has {length} bytes, and at most {limit} are allowed.", excerpt(name))
    };
    ParameterProblem::new(shortened(name), ProblemCode::NameInvalid, message)
}

fn too_many(given: usize, limits: &ParameterLimits) -> ParameterProblem {
    let message = format!(
        "The query and the body give {given} differently named parameters, and at most {} are allowed.",
        limits.parameters
    );
    ParameterProblem::new("*", ProblemCode::TooMany, message)
}

fn problem(name: &str, code: ProblemCode, mut message: String, hint: Option<String>) -> ParameterProblem {
    if let Some(hint) = hint {
        message.push(' ');
        message.push_str(&hint);
    }
    ParameterProblem::new(without_token(name), code, message)
}
