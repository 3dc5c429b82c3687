//! Kills the process at some moment. Everything it acknowledged is there, once, and the store opens.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]
#![allow(clippy::print_stdout, reason = "the killed process tells its parent what it did")]

mod scene;

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use scene::*;
use webhook_core::id::RunId;
use webhook_core::run::RunState;
use webhook_core::store::{RunQuery, Store, WebhookQuery};
use webhook_sled::{Durability, SledOptions, SledStore};

const FOLDER: &str = "WEBHOOK_SLED_TEST_FOLDER";
const ROUNDS: u64 = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_being_killed() {
    for durability in [Durability::Power, Durability::Process] {
        let folder = tempfile::tempdir().unwrap();
        let mut acknowledged: HashMap<RunId, &str> = HashMap::new();
        let mut interruptions = 0;
        for round in 0..ROUNDS {
            let lines = run_and_kill(folder.path(), durability, Duration::from_millis(150 + 60 * round));
            for line in &lines {
                match line.split_once(' ') {
                    Some(("queued", id)) => acknowledged.entry(id.parse().unwrap()).or_insert("queued"),
                    Some(("ended", id)) => {
                        acknowledged.entry(id.parse().unwrap()).insert_entry("ended").into_mut()
                    }
                    _ => continue,
                };
            }
            let store = options().with_durability(durability).open(folder.path()).unwrap();
            for (id, what) in &acknowledged {
                let run = store.get_run(*id).await.unwrap().expect("an acknowledged run is there");
                assert!(*what == "queued" || run.state() == RunState::Succeeded, "{what}: {:?}", run.state());
                assert_ne!(run.state(), RunState::Running);
                interruptions = interruptions.max(run.interruptions());
            }
            let mut listed = 0;
            let mut query = RunQuery::default().limit(500);
            loop {
                let page = store.list_runs(query.clone()).await.unwrap();
                listed += page.items.len();
                let Some(next) = page.next else { break };
                query = query.before(Some(next));
            }
            assert!(listed >= acknowledged.len(), "every acknowledged run is listed");
            let report = store.verify().await.unwrap();
            assert!(report.is_whole(), "{report:?}");
        }
        assert!(acknowledged.len() > 20, "hardly anything was acknowledged: {}", acknowledged.len());
        assert!(interruptions > 0, "no claim survived a kill");
    }
}

/// Runs the worker below for some time, kills it, and returns its output.
fn run_and_kill(folder: &std::path::Path, durability: Durability, time: Duration) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "work_until_killed", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .env("WEBHOOK_SLED_TEST_DURABILITY", format!("{durability:?}"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut seen = Vec::new();
    // The time counts from the first acknowledged run.
    for line in lines.by_ref() {
        let line = line.unwrap();
        let begun = line.starts_with("queued");
        seen.push(line);
        if begun {
            break;
        }
    }
    std::thread::sleep(time);
    child.kill().unwrap();
    child.wait().unwrap();
    // A line that was cut off is ignored.
    seen.extend(lines.map_while(Result::ok).filter(|line| line.len() > 40));
    seen
}

#[ignore = "is started and killed by the test above"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_until_killed() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let process = std::env::var("WEBHOOK_SLED_TEST_DURABILITY").is_ok_and(|text| text == "Process");
    let durability = if process { Durability::Process } else { Durability::Power };
    let options: SledOptions = options().with_durability(durability);
    let store: SledStore = options.open(folder).unwrap();
    let webhooks = store.list_webhooks(WebhookQuery::default()).await.unwrap().items;
    let webhook = match webhooks.first() {
        Some(webhook) => (**webhook).clone(),
        None => webhook(&store).await,
    };
    for caller in 0..4_usize {
        let (store, webhook) = (store.clone(), webhook.clone());
        tokio::spawn(async move {
            for number in 0.. {
                let run = request(&webhook, &"x".repeat(50 + (number * 37 + caller) % 3_000));
                let run = enqueue(&store, run).await.unwrap();
                println!("queued {}", run.id());
            }
        });
    }
    loop {
        let claims = claim(&store, 8).await;
        // Some of the claimed runs are never settled.
        for claim in claims.iter().skip(1) {
            let run = succeed(&store, &claim.run, Vec::new()).await;
            println!("ended {}", run.id());
        }
        tokio::task::yield_now().await;
    }
}
