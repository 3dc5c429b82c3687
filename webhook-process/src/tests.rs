//! Tests with real processes, observed from outside: by their output, and by whether they still exist.

mod guard;
mod secrecy;
mod stopping;

use std::io::{BufRead, BufReader};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use rustix::process::{Pid, test_kill_process};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use webhook_core::executor::{
    CancellationSource, ExecuteError, Executor, RunContext, RunOutput, StopReason, Workflow,
};
use webhook_core::id::RunId;
use webhook_core::parameters::{
    EffectiveParameter, EffectiveParameters, ParameterBlock, ParameterBlocks, ParameterType, Source,
};
use webhook_core::run::Caller;
use webhook_core::run::CancelReason;

use crate::attempt;
use crate::{Command, CommandError, CommandExecutor, CommandOptions, CommandWorkflow, environment};

/// Upper bound on the time of one step on a slow machine.
const PATIENCE: Duration = Duration::from_secs(30);

const CANARY: &str = "canary-5f1c2a";

struct Trial {
    command: Command,
    blocks: ParameterBlocks,
    context: RunContext,
    options: CommandOptions,
}

impl Trial {
    fn new(command: Command) -> Self {
        let run = RunId::generate(SystemTime::now());
        let context = RunContext::new(run, "report/sales".parse().unwrap(), 3, EffectiveParameters::new());
        let options = CommandOptions::default().with_termination_grace(PATIENCE);
        Self { command, blocks: ParameterBlocks::default(), context, options }
    }

    fn shell(script: &str) -> Self {
        Self::new(Command::new("/bin/sh").with_arguments(["-c", script]))
    }

    fn with_parameter(mut self, block: ParameterBlock, value: impl Into<Value>) -> Self {
        let value = EffectiveParameter::new(value, Source::Body);
        let value = if block.secret { value.secret() } else { value };
        self.context.parameters.insert(block.name.clone(), value);
        let blocks = self.blocks.iter().cloned().chain([block]).collect();
        self.blocks = ParameterBlocks::new(blocks).unwrap();
        self
    }

    fn with_cancellation(mut self, source: &CancellationSource) -> Self {
        self.context = self.context.with_cancellation(source.cancellation());
        self
    }

    fn with_grace(mut self, grace: Duration) -> Self {
        self.options = self.options.with_termination_grace(grace);
        self
    }

    async fn execute(self, log: impl Fn(String) + Send + Sync) -> Result<RunOutput, CommandError> {
        let variables = environment::parameter_variables(&self.blocks).unwrap();
        attempt::run(&self.command, &variables, &self.context, &self.options, &log).await
    }

    async fn finish(self) -> (Result<RunOutput, CommandError>, Vec<String>) {
        let lines = Mutex::new(Vec::new());
        let outcome = self.execute(|line| lines.lock().push(line)).await;
        (outcome, lines.into_inner())
    }

    /// Starts it in the background, and returns the process ids on its first line.
    async fn start(self) -> (tokio::task::JoinHandle<Result<RunOutput, CommandError>>, Vec<Pid>) {
        let (sender, mut lines) = mpsc::unbounded_channel();
        let execution = tokio::spawn(self.execute(move |line| sender.send(line).unwrap_or_default()));
        let line = tokio::time::timeout(PATIENCE, lines.recv()).await.unwrap().unwrap();
        (execution, process_ids(&line))
    }
}

fn process_ids(line: &str) -> Vec<Pid> {
    let ids: Vec<_> = line.split_whitespace().map(|id| Pid::from_raw(id.parse().unwrap()).unwrap()).collect();
    assert!(!ids.is_empty());
    ids
}

/// Returns whether a process is dead. A dead process that its new parent has not waited for counts too.
fn is_gone(process: Pid) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{process}/stat"));
    let is_dead = state.is_ok_and(|state| state.rsplit(')').next().unwrap().trim().starts_with('Z'));
    is_dead || test_kill_process(process).is_err()
}

/// Polls, since no other process is told of the death.
async fn assert_gone(processes: &[Pid]) {
    let start = Instant::now();
    while !processes.iter().all(|process| is_gone(*process)) {
        assert!(start.elapsed() < Duration::from_secs(5), "still there: {processes:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn text(name: &str) -> ParameterBlock {
    ParameterBlock::new(name, ParameterType::Text)
}

#[tokio::test]
async fn a_command_reads_one_json_object_with_plain_values() {
    let trial = Trial::new(Command::new("cat"))
        .with_parameter(text("region"), "EMEA \"quoted\"\n")
        .with_parameter(ParameterBlock::new("count", ParameterType::Integer), 7)
        .with_parameter(ParameterBlock::new("days", ParameterType::List), json!(["a", 1]))
        .with_parameter(text("password").secret(), CANARY);
    let run = trial.context.run.to_string();
    let (outcome, lines) = trial.finish().await;
    outcome.unwrap();
    let [line] = lines.as_slice() else { panic!("not one line: {lines:?}") };
    let expected = json!({
        "run_id": run,
        "workflow": {"kind": "report", "id": "sales"},
        "attempt": 3,
        "parameters": {"region": "EMEA \"quoted\"\n", "count": 7, "days": ["a", 1], "password": CANARY},
    });
    assert_eq!(serde_json::from_str::<Value>(line).unwrap(), expected);
}

#[tokio::test]
async fn declared_scalars_are_variables_and_secrets_are_nowhere_but_on_standard_input() {
    let mut trial = Trial::new(
        Command::new("/bin/sh")
            .with_arguments(["-c", "env; echo \"argument $1\"; pwd", "sh", "$HOME; `id`"])
            .with_variable("GREETING", "hello")
            .with_folder("/"),
    )
    .with_parameter(text("from-region"), "EMEA")
    .with_parameter(ParameterBlock::new("is_final", ParameterType::Boolean), true)
    .with_parameter(ParameterBlock::new("all", ParameterType::Json), json!({"a": 1}))
    .with_parameter(text("password").secret(), CANARY);
    trial.context.parameters.insert("undeclared", EffectiveParameter::new("x", Source::Query));
    let run = format!("WEBHOOK_RUN_ID={}", trial.context.run);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut caller = Caller::default();
    caller.traceparent = Some(trace.to_owned());
    trial.context.caller = caller.into();
    let trace = format!("TRACEPARENT={trace}");
    let (outcome, lines) = trial.finish().await;
    outcome.unwrap();
    for expected in [
        "PARAM_FROM_REGION=EMEA",
        "PARAM_IS_FINAL=true",
        "GREETING=hello",
        "argument $HOME; `id`",
        "/",
        run.as_str(),
        trace.as_str(),
    ] {
        assert!(lines.iter().any(|line| line == expected), "{expected} is not in {lines:?}");
    }
    assert!(lines.iter().all(|line| !line.contains(CANARY)), "{lines:?}");
    assert_eq!(lines.iter().filter(|line| line.starts_with("PARAM_")).count(), 2, "{lines:?}");
}

#[tokio::test]
async fn a_value_that_does_not_fit_is_left_out_and_the_log_says_so() {
    let trial = Trial::shell("echo \"${PARAM_LONG-unset}\"").with_parameter(text("long"), "x".repeat(32_769));
    let (outcome, lines) = trial.finish().await;
    outcome.unwrap();
    assert!(lines[0].contains("PARAM_LONG is not set"), "{lines:?}");
    assert_eq!(lines[1], "unset");
}

#[tokio::test]
async fn a_command_that_does_not_read_its_input_is_fine() {
    // More than a pipe holds, so writing it cannot end before the command does.
    let long = "x".repeat(1_000_000);
    for script in ["exec 0<&-; exit 0", "exit 0", "head -c 10 >/dev/null"] {
        let trial = Trial::shell(script)
            .with_parameter(ParameterBlock::new("long", ParameterType::Json), long.clone());
        let (outcome, _) = tokio::time::timeout(PATIENCE, trial.finish()).await.unwrap();
        outcome.unwrap();
    }
}

#[tokio::test]
async fn the_last_line_of_standard_output_may_be_the_summary() {
    let summary = |script: &'static str| async { Trial::shell(script).finish().await.0.unwrap().summary };
    assert_eq!(summary("echo a; echo '{\"summary\":\"8 rows\"}'").await.as_deref(), Some("8 rows"));
    assert_eq!(summary("printf '{\"summary\":\"no line end\"}'").await.as_deref(), Some("no line end"));
    assert_eq!(summary("echo '{\"summary\":\"8 rows\"}'; echo b").await, None);
    assert_eq!(summary("echo '{\"summary\":\"8 rows\"}' >&2").await, None);
    let long = "head -c 70000 /dev/zero | tr '\\0' x; echo '{\"summary\":\"the end of a long line\"}'";
    assert_eq!(summary(long).await, None);
}

#[tokio::test]
async fn both_streams_are_logged_and_broken_text_is_replaced() {
    let (outcome, mut lines) =
        Trial::shell("echo to-error >&2; printf 'a\\377b\\n'; printf 'no end'").finish().await;
    outcome.unwrap();
    lines.sort();
    assert_eq!(lines, ["a\u{fffd}b", "no end", "to-error"]);
}

#[tokio::test]
async fn an_exit_status_is_retryable_and_comes_with_the_last_lines_of_standard_error() {
    let (outcome, _) =
        Trial::shell("for n in 1 2 3 4 5 6 7; do echo line $n >&2; done; exit 3").finish().await;
    let error = outcome.unwrap_err();
    assert_eq!(error.to_string(), "exit status 3\nline 3\nline 4\nline 5\nline 6\nline 7");
    assert!(error.is_retryable());
}

#[tokio::test]
async fn death_by_a_signal_is_retryable_and_names_it() {
    let error = Trial::shell("echo why >&2; kill -KILL $$").finish().await.0.unwrap_err();
    assert_eq!(error.to_string(), "killed by SIGKILL\nwhy");
    assert!(error.is_retryable());
    let error = Trial::shell("kill -TERM 0; sleep 600").finish().await.0.unwrap_err();
    assert_eq!(error.to_string(), "killed by SIGTERM");
}

#[tokio::test]
async fn a_program_that_cannot_be_started_is_fatal_and_named_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain");
    std::fs::write(&plain, "no program").unwrap();
    for (program, kind) in [
        ("/no/such/program".into(), std::io::ErrorKind::NotFound),
        ("no-such-program-5f1c2a".into(), std::io::ErrorKind::NotFound),
        (plain.into_os_string(), std::io::ErrorKind::PermissionDenied),
    ] {
        let workflow = Workflow::new("report/a".parse().unwrap(), "A", ParameterBlocks::default());
        let workflow = CommandWorkflow::new(workflow, Command::new(&program)).unwrap();
        let executor = CommandExecutor::new([workflow]).unwrap();
        let run = RunId::generate(SystemTime::now());
        let context = RunContext::new(run, "report/a".parse().unwrap(), 1, EffectiveParameters::new());
        let Err(ExecuteError::Fatal(error)) = executor.execute(context).await else { panic!("not fatal") };
        let name = std::path::Path::new(&program).file_name().unwrap().display().to_string();
        assert_eq!(error.to_string(), format!("cannot start the program {name:?}"), "callers see no folder");
        let source = error.source().unwrap().downcast_ref::<std::io::Error>().unwrap();
        assert_eq!(source.kind(), kind);
    }
    let command = Command::new("true").with_folder("/no/such/folder");
    let error = Trial::new(command).finish().await.0.unwrap_err();
    assert_eq!(error.to_string(), "cannot start the program \"true\": its working folder does not exist");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_command_that_writes_100_mb_costs_no_memory() {
    let peak = || {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()
    };
    let before = peak();
    for script in ["yes $(printf %0200d 7) | head -c 100000000", "head -c 100000000 /dev/zero"] {
        let written = Mutex::new((0, 0));
        let log = |line: String| {
            let mut written = written.lock();
            *written = (written.0 + line.len(), written.1.max(line.len()));
        };
        Trial::shell(script).execute(log).await.unwrap();
        let (bytes, longest) = written.into_inner();
        assert!(bytes > 90_000_000 && longest <= 65_536, "{bytes} bytes, the longest line has {longest}");
    }
    match (before, peak()) {
        (Some(before), Some(after)) => {
            assert!(after - before < 32_768, "memory grew from {before} kB to {after} kB");
        }
        _ => eprintln!("SKIPPED: this system does not tell how much memory was used"),
    }
}

/// Hosts runs in a process of its own, which tests start and then kill. Alone it does nothing.
#[tokio::test]
async fn host_process() {
    let Ok(script) = std::env::var("WEBHOOK_PROCESS_TEST_SCRIPT") else { return };
    let runs: usize = std::env::var("WEBHOOK_PROCESS_TEST_RUNS").unwrap().parse().unwrap();
    let is_repeated = std::env::var_os("WEBHOOK_PROCESS_TEST_AGAIN").is_some();
    let mut places = tokio::task::JoinSet::new();
    for _ in 0..runs {
        let script = script.clone();
        places.spawn(async move {
            loop {
                let outcome = Trial::shell(&script).execute(|line| println!("\nline {line}")).await;
                println!("\nended {outcome:?}");
                if !is_repeated {
                    break;
                }
            }
        });
    }
    places.join_all().await;
}

fn host_command(script: &str, runs: usize) -> std::process::Command {
    let mut host = std::process::Command::new(std::env::current_exe().unwrap());
    host.args(["--exact", "tests::host_process", "--nocapture"])
        .env("WEBHOOK_PROCESS_TEST_SCRIPT", script)
        .env("WEBHOOK_PROCESS_TEST_RUNS", runs.to_string())
        .env("WEBHOOK_ADMIN_TOKEN", CANARY)
        .stdout(std::process::Stdio::piped());
    host
}

/// Starts a process that runs the script `runs` times at once, and returns the lines that the runs write.
fn host(script: &str, runs: usize) -> (std::process::Child, impl Iterator<Item = String>) {
    let mut host = host_command(script, runs).spawn().unwrap();
    let output = BufReader::new(host.stdout.take().unwrap());
    let lines = output.lines().map_while(Result::ok);
    (host, lines.filter_map(|line| line.strip_prefix("line ").map(str::to_owned)))
}

#[tokio::test]
async fn killing_the_host_kills_the_command_and_what_it_started() {
    let (mut host, mut lines) = host("trap '' TERM; sleep 600 & echo $$ $!; while :; do sleep 1; done", 1);
    let processes = process_ids(&lines.next().unwrap());
    assert!(processes.len() == 2 && !processes.iter().any(|process| is_gone(*process)));
    host.kill().unwrap();
    host.wait().unwrap();
    assert_gone(&processes).await;
}

#[test]
fn the_hosts_own_variables_are_withheld_from_commands() {
    let (mut host, lines) = host("env", 1);
    let lines: Vec<_> = lines.collect();
    assert!(host.wait().unwrap().success());
    let own: Vec<_> = lines.iter().filter(|line| line.starts_with("WEBHOOK_")).collect();
    assert!(own.len() == 1 && own[0].starts_with("WEBHOOK_RUN_ID="), "{own:?}");
    assert!(lines.iter().any(|line| line.starts_with("PATH=")), "{lines:?}");
    assert!(lines.iter().all(|line| !line.contains(CANARY)));
}
