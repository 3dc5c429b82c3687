//! Workflow files: TOML that declares a workflow and its execution.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

use webhook_core::executor::Workflow;
use webhook_core::id::WorkflowKey;
use webhook_process::{Command, CommandWorkflow, Python};

use crate::loaded_workflow::{Action, LoadedWorkflow};
use crate::report::Report;
use crate::section::{Document, Entry, FileProblem, Section};
use crate::{notebook, parameter_section, regular_file};

/// Upper bound on the files that are loaded side by side. Each notebook costs a start of Python.
const LOADED_AT_ONCE: usize = 8;

/// Error of loading the workflows.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkflowFileError {
    /// The folder cannot be read.
    #[error("the workflow folder {} cannot be read; name another with --workflows", .folder.display())]
    Folder {
        /// Absolute path of the folder.
        folder: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("{} cannot be read", .path.display())]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// A file is invalid.
    #[error("{0}")]
    Invalid(FileProblem),
    /// Two files declare the same workflow.
    #[error("{} and {} both declare the workflow {workflow}", .first.display(), .second.display())]
    Duplicate {
        /// Key of the workflow.
        workflow: WorkflowKey,
        /// First file by name.
        first: PathBuf,
        /// Second file by name.
        second: PathBuf,
    },
}

/// Loads every `*.toml` of a folder, in the order of their names. Other files are ignored.
///
/// Fails with [`WorkflowFileError`] for the first fault.
pub(crate) fn load_folder(folder: &Path, python: &Python) -> Result<Vec<LoadedWorkflow>, WorkflowFileError> {
    let unreadable = |source| {
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        WorkflowFileError::Folder { folder, source }
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    if files.is_empty() {
        tracing::warn!(folder = %folder.display(), "the workflow folder has no *.toml file, so nothing can be called");
    }
    files.sort();
    let mut declared_in: BTreeMap<WorkflowKey, PathBuf> = BTreeMap::new();
    let mut loaded = Vec::new();
    for (own, file) in load_all(&files, python).into_iter().zip(files) {
        let own = own?;
        let workflow = own.workflow.key.clone();
        if let Some(first) = declared_in.insert(workflow.clone(), file.clone()) {
            return Err(WorkflowFileError::Duplicate { workflow, first, second: file });
        }
        loaded.push(own);
    }
    Ok(loaded)
}

/// Loads files side by side. Returns the results in their order, at least up to the first fault.
fn load_all(files: &[PathBuf], python: &Python) -> Vec<Result<LoadedWorkflow, WorkflowFileError>> {
    let places: Vec<_> = files.iter().map(|file| (file, OnceLock::new())).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some((file, place)) = places.get(next.fetch_add(1, Ordering::Relaxed)) {
            let own = load_file(file, python);
            if own.is_err() {
                // Those before it are already in progress, and none after it is needed.
                next.store(files.len(), Ordering::Relaxed);
            }
            let _ = place.set(own);
        }
    };
    let loaders = thread::available_parallelism().map_or(1, NonZero::get).clamp(2, LOADED_AT_ONCE);
    thread::scope(|scope| {
        for _ in 0..loaders.min(files.len()) {
            scope.spawn(work);
        }
    });
    places.into_iter().map_while(|(_, place)| place.into_inner()).collect()
}

fn load_file(file: &Path, python: &Python) -> Result<LoadedWorkflow, WorkflowFileError> {
    let text = regular_file::read_to_string(file)
        .map_err(|source| WorkflowFileError::Unreadable { path: file.to_owned(), source })?;
    load(file, &text, python).map_err(WorkflowFileError::Invalid)
}

/// Parses one file. Paths in it are relative to its folder. `python` runs notebooks.
pub(crate) fn load(file: &Path, text: &str, python: &Python) -> Result<LoadedWorkflow, FileProblem> {
    let folder = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let document = Document { file, text };
    let table = document.parse()?;
    let mut root = Section::root(document, &table);
    let kind = root.require("kind")?;
    let kind = kind.text()?.parse().map_err(|error| kind.problem(format!("{error}")))?;
    let id = root.require("id")?;
    let id = id.text()?.parse().map_err(|error| id.problem(format!("{error}")))?;
    let title = root.require("title")?.text()?;
    let parameters = root.take("parameters");
    let actions = ["command", "notebook", "report", "noop"].map(|name| (name, root.take(name)));
    let mut given = actions.into_iter().filter_map(|(name, entry)| Some((name, entry?)));
    let (name, entry) = given.next().ok_or_else(|| {
        root.problem("one of [command], [notebook], [report] and [noop] is needed to say what executes it")
    })?;
    if let Some((other, entry)) = given.next() {
        return Err(
            entry.problem(format!("only one thing executes a workflow, and [{name}] and [{other}] are two"))
        );
    }
    let key = WorkflowKey::new(kind, id);
    let loaded = if name == "notebook" {
        notebook::load(&entry, parameters.as_ref(), (key, title), folder, python)?
    } else {
        let blocks = parameters.as_ref().map(parameter_section::declared).transpose()?;
        act(name, &entry, Workflow::new(key, title, blocks.unwrap_or_default()), folder)?
    };
    root.finish()?;
    Ok(loaded)
}

fn act(
    name: &str,
    entry: &Entry<'_>,
    workflow: Workflow,
    folder: &Path,
) -> Result<LoadedWorkflow, FileProblem> {
    let mut section = entry.section()?;
    let (workflow, action) = match name {
        "command" => {
            let own = CommandWorkflow::new(workflow, command(&mut section, folder)?)
                .map_err(|error| entry.problem(error.to_string()))?;
            (own.workflow().clone(), Action::Command(Box::new(own)))
        }
        "report" => {
            let report = Report::load(&mut section, folder, &workflow)?;
            (Arc::new(workflow), Action::Report(Box::new(report)))
        }
        _ => (Arc::new(workflow), Action::Noop),
    };
    section.finish()?;
    Ok(LoadedWorkflow { workflow, action })
}

/// Parses a command. A program with a slash, and the working folder, are relative to the folder of the file.
///
/// Without a working folder, it is that folder itself.
fn command(section: &mut Section<'_>, folder: &Path) -> Result<Command, FileProblem> {
    let folder = std::path::absolute(folder).map_err(|error| section.problem(error.to_string()))?;
    let program = section.require("program")?.text()?;
    let mut command =
        if program.contains('/') { Command::new(folder.join(program)) } else { Command::new(program) };
    if let Some(arguments) = section.take("args") {
        for argument in arguments.items()? {
            command = command.with_arguments([argument.any_text()?]);
        }
    }
    command = match section.take("cwd") {
        Some(own) => command.with_folder(folder.join(own.text()?)),
        None => command.with_folder(folder),
    };
    if let Some(variables) = section.take("env") {
        for (name, value) in variables.section()?.take_all() {
            command = command.with_variable(name, value.any_text()?);
        }
    }
    Ok(command)
}

#[cfg(test)]
mod tests;
