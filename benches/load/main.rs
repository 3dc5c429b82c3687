//! How many calls a server accepts, beside a bare warp server that answers 202 and does nothing.
//!
//! `cargo bench --bench load` starts each server as a process of its own, in turns, and calls it over 64 keep-alive
//! connections from this one. Figures are ratios to the bare server of the same round. The store in memory keeps the
//! newest 10,000 ended runs, the durable one all of them. What is left is how many accepted runs had not ended when
//! the last call was answered: few, where runs are executed as they come. After a durable server was killed with
//! SIGKILL, its store is opened and every run it had answered for is looked up.
//! `cargo bench --bench load -- ROUNDS SECONDS` sets how many rounds there are and how long each turn takes, and
//! names after that (`memory`, `sled`, `sled-idle`) which servers take turns with the bare one.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod client;
mod server;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use webhook_core::id::RunId;
use webhook_core::store::Store;
use webhook_sled::SledStore;

/// As the example server; the bare server has it too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CONNECTIONS: usize = 64;

/// The servers that take turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contender {
    Bare,
    Memory,
    Sled,
    SledIdle,
}

impl Contender {
    const ALL: [Self; 4] = [Self::Bare, Self::Memory, Self::Sled, Self::SledIdle];

    fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Memory => "memory",
            Self::Sled => "sled",
            Self::SledIdle => "sled-idle",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Bare => "bare warp, answers 202",
            Self::Memory => "memory, no-op runs executed, newest 10,000 kept",
            Self::Sled => "sled power, no-op runs executed",
            Self::SledIdle => "sled power, workers off",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|contender| contender.name() == name)
    }
}

/// What one turn of one contender gave.
struct Turn {
    per_second: f64,
    p50: Duration,
    p99: Duration,
    peak_kib: u64,
    disk_per_run: Option<u64>,
    left: Option<u64>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [serve, name, folder] = arguments.as_slice()
        && serve == "serve"
    {
        let contender = Contender::parse(name).expect("a contender");
        return server::serve(contender, Path::new(folder));
    }
    let number = |index: usize, default: u64| -> u64 {
        arguments.get(index).map_or(default, |text| text.parse().expect("a number"))
    };
    let (rounds, seconds) = (number(0, 3), number(1, 3));
    let named = |contender: &Contender| arguments.iter().skip(2).any(|name| name == contender.name());
    let takes_part =
        |contender: &Contender| *contender == Contender::Bare || arguments.len() < 3 || named(contender);
    let mut turns: Vec<(Contender, Vec<Turn>)> =
        Contender::ALL.into_iter().filter(takes_part).map(|contender| (contender, Vec::new())).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    for round in 1..=rounds {
        for (contender, own) in &mut turns {
            eprintln!("round {round} of {rounds}: {}", contender.title());
            own.push(take_turn(&runtime, *contender, Duration::from_secs(seconds)));
        }
    }
    print(&turns);
}

fn take_turn(runtime: &tokio::runtime::Runtime, contender: Contender, time: Duration) -> Turn {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::start(contender, folder.path());
    let load = runtime.block_on(client::load(&server.url, CONNECTIONS, time));
    let left = (contender != Contender::Bare).then(|| server.left());
    let peak_kib = peak_memory_kib(server.process.id());
    server.process.kill().expect("the server is killed");
    server.process.wait().expect("the server is gone");
    let durable = matches!(contender, Contender::Sled | Contender::SledIdle);
    let disk_per_run = durable.then(|| {
        let bytes = size_of(folder.path());
        runtime.block_on(check_all_are_there(folder.path(), &load.runs));
        bytes / load.runs.len().max(1) as u64
    });
    Turn {
        per_second: load.latencies.len() as f64 / load.elapsed.as_secs_f64(),
        p50: percentile(&load.latencies, 50),
        p99: percentile(&load.latencies, 99),
        peak_kib,
        disk_per_run,
        left,
    }
}

/// A server process.
struct Server {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    url: String,
}

impl Server {
    /// Starts it and reads its URL from its first line.
    fn start(contender: Contender, folder: &Path) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("this program"))
            .args(["serve", contender.name()])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let input = process.stdin.take().expect("its input");
        let output = BufReader::new(process.stdout.take().expect("its output"));
        let mut server = Self { process, input, output, url: String::new() };
        server.url = server.line();
        server
    }

    /// How many runs have not ended.
    fn left(&mut self) -> u64 {
        self.input.write_all(b"\n").expect("it is asked");
        self.line().parse().expect("a number")
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line");
        line.trim().to_owned()
    }
}

async fn check_all_are_there(folder: &Path, runs: &[String]) {
    let store = SledStore::open(folder).expect("the store opens after SIGKILL");
    for run in runs {
        let id: RunId = run.parse().expect("a run id");
        let found = store.get_run(id).await.expect("the store answers");
        assert!(found.is_some(), "run {id} was answered with 202 and is lost");
    }
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted.get(sorted.len() * percent / 100).copied().unwrap_or_default()
}

/// The highest resident memory of a process so far; 0 where the system does not say.
fn peak_memory_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn size_of(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries
        .map(|path| if path.is_dir() { size_of(&path) } else { path.metadata().map_or(0, |data| data.len()) })
        .sum()
}

fn print(turns: &[(Contender, Vec<Turn>)]) {
    println!("| server | accepted/s | ratio to bare | p50 ms | p99 ms | peak MiB | disk B/run | left |");
    println!("|---|---|---|---|---|---|---|---|");
    for (contender, own) in turns {
        let ratios = own.iter().zip(&turns[0].1).map(|(turn, bare)| turn.per_second / bare.per_second);
        let peak = own.iter().map(|turn| turn.peak_kib).max().unwrap_or(0) / 1024;
        let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        let disk = number(own.iter().filter_map(|turn| turn.disk_per_run).max());
        let left = number(own.iter().filter_map(|turn| turn.left).max());
        println!(
            "| {} | {:.0} | {:.2} | {:.2} | {:.2} | {peak} | {disk} | {left} |",
            contender.title(),
            median(own.iter().map(|turn| turn.per_second)),
            median(ratios),
            median(own.iter().map(|turn| turn.p50.as_secs_f64() * 1000.0)),
            median(own.iter().map(|turn| turn.p99.as_secs_f64() * 1000.0)),
        );
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
