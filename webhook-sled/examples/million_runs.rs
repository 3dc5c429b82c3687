//! Compares a store with a long history to an empty one: opening it, a page of runs, a new run, memory.
//!
//! A dense history has many runs within each millisecond; a sparse one has a run every three seconds. Both
//! have runs with two parameters and a log of ten lines.
//!
//! `cargo run --release -p webhook-sled --example million_runs [FOLDER] [RUNS]`

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it prints what it measures")]

mod scene;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use webhook_core::run::RunState;
use webhook_core::store::{RunQuery, Store, WebhookQuery};
use webhook_sled::{Durability, SledStore};

use scene::{create_webhook, execute_with_log, peak_memory, request, request_at};

/// Interval between runs in a sparse history.
const APART: Duration = Duration::from_secs(3);

/// Number of runs that are enqueued, claimed and settled together while a store is filled.
const TOGETHER: usize = 1_000;

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // A store is measured in its own process, so that the peak of its memory is not that of filling it.
    if let [command, folder] = &arguments[..]
        && command == "measure"
    {
        return runtime.block_on(measure(Path::new(folder)));
    }
    let folder = PathBuf::from(arguments.first().map_or("million-runs", String::as_str));
    let count: usize = arguments.get(1).map_or(Ok(1_000_000), |text| text.parse())?;
    println!("| history | on disk | open | first page of 50 | of failed runs | enqueue | peak memory |");
    println!("|---|---|---|---|---|---|---|");
    for (name, count, apart) in [("empty", 0, None), ("dense", count, None), ("sparse", count, Some(APART))] {
        let path = folder.join(name);
        let begun = Instant::now();
        runtime.block_on(fill(&path, count, apart))?;
        eprintln!("{name}: filled with {count} runs in {:.1?}", begun.elapsed());
        // Twice, because the first opening may clean up after filling.
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
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let disk = std::fs::metadata(path.join("sled/db"))?.len() >> 20;
    assert!(page.items.len() == 50 || name == "empty", "the store was filled");
    println!(
        "| {name} | {disk} MiB | {open:.1?} | {first_page:.1?} | {of_failed:.1?} | {enqueue:.1?} | {peak} |"
    );
    Ok(())
}

/// Fills a store with one webhook and this many executed runs, the last of them now.
async fn fill(path: &Path, count: usize, apart: Option<Duration>) -> Result<(), Box<dyn Error>> {
    let store = SledStore::options().with_durability(Durability::Process).open(path)?;
    let webhook = create_webhook(&store).await?;
    let log = "a line of the log of this run\n".repeat(10);
    let mut left = count;
    while left > 0 {
        let together = left.min(TOGETHER);
        let callers: Vec<_> = (0..together)
            .map(|number| {
                let ago = apart.unwrap_or_default() * u32::try_from(left - number).unwrap_or(u32::MAX);
                let at = SystemTime::now().checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH);
                let (store, request) = (store.clone(), request_at(&webhook, "EMEA", at));
                tokio::spawn(async move { store.enqueue(request).await })
            })
            .collect();
        for caller in callers {
            caller.await??;
        }
        let mut executed = 0;
        while executed < together {
            executed += execute_with_log(&store, together - executed, &log).await?;
        }
        left -= together;
    }
    Ok(())
}
