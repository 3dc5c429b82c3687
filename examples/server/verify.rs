//! `--verify`: checks everything in the store and ends.

use std::io::Write;
use std::process::ExitCode;

use webhook_sled::SledStore;

use crate::options::{Options, StoreChoice};

/// The exit code when something is damaged or missing.
const DAMAGED: u8 = 1;

/// Says on standard output what is damaged, one line each. The exit code is 0 when nothing is, and 1 otherwise.
///
/// # Errors
/// When there is no store, it cannot be opened, or it cannot be read to the end.
pub(crate) async fn verify(options: &Options) -> Result<ExitCode, Box<dyn std::error::Error>> {
    if options.store != StoreChoice::Sled {
        return Err("--verify: only a store on disk can be checked".into());
    }
    let folder = options.data.join("store");
    if !folder.exists() {
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
