//! Environment of a command.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use serde_json::Value;
use webhook_core::id::RunId;
use webhook_core::parameters::{EffectiveParameters, ParameterBlocks, ParameterType};

use crate::command::Command;
use crate::error::{CommandPart, InvalidCommand};

/// Prefix of the variables of this process that no command gets. They configure the service and hold its
/// secrets.
const OWN_PREFIX: &[u8] = b"WEBHOOK_";

const RUN_ID: &str = "WEBHOOK_RUN_ID";

/// Variable with the caller's trace context (W3C Trace Context), if the call had one.
pub(crate) const TRACEPARENT: &str = "TRACEPARENT";

/// Upper bound on the value of a variable, in bytes.
const VALUE_BYTES: usize = 32 * 1024;

/// Declared parameter with the variable that holds its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ParameterVariable {
    parameter: String,
    variable: String,
}

/// Returns the variables for the declared scalar parameters that are not secret.
pub(crate) fn parameter_variables(
    blocks: &ParameterBlocks,
) -> Result<Vec<ParameterVariable>, InvalidCommand> {
    let mut parameters = BTreeMap::new();
    let mut variables = Vec::new();
    for block in blocks {
        let scalar = !matches!(block.parameter_type, ParameterType::List | ParameterType::Json);
        if !scalar || block.secret {
            continue;
        }
        let variable = variable_name(&block.name);
        if let Some(first) = parameters.insert(variable.clone(), block.name.clone()) {
            return Err(InvalidCommand::SameVariable { first, second: block.name.clone(), variable });
        }
        variables.push(ParameterVariable { parameter: block.name.clone(), variable });
    }
    Ok(variables)
}

/// Checks that the operating system accepts this command, and that no variable collides with another.
pub(crate) fn check(command: &Command, variables: &[ParameterVariable]) -> Result<(), InvalidCommand> {
    if command.program.is_empty() {
        return Err(InvalidCommand::NoProgram);
    }
    for (name, value) in &command.environment {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(InvalidCommand::VariableName { variable: name.clone() });
        }
        if name == RUN_ID || variables.iter().any(|own| own.variable == *name) {
            return Err(InvalidCommand::ReservedVariable { variable: name.clone() });
        }
        if value.contains('\0') {
            return Err(InvalidCommand::Nul { part: CommandPart::EnvironmentValue });
        }
    }
    let has_nul = |text: &OsStr| text.as_bytes().contains(&0);
    if has_nul(&command.program) {
        Err(InvalidCommand::Nul { part: CommandPart::Program })
    } else if command.arguments.iter().any(|argument| has_nul(argument)) {
        Err(InvalidCommand::Nul { part: CommandPart::Argument })
    } else if command.folder.as_ref().is_some_and(|folder| has_nul(folder.as_os_str())) {
        Err(InvalidCommand::Nul { part: CommandPart::WorkingFolder })
    } else {
        Ok(())
    }
}

/// Returns whether a variable of this process is withheld from commands.
pub(crate) fn is_withheld(name: &OsStr) -> bool {
    name.as_bytes().starts_with(OWN_PREFIX)
}

/// Returns the variables to add for one run, and the names of those left out.
pub(crate) fn run_variables<'a>(
    run: RunId,
    variables: &'a [ParameterVariable],
    parameters: &EffectiveParameters,
) -> (Vec<(&'a str, String)>, Vec<&'a str>) {
    let mut given = vec![(RUN_ID, run.to_string())];
    let mut left_out = Vec::new();
    for ParameterVariable { parameter, variable } in variables {
        let Some(parameter) = parameters.get(parameter).filter(|parameter| !parameter.secret) else {
            continue;
        };
        let text = match &parameter.value {
            Value::String(text) => text.clone(),
            Value::Number(_) | Value::Bool(_) => parameter.value.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => continue,
        };
        if text.len() > VALUE_BYTES || text.contains('\0') {
            left_out.push(variable.as_str());
        } else {
            given.push((variable, text));
        }
    }
    (given, left_out)
}

fn variable_name(parameter: &str) -> String {
    let plain = |character: char| match character.to_ascii_uppercase() {
        upper @ ('A'..='Z' | '0'..='9') => upper,
        _ => '_',
    };
    "PARAM_".chars().chain(parameter.chars().map(plain)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use webhook_core::parameters::{EffectiveParameter, ParameterBlock, Source};

    use super::*;

    fn blocks(declared: Vec<ParameterBlock>) -> ParameterBlocks {
        ParameterBlocks::new(declared).unwrap()
    }

    #[test]
    fn a_variable_is_the_name_in_upper_case_with_underscores_for_all_else() {
        assert_eq!(variable_name("region"), "PARAM_REGION");
        assert_eq!(variable_name("from-date.2"), "PARAM_FROM_DATE_2");
        assert_eq!(variable_name("größe=1"), "PARAM_GR__E_1");
    }

    #[test]
    fn two_parameters_with_the_same_variable_are_refused_by_name() {
        let declared = blocks(vec![
            ParameterBlock::new("from-date", ParameterType::Date),
            ParameterBlock::new("from_date", ParameterType::Date),
        ]);
        let message = parameter_variables(&declared).unwrap_err().to_string();
        assert!(message.contains("\"from-date\" and \"from_date\""), "{message}");
        assert!(message.contains("PARAM_FROM_DATE"), "{message}");
    }

    #[test]
    fn lists_json_and_secrets_have_no_variable_and_so_cannot_collide() {
        let declared = blocks(vec![
            ParameterBlock::new("a-b", ParameterType::List),
            ParameterBlock::new("a.b", ParameterType::Json),
            ParameterBlock::new("a b", ParameterType::Text).secret(),
            ParameterBlock::new("a_b", ParameterType::Text),
        ]);
        let variables = parameter_variables(&declared).unwrap();
        assert_eq!(variables.iter().map(|own| own.parameter.as_str()).collect::<Vec<_>>(), ["a_b"]);
    }

    #[test]
    fn long_values_and_values_with_a_nul_are_left_out_and_named() {
        let names = ["long", "longest", "nul", "number"];
        let declared = blocks(names.map(|name| ParameterBlock::new(name, ParameterType::Text)).to_vec());
        let variables = parameter_variables(&declared).unwrap();
        let mut parameters = EffectiveParameters::new();
        let mut give = |name: &str, value: Value| {
            parameters.insert(name, EffectiveParameter::new(value, Source::Body));
        };
        give("long", "x".repeat(VALUE_BYTES + 1).into());
        give("longest", "x".repeat(VALUE_BYTES).into());
        give("nul", "a\0b".into());
        give("number", 2.5.into());
        give("undeclared", "x".into());
        let (given, left_out) = run_variables(RunId::generate(SystemTime::now()), &variables, &parameters);
        assert_eq!(left_out, ["PARAM_LONG", "PARAM_NUL"]);
        let names: Vec<_> = given.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["WEBHOOK_RUN_ID", "PARAM_LONGEST", "PARAM_NUMBER"]);
        assert_eq!(given[2].1, "2.5");
    }

    #[test]
    fn a_command_cannot_set_a_variable_that_every_run_has() {
        let variables = parameter_variables(&blocks(vec![ParameterBlock::new("day", ParameterType::Date)]));
        let variables = variables.unwrap();
        for name in ["WEBHOOK_RUN_ID", "PARAM_DAY"] {
            let refused = check(&Command::new("true").with_variable(name, "x"), &variables).unwrap_err();
            assert_eq!(refused, InvalidCommand::ReservedVariable { variable: name.to_owned() });
        }
        for name in ["", "A=B", "A\0"] {
            let refused = check(&Command::new("true").with_variable(name, "x"), &variables).unwrap_err();
            assert_eq!(refused, InvalidCommand::VariableName { variable: name.to_owned() });
        }
        let command = Command::new("true").with_variable("PARAM_OTHER", "x");
        assert_eq!(check(&command, &variables), Ok(()));
    }

    #[test]
    fn what_the_system_cannot_be_given_is_refused() {
        assert_eq!(check(&Command::new(""), &[]), Err(InvalidCommand::NoProgram));
        for command in [
            Command::new("a\0"),
            Command::new("a").with_arguments(["\0"]),
            Command::new("a").with_folder("\0"),
            Command::new("a").with_variable("A", "\0"),
        ] {
            assert!(matches!(check(&command, &[]), Err(InvalidCommand::Nul { .. })), "{command:?}");
        }
    }
}
