//! Merges defaults, query and body.

use std::collections::BTreeMap;

use serde_json::Value;

use super::block::ParameterBlock;
use super::blocks::ParameterBlocks;
use super::body::{BodyParameters, GivenBody};
use super::convert;
use super::effective::{EffectiveParameter, EffectiveParameters, Source};
use super::given::{Candidates, Given};
use super::json::{RESERVED, has_reserved_name, is_reserved};
use super::limits::ParameterLimits;
use super::look_alike::{LookAlike, look_alikes};
use super::mask::{free_name, mask_value};
use super::number_literal::NumberFlaw;
use super::overlay::{Overlay, PassThrough};
use super::problem::{ParameterProblem, ProblemCode, excerpt, shortened, without_token};
use super::query::QueryParameters;
use super::size::JsonSize;
use super::types::ParameterType;
use super::warning::{ParameterWarning, WarningCode, bounded};

/// Upper bound on the values in the secret parameters of one call, including arrays and objects.
///
/// The mask searches for each of them in all output of the run.
const SECRET_VALUES: usize = 1_000;

/// Parameters of a run, with warnings for its caller.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Merged {
    /// The effective parameters.
    pub parameters: EffectiveParameters,
    /// Warnings about undeclared names that look like declared ones: at most 16, then one that counts the
    /// rest.
    pub warnings: Vec<ParameterWarning>,
}

/// Merges a call's query and body with the defaults of a workflow's blocks. The body overrides the query, and
/// the query overrides the defaults.
///
/// - A declared value is converted to its type ([`ParameterType`]). Only the effective value is converted,
///   not one that the body overrides. JSON `null` means that no value was given. A block that is not required
///   and has neither value nor default is absent from the result.
/// - An undeclared value is kept as given: text from a query or form, any JSON value from a JSON body. If the
///   webhook is `strict`, it is a problem.
/// - An undeclared name that looks like a declared one gives a warning. Look-alikes differ by case, by one
///   letter, by a leading `amp;` or byte order mark, by trailing brackets, or only before Unicode NFKC. If
///   the webhook is `strict`, the likeness is part of the problem. If the declared block is secret, the value
///   is kept as a secret too.
/// - Tokens in names and values are masked.
/// - A number that JSON cannot keep as it is written, such as an integer beyond 64 bits, is a problem.
/// - A name repeated in the query, or in the form, is a problem unless its block is a list, even if the body
///   overrides it.
///
/// # Errors
///
/// *All* problems. Those of declared parameters come first, in the order declared. Then follow those of
/// undeclared names, in byte order.
/// If there are too many names, one problem of code [`TooMany`](ProblemCode::TooMany) for the parameter `*`
/// replaces those of undeclared names.
/// If the JSON is nested too deeply, has too many values, or is too large, that is the only problem.
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
/// let parameters = merge(&blocks, &query, &body, false, &limits).expect("everything converts").parameters;
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
) -> Result<Merged, Vec<ParameterProblem>> {
    merge_over(blocks, query, body, &Overlay::default(), strict, limits)
}

/// As [`merge`], with values of a webhook's own over those of the call: … < body < mapped < fixed.
///
/// Of query and body only what may [pass](PassThrough) counts. A mapped value is converted like one of a query, or of a
/// JSON body. A caller that gives a fixed parameter gets a warning, or a problem when the webhook is strict.
///
/// # Errors
///
/// As [`merge`]; what could not be mapped comes first.
pub fn merge_over(
    blocks: &ParameterBlocks,
    query: &QueryParameters,
    body: &BodyParameters,
    overlay: &Overlay,
    strict: bool,
    limits: &ParameterLimits,
) -> Result<Merged, Vec<ParameterProblem>> {
    let given = gather(blocks, query, body, overlay);
    let values = measure(&given, limits)?;
    let undeclared: Vec<(&str, &Candidates<'_>)> = if given.len() > limits.parameters {
        Vec::new()
    } else {
        let given = given.iter().map(|(name, candidates)| (*name, candidates));
        given.filter(|(name, _)| blocks.get(name).is_none()).collect()
    };
    let mut merging = Merging {
        effective: EffectiveParameters::new(),
        problems: overlay.problems.clone(),
        warnings: Vec::new(),
        limits: limits.with_json_values(limits.json_values.saturating_sub(values)),
        look_alikes: look_alikes(blocks, undeclared.iter().map(|(name, _)| *name)),
        secret_values: 0,
    };
    for block in blocks {
        merging.declared(block, given.get(block.name.as_str()));
    }
    if given.len() > limits.parameters {
        merging.problems.push(too_many(given.len(), limits));
    }
    for (name, candidates) in undeclared {
        merging.undeclared(name, candidates, strict);
    }
    merging.report_overrides(&given, strict);
    if merging.secret_values > SECRET_VALUES {
        merging.problems.push(too_many_secrets(merging.secret_values));
    }
    match merging.problems.is_empty() {
        true => Ok(Merged { parameters: merging.effective, warnings: bounded(merging.warnings) }),
        false => Err(merging.problems),
    }
}

/// Gathers what the sources give under each name. Of query and body, only what may pass.
fn gather<'a>(
    blocks: &ParameterBlocks,
    query: &'a QueryParameters,
    body: &'a BodyParameters,
    overlay: &'a Overlay,
) -> BTreeMap<&'a str, Candidates<'a>> {
    let passes = |name: &str| match overlay.pass_through {
        PassThrough::All => true,
        PassThrough::Declared => blocks.get(name).is_some(),
        PassThrough::None => false,
    };
    let mut gathered: BTreeMap<&str, Candidates<'_>> = BTreeMap::new();
    for (name, text) in query.pairs().iter().filter(|(name, _)| passes(name)) {
        Given::add_text(&mut gathered.entry(name).or_default().query, text);
    }
    match &body.given {
        GivenBody::Form(pairs) => {
            for (name, text) in pairs.iter().filter(|(name, _)| passes(name)) {
                Given::add_text(&mut gathered.entry(name).or_default().body, text);
            }
        }
        GivenBody::Object { members, flawed } => {
            for (name, value) in members.iter().filter(|(name, _)| passes(name)) {
                let given = Given::Json { value, flaw: flawed.get(name).copied() };
                gathered.entry(name.as_str()).or_default().body = Some(given);
            }
        }
    }
    for (name, given) in overlay.mapped() {
        gathered.entry(name).or_default().mapped = Some(given);
    }
    for (name, given) in overlay.fixed() {
        gathered.entry(name).or_default().fixed = Some(given);
    }
    gathered
}

/// Checks the size of what a body and a mapping give, and counts the values.
fn measure(
    gathered: &BTreeMap<&str, Candidates<'_>>,
    limits: &ParameterLimits,
) -> Result<usize, Vec<ParameterProblem>> {
    let mut total = JsonSize::default();
    for (name, candidates) in gathered {
        for given in [&candidates.body, &candidates.mapped].into_iter().flatten() {
            let Given::Json { value, .. } = given else { continue };
            if total.add(value, limits.depth()).is_err() {
                let depth = limits.depth();
                let message =
                    format!("The parameter {} is nested more than {depth} levels deep.", excerpt(name));
                return Err(vec![problem(name, ProblemCode::TooDeep, message, None)]);
            }
            total.text_bytes += name.len();
        }
        // A mapping can take the same text many times.
        if let Some(Given::Texts(texts)) = &candidates.mapped {
            total.text_bytes += texts.iter().map(|text| text.len()).sum::<usize>();
        }
    }
    let too = |code, message| Err(vec![ParameterProblem::new("*", code, message)]);
    if total.values > limits.json_values {
        let limit = limits.json_values;
        too(
            ProblemCode::TooMany,
            format!("The body has {} JSON values, and at most {limit} are allowed.", total.values),
        )
    } else if total.text_bytes > limits.body_bytes {
        let limit = limits.body_bytes;
        too(ProblemCode::TooLarge, format!("The parameters are longer than {limit} bytes."))
    } else {
        Ok(total.values)
    }
}

struct Merging<'a, 'n> {
    effective: EffectiveParameters,
    problems: Vec<ParameterProblem>,
    warnings: Vec<ParameterWarning>,
    /// Limits, of which `json_values` is the number of further values.
    limits: ParameterLimits,
    look_alikes: BTreeMap<&'n str, LookAlike<'a>>,
    /// Number of values in secret parameters so far, including arrays and objects.
    secret_values: usize,
}

impl Merging<'_, '_> {
    fn declared(&mut self, block: &ParameterBlock, candidates: Option<&Candidates<'_>>) {
        if let (Some(candidates), true) = (candidates, block.parameter_type != ParameterType::List) {
            self.report_repetitions(&block.name, candidates, block.secret);
        }
        let outcome = match candidates.and_then(Candidates::strongest_but_null) {
            Some((given, source)) => match self.convert(block, given) {
                Some(converted) => converted.map(|value| (value, source)),
                None => return,
            },
            None => match &block.default {
                Some(default) => Ok((default.clone(), Source::Default)),
                None if block.required => Err(self.required(block)),
                None => return,
            },
        };
        match outcome {
            Ok((value, source)) => self.keep(block.name.clone(), value, source, block.secret),
            Err(problem) => self.problems.push(problem),
        }
    }

    /// Returns `None` if several values were given and one is expected, which is already reported.
    fn convert(
        &mut self,
        block: &ParameterBlock,
        given: &Given<'_>,
    ) -> Option<Result<Value, ParameterProblem>> {
        match given {
            Given::Json { value, flaw } => {
                let matters = |flaw: &NumberFlaw| {
                    *flaw != NumberFlaw::RoundedToWhole || block.parameter_type == ParameterType::Integer
                };
                Some(match flaw.filter(matters) {
                    Some(flaw) => Err(flawed(&block.name, flaw)),
                    None => convert::from_json(block, value),
                })
            }
            Given::Texts(texts) => match texts.as_slice() {
                [text] => {
                    let converted = convert::from_text(block, text, &self.limits);
                    if let (ParameterType::Json, Ok(value)) = (block.parameter_type, &converted) {
                        self.use_up(value);
                    }
                    Some(converted)
                }
                several if block.parameter_type == ParameterType::List => {
                    Some(Ok(convert::from_texts(several)))
                }
                _ => None,
            },
        }
    }

    fn use_up(&mut self, value: &Value) {
        self.limits.json_values = self.limits.json_values.saturating_sub(count(value));
    }

    fn undeclared(&mut self, name: &str, candidates: &Candidates<'_>, strict: bool) {
        if name.is_empty() || name.len() > self.limits.name_bytes || is_reserved(name) {
            self.problems.push(name_invalid(name, &self.limits));
            return;
        }
        let look_alike = self.look_alikes.get(name).copied();
        let secret = look_alike.is_some_and(|found| found.block.secret);
        if strict {
            let given = [&candidates.query, &candidates.body].into_iter().flatten();
            let mut shown = given.filter(|_| !secret);
            let hint = look_alike.map(|found| found.hint(name)).or_else(|| shown.find_map(Given::hint));
            self.problems.push(undeclared(name, hint));
            return;
        }
        self.report_repetitions(name, candidates, secret);
        if let Some(found) = look_alike {
            let warning = ParameterWarning::new(shortened(name), WarningCode::LookAlike, found.hint(name));
            self.warnings.push(warning);
        }
        let (value, source) = match candidates.strongest() {
            Some((Given::Json { flaw: Some(flaw), .. }, _)) if *flaw != NumberFlaw::RoundedToWhole => {
                self.problems.push(flawed(name, *flaw));
                return;
            }
            Some((Given::Json { value, .. }, source)) => ((*value).clone(), source),
            Some((Given::Texts(texts), source)) => match texts.as_slice() {
                [text] => (Value::from(*text), source),
                _ => return,
            },
            None => return,
        };
        self.keep(name.to_owned(), value, source, secret);
    }

    /// Keeps a value with its tokens masked. A default is kept unchanged, since it comes from the workflow.
    fn keep(&mut self, name: String, mut value: Value, source: Source, secret: bool) {
        let name = if source == Source::Default {
            name
        } else if has_reserved_name(&value) {
            let message = format!(
                "The parameter {} holds a name that begins with {RESERVED}, which is reserved.",
                excerpt(&name)
            );
            self.problems.push(problem(&name, ProblemCode::NameInvalid, message, None));
            return;
        } else {
            mask_value(&mut value);
            free_name(name, |taken| self.effective.get(taken).is_some())
        };
        if secret && source != Source::Default {
            self.secret_values += count(&value);
        }
        let mut parameter = EffectiveParameter::new(value, source);
        parameter.secret = secret;
        self.effective.insert(name, parameter);
    }

    /// Tells a caller that the webhook's settings decide a value.
    fn report_overrides(&mut self, gathered: &BTreeMap<&str, Candidates<'_>>, strict: bool) {
        let overridden = gathered.iter().filter(|(_, given)| given.fixed.is_some() && given.is_from_caller());
        for (name, _) in overridden {
            let message =
                format!("The parameter {} is fixed for this webhook; no caller sets it.", excerpt(name));
            if strict {
                self.problems.push(problem(name, ProblemCode::Fixed, message, None));
            } else {
                self.warnings.push(ParameterWarning::new(shortened(name), WarningCode::Fixed, message));
            }
        }
    }

    fn report_repetitions(&mut self, name: &str, candidates: &Candidates<'_>, secret: bool) {
        for (given, place) in [(&candidates.query, "query"), (&candidates.body, "body")] {
            let Some(given) = given.as_ref().filter(|given| given.is_repeated()) else { continue };
            let message = format!(
                "The parameter {} is given more than once in the {place}; only one declared as a list may be.",
                excerpt(name)
            );
            let look_alike = self.look_alikes.get(name).map(|found| found.hint(name));
            let hint = look_alike.or_else(|| if secret { None } else { given.hint() });
            self.problems.push(problem(name, ProblemCode::Repeated, message, hint));
        }
    }

    fn required(&self, block: &ParameterBlock) -> ParameterProblem {
        let message = format!(
            "The parameter {} of type {} is required and has no default; give it in the query or in the body.",
            excerpt(&block.name),
            block.parameter_type
        );
        let meant = self.look_alikes.iter().find(|(_, found)| found.block.name == block.name);
        let hint = meant.map(|(name, found)| found.hint(name));
        problem(&block.name, ProblemCode::Required, message, hint)
    }
}

fn undeclared(name: &str, hint: Option<String>) -> ParameterProblem {
    let message = format!(
        "The workflow declares no parameter {}, and this webhook is strict: it takes declared ones only.",
        excerpt(name)
    );
    problem(name, ProblemCode::Undeclared, message, hint)
}

fn flawed(name: &str, flaw: NumberFlaw) -> ParameterProblem {
    let message = format!(
        "The parameter {} has a number that cannot be kept as it is written. {} Send it as a text, in quotes, or \
         round it yourself.",
        excerpt(name),
        flaw.sentence()
    );
    problem(name, ProblemCode::WrongType, message, None)
}

fn name_invalid(name: &str, limits: &ParameterLimits) -> ParameterProblem {
    let message = if name.is_empty() {
        "A parameter without a name is given.".to_owned()
    } else if is_reserved(name) {
        format!("The name {} is reserved: none may begin with {RESERVED}.", excerpt(name))
    } else {
        let (length, limit) = (name.len(), limits.name_bytes);
        format!("The name {} has {length} bytes, and at most {limit} are allowed.", excerpt(name))
    };
    ParameterProblem::new(shortened(name), ProblemCode::NameInvalid, message)
}

/// Counts the values in a value whose depth was checked.
fn count(value: &Value) -> usize {
    let mut size = JsonSize::default();
    let _ = size.add(value, usize::MAX);
    size.values
}

fn too_many_secrets(given: usize) -> ParameterProblem {
    let message =
        format!("The secret parameters hold {given} values, and at most {SECRET_VALUES} are allowed.");
    ParameterProblem::new("*", ProblemCode::TooMany, message)
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
