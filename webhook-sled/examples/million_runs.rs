//! Prints what a store with a long history costs beside an empty one: opening it, a page of runs, a new run, memory.
//!
//! `cargo run --release -p webhook-sled --example million_runs [FOLDER] [RUNS]`

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use webhook_core::id::{RunId, WebhookId};
use webhook_core::parameters::{EffectiveParameter, EffectiveParameters, Source};
use webhook_core::run::{Caller, Ending, Run, RunParameters, RunState};
use webhook_core::store::{
    ClaimRequest, Enqueue, Outcome, RunQuery, Settlement, Store, StoreError, WebhookQuery,
};
use webhook_core::token::Token;
use webhook_core::webhook::{Webhook, WebhookSettings};
use webhook_sled::{Durability, SledStore};

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
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("?").trim();
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
    let now = SystemTime::now();
    let (id, workflow) = (WebhookId::generate(now), "report/sales".parse()?);
    let webhook = Webhook::new(id, workflow, WebhookSettings::default(), &Token::generate(), None, now);
    store.create_webhook(webhook.clone()).await?;
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
        execute(&store, together).await?;
        left -= together;
    }
    Ok(())
}

/// Claims and settles this many runs.
async fn execute(store: &SledStore, mut count: usize) -> Result<(), StoreError> {
    while count > 0 {
        let now = SystemTime::now();
        let claims = store.claim(ClaimRequest::new(count, Duration::from_secs(600), now)).await?;
        count -= claims.len();
        let outcome = || Outcome::Ended {
            ending: Ending::Succeeded { summary: Some("42 rows".to_owned()), artifacts: Vec::new() },
            deliveries: Vec::new(),
        };
        let settlement = |run: &Run| Settlement::new(run.id, run.fence, outcome(), now);
        store.settle(claims.iter().map(|claim| settlement(&claim.run)).collect()).await?;
    }
    Ok(())
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
