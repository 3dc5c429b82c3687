//! Prints the bytes written for each byte of large parameters, and the peak of memory.
//!
//! `cargo run --release -p webhook-sled --example large_parameters [FOLDER] [RUNS] [BYTES]`

#![allow(clippy::print_stdout, reason = "it prints what it measures")]

mod scene;

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use webhook_core::store::Store;
use webhook_sled::SledStore;

use scene::{create_webhook, execute, peak_memory, request_of};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().unwrap_or_else(|| "large-parameters".to_owned()));
    let runs: usize = arguments.next().map_or(Ok(300), |text| text.parse())?;
    let bytes: usize = arguments.next().map_or(Ok(200_000), |text| text.parse())?;
    let given = (runs * bytes) as f64;
    let told = |step: &str, begun: Instant| {
        let written = written();
        println!(
            "{step}: {} MB written, {:.1} for each byte of parameters, {:?}, peak {}",
            written >> 20,
            written as f64 / given,
            begun.elapsed(),
            peak_memory()
        );
    };
    let begun = Instant::now();
    let store = SledStore::open(&folder)?;
    let webhook = create_webhook(&store).await?;
    for number in 0..runs {
        store.enqueue(request_of(&webhook, &format!("{number:08}").repeat(bytes / 8))).await?;
    }
    drop(store);
    told("enqueued", begun);
    let begun = Instant::now();
    let store = SledStore::open(&folder)?;
    told("opened", begun);
    let begun = Instant::now();
    let mut executed = 0;
    while executed < runs {
        executed += execute(&store, 16).await?;
    }
    drop(store);
    told("executed", begun);
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

/// Returns the bytes that this process has passed to the system for writing.
fn written() -> u64 {
    let counts = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let written = counts.lines().find_map(|line| line.strip_prefix("wchar:"));
    written.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}
