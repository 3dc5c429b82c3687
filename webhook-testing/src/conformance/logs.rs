//! Promises about a run's log.

use std::sync::Arc;
use std::time::Duration;

use super::scene::*;
use webhook_core::store::{LOG_BYTES, Store};

/// Lines are read back in order from any offset, by a later attempt and after the run's end too.
pub async fn a_log_is_read_from_any_offset(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let run = running(&*store, &webhook).await;
    append(&*store, run.id(), run.fence(), "one\n").await;
    append(&*store, run.id(), run.fence(), "two\nthree\n").await;
    for (offset, expected) in [(0, "one\ntwo\nthree\n"), (4, "two\nthree\n"), (8, "three\n"), (14, "")] {
        let part = store.read_log(run.id(), offset).await.must("read a log");
        assert_eq!((part.offset, part.text.as_str()), (offset, expected), "the log from {offset} on");
    }
    applied(settle(&*store, &run, retry(Duration::ZERO)).await);
    let again = claim_when_due(&*store, LONG).await.remove(0).run;
    append(&*store, again.id(), again.fence(), "four – ∀\n").await;
    append(&*store, run.id(), run.fence(), "from beyond\n").await;
    applied(settle(&*store, &again, success()).await);
    let part = store.read_log(run.id(), 8).await.must("read a log");
    assert_eq!(
        part.text, "three\nfour – ∀\n",
        "a log goes on over attempts, and under the newest fence only"
    );
}

/// An unknown run has an empty log, and each run has its own.
pub async fn each_run_has_its_own_log(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let (one, other) = (running(&*store, &webhook).await, running(&*store, &webhook).await);
    append(&*store, one.id(), one.fence(), "of one\n").await;
    append(&*store, other.id(), other.fence(), "of the other\n").await;
    let unknown = run_of(&webhook).id();
    append(&*store, unknown, one.fence(), "of nobody\n").await;
    for (id, expected) in [(one.id(), "of one\n"), (other.id(), "of the other\n"), (unknown, "")] {
        assert_eq!(store.read_log(id, 0).await.must("read a log").text, expected);
    }
}

/// Of a long log the newest 256 KiB are kept, in whole lines, and offsets stay valid.
pub async fn the_newest_lines_of_a_long_log_are_kept(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let run = running(&*store, &webhook).await;
    let mut whole = String::new();
    for block in 0..80 {
        let lines: Vec<String> =
            (0..40).map(|line| format!("block {block} line {line} é {}\n", "·".repeat(60))).collect();
        append(&*store, run.id(), run.fence(), &lines.concat()).await;
        whole.push_str(&lines.concat());
    }
    assert!(whole.len() > LOG_BYTES * 3 / 2);
    let part = store.read_log(run.id(), 0).await.must("read a log");
    assert!(part.text.len() <= LOG_BYTES, "{} bytes are more than the newest 256 KiB", part.text.len());
    assert!(part.text.len() > LOG_BYTES * 3 / 4, "only {} of the newest 256 KiB are there", part.text.len());
    assert_eq!(part.end(), whole.len() as u64, "offsets count every byte that was ever appended");
    assert!(whole.ends_with(&part.text), "what is kept must be the newest");
    assert!(part.text.starts_with("block "), "what is kept must start with a whole line");
    let later = part.offset + part.text.find('\n').must("keep whole lines") as u64 + 1;
    let rest = store.read_log(run.id(), later).await.must("read a log");
    assert_eq!(rest.offset, later, "an offset of a line that is kept stays valid");
    assert!(whole.ends_with(&rest.text) && rest.end() == part.end());
}

/// A line longer than the bound is cut at a character boundary; the lines after it are kept.
pub async fn a_line_longer_than_the_log_is_cut(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let run = running(&*store, &webhook).await;
    let line = format!("a{}\n", "é".repeat(LOG_BYTES * 3 / 4));
    append(&*store, run.id(), run.fence(), &line).await;
    let part = store.read_log(run.id(), 0).await.must("read a log");
    assert!(part.text.len() <= LOG_BYTES, "{} bytes are more than 256 KiB", part.text.len());
    append(&*store, run.id(), run.fence(), "after it\n").await;
    let part = store.read_log(run.id(), 0).await.must("read a log");
    assert!(part.text.ends_with("after it\n") && part.text.len() <= LOG_BYTES);
    assert_eq!(part.end(), line.len() as u64 + 9, "offsets count every byte that was ever appended");
}

/// A read from the middle of a character returns whole characters.
pub async fn an_offset_inside_a_character_is_no_error(store: Arc<dyn Store>) {
    let webhook = webhook(&*store).await;
    let run = running(&*store, &webhook).await;
    append(&*store, run.id(), run.fence(), "日本\n").await;
    for offset in 0..=7 {
        let part = store.read_log(run.id(), offset).await.must("read a log");
        assert!("日本\n".ends_with(&part.text), "from {offset} on: {:?}", part.text);
        assert_eq!(part.end(), 7, "reading from {offset} on must end where the log ends");
    }
}

async fn append(store: &dyn Store, run: webhook_core::id::RunId, fence: u64, text: &str) {
    store.append_log(run, fence, text.to_owned()).await.must("append to a log");
}
