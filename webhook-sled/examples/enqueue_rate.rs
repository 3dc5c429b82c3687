//! Prints how many runs per second are accepted, each acknowledged when it is durable.
//!
//! `cargo run --release -p webhook-sled --example enqueue_rate [FOLDER] [SECONDS] [CALLERS]`

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use webhook_core::id::{RunId, WebhookId};
use webhook_core::parameters::{EffectiveParameter, EffectiveParameters, Source};
use webhook_core::run::{Caller, Ending, Run, RunParameters};
use webhook_core::store::{ClaimRequest, Enqueue, Outcome, Settlement, Store};
use webhook_core::token::Token;
use webhook_core::webhook::{Webhook, WebhookSettings};
use webhook_sled::{Durability, SledStore};

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().unwrap_or_else(|| "enqueue-rate".to_owned()));
    let seconds = arguments.next().map_or(Ok(3), |text| text.parse())?;
    let only: Option<usize> = arguments.next().map(|text| text.parse()).transpose()?;
    for durability in [Durability::Power, Durability::Process] {
        for callers in [1, 16, 64, 256].into_iter().filter(|callers| only.is_none_or(|only| only == *callers))
        {
            for executes in [false, true] {
                let path = folder.join(format!("{durability:?}-{callers}-{executes}"));
                let time = Duration::from_secs(seconds);
                runtime.block_on(measure(path, durability, callers, time, executes))?;
            }
        }
    }
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

async fn measure(
    path: PathBuf,
    durability: Durability,
    callers: usize,
    time: Duration,
    executes: bool,
) -> Result<(), Box<dyn Error>> {
    let store = SledStore::options().durability(durability).open(&path)?;
    let now = SystemTime::now();
    let settings = WebhookSettings::default();
    let (id, workflow) = (WebhookId::generate(now), "report/sales".parse()?);
    let webhook = Webhook::new(id, workflow, settings, &Token::generate(), None, now);
    store.create_webhook(webhook.clone()).await?;
    let end = Instant::now() + time;
    // Claiming and settling along costs several times what accepting does.
    let worker = tokio::spawn(drain(store.clone(), if executes { end } else { Instant::now() }));
    let mut tasks = Vec::new();
    for _ in 0..callers {
        let (store, webhook) = (store.clone(), webhook.clone());
        tasks.push(tokio::spawn(async move {
            let mut latencies = Vec::new();
            while Instant::now() < end {
                let begun = Instant::now();
                store.enqueue(request(&webhook)).await?;
                latencies.push(begun.elapsed());
            }
            Ok::<_, webhook_core::store::StoreError>(latencies)
        }));
    }
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    let settled = worker.await??;
    latencies.sort_unstable();
    let rate = latencies.len() as f64 / time.as_secs_f64();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    let memory = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = memory.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("?").trim().to_owned();
    println!(
        "{durability:?}, {callers} callers: {rate:.0} accepted/s, p50 {:?}, p99 {:?}; {settled} settled, peak {peak}",
        at(0.5),
        at(0.99)
    );
    Ok(())
}

async fn drain(store: SledStore, end: Instant) -> Result<usize, webhook_core::store::StoreError> {
    let mut settled = 0;
    while Instant::now() < end {
        let now = SystemTime::now();
        let claims = store.claim(ClaimRequest::new(256, Duration::from_secs(60), now)).await?;
        if claims.is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
            continue;
        }
        settled += claims.len();
        let ending = || Ending::Succeeded { summary: None, artifacts: Vec::new() };
        let outcome = || Outcome::Ended { ending: ending(), deliveries: Vec::new() };
        let settlements =
            claims.iter().map(|claim| Settlement::new(claim.run.id, claim.run.fence, outcome(), now));
        store.settle(settlements.collect()).await?;
    }
    Ok(settled)
}

fn request(webhook: &Webhook) -> Enqueue {
    let now = SystemTime::now();
    let id = RunId::generate(now);
    let region = EffectiveParameter::new("EMEA", Source::Query);
    let date = EffectiveParameter::new("2026-01-31", Source::Body);
    let effective: EffectiveParameters =
        [("region".to_owned(), region), ("date".to_owned(), date)].into_iter().collect();
    let parameters = RunParameters::seal(effective, None, id).unwrap_or_default();
    Enqueue::new(Run::new(id, webhook.workflow.clone(), webhook.id, parameters, 1, Caller::default(), now))
}
