//! Prints what a store with a long history costs beside an empty one: opening it, a page of runs, a new run, memory.
//!
//! `cargo run --release -p webhook-sled --example million_runs [FOLDER] [RUNS]`

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod scene;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use webhook_core::run::RunState;
use webhook_core::store::{RunQuery, Store, WebhookQuery};
use webhook_sled::{Durability, SledStore};

use scene::{create_webhook, execute, peak_memory, request};

/// How many runs are enqueued, claimed and settled together while a store is filled.
const TOGETHER: usize = 1_000;

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // A store is measured in a process of its own, so that the peak of its memory is not that of filling it.
    if let [command, folder] = &arguments[..]
        && command == "measure"
    {
        return runtime.block_on(measure(Path::new(folder)));
    }
    let folder = PathBuf::from(arguments.first().map_or("million-runs", String::as_str));
    let count: usize = arguments.get(1).map_or(Ok(1_000_000), |text| text.parse())?;
    println!("| ended runs | on disk | open | first page of 50 | of failed runs | enqueue | peak memory |");
    println!("|---|---|---|---|---|---|---|");
    for count in [0, count] {
        let path = folder.join(count.to_string());
        let begun = Instant::now();
        runtime.block_on(fill(&path, count))?;
        eprintln!("filled with {count} runs in {:.1?}", begun.elapsed());
        // Twice, because the first opening may tidy up what filling has left.
        for _ in 0..2 {
            let status = Command::new(std::env::current_exe()?).arg("measure").arg(&path).status()?;
            if !status.success() {
                return Err("the store could not be measured".into());
            }
        }
    }
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

/// Opens the store and prints one row of the table.
async fn measure(path: &Path) -> Result<(), Box<dyn Error>> {
    let begun = Instant::now();
    let store = SledStore::open(path)?;
    let open = begun.elapsed();
    let begun = Instant::now();
    let page = store.list_runs(RunQuery::default()).await?;
    let first_page = begun.elapsed();
    let begun = Instant::now();
    store.list_runs(RunQuery::default().in_state(Some(RunState::Failed))).await?;
    let of_failed = begun.elapsed();
    let webhooks = store.list_webhooks(WebhookQuery::default()).await?.items;
    let webhook = webhooks.first().ok_or("there is no webhook")?;
    let begun = Instant::now();
    store.enqueue(request(webhook)).await?;
    let enqueue = begun.elapsed();
    let peak = peak_memory();
    let runs = path.file_name().unwrap_or_default().to_string_lossy();
    let disk = std::fs::metadata(path.join("sled/db"))?.len() >> 20;
    assert!(page.items.len() == 50 || runs == "0", "the store was filled");
    println!(
        "| {runs} | {disk} MiB | {open:.1?} | {first_page:.1?} | {of_failed:.1?} | {enqueue:.1?} | {peak} |"
    );
    Ok(())
}

/// Makes a store with one webhook and this many runs that were executed.
async fn fill(path: &Path, count: usize) -> Result<(), Box<dyn Error>> {
    let store = SledStore::options().durability(Durability::Process).open(path)?;
    let webhook = create_webhook(&store).await?;
    let mut left = count;
    while left > 0 {
        let together = left.min(TOGETHER);
        let callers: Vec<_> = (0..together)
            .map(|_| {
                let (store, request) = (store.clone(), request(&webhook));
                tokio::spawn(async move { store.enqueue(request).await })
            })
            .collect();
        for caller in callers {
            caller.await??;
        }
        let mut executed = 0;
        while executed < together {
            executed += execute(&store, together - executed).await?;
        }
        left -= together;
    }
    Ok(())
}
