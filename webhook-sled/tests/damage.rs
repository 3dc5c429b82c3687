//! Tests that a folder in use, of a newer version or damaged gives a typed error, never a panic and never an
//! empty store.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod scene;

use std::error::Error as _;
use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use scene::*;
use webhook_core::run::Run;
use webhook_core::store::{RunQuery, Store, StoreError};
use webhook_sled::testing::open_database;
use webhook_sled::{OpenError, SledStore};

/// Fills and closes a store with acknowledged runs, ended and queued.
async fn filled(path: &Path) -> Vec<Arc<Run>> {
    let store = open(path);
    let webhook = webhook(&store).await;
    let mut runs = Vec::new();
    for number in 0..40 {
        let text = "x".repeat(if number == 20 { 30_000 } else { 10 * number });
        runs.push(enqueue(&store, request(&webhook, &text)).await.unwrap());
        // A reader makes the checkpointer update the database, so its log has many parts.
        store.list_runs(RunQuery::default()).await.unwrap();
    }
    for claim in claim(&store, 20).await {
        let ended = succeed(&store, &claim.run, vec![delivery(claim.run.id())]).await;
        let place = runs.iter().position(|run| run.id() == ended.id()).unwrap();
        runs[place] = ended;
    }
    runs
}

/// Opens a damaged folder. Its content must be right, or an error. Returns whether any fault was found.
async fn open_damaged(path: &Path, runs: &[Arc<Run>], what: &str) -> bool {
    let store = match options().open(path) {
        Ok(store) => store,
        Err(OpenError::Damaged { .. } | OpenError::NewerFormat { .. } | OpenError::Io { .. }) => return true,
        Err(error) => panic!("{what}: {error}"),
    };
    let mut damaged = false;
    for run in runs {
        match store.get_run(run.id()).await {
            Ok(Some(found)) => assert_eq!(found, *run, "{what}"),
            Ok(None) => panic!("{what}: an acknowledged run is silently gone"),
            Err(StoreError::Corrupt { .. } | StoreError::Unavailable { .. }) => damaged = true,
            Err(error) => panic!("{what}: {error}"),
        }
    }
    match store.list_runs(RunQuery::default().limit(100)).await {
        Ok(page) => assert!(page.items.len() == runs.len() || damaged, "{what}: some are not listed"),
        Err(_) => damaged = true,
    }
    damaged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_opener_is_told_that_the_folder_is_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let error = SledStore::open(folder.path()).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }));
    assert_eq!(
        error.to_string(),
        format!("{} is open already, in this process or another", folder.path().display())
    );
    let clone = store.clone();
    drop(store);
    assert!(SledStore::open(folder.path()).is_err(), "a clone still has it open");
    drop(clone);
    SledStore::open(folder.path()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_format_is_told_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let superblock = folder.path().join("webhook-store");
    let text = fs::read_to_string(&superblock).unwrap();
    fs::write(&superblock, text.replace("format 4", "format 7")).unwrap();
    let error = SledStore::open(folder.path()).unwrap_err();
    assert!(matches!(error, OpenError::NewerFormat { found: 7, known: 4, .. }), "{error}");
    fs::write(&superblock, text).unwrap();
    let database = open_database(folder.path()).unwrap();
    let mut newer = vec![1];
    newer.extend(5_u64.to_be_bytes());
    database.insert("f", newer).unwrap();
    drop(database);
    let error = SledStore::open(folder.path()).unwrap_err();
    assert!(matches!(error, OpenError::NewerFormat { found: 5, known: 4, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_of_a_newer_version_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let webhook = webhook(&store).await;
    drop(store);
    let database = open_database(folder.path()).unwrap();
    let key = [b"w", webhook.id.as_bytes().as_slice()].concat();
    let mut record = database.get(&key).unwrap().unwrap().to_vec();
    record[0] = 9;
    database.insert(key, record).unwrap();
    drop(database);
    let error = SledStore::open(folder.path()).unwrap_err();
    assert!(matches!(error, OpenError::NewerFormat { found: 9, known: 3, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_empty_and_garbled_files_are_typed_errors() {
    let folder = tempfile::tempdir().unwrap();
    let original = folder.path().join("original");
    filled(&original).await;
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 10] = [
        ("the database is gone", |path| fs::remove_file(path.join("sled/db")).unwrap()),
        ("the database is empty", |path| fs::write(path.join("sled/db"), "").unwrap()),
        ("the database is garbage", |path| fs::write(path.join("sled/db"), "garbage".repeat(9_999)).unwrap()),
        ("sled's folder is gone", |path| fs::remove_dir_all(path.join("sled")).unwrap()),
        ("the superblock is gone", |path| fs::remove_file(path.join("webhook-store")).unwrap()),
        ("the superblock is empty", |path| fs::write(path.join("webhook-store"), "").unwrap()),
        ("the superblock is garbage", |path| fs::write(path.join("webhook-store"), "garbage").unwrap()),
        ("the superblock is binary", |path| fs::write(path.join("webhook-store"), [0xff; 1_536]).unwrap()),
        ("the database was swapped", |path| {
            fs::remove_dir_all(path.join("sled")).unwrap();
            drop(sled::open(path.join("sled")).unwrap());
        }),
        ("the superblock and the log are gone", |path| {
            fs::remove_file(path.join("webhook-store")).unwrap();
            fs::write(path.join("sled/db"), "").unwrap();
        }),
    ];
    for (what, harm) in harms {
        let path = folder.path().join("copy");
        copy(&original, &path);
        harm(&path);
        let error = SledStore::open(&path).expect_err(what);
        assert!(matches!(error, OpenError::Damaged { .. }), "{what}: {error}");
        let text = error.to_string();
        assert!(text.lines().count() == 1, "{what}: {text}");
        assert!(text.contains("restore the whole folder from a backup"), "{what}: {text}");
        assert!(!text.contains("backtrace") && error.source().is_none(), "{what}: {error:?}");
        fs::remove_dir_all(path).unwrap();
    }
}

/// Opens a folder, which must not block.
fn open_soon(path: &Path) -> Result<SledStore, OpenError> {
    let (path, (sender, receiver)) = (path.to_owned(), std::sync::mpsc::channel());
    std::thread::spawn(move || sender.send(options().open(path)));
    receiver.recv_timeout(Duration::from_secs(30)).expect("an opening waits without end")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_a_pipe_a_folder_or_a_socket_is_named_and_never_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let runs = filled(&path).await;
    let kept = folder.path().join("kept");
    for name in ["webhook-store", "journal-0", "journal-1", "sled/db", "sled/conf"] {
        let file = path.join(name);
        fs::rename(&file, &kept).unwrap();
        for kind in ["pipe", "folder", "socket"] {
            match kind {
                "pipe" => assert!(Command::new("mkfifo").arg(&file).status().unwrap().success()),
                "folder" => fs::create_dir(&file).unwrap(),
                _ => drop(UnixListener::bind(&file).unwrap()),
            }
            let error = open_soon(&path).expect_err(name);
            assert!(matches!(error, OpenError::Damaged { .. }), "{name} is a {kind}: {error:?}");
            let text = error.to_string();
            assert!(
                text.contains(&format!("its file {name} is no regular file; put back")),
                "{kind}: {text}"
            );
            if kind == "folder" { fs::remove_dir(&file) } else { fs::remove_file(&file) }.unwrap();
        }
        fs::rename(&kept, &file).unwrap();
    }
    fs::rename(path.join("sled"), &kept).unwrap();
    fs::write(path.join("sled"), "").unwrap();
    let error = open_soon(&path).unwrap_err().to_string();
    assert!(error.contains("its database, sled, is no folder"), "{error}");
    fs::remove_file(path.join("sled")).unwrap();
    fs::rename(&kept, path.join("sled")).unwrap();
    assert!(!open_damaged(&path, &runs, "put back").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_superblock_that_is_missing_or_empty_is_named_at_every_start_until_it_is_put_back() {
    let folder = tempfile::tempdir().unwrap();
    let runs = filled(folder.path()).await;
    let superblock = folder.path().join("webhook-store");
    let whole = fs::read(&superblock).unwrap();
    fs::remove_file(&superblock).unwrap();
    for _ in 0..2 {
        let error = SledStore::open(folder.path()).unwrap_err();
        assert!(error.to_string().contains("its file webhook-store is missing or empty"), "{error}");
    }
    fs::write(&superblock, whole).unwrap();
    assert!(!open_damaged(folder.path(), &runs, "put back").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_of_an_earlier_format_without_its_superblock_is_refused() {
    for version in ["v1", "v2", "v3"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("copy");
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(version), &path);
        fs::create_dir_all(path.join("sled/blobs")).unwrap();
        fs::remove_file(path.join("webhook-store")).unwrap();
        let error = SledStore::open(&path).unwrap_err();
        assert!(
            error.to_string().contains("its file webhook-store is missing or empty"),
            "{version}: {error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flipped_bytes_are_errors_and_lose_nothing_silently() {
    let folder = tempfile::tempdir().unwrap();
    let original = folder.path().join("original");
    let runs = filled(&original).await;
    // Once with all data in the replayed part of the log, and once with a snapshot of all of it.
    let mut noticed = 0;
    for recovered in [false, true] {
        if recovered {
            drop(open(&original));
        }
        for file in sled_files(&original) {
            let bytes = fs::read(original.join(&file)).unwrap();
            let used = used(&bytes);
            for step in 0..24 {
                let at = used * step / 24 + step % 5;
                let Some(byte) = bytes.get(at) else { continue };
                let path = folder.path().join("copy");
                copy(&original, &path);
                let mut bytes = bytes.clone();
                bytes[at] = byte ^ 0x55;
                fs::write(path.join(&file), bytes).unwrap();
                let what = format!("{file} flipped at {at} of {used}");
                noticed += usize::from(open_damaged(&path, &runs, &what).await);
                fs::remove_dir_all(path).unwrap();
            }
        }
    }
    assert!(noticed > 10, "hardly any damage was noticed: {noticed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_was_cut_off_is_an_error_where_acknowledged_changes_are_missing() {
    let folder = tempfile::tempdir().unwrap();
    let original = folder.path().join("original");
    let runs = filled(&original).await;
    // Another opening, after which the journal no longer has the data.
    drop(open(&original));
    let bytes = fs::read(original.join("sled/db")).unwrap();
    let mut noticed = 0;
    for part in 1..12 {
        let path = folder.path().join("copy");
        copy(&original, &path);
        let length = used(&bytes) * part / 12;
        fs::write(path.join("sled/db"), &bytes[..length]).unwrap();
        noticed += usize::from(open_damaged(&path, &runs, &format!("cut to {length}")).await);
        fs::remove_dir_all(path).unwrap();
    }
    assert!(noticed > 5, "hardly any cut was noticed: {noticed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_is_told_at_every_start_and_no_text_leads_to_losing_more() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path()).await;
    // Another opening, after which the journal no longer has the data.
    drop(open(folder.path()));
    let log = folder.path().join("sled/db");
    let whole = fs::read(&log).unwrap();
    let length = used(&whole) * 2 / 3;
    fs::File::options().write(true).open(&log).unwrap().set_len(length as u64).unwrap();
    for superblock in [true, false] {
        if !superblock {
            // It notes what was acknowledged, but the journal proves that more was.
            fs::remove_file(folder.path().join("webhook-store")).unwrap();
        }
        for _ in 0..2 {
            let error = SledStore::open(folder.path()).unwrap_err().to_string();
            // sled itself refuses a log that is shorter than its snapshot says.
            let named = [
                "missing, which were acknowledged",
                "its database, in the folder sled, cannot be read",
                "its file webhook-store is missing or empty",
            ];
            assert!(named.iter().any(|reason| error.contains(reason)), "{error}");
            assert!(!error.contains("remove") && !error.contains("delete"), "{error}");
        }
    }
}

/// Data that the database has lost again is still in the journal until the store is opened another time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_was_cut_off_after_it_was_closed_gets_what_the_journal_has() {
    let folder = tempfile::tempdir().unwrap();
    let runs = filled(folder.path()).await;
    let log = folder.path().join("sled/db");
    let length = used(&fs::read(&log).unwrap()) * 2 / 3;
    fs::File::options().write(true).open(&log).unwrap().set_len(length as u64).unwrap();
    assert!(!open_damaged(folder.path(), &runs, "cut off").await);
}

/// Returns the used length of a file, since sled fills its log up with zeroes.
fn used(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

/// Returns the non-empty files of sled, relative to the store's folder.
fn sled_files(path: &Path) -> Vec<String> {
    let files = fs::read_dir(path.join("sled")).unwrap().map(|entry| entry.unwrap());
    files
        .filter(|entry| entry.metadata().unwrap().is_file() && entry.metadata().unwrap().len() > 0)
        .map(|entry| format!("sled/{}", entry.file_name().into_string().unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_store_of_an_earlier_day_under_a_newer_journal_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (path, older) = (folder.path().join("store"), folder.path().join("older"));
    filled(&path).await;
    copy(&path, &older);
    let store = open(&path);
    let webhook = webhook(&store).await;
    enqueue(&store, request(&webhook, "newer")).await.unwrap();
    drop(store);
    fs::remove_dir_all(path.join("sled")).unwrap();
    copy(&older.join("sled"), &path.join("sled"));
    fs::copy(older.join("webhook-store"), path.join("webhook-store")).unwrap();
    let error = options().open(&path).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("its file webhook-store and its database are older"), "{error}");
}

/// sled continues after a damaged part of its log as if that had never existed, until the next opening.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_taken_from_the_journal_into_a_damaged_database_is_there_at_the_next_start_or_nothing_is() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    let runs = filled(&whole).await;
    let content = fs::read(whole.join("sled/db")).unwrap();
    for at in [0, 4, 9, 100, 1_000, 10_000] {
        let path = folder.path().join("copy");
        copy(&whole, &path);
        let mut damaged = content.clone();
        damaged[at] ^= 1;
        fs::write(path.join("sled/db"), damaged).unwrap();
        for start in 1..=3 {
            let store = match options().open(&path) {
                Ok(store) => store,
                Err(error) => {
                    assert!(matches!(error, OpenError::Damaged { .. }), "byte {at}, start {start}: {error}");
                    assert_eq!(start, 1, "byte {at}: a start went well before {error}");
                    break;
                }
            };
            for run in &runs {
                let found = store.get_run(run.id()).await.unwrap();
                assert!(found.is_some(), "byte {at}, start {start}: an acknowledged run is silently gone");
            }
            let webhook = webhook(&store).await;
            enqueue(&store, request(&webhook, "more")).await.unwrap();
        }
        fs::remove_dir_all(path).unwrap();
    }
}
