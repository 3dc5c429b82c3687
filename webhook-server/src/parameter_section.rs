//! Parses the `[[parameters]]` of a workflow file.

use webhook_core::parameters::{InvalidBlocks, ParameterBlock, ParameterBlocks, ParameterType};

use crate::section::{Entry, FileProblem, Section};

/// Returns the parameters that a file declares without a notebook.
pub(crate) fn declared(entry: &Entry<'_>) -> Result<ParameterBlocks, FileProblem> {
    let items = entry.items()?;
    let mut blocks = Vec::new();
    for item in &items {
        let mut section = item.section()?;
        let name = section.require("name")?;
        let kind = section.require("type")?;
        let declared = ParameterBlock::new(name.text()?, type_of(&kind)?);
        blocks.push(block(item, section, declared, |entry, message| entry.problem(message))?);
    }
    ParameterBlocks::new(blocks)
        .map_err(|error| place(&error, &items).unwrap_or(entry).problem(messages(&error)))
}

/// Reason why a notebook's parameters and the file's additions make no workflow.
#[derive(Debug)]
pub(crate) enum Unrefined {
    /// The file is wrong, whatever the notebook.
    File(FileProblem),
    /// The notebook contradicts the file, or itself.
    ///
    /// Any editor of the notebook can cause that, so it must not stop the other workflows.
    Notebook(String),
}

impl From<FileProblem> for Unrefined {
    fn from(problem: FileProblem) -> Self {
        Self::File(problem)
    }
}

/// Returns the parameters of a notebook with the additions of a file, in the notebook's order.
pub(crate) fn refined(
    own: &[ParameterBlock],
    entry: Option<&Entry<'_>>,
) -> Result<ParameterBlocks, Unrefined> {
    let items = entry.map_or(Ok(Vec::new()), Entry::items)?;
    let mut blocks = own.to_vec();
    for item in &items {
        let refined = refinement(item, own)?;
        if let Some(block) = blocks.iter_mut().find(|block| block.name == refined.name) {
            *block = refined;
        }
    }
    ParameterBlocks::new(blocks).map_err(|error| match place(&error, &items) {
        Some(item) => unfit(item, &messages(&error)),
        None => Unrefined::Notebook(messages(&error)),
    })
}

/// Returns the error for an addition that contradicts the notebook.
fn unfit(entry: &Entry<'_>, message: &str) -> Unrefined {
    Unrefined::Notebook(format!("{}: {message}", entry.key()))
}

fn refinement(item: &Entry<'_>, own: &[ParameterBlock]) -> Result<ParameterBlock, Unrefined> {
    let mut section = item.section()?;
    let name = section.require("name")?;
    let text = name.text()?;
    let Some(block_of_notebook) = own.iter().find(|block| block.name == text) else {
        let names: Vec<_> = own.iter().map(|block| block.name.as_str()).collect();
        return Err(match names.is_empty() {
            true => unfit(&name, "the notebook has no cell with the tag parameters that assigns anything"),
            false => {
                unfit(&name, &format!("the notebook has no such parameter; it has {}", names.join(", ")))
            }
        });
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
    block(item, section, refined, unfit)
}

fn type_of(kind: &Entry<'_>) -> Result<ParameterType, FileProblem> {
    kind.text()?.parse().map_err(|error| kind.problem(format!("{error}")))
}

/// Adds the rest of a section to a block. `unfit` makes the error for an invalid block.
fn block<E: From<FileProblem>>(
    item: &Entry<'_>,
    mut section: Section<'_>,
    mut block: ParameterBlock,
    unfit: impl Fn(&Entry<'_>, &str) -> E,
) -> Result<ParameterBlock, E> {
    if let Some(required) = section.take("required") {
        block.required = required.boolean()?;
        // A required value excludes the notebook's own default.
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
    check(&block).map_err(|error| unfit(item, &messages(&error)))?;
    if let Some(default) = default {
        block.default = Some(default.json()?);
        check(&block).map_err(|error| unfit(&default, &messages(&error)))?;
    }
    Ok(block)
}

/// Returns the entry in the file of the block with a problem.
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::section::Document;

    fn refine(own: &[ParameterBlock], text: &str) -> Result<ParameterBlocks, Unrefined> {
        let document = Document { file: Path::new("a.toml"), text };
        let table = document.parse().unwrap();
        let entry = Section::root(document, &table).take("parameters");
        refined(own, entry.as_ref())
    }

    #[test]
    fn what_does_not_go_with_the_notebook_is_told_from_a_mistake_in_the_file() {
        let own = [ParameterBlock::new("day", ParameterType::Text).with_default("monday")];
        let unfit = |text: &str| match refine(&own, text) {
            Err(Unrefined::Notebook(message)) => message,
            other => panic!("{other:?}"),
        };
        let renamed = unfit("[[parameters]]\nname = 'date'");
        assert_eq!(renamed, "parameters[0].name: the notebook has no such parameter; it has day");
        let default = unfit("[[parameters]]\nname = 'day'\ntype = 'integer'");
        assert!(default.starts_with("parameters[0]: "), "{default}");
        let choices = unfit("[[parameters]]\nname = 'day'\nchoices = ['friday']");
        assert!(choices.starts_with("parameters[0]: "), "{choices}");

        for text in
            ["parameters = 1", "[[parameters]]\nname = 'day'\ntype = 'x'", "[[parameters]]\nsecret = 1"]
        {
            assert!(matches!(refine(&own, text), Err(Unrefined::File(_))), "{text}");
        }
        assert_eq!(refine(&own, "").unwrap().iter().count(), 1);
    }
}
