//! Reads a workflow file of the server.
#![no_main]

use std::path::Path;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use webhook_core::parameters::ParameterBlocks;
use webhook_process::Python;

fuzz_target!(|text: &str| {
    static PYTHON: OnceLock<Python> = OnceLock::new();
    let python = PYTHON.get_or_init(|| Python::new("/nonexistent/python"));
    // Paths in the file are relative to this folder, which is not there.
    let file = Path::new("/nonexistent/workflows/fuzzed.toml");
    match webhook_server::fuzzing::load_workflow(file, text, python) {
        Ok(workflow) => {
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
