//! The workflows that are called, and the calls.

use std::fmt::Write;

use webhook_core::parameters::{ParameterBlock, ParameterBlocks, ParameterType};

use crate::rows::Call;

/// The workflow that does nothing.
pub(crate) const NOOP: &str = "report/nothing";
/// The workflow that executes `/bin/true`.
pub(crate) const COMMAND: &str = "report/true";
/// The command it executes.
pub(crate) const PROGRAM: &str = "/bin/true";

/// One parameter of each type.
const PARAMETERS: [(&str, ParameterType); 9] = [
    ("title", ParameterType::Text),
    ("rows", ParameterType::Integer),
    ("rate", ParameterType::Number),
    ("full", ParameterType::Boolean),
    ("date", ParameterType::Date),
    ("since", ParameterType::Datetime),
    ("region", ParameterType::Choice),
    ("tags", ParameterType::List),
    ("options", ParameterType::Json),
];
/// Values of the parameter of the type choice.
const CHOICES: [&str; 3] = ["EMEA", "APAC", "AMER"];

/// The declared parameters, for the library.
pub(crate) fn blocks() -> ParameterBlocks {
    let blocks = PARAMETERS.map(|(name, parameter_type)| {
        let block = ParameterBlock::new(name, parameter_type);
        if parameter_type == ParameterType::Choice { block.with_choices(CHOICES) } else { block }
    });
    ParameterBlocks::new(blocks.to_vec()).expect("the parameters are in order")
}

/// Writes the workflow file of the example server for it.
pub(crate) fn noop_file() -> String {
    let mut text = head(NOOP);
    for (name, parameter_type) in PARAMETERS {
        write!(text, "[[parameters]]\nname = '{name}'\ntype = '{parameter_type}'\n").expect("text grows");
        if parameter_type == ParameterType::Choice {
            writeln!(text, "choices = {CHOICES:?}").expect("text grows");
        }
    }
    text + "[noop]\n"
}

/// The workflow file of the command.
pub(crate) fn command_file() -> String {
    head(COMMAND) + &format!("[command]\nprogram = '{PROGRAM}'\n")
}

fn head(workflow: &str) -> String {
    let (kind, id) = workflow.split_once('/').expect("a kind and an id");
    format!("kind = '{kind}'\nid = '{id}'\ntitle = '{id}'\n")
}

/// The bytes of a call at `url`, as curl sends it.
pub(crate) fn request(call: Call, url: &str) -> Vec<u8> {
    let (address, path) = address_and_path(url);
    let head = |method: &str, path: &str, more: &str| {
        format!(
            "{method} /{path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: curl/8.14.1\r\nAccept: */*\r\n{more}\r\n"
        )
    };
    let request = match call {
        Call::Get => {
            let separator = if path.contains('?') { '&' } else { '?' };
            head("GET", &format!("{path}{separator}date=2026-01-10&region=AMER"), "")
        }
        Call::Post => {
            let body = r#"{"date": "2026-01-10", "region": "AMER"}"#;
            let more = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
            head("POST", path, &more) + body
        }
        Call::Plain => head("POST", path, ""),
        Call::Command => return waiting_request(url),
    };
    request.into_bytes()
}

/// A call without parameters that is answered when its run has ended.
pub(crate) fn waiting_request(url: &str) -> Vec<u8> {
    let (address, path) = address_and_path(url);
    format!(
        "POST /{path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: curl/8.14.1\r\nAccept: */*\r\nPrefer: wait=30\r\n\r\n"
    )
    .into_bytes()
}

/// The parts of a URL: `host:port`, and what follows the slash.
pub(crate) fn address_and_path(url: &str) -> (&str, &str) {
    url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).expect("a URL")
}
