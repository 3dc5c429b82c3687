//! `--verify`: checks everything in the store and ends.
//!
//! The exit code is 0 for a whole store, 1 for damaged or missing records, and 2 for a store that cannot be
//! opened or read.

use std::io::Write;
use std::process::ExitCode;

use webhook_sled::SledStore;

use crate::data_folder::has_store;
use crate::options::{Options, StoreChoice};

/// Exit code for damaged or missing records.
const DAMAGED: u8 = 1;

/// Writes each damaged record to standard output, one line each, and returns the exit code.
///
/// Like every start, opening the store recovers it, so the folder is written.
///
/// # Errors
/// When there is no store, it cannot be opened, or it cannot be read to the end.
pub(crate) async fn verify(options: &Options) -> Result<ExitCode, Box<dyn std::error::Error>> {
    if !matches!(options.store, StoreChoice::Sled) {
        return Err("--verify: only a store on disk can be checked".into());
    }
    let folder = options.data.join("store");
    if !has_store(&folder)? {
        return Err(format!("--verify: there is no store in {}", options.data.display()).into());
    }
    let report = SledStore::open(folder)?.verify().await?;
    let mut out = std::io::stdout().lock();
    for damaged in &report.damaged {
        writeln!(out, "damaged: {damaged}")?;
    }
    let further = report.damaged_count.saturating_sub(report.damaged.len() as u64);
    if further > 0 {
        writeln!(out, "damaged: {further} more")?;
    }
    let (checked, damaged) = (report.checked, report.damaged_count);
    writeln!(out, "{checked} records checked, {damaged} damaged or missing")?;
    Ok(if report.is_whole() { ExitCode::SUCCESS } else { ExitCode::from(DAMAGED) })
}
