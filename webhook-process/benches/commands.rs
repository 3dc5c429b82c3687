//! Runs of `/bin/true`, eight at once, beside a bare loop that starts it and waits for it.
//!
//! `cargo bench -p webhook-process` prints the median of five interleaved rounds, and repeats them while the process
//! holds 512 MiB, of which a run must not get slower.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "it prints what it measures, and ends at a failure"
)]

use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use webhook_core::executor::{Executor, RunContext, Workflow};
use webhook_core::id::RunId;
use webhook_core::parameters::{EffectiveParameters, ParameterBlocks};
use webhook_process::{Command, CommandExecutor, CommandWorkflow};

const PROGRAM: &str = "/bin/true";
const CALLERS: usize = 8;
const RUNS: usize = 2_000;
const ROUNDS: usize = 5;
const BALLAST_BYTES: usize = 512 << 20;

fn main() {
    // `cargo test --benches` only wants to know that it starts.
    let runs = if std::env::args().any(|argument| argument == "--bench") { RUNS } else { CALLERS };
    let workflow = Workflow::new("bench/true".parse().unwrap(), "True", ParameterBlocks::default());
    let workflow = CommandWorkflow::new(workflow, Command::new(PROGRAM)).unwrap();
    let executor = CommandExecutor::new([workflow]).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    println!("{runs} runs of {PROGRAM}, {CALLERS} at once, median of {ROUNDS} rounds");
    compare("", &runtime, &executor, runs);
    let ballast = vec![1_u8; BALLAST_BYTES];
    compare(", with 512 MiB more in memory", &runtime, &executor, runs);
    drop(std::hint::black_box(ballast));
}

fn compare(what: &str, runtime: &tokio::runtime::Runtime, executor: &CommandExecutor, runs: usize) {
    let mut bare = Vec::new();
    let mut ours = Vec::new();
    for _ in 0..ROUNDS {
        bare.push(measure(runs, || run_bare(runs)));
        ours.push(measure(runs, || runtime.block_on(run_executor(executor, runs))));
    }
    print("bare loop", what, bare);
    print("executor ", what, ours);
}

/// Starts the program with three pipes and waits for it, from as many threads as there are callers.
fn run_bare(runs: usize) {
    std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                for _ in 0..runs / CALLERS {
                    let mut command = std::process::Command::new(PROGRAM);
                    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
                    assert!(command.output().unwrap().status.success());
                }
            });
        }
    });
}

async fn run_executor(executor: &CommandExecutor, runs: usize) {
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let executor = executor.clone();
            tokio::spawn(async move {
                for _ in 0..runs / CALLERS {
                    let run = RunId::generate(SystemTime::now());
                    let workflow = "bench/true".parse().unwrap();
                    let context = RunContext::new(run, workflow, 1, EffectiveParameters::new());
                    executor.execute(context).await.unwrap();
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
}

/// Runs a second, and what a run costs this process and its children in CPU.
fn measure(runs: usize, work: impl FnOnce()) -> (f64, f64, f64) {
    let (own, children) = cpu_time();
    let start = Instant::now();
    work();
    let per_second = runs as f64 / start.elapsed().as_secs_f64();
    let (own_after, children_after) = cpu_time();
    let each = |time: Duration| time.as_secs_f64() * 1e6 / runs as f64;
    (per_second, each(own_after - own), each(children_after - children))
}

/// The CPU time of this process, and of its children that were waited for; zero where there is no `/proc`.
fn cpu_time() -> (Duration, Duration) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<i64> = stat
        .rsplit(')')
        .next()
        .unwrap_or("")
        .split_whitespace()
        .filter_map(|field| field.parse().ok())
        .collect();
    let sum = |from: usize| {
        let ticks: i64 = fields.get(from..from + 2).map_or(0, |times| times.iter().sum());
        Duration::from_millis(ticks.unsigned_abs() * 1_000 / rustix::param::clock_ticks_per_second())
    };
    // The state, which is no number, is left out.
    (sum(10), sum(12))
}

fn print(name: &str, what: &str, mut rounds: Vec<(f64, f64, f64)>) {
    rounds.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (per_second, own, children) = rounds[rounds.len() / 2];
    println!(
        "{name}: {per_second:6.0} runs/s, CPU of a run {own:4.0} µs here and {children:4.0} µs in children{what}"
    );
}
