//! Workflows that execute commands.

use std::sync::Arc;

use webhook_core::executor::{ExecuteError, RunContext, RunOutput, Workflow};

use crate::attempt;
use crate::command::{Command, CommandOptions};
use crate::environment::{self, ParameterVariable};
use crate::error::InvalidCommand;

/// Workflow with the command that executes it, checked.
#[derive(Debug, Clone)]
pub struct CommandWorkflow {
    workflow: Arc<Workflow>,
    command: Command,
    variables: Vec<ParameterVariable>,
}

impl CommandWorkflow {
    /// Combines a workflow with its command.
    ///
    /// Fails with [`InvalidCommand`] in these cases:
    ///
    /// - Two parameters would have the same variable.
    /// - A variable of the command has an invalid or reserved name.
    /// - A text contains a NUL character.
    pub fn new(workflow: Workflow, command: Command) -> Result<Self, InvalidCommand> {
        let variables = environment::parameter_variables(&workflow.parameters)?;
        environment::check(&command, &variables)?;
        Ok(Self { workflow: Arc::new(workflow), command, variables })
    }

    /// Returns the workflow.
    #[must_use]
    pub fn workflow(&self) -> &Arc<Workflow> {
        &self.workflow
    }

    /// Returns the command.
    #[must_use]
    pub fn command(&self) -> &Command {
        &self.command
    }

    /// Runs the command for one attempt, as the [crate] describes.
    ///
    /// Fails with [`ExecuteError::Fatal`] when the program cannot be started, [`ExecuteError::Retryable`]
    /// when it fails or is stopped; both hold a [`CommandError`](crate::CommandError).
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O and time enabled.
    ///
    /// # Cancel safety
    /// On drop, the command and its whole process group are killed before the drop returns.
    pub async fn run(
        &self,
        context: &RunContext,
        options: &CommandOptions,
    ) -> Result<RunOutput, ExecuteError> {
        let reporter = context.reporter();
        let log = |line| reporter.log(line);
        attempt::run(&self.command, &self.variables, context, options, &log).await.map_err(|error| {
            if error.is_retryable() { ExecuteError::retryable(error) } else { ExecuteError::fatal(error) }
        })
    }
}
