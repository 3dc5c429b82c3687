//! The unit tests of the example server. Cargo builds an example either to run or to test, and tests/server needs it
//! to run, so they are built here.

#![allow(dead_code)]

#[path = "../examples/server/admin_token.rs"]
mod admin_token;
#[path = "../examples/server/executor.rs"]
mod executor;
#[path = "../examples/server/integrations.rs"]
mod integrations;
#[path = "../examples/server/notebook.rs"]
mod notebook;
#[path = "../examples/server/options.rs"]
mod options;
#[path = "../examples/server/parameter_section.rs"]
mod parameter_section;
#[path = "../examples/server/regular_file.rs"]
mod regular_file;
#[path = "../examples/server/report/mod.rs"]
mod report;
#[path = "../examples/server/section.rs"]
mod section;
#[path = "../examples/server/workflow_file.rs"]
mod workflow_file;
