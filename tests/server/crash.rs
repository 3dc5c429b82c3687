//! Kills the example server again and again while it is called. Every run that was answered 202 must be
//! recorded and end, under one id.
//!
//! The long form prints its observations:
//!
//! ```sh
//! cargo build --release --example server
//! WEBHOOK_CRASH_CYCLES=200 cargo test --release --test server -- --nocapture killed_at_random
//! ```
//!
//! It prints its seed too: with the same `WEBHOOK_CRASH_SEED`, servers are killed after the same times.

mod callers;
mod ledger;
mod scene;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use callers::{Callers, Plan, run_of};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::StatusCode;
use scene::{Scene, client};
use serde_json::Value;
use tokio::sync::Barrier;

use crate::process::Process;

/// Lease of a claim, 30 s, with a margin. A run without progress for so long is stuck.
const BEYOND_THE_LEASE: Duration = Duration::from_secs(40);

const NOOP: (&str, &str) = ("noop", "[noop]");
const SLEEP: (&str, &str) = ("sleep", "[command]\nprogram = \"sleep\"\nargs = [\"0.05\"]");
/// Workflow whose executions each write the id of their run.
const TRACE: (&str, &str) = (
    "trace",
    "[command]\nprogram = \"/bin/sh\"\nargs = [\"-c\", 'echo \"$WEBHOOK_RUN_ID\" >> FOLDER/executions']",
);

/// Parses a number from the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

fn executions(scene: &Scene) -> Vec<String> {
    let text = std::fs::read_to_string(scene.file("executions")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Creates the webhooks of [`NOOP`], [`TRACE`] and [`SLEEP`]: nine calls in ten do nothing.
async fn plan(scene: &Scene, seed: u64) -> Plan {
    let mut webhooks = Vec::new();
    for (workflow, weight) in [(NOOP, 54), (TRACE, 4), (SLEEP, 2)] {
        webhooks.push((scene.webhook(workflow.0).await, weight));
    }
    Plan { webhooks, longest_pause: Duration::from_millis(12), seed }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answered_run_is_lost_when_the_server_is_killed_at_random_under_load() {
    let cycles = number("WEBHOOK_CRASH_CYCLES").unwrap_or(5);
    let seed = number("WEBHOOK_CRASH_SEED").unwrap_or_else(|| u64::from(rand::random::<u32>()));
    println!("{cycles} cycles, seed {seed}");
    let began = Instant::now();
    let mut random = StdRng::seed_from_u64(seed);
    let scene = Scene::new(&[NOOP, TRACE, SLEEP], &[]);
    let mut server = scene.start();
    let callers = Callers::start(16, &plan(&scene, seed).await);
    let mut logs = String::new();
    let mut slowest_start = Duration::ZERO;
    for _ in 0..cycles {
        tokio::time::sleep(random.random_range(Duration::from_millis(100)..Duration::from_millis(800))).await;
        logs.push_str(&server.kill());
        // Some servers are killed while they start.
        if random.random_ratio(1, 5) {
            let early = scene.spawn();
            tokio::time::sleep(random.random_range(Duration::ZERO..Duration::from_millis(60))).await;
            logs.push_str(&early.kill());
        }
        let started = Instant::now();
        server = scene.start();
        slowest_start = slowest_start.max(started.elapsed());
    }
    let ledger = callers.stop().await;
    let stopped = Instant::now();
    scene.all_end(BEYOND_THE_LEASE).await;
    let drained = stopped.elapsed();
    let verdict = ledger.compared(&scene.runs().await, TRACE.0, &executions(&scene));
    println!(
        "{verdict}slowest start {slowest_start:.2?}, runs left at the end took {drained:.2?}, in all {:.1?}",
        began.elapsed()
    );
    logs.push_str(&server.stop(Duration::from_secs(40)));
    if !logs.is_empty() {
        println!("the servers warned:\n{}", logs.lines().take(20).collect::<Vec<_>>().join("\n"));
    }
    verdict.assert_kept();
    assert_ne!(verdict.interruptions, 0, "no run was interrupted, so nothing was tried");
}

/// Opens a connection that has been answered and stays open.
fn idle_connection(url: &str) -> TcpStream {
    let address = url.split('/').nth(2).unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET /healthz HTTP/1.1\r\nhost: {address}\r\n\r\n").unwrap();
    let mut start = [0; 12];
    stream.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"HTTP/1.1 200");
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_asked_to_stop_under_load_ends_in_time_and_every_accepted_run_ends_later() {
    // The first execution lasts longer than the server waits; the next one ends at once.
    let long = "[command]\nprogram = \"/bin/sh\"\nargs = [\"-c\", \
                'if [ -e FOLDER/began ]; then exit 0; fi; : > FOLDER/began; exec sleep 60']";
    let scene = Scene::new(&[NOOP, TRACE, SLEEP, ("long", long)], &["--shutdown-timeout", "4"]);
    let server = scene.start();
    let plan = plan(&scene, 1).await;
    let url = scene.webhook("long").await;
    let long = run_of(&client(), &url, "long").await;
    let idle: Vec<TcpStream> = (0..8).map(|_| idle_connection(&url)).collect();
    let callers = Callers::start(8, &plan);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !scene.file("began").exists() || executions(&scene).is_empty() {
        assert!(Instant::now() < deadline, "no command is executed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // `stop` checks that the exit code is 0.
    let asked = Instant::now();
    let log = server.stop(Duration::from_secs(20));
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(6), "{took:?}: {log}");
    drop(idle);

    let server = scene.start();
    let ledger = callers.stop().await;
    assert!(scene.all_end(BEYOND_THE_LEASE).await);
    let runs = scene.runs().await;
    let own = runs.iter().find(|run| run.id == long).unwrap();
    assert_eq!((own.state.as_str(), own.attempt, own.interruptions), ("succeeded", 1, 0));
    let runs: Vec<_> = runs.into_iter().filter(|run| run.id != long).collect();
    let verdict = ledger.compared(&runs, TRACE.0, &executions(&scene));
    verdict.assert_kept();
    assert_eq!(verdict.interruptions, 0, "a hand-back is no interruption\n{verdict}");
    server.stop(Duration::from_secs(20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_callers_with_one_key_at_once_are_told_of_one_run() {
    let scene = Scene::new(&[NOOP], &[]);
    let server = scene.start();
    let url = scene.webhook(NOOP.0).await;
    let together = Arc::new(Barrier::new(200));
    let calls: Vec<_> = (0..200)
        .map(|_| {
            let (url, together) = (url.clone(), together.clone());
            tokio::spawn(async move {
                let client = client();
                together.wait().await;
                let answer = client.post(url).header("idempotency-key", "one").send().await.unwrap();
                let status = answer.status();
                (status, answer.json::<Value>().await.unwrap())
            })
        })
        .collect();
    let mut named = Vec::new();
    for call in calls {
        let (status, answer) = call.await.unwrap();
        assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
        named.push(answer["run_id"].as_str().unwrap().to_owned());
    }
    assert!(scene.all_end(BEYOND_THE_LEASE).await);
    let runs = scene.runs().await;
    assert_eq!(runs.len(), 1, "{runs:?}");
    assert!(named.iter().all(|id| *id == runs[0].id), "{named:?}");
    assert_eq!((runs[0].state.as_str(), runs[0].attempt), ("succeeded", 1));
    server.stop(Duration::from_secs(20));
}

/// Writes the process that the workflow of the next test kills. The file appears whole.
fn write_process_id(scene: &Scene, server: &Process) {
    let unfinished = scene.file("process-id.new");
    std::fs::write(&unfinished, server.id().to_string()).unwrap();
    std::fs::rename(unfinished, scene.file("process-id")).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_kills_the_server_each_time_fails_after_its_fifth_interruption() {
    let deadly = "[command]\nprogram = \"/bin/sh\"\nargs = [\"-c\", \
                  'until [ -e FOLDER/process-id ]; do sleep 0.01; done; \
                  kill -KILL $(cat FOLDER/process-id); sleep 60']";
    let scene = Scene::new(&[("deadly", deadly), NOOP], &[]);
    let mut server = scene.start();
    let (noop, deadly) = (scene.webhook(NOOP.0).await, scene.webhook("deadly").await);
    let client = client();
    // The call is answered before the run learns which process to kill.
    let run = run_of(&client, &deadly, "deadly").await;
    for _ in 0..5 {
        write_process_id(&scene, &server);
        let (status, log) = server.ended_within(Duration::from_secs(30));
        assert_eq!(status.signal(), Some(9), "{log}");
        std::fs::remove_file(scene.file("process-id")).unwrap();
        server = scene.start();
    }
    write_process_id(&scene, &server);
    assert!(scene.all_end(BEYOND_THE_LEASE).await);
    let runs = scene.runs().await;
    let [own] = runs.as_slice() else { panic!("{runs:?}") };
    assert_eq!(own.id, run);
    assert_eq!((own.state.as_str(), own.error_kind.as_deref()), ("failed", Some("interrupted")));
    assert_eq!((own.interruptions, own.attempt), (5, 5));

    let after = run_of(&client, &noop, "after").await;
    assert!(scene.all_end(BEYOND_THE_LEASE).await);
    let runs = scene.runs().await;
    assert!(runs.iter().any(|run| run.id == after && run.state == "succeeded"), "{runs:?}");
    server.stop(Duration::from_secs(20));
}

/// Returns the processor time that a process has used.
fn processor_time(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // proc(5): fields 14 and 15. The second field is in brackets and may contain spaces.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_nothing_to_do_uses_no_processor_time() {
    const IDLE: Duration = Duration::from_secs(5);
    if !Path::new("/proc/self/stat").exists() {
        eprintln!("SKIPPED: there is no /proc here, so processor time cannot be measured");
        return;
    }
    let scene = Scene::new(&[NOOP, TRACE, SLEEP], &[]);
    let server = scene.start();
    let plan = plan(&scene, 1).await;
    let idle: Vec<TcpStream> = (0..8).map(|_| idle_connection(&plan.webhooks[0].0)).collect();
    let callers = Callers::start(8, &plan);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let ledger = callers.stop().await;
    assert!(scene.all_end(BEYOND_THE_LEASE).await);
    ledger.compared(&scene.runs().await, TRACE.0, &executions(&scene)).assert_kept();
    // Work that the last call left is not idleness yet.
    tokio::time::sleep(Duration::from_secs(1)).await;

    let (before, started) = (processor_time(server.id()), Instant::now());
    tokio::time::sleep(IDLE).await;
    let used = processor_time(server.id()) - before;
    let share = used.as_secs_f64() / started.elapsed().as_secs_f64();
    println!("an idle server used {:.2} % of one processor", share * 100.0);
    assert!(share < 0.005, "{used:?} in {:?}", started.elapsed());
    drop(idle);
    server.stop(Duration::from_secs(20));
}
