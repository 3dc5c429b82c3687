//! One turn of one row: a new server, calls for a while, and what it cost.

use std::path::Path;
use std::process::Child;
use std::time::Duration;

use webhook_core::id::RunId;
use webhook_core::run::RunState;
use webhook_core::store::Store;
use webhook_sled::SledStore;

use crate::bench::Bench;
use crate::client::{Load, Plan, load};
use crate::commit_loop;
use crate::debian::DebianServer;
use crate::example::{ExampleServer, QUEUE_LIMIT};
use crate::library::{Kind, LibraryServer};
use crate::process::{CpuTime, peak_kib};
use crate::rows::{Call, Contender, Row};
use crate::workflow::{COMMAND, NOOP, address_and_path, request};

/// The outcome of one turn.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    /// The number of calls that were refused since the queue was full.
    pub(crate) refused: u64,
    /// The cost for the server. The commit loop is no server.
    pub(crate) cost: Option<Cost>,
    /// The bytes on disk for each run, for stores that keep runs there.
    pub(crate) disk_per_run: Option<u64>,
    /// The number of accepted runs that had not ended when the last call was answered.
    pub(crate) left: Option<u64>,
}

/// Processor time and memory of a server in one turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// Processor time of the server alone for each call, in microseconds.
    pub(crate) cpu: f64,
    /// Processor time of the commands for each call, in microseconds.
    pub(crate) children: f64,
    /// The highest resident memory of the server, in KiB.
    pub(crate) peak_kib: u64,
}

/// Lets a row take its turn.
pub(crate) fn take(bench: &Bench, row: &Row) -> Turn {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let kind = match row.contender {
        Contender::CommitLoop => {
            return Turn::of(&commit_loop::commit(folder, row.connections, bench.time), None);
        }
        Contender::Debian => {
            let server = DebianServer::start(folder);
            let (load, cost) = measure(bench, row, &server.url, &server.process);
            return Turn::of(&load, Some(cost));
        }
        Contender::Example => return take_of_example(bench, row, folder, &[]),
        Contender::ExampleOff => return take_of_example(bench, row, folder, &["--workers", "0"]),
        Contender::Bare => Kind::Bare,
        Contender::Sled => Kind::Sled,
        Contender::SledOff => Kind::SledOff,
        Contender::Memory => Kind::Memory,
    };
    let mut server = LibraryServer::start(kind, folder);
    let (load, cost) = measure(bench, row, &server.url.clone(), &server.process);
    let left = (kind != Kind::Bare).then(|| server.left());
    drop(server);
    let mut turn = Turn { left, ..Turn::of(&load, Some(cost)) };
    if matches!(kind, Kind::Sled | Kind::SledOff) {
        turn.disk_per_run = Some(check_store(bench, row.call, folder, &load));
    }
    turn
}

fn take_of_example(bench: &Bench, row: &Row, folder: &Path, flags: &[&str]) -> Turn {
    let server = ExampleServer::start(&bench.example, folder, flags);
    let workflow = if row.call == Call::Command { COMMAND } else { NOOP };
    let url = bench.runtime.block_on(server.webhook(workflow));
    let (load, cost) = measure(bench, row, &url, &server.process);
    let left = Some(bench.runtime.block_on(server.left()));
    let store = server.store.clone();
    // SIGKILL.
    drop(server);
    let disk_per_run = Some(check_store(bench, row.call, &store, &load));
    Turn { left, disk_per_run, ..Turn::of(&load, Some(cost)) }
}

fn measure(bench: &Bench, row: &Row, url: &str, process: &Child) -> (Load, Cost) {
    let plan = Plan {
        address: address_and_path(url).0,
        request: request(row.call, url),
        status: if row.call == Call::Command { 200 } else { 202 },
        connections: row.connections,
        time: bench.time,
        calls: if row.contender == Contender::ExampleOff { QUEUE_LIMIT } else { u64::MAX },
    };
    let before = CpuTime::of(process);
    let load = bench.runtime.block_on(load(plan));
    let spent = CpuTime::of(process).since(before);
    let per_call = |time: Duration| time.as_secs_f64() * 1e6 / load.latencies.len().max(1) as f64;
    let cost =
        Cost { cpu: per_call(spent.own), children: per_call(spent.children), peak_kib: peak_kib(process) };
    (load, cost)
}

impl Turn {
    fn of(load: &Load, cost: Option<Cost>) -> Self {
        let [p50, p99] = load.percentiles([50, 99]);
        Self {
            per_second: load.per_second(),
            p50,
            p99,
            refused: load.refused,
            cost,
            disk_per_run: None,
            left: None,
        }
    }
}

/// Opens the store of a server that was killed, and looks up every run that it acknowledged. Returns the bytes on
/// disk for each run.
fn check_store(bench: &Bench, call: Call, folder: &Path, load: &Load) -> u64 {
    let bytes = bytes_in(folder);
    bench.runtime.block_on(async {
        let store = SledStore::open(folder).expect("the store opens after SIGKILL");
        for run in &load.runs {
            let id: RunId = std::str::from_utf8(run).expect("text").parse().expect("a run id");
            let found = store.get_run(id).await.expect("the store answers");
            let found = found.unwrap_or_else(|| panic!("run {id} was acknowledged and is lost"));
            // A caller that waits is answered when the run has ended.
            assert!(call != Call::Command || found.state() == RunState::Succeeded, "{found:?}");
        }
    });
    assert_eq!(load.runs.len(), load.latencies.len(), "every call was acknowledged with a run");
    bytes / load.runs.len().max(1) as u64
}

fn bytes_in(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries
        .map(
            |path| if path.is_dir() { bytes_in(&path) } else { path.metadata().map_or(0, |data| data.len()) },
        )
        .sum()
}
