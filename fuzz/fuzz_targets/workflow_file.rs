//! Reads a workflow file of the example server.
#![no_main]
#![allow(dead_code)]

use std::path::Path;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use webhook_core::parameters::ParameterBlocks;
use webhook_process::Python;

#[path = "../../examples/server/notebook.rs"]
mod notebook;
#[path = "../../examples/server/parameter_section.rs"]
mod parameter_section;
#[path = "../../examples/server/regular_file.rs"]
mod regular_file;
#[path = "../../examples/server/report/mod.rs"]
mod report;
#[path = "../../examples/server/section.rs"]
mod section;
#[path = "../../examples/server/workflow_file.rs"]
mod workflow_file;

fuzz_target!(|text: &str| {
    static PYTHON: OnceLock<Python> = OnceLock::new();
    let python = PYTHON.get_or_init(|| Python::new("/nonexistent/python"));
    // Paths in the file are relative to this folder, which is not there.
    let file = Path::new("/nonexistent/workflows/fuzzed.toml");
    match workflow_file::load(file, text, python) {
        Ok(loaded) => {
            let workflow = loaded.workflow;
            assert!(!workflow.title.trim().is_empty());
            assert_eq!(
                workflow.key.to_string().parse().ok().as_ref(),
                Some(&workflow.key),
                "its name is valid"
            );
            let blocks: Vec<_> = workflow.parameters.iter().cloned().collect();
            assert_eq!(
                ParameterBlocks::new(blocks).as_ref(),
                Ok(&workflow.parameters),
                "its blocks are valid"
            );
        }
        Err(problem) => {
            let message = problem.to_string();
            let place =
                message.strip_prefix("/nonexistent/workflows/fuzzed.toml:").expect("it names the file");
            let line = place.split(':').next().and_then(|line| line.parse().ok()).expect("it names the line");
            assert!((1..=1 + text.matches('\n').count()).contains(&line), "the line {line} is in the file");
        }
    }
});
