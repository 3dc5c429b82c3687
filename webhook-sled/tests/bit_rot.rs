//! Flips one bit of the database at a random place. Then the store opens with everything in it, or is
//! refused, or reports what is damaged. Nothing is ever missing silently.
//!
//! `BIT_ROT_FLIPS` and `BIT_ROT_RUNS` enlarge the test: 20,000 runs are a database of some 40 MB.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod scene;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use scene::*;
use webhook_core::id::RunId;
use webhook_core::run::Run;
use webhook_core::store::{RunQuery, Store};
use webhook_sled::{Durability, OpenError, SledStore};

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Returns a random number (xorshift).
fn next(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random >> 11
}

/// Fills and closes a store with runs of all kinds: ended with and without logs, some of them large, and
/// queued.
async fn fill(path: &Path, count: u64) -> BTreeMap<RunId, Arc<Run>> {
    let store = options().with_durability(Durability::Process).open(path).unwrap();
    let webhooks = [webhook(&store).await, webhook(&store).await];
    let mut runs = BTreeMap::new();
    let mut made = 0;
    while made < count {
        let together = (count - made).min(1 + made % 40);
        for number in made..made + together {
            let size = if number % 200 == 7 { 30_000 } else { 200 + (number * 37) % 1_500 };
            let text = format!("{number} {}", "x".repeat(usize::try_from(size).unwrap()));
            let webhook = &webhooks[usize::from(number % 3 == 0)];
            let run = enqueue(&store, keyed(webhook, &text)).await.unwrap();
            runs.insert(run.id(), run);
        }
        made += together;
        // The last runs stay queued.
        let limit = usize::try_from(if made == count { 0 } else { together }).unwrap();
        for claim in claim(&store, limit).await {
            if runs.len() % 3 == 0 {
                let line = "a line of the log of this run\n".repeat(20);
                store.append_log(claim.run.id(), claim.run.fence(), line).await.unwrap();
            }
            let ended = succeed(&store, &claim.run, Vec::new()).await;
            runs.insert(ended.id(), ended);
        }
    }
    runs
}

#[derive(Debug, Default)]
struct Results {
    whole: usize,
    refused: usize,
    reported: usize,
}

/// Opens a damaged copy, and records the result.
async fn open_flipped(path: &Path, runs: &BTreeMap<RunId, Arc<Run>>, what: &str, results: &mut Results) {
    let store: SledStore = match options().open(path) {
        Ok(store) => store,
        Err(error) => {
            assert!(!matches!(error, OpenError::InUse { .. }), "{what}: {error}");
            assert_eq!(error.to_string().lines().count(), 1, "{what}: {error}");
            results.refused += 1;
            return;
        }
    };
    let report = store.verify().await.unwrap_or_else(|error| panic!("{what}: {error}"));
    let (mut found, mut before) = (0, None);
    loop {
        let page = store.list_runs(RunQuery::default().before(before).limit(200)).await;
        let page = page.unwrap_or_else(|error| panic!("{what}: {error}"));
        for run in &page.items {
            let expected = runs.get(&run.id()).unwrap_or_else(|| panic!("{what}: an unknown run"));
            // A run whose last change is lost is as it was before.
            assert!(run.id() == expected.id() && run.parameters() == expected.parameters(), "{what}");
            found += usize::from(run == expected);
        }
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    let missing = runs.len() - found;
    if report.is_whole() {
        assert_eq!(missing, 0, "{what}: runs are missing or older in silence");
        results.whole += 1;
    } else {
        results.reported += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_is_harmless_refused_or_reported() {
    let folder = tempfile::tempdir().unwrap();
    let original = folder.path().join("original");
    let runs = fill(&original, setting("BIT_ROT_RUNS", 600)).await;
    let bytes = fs::read(original.join("sled/db")).unwrap();
    let mut random =
        setting("BIT_ROT_SEED", now().elapsed().map_or(7, |age| u64::from(age.subsec_nanos()))) | 1;
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64;
    let mut results = Results::default();
    for _ in 0..setting("BIT_ROT_FLIPS", 8) {
        let (at, bit) = (next(&mut random) % used, next(&mut random) % 8);
        let path = folder.path().join("copy");
        copy(&original, &path);
        let mut bytes = bytes.clone();
        bytes[usize::try_from(at).unwrap()] ^= 1 << bit;
        fs::write(path.join("sled/db"), bytes).unwrap();
        open_flipped(&path, &runs, &format!("bit {bit} of byte {at} of {used}"), &mut results).await;
        fs::remove_dir_all(path).unwrap();
    }
    eprintln!("{} bytes, {} runs: {results:?}", bytes.len(), runs.len());
}
