//! An [`Executor`](webhook_core::executor::Executor) for inbound webhook triggers that runs external commands.
//!
//! ```
//! use webhook_core::executor::Workflow;
//! use webhook_core::parameters::{ParameterBlock, ParameterBlocks, ParameterType};
//! use webhook_process::{Command, CommandExecutor, CommandWorkflow};
//!
//! let blocks = ParameterBlocks::new(vec![ParameterBlock::new("region", ParameterType::Text)])?;
//! let workflow = Workflow::new("report/sales".parse()?, "Sales", blocks);
//! let command = Command::new("python3").with_arguments(["sales.py"]).with_folder("/srv/reports");
//! let executor = CommandExecutor::new([CommandWorkflow::new(workflow, command)?])?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What a command is given
//!
//! - The program and its arguments exactly as the host wrote them. No shell reads them and nothing of a call is
//!   put into them.
//! - On standard input one JSON object on one line, and then the end of the input:
//!   `{"run_id":"…","workflow":{"kind":"report","id":"sales"},"attempt":1,"parameters":{"region":"EMEA"}}`.
//!   A command that does not read it is fine.
//! - The environment of this process less every `WEBHOOK_*` variable, plus the command's own variables, plus
//!   `WEBHOOK_RUN_ID`, plus `PARAM_<NAME>` for every declared parameter that is a scalar: its name in upper case,
//!   with `_` for every character other than `A-Z` and `0-9`. Left out are secret parameters, values over 32 KiB,
//!   and text with a NUL character in it. Standard input has them all. Undeclared parameters, lists and `json`
//!   parameters are on standard input only, so that a caller cannot choose the name of a variable.
//!
//! # What becomes of it
//!
//! - Lines on standard output and standard error become the run's log. Bytes that are not UTF-8 are replaced, and
//!   a line over 64 KiB is cut into pieces. A command that writes without end costs no memory.
//! - When the last line of standard output is a JSON object with a `summary`, that is the run's summary.
//! - Exit status 0 is success. Another status, or death by a signal, is a failure that may be retried; the message
//!   has the status and the last lines of standard error. A program that cannot be started is a failure that is
//!   not retried, except when the system was short of processes, files or memory.
//!
//! # When it ends
//!
//! Every attempt has a process group of its own. When the run is cancelled or out of time, the group gets SIGTERM,
//! and SIGKILL when the command is still there after [`CommandOptions::termination_grace`]. When the command
//! ends, when its future is dropped, or when the lease of its run was lost, the group gets SIGKILL at once: nothing
//! that the command started in its group outlives it.
//!
//! The group is led by a small watchdog, `/bin/sh` with a constant script, that holds one end of a pipe from this
//! process. When this process dies in any way, SIGKILL included, the pipe ends and the watchdog kills the group.
//! The watchdog also keeps the number of the group from being given to others while the group is in use.
//!
//! A process that leaves the group (`setsid`, a daemon) is beyond all this.
//!
//! Unix only, with a `/bin/sh`. The futures need a tokio runtime with I/O and time enabled.

#[cfg(not(unix))]
compile_error!("webhook-process needs process groups and signals, which only Unix has");

mod attempt;
mod command;
mod environment;
mod error;
mod executor;
mod group;
mod output;

pub use command::{Command, CommandOptions, CommandWorkflow};
pub use error::{CommandError, DuplicateWorkflow, InvalidCommand};
pub use executor::CommandExecutor;

#[cfg(test)]
mod tests;
