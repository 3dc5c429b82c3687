//! Figures that are no rows of the table, each measured once in a round.

use std::time::{Duration, Instant};

use crate::bench::Bench;
use crate::client::{Load, Plan, load};
use crate::example::ExampleServer;
use crate::library::{AWAITED, Kind, LibraryServer};
use crate::process::resident_kib;
use crate::rows::Call;
use crate::workflow::{NOOP, address_and_path, request, waiting_request};

/// The figures in the order of the table.
pub(crate) const ALL: [Figure; 6] = [
    Figure::LibraryDrain,
    Figure::ExampleDrain,
    Figure::Wait,
    Figure::Awaiting,
    Figure::BareAwaiting,
    Figure::IdleMemory,
];

/// The runs of a queue that is drained.
const QUEUED: u64 = 50_000;
/// The runs of a queue of runs that await.
const AWAITING: u64 = 4_800;
/// The slots of default workers.
const SLOTS: u64 = 16;
/// The connections that fill a queue.
const CONNECTIONS: usize = 64;
/// The time after which a server without calls is looked at.
const IDLE: Duration = Duration::from_secs(2);

/// A value that is measured once in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Figure {
    LibraryDrain,
    ExampleDrain,
    Wait,
    Awaiting,
    BareAwaiting,
    IdleMemory,
}

impl Figure {
    /// The name in arguments.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::LibraryDrain => "drain-library",
            Self::ExampleDrain => "drain-example",
            Self::Wait => "wait",
            Self::Awaiting => "awaiting",
            Self::BareAwaiting => "awaiting-bare",
            Self::IdleMemory => "idle-memory",
        }
    }

    /// The name in the table, with the unit.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::LibraryDrain => "a queue of 50,000 no-op runs, library, sled, default workers: runs/s",
            Self::ExampleDrain => "the same after a restart, example server, default flags: runs/s",
            Self::Wait => "`Prefer: wait` on a no-op run, 1 connection: p50 less that of a 202, in ms",
            Self::Awaiting => "runs that await 5 ms, 16 slots, library: share of 3,200/s",
            Self::BareAwaiting => "the same by 16 bare tasks, since a timer of tokio is late by up to 1 ms",
            Self::IdleMemory => "example server, default flags, 2 s after its start: resident MiB",
        }
    }

    /// Measures it once.
    pub(crate) fn measure(self, bench: &Bench) -> f64 {
        match self {
            Self::LibraryDrain => drain_library(bench, Kind::SledOff, QUEUED),
            Self::ExampleDrain => drain_example(bench),
            Self::Wait => wait_less_202(bench),
            Self::Awaiting => {
                drain_library(bench, Kind::Awaiting, AWAITING) / (SLOTS as f64 / AWAITED.as_secs_f64())
            }
            Self::BareAwaiting => await_in_tasks(bench) / (SLOTS as f64 / AWAITED.as_secs_f64()),
            Self::IdleMemory => idle_memory(bench),
        }
    }
}

/// Queues runs while there are no workers, then starts them.
fn drain_library(bench: &Bench, kind: Kind, runs: u64) -> f64 {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = LibraryServer::start(kind, folder.path());
    fill(bench, &server.url, runs);
    runs as f64 / server.drain().as_secs_f64()
}

/// Queues runs while there are no workers, and starts the server again with them.
fn drain_example(bench: &Bench) -> f64 {
    let folder = tempfile::tempdir().expect("a folder");
    let server = ExampleServer::start(&bench.example, folder.path(), &["--workers", "0"]);
    fill(bench, &bench.runtime.block_on(server.webhook(NOOP)), QUEUED);
    server.stop();
    let server = ExampleServer::start(&bench.example, folder.path(), &[]);
    let started = Instant::now();
    bench.runtime.block_on(server.all_ended());
    QUEUED as f64 / started.elapsed().as_secs_f64()
}

/// Awaits as often as those runs do, without runs.
fn await_in_tasks(bench: &Bench) -> f64 {
    let started = Instant::now();
    bench.runtime.block_on(async {
        let tasks = (0..SLOTS).map(|_| {
            tokio::spawn(async {
                for _ in 0..AWAITING / SLOTS {
                    tokio::time::sleep(AWAITED).await;
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.expect("a task");
        }
    });
    AWAITING as f64 / started.elapsed().as_secs_f64()
}

fn fill(bench: &Bench, url: &str, runs: u64) {
    let plan = Plan {
        address: address_and_path(url).0,
        request: request(Call::Post, url),
        status: 202,
        connections: CONNECTIONS,
        time: Duration::MAX / 4,
        calls: runs,
    };
    let filled = bench.runtime.block_on(load(plan));
    assert_eq!(filled.latencies.len() as u64, runs, "the queue takes all");
}

/// Calls one server in both ways, in turns.
fn wait_less_202(bench: &Bench) -> f64 {
    let folder = tempfile::tempdir().expect("a folder");
    let server = ExampleServer::start(&bench.example, folder.path(), &[]);
    let url = bench.runtime.block_on(server.webhook(NOOP));
    let call = |request: Vec<u8>, status: u16| -> Load {
        let address = address_and_path(&url).0;
        let time = bench.time / 4;
        bench.runtime.block_on(load(Plan { address, request, status, connections: 1, time, calls: u64::MAX }))
    };
    let (mut waited, mut accepted) = (Load::default(), Load::default());
    for _ in 0..4 {
        accepted.latencies.extend(call(request(Call::Plain, &url), 202).latencies);
        waited.latencies.extend(call(waiting_request(&url), 200).latencies);
    }
    let [accepted] = accepted.percentiles([50]);
    let [waited] = waited.percentiles([50]);
    (waited.as_secs_f64() - accepted.as_secs_f64()) * 1000.0
}

fn idle_memory(bench: &Bench) -> f64 {
    let folder = tempfile::tempdir().expect("a folder");
    let server = ExampleServer::start(&bench.example, folder.path(), &[]);
    std::thread::sleep(IDLE);
    resident_kib(&server.process) as f64 / 1024.0
}
