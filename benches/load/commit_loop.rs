//! The bare commit loop: no HTTP, no store, only what a power loss must not take.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::client::Load;

/// About what a run takes in a journal.
const RECORD_BYTES: usize = 300;

/// Appends a record for each caller and syncs them together, again and again.
pub(crate) fn commit(folder: &Path, callers: usize, time: Duration) -> Load {
    let mut file = File::create(folder.join("records")).expect("a file");
    let mut load = Load::default();
    let started = Instant::now();
    while started.elapsed() < time {
        let begun = Instant::now();
        let mut group = Vec::with_capacity(callers * RECORD_BYTES);
        for _ in 0..callers {
            group.extend_from_slice(&[b'x'; RECORD_BYTES]);
        }
        file.write_all(&group).expect("the records are written");
        file.sync_data().expect("the records are on disk");
        load.latencies.resize(load.latencies.len() + callers, begun.elapsed());
    }
    load.elapsed = started.elapsed();
    load
}
