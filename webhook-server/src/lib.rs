//! A server that starts the workflows of a folder when their webhooks are called.
//!
//! It is webhook-trigger as a program: the HTTP front end on the hardened server, the sled store, the panel,
//! both notifiers, and executors for commands, notebooks and reports.
//! A host with other needs embeds the library, and can read this crate as an example.
//! Workflows are TOML files in the folder of `--workflows`; `--help` lists the flags.
//!
//! | module | task |
//! |---|---|
//! | `options` | parses flags and environment variables |
//! | `workflow_file`, `section`, `parameter_section`, `notebook`, `report` | parse workflow files |
//! | `executor` | executes workflows |
//! | `admin_token`, `token_key` | read secrets, or create them at the first start |
//! | `integrations` | creates the notifiers |
//! | `serve` | opens the store, binds the port, serves and stops |
//! | `verify` | checks a store (`--verify`) |

mod admin_token;
mod command_line;
mod data_folder;
mod demo;
mod executor;
mod integrations;
mod loaded_workflow;
mod notebook;
mod options;
mod parameter_section;
mod regular_file;
mod report;
mod section;
mod serve;
mod token_key;
mod verify;
mod workflow_file;

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use command_line::CommandLineError;
use options::Options;
use report::chain;
use serve::Prepared;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use webhook_process::Python;

/// Exit code after a usage or start-up error.
const UNUSABLE: u8 = 2;

/// Runs the server with the arguments and the environment of this process, until a signal stops it.
///
/// Returns 0 after a clean stop, 1 after a failure while serving, and 2 after a usage or start-up error.
/// A program that calls this should use an allocator that does not fragment, such as mimalloc.
pub fn main() -> ExitCode {
    if let Err(error) = close_to_others() {
        return fail(&error, ExitCode::from(UNUSABLE));
    }
    // A damaged store is one line of our log, without a trace of sled's.
    webhook_sled::quiet_caught_panics();
    let options = match Options::from_process() {
        Ok(options) => options,
        Err(CommandLineError::Information(text)) => {
            // Standard output may be closed, which is no reason to fail.
            let _ = std::io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(error) => return fail(&error, ExitCode::from(UNUSABLE)),
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, ExitCode::from(UNUSABLE)),
    };
    let code = runtime.block_on(async {
        if options.verify {
            log_to_stderr(&options);
            return verify::verify(&options)
                .await
                .unwrap_or_else(|error| fail(&*error, ExitCode::from(UNUSABLE)));
        }
        match start(options).await {
            Err(error) => fail(&*error, ExitCode::from(UNUSABLE)),
            Ok(prepared) => match prepared.serve().await {
                Err(error) => fail(&*error, ExitCode::FAILURE),
                Ok(()) => ExitCode::SUCCESS,
            },
        }
    });
    // A thread that an executor still blocks must not keep the process alive.
    runtime.shutdown_background();
    code
}

/// Hides memory and environment, which hold secrets, from other processes of this user, such as workflows.
///
/// They can read neither through `/proc` nor with a debugger, and there are no core dumps.
fn close_to_others() -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}

async fn start(options: Options) -> Result<Prepared, Box<dyn Error>> {
    log_to_stderr(&options);
    let python = options.python.as_ref().map_or_else(Python::find, Python::new);
    let workflows = workflow_file::load_folder(&options.workflows, &python)?;
    serve::prepare(options, workflows).await
}

fn log_to_stderr(options: &Options) {
    tracing_subscriber::registry()
        .with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false))
        .with(options.log.clone())
        .init();
}

fn fail(error: &dyn Error, code: ExitCode) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "server: {}", chain(error));
    code
}
