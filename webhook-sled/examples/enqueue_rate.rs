//! Prints how many runs per second are accepted, each acknowledged when it is durable.
//!
//! `cargo run --release -p webhook-sled --example enqueue_rate [FOLDER] [SECONDS] [CALLERS]`

#![allow(clippy::print_stdout, reason = "it prints what it measures")]

mod scene;

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use webhook_core::store::{Store, StoreError};
use webhook_sled::{Durability, SledStore};

use scene::{create_webhook, execute, peak_memory, request};

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
    let store = SledStore::options().with_durability(durability).open(&path)?;
    let webhook = create_webhook(&store).await?;
    let end = Instant::now() + time;
    // Claiming and settling at the same time costs several times what accepting does.
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
            Ok::<_, StoreError>(latencies)
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
    let peak = peak_memory();
    println!(
        "{durability:?}, {callers} callers: {rate:.0} accepted/s, p50 {:?}, p99 {:?}; {settled} settled, peak {peak}",
        at(0.5),
        at(0.99)
    );
    Ok(())
}

async fn drain(store: SledStore, end: Instant) -> Result<usize, StoreError> {
    let mut settled = 0;
    while Instant::now() < end {
        let executed = execute(&store, 256).await?;
        settled += executed;
        if executed == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    Ok(settled)
}
