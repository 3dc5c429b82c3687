//! The `[[parameters]]` of a workflow file.

use webhook_core::parameters::{InvalidBlocks, ParameterBlock, ParameterBlocks, ParameterType};

use crate::section::{Entry, Problem, Section};

/// The parameters that a file declares by itself.
pub(crate) fn declared(entry: &Entry<'_>) -> Result<ParameterBlocks, Problem> {
    let items = entry.items()?;
    let mut blocks = Vec::new();
    for item in &items {
        let mut section = item.section()?;
        let name = section.require("name")?;
        let kind = section.require("type")?;
        blocks.push(block(item, section, ParameterBlock::new(name.text()?, type_of(&kind)?))?);
    }
    ParameterBlocks::new(blocks)
        .map_err(|error| place(&error, &items).unwrap_or(entry).problem(messages(&error)))
}

/// The parameters of a notebook with what a file adds to them, in the notebook's order. What is wrong with the
/// notebook's own is an `Err(Err(message))`.
pub(crate) fn refined(
    own: &[ParameterBlock],
    entry: Option<&Entry<'_>>,
) -> Result<ParameterBlocks, Result<Problem, String>> {
    let items = entry.map_or(Ok(Vec::new()), Entry::items).map_err(Ok)?;
    let mut blocks = own.to_vec();
    for item in &items {
        let refined = refinement(item, own).map_err(Ok)?;
        if let Some(block) = blocks.iter_mut().find(|block| block.name == refined.name) {
            *block = refined;
        }
    }
    ParameterBlocks::new(blocks).map_err(|error| match place(&error, &items) {
        Some(item) => Ok(item.problem(messages(&error))),
        None => Err(messages(&error)),
    })
}

fn refinement(item: &Entry<'_>, own: &[ParameterBlock]) -> Result<ParameterBlock, Problem> {
    let mut section = item.section()?;
    let name = section.require("name")?;
    let text = name.text()?;
    let Some(block_of_notebook) = own.iter().find(|block| block.name == text) else {
        let names: Vec<_> = own.iter().map(|block| block.name.as_str()).collect();
        return Err(name.problem(match names.is_empty() {
            true => "the notebook has no cell with the tag parameters that assigns anything".to_owned(),
            false => format!("the notebook has no such parameter; it has {}", names.join(", ")),
        }));
    };
    let mut refined = block_of_notebook.clone();
    match section.take("type") {
        Some(kind) => refined.parameter_type = type_of(&kind)?,
        None if section.has("choices") => refined.parameter_type = ParameterType::Choice,
        None => {}
    }
    if refined.parameter_type != ParameterType::Choice || section.has("choices") {
        refined.choices.clear();
    }
    block(item, section, refined)
}

fn type_of(kind: &Entry<'_>) -> Result<ParameterType, Problem> {
    kind.text()?.parse().map_err(|error| kind.problem(format!("{error}")))
}

/// A block with what the rest of its section says.
fn block(
    item: &Entry<'_>,
    mut section: Section<'_>,
    mut block: ParameterBlock,
) -> Result<ParameterBlock, Problem> {
    if let Some(required) = section.take("required") {
        block.required = required.boolean()?;
        // Who demands a value does not want the notebook's own.
        if block.required {
            block.default = None;
        }
    }
    if let Some(secret) = section.take("secret") {
        block.secret = secret.boolean()?;
    }
    if let Some(description) = section.take("description") {
        block.description = Some(description.text()?.to_owned());
    }
    if let Some(choices) = section.take("choices") {
        for choice in choices.items()? {
            block.choices.push(choice.any_text()?.to_owned());
        }
    }
    let default = section.take("default");
    section.finish()?;
    check(&block).map_err(|error| item.problem(messages(&error)))?;
    if let Some(default) = default {
        block.default = Some(default.json()?);
        check(&block).map_err(|error| default.problem(messages(&error)))?;
    }
    Ok(block)
}

/// Where in the file the block is that something is wrong with.
fn place<'e, 'a>(error: &InvalidBlocks, items: &'e [Entry<'a>]) -> Option<&'e Entry<'a>> {
    let named = |name: &str| items.iter().rfind(|item| name_of(item) == Some(name));
    error.problems.first().and_then(|problem| named(&problem.parameter))
}

fn name_of<'a>(item: &Entry<'a>) -> Option<&'a str> {
    item.section().ok()?.take("name")?.text().ok()
}

fn check(block: &ParameterBlock) -> Result<(), InvalidBlocks> {
    ParameterBlocks::new(vec![block.clone()]).map(|_| ())
}

fn messages(error: &InvalidBlocks) -> String {
    error.problems.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>().join("; ")
}
