//! Damages every file of a store in every way, alone and in pairs, after a clean close, after a kill and
//! after a loss of power.
//!
//! Then one of three holds: everything acknowledged is there; opening gives one typed error of one line; a
//! read or the check of everything reports the damage.
//!
//! `WEBHOOK_DAMAGE_STEPS=50` tries so many places of each file instead of a few.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]
#![allow(clippy::print_stderr, reason = "a test says what it skips or finds")]

mod losing;
mod scene;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use losing::Losses;
use scene::*;
use webhook_core::id::RunId;
use webhook_core::run::RunState;
use webhook_core::store::{RunQuery, Store, StoreError};
use webhook_sled::OpenError;

const SUPERBLOCK: &str = "webhook-store";
const JOURNALS: [&str; 2] = ["journal-0", "journal-1"];
const DATABASE: &str = "sled/db";

/// A store as it was found, an earlier state of it, and the acknowledged runs.
struct Found {
    name: &'static str,
    folder: PathBuf,
    older: PathBuf,
    acknowledged: HashMap<RunId, RunState>,
    /// The newest acknowledged run: its record may be the last of the journal.
    last: RunId,
    /// True if the superblock knows no more than the disk.
    lost_power: bool,
}

/// Damage to a file.
#[derive(Debug, Clone, Copy)]
enum Harm {
    Missing,
    Empty,
    /// The file is replaced by an earlier state.
    Older,
    /// The file is cut to so many thousandths of its used length.
    Cut(usize),
    /// One bit is flipped at so many thousandths of the used length.
    Flipped(usize),
}

impl Harm {
    fn all(steps: usize) -> Vec<Self> {
        let places = (0..steps).map(|step| (2 * step + 1) * 1_000 / (2 * steps));
        let places: Vec<usize> = [0].into_iter().chain(places).chain([999]).collect();
        let cut = places.iter().copied().map(Self::Cut);
        let flipped = places.iter().copied().map(Self::Flipped);
        [Self::Missing, Self::Empty, Self::Older].into_iter().chain(cut).chain(flipped).collect()
    }

    /// Returns the damages that are applied to pairs of files.
    fn of_pairs() -> Vec<Self> {
        match steps(0) {
            0 => vec![Self::Missing, Self::Older, Self::Flipped(999)],
            steps => Self::all(steps.isqrt()),
        }
    }

    /// Damages a file of a copy. Returns whether that changed anything.
    fn apply(self, copy: &Path, older: &Path, file: &str) -> bool {
        let path = copy.join(file);
        let Ok(content) = fs::read(&path) else { return false };
        let used = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let harmed = match self {
            Self::Missing => {
                fs::remove_file(&path).unwrap();
                return true;
            }
            Self::Empty => Vec::new(),
            Self::Older => match fs::read(older.join(file)) {
                Ok(older) => older,
                Err(_) => return false,
            },
            Self::Cut(place) => content[..used * place / 1_000].to_vec(),
            Self::Flipped(_) if used == 0 => return false,
            Self::Flipped(place) => {
                let mut content = content.clone();
                content[used * place / 1_000] ^= 1 << (place % 8);
                content
            }
        };
        fs::write(&path, &harmed).unwrap();
        harmed != content
    }
}

/// Result of opening a damaged store.
enum Outcome {
    Whole,
    Refused,
    /// A read reported damage.
    Told,
    /// The check of everything reported that something is missing.
    Checked,
    /// These acknowledged runs are missing or outdated, and nothing reports it.
    Silent(Vec<RunId>),
}

async fn open_damaged(found: &Found, copy: &Path, what: &str) -> Outcome {
    let store = match std::panic::catch_unwind(|| options().open(copy)) {
        Err(_) => panic!("{what}: a panic left open"),
        Ok(Ok(store)) => store,
        Ok(Err(error)) => {
            assert_eq!(error.to_string().lines().count(), 1, "{what}: {error}");
            let text = error.to_string();
            assert!(!text.contains("remove") && !text.contains("delete"), "{what}: {text}");
            assert!(!matches!(error, OpenError::InUse { .. }), "{what}: {text}");
            return Outcome::Refused;
        }
    };
    let mut gone = Vec::new();
    for (id, state) in &found.acknowledged {
        match store.get_run(*id).await {
            Ok(Some(run)) if run.state() == *state || *state == RunState::Queued => {}
            Ok(_) => gone.push(*id),
            Err(StoreError::Corrupt { .. } | StoreError::Unavailable { .. }) => return Outcome::Told,
            Err(error) => panic!("{what}: {error}"),
        }
    }
    if !gone.is_empty() {
        // Faults that no start can see are found by the check of everything, which also runs in the
        // background.
        return match store.verify().await {
            Ok(report) if report.is_whole() => Outcome::Silent(gone),
            _ => Outcome::Checked,
        };
    }
    match store.list_runs(RunQuery::default().limit(200)).await {
        Ok(page) => {
            assert!(page.items.len() >= found.acknowledged.len().min(200), "{what}: some are not listed");
        }
        Err(_) => return Outcome::Told,
    }
    Outcome::Whole
}

/// Fills a store, and returns the states in which its folder may be found.
async fn found(folder: &Path) -> Vec<Found> {
    let path = folder.join("store");
    let losses = Losses::new(2);
    let store = losses.open(&path, options(), 7).unwrap();
    let webhook = webhook(&store).await;
    let mut acknowledged = HashMap::new();
    let mut last = None;
    let copied = |name: &str| {
        let to = folder.join(name);
        copy(&path, &to);
        to
    };
    let mut older = None;
    // Enough for both files of the journal, and some runs of each state.
    for number in 0..90_usize {
        let text = "x".repeat(if number.is_multiple_of(3) { 60_000 } else { 400 + number });
        let run = enqueue(&store, request(&webhook, &text)).await.unwrap();
        acknowledged.insert(run.id(), RunState::Queued);
        last = Some(run.id());
        if number.is_multiple_of(4) {
            let claimed = claim(&store, 1).await.remove(0).run;
            let ended = succeed(&store, &claimed, Vec::new()).await;
            acknowledged.insert(ended.id(), ended.state());
        }
        if number.is_multiple_of(20) {
            // A reader makes the checkpointer update the database.
            store.list_runs(RunQuery::default().limit(1)).await.unwrap();
        }
        if number == 30 {
            older = Some(copied("older"));
        }
    }
    let (older, last) = (older.unwrap(), last.unwrap());
    *losses.acknowledged.lock() = acknowledged.clone();
    let found = |name, folder, lost_power| {
        let (older, acknowledged) = (older.clone(), acknowledged.clone());
        Found { name, folder, older, acknowledged, last, lost_power }
    };
    let killed = found("killed", copied("killed"), false);
    // The superblock is synced within a second.
    while losses.durable().get(Path::new(SUPERBLOCK)) != Some(&fs::read(path.join(SUPERBLOCK)).unwrap()) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The next change is not acknowledged, since power is lost before its sync.
    losses.one_in.store(1, Ordering::SeqCst);
    enqueue(&store, request(&webhook, "lost")).await.unwrap();
    losses.one_in.store(0, Ordering::SeqCst);
    let loss = losses.take().remove(0);
    let cut = folder.join("cut");
    copy(&loss.folder, &cut);
    let cut = found("without power", cut, true);
    drop(store);
    vec![killed, cut, found("closed", copied("closed"), false)]
}

/// Returns whether these losses are allowed: the last record of the journal may be lost unless the superblock
/// says that it was synced.
///
/// The superblock lags behind after a loss of power, and so does an older copy of it.
fn may_be_lost(found: &Found, files: &[&str], gone: &[RunId]) -> bool {
    let is_journal = files.iter().any(|file| JOURNALS.contains(file));
    (found.lost_power || files.contains(&SUPERBLOCK)) && is_journal && gone == [found.last]
}

fn steps(few: usize) -> usize {
    std::env::var("WEBHOOK_DAMAGE_STEPS").ok().and_then(|steps| steps.parse().ok()).unwrap_or(few)
}

/// Returns all files of a store except sled's empty folders.
fn files(folder: &Path) -> Vec<String> {
    let mut files: Vec<String> =
        losing::contents(folder, folder).into_keys().map(|file| file.to_str().unwrap().to_owned()).collect();
    files.sort();
    files
}

#[derive(Default)]
struct Tally {
    whole: usize,
    refused: usize,
    told: usize,
    /// Number of faults found by the check of everything.
    checked: usize,
}

async fn harm_and_open(found: &Found, folder: &Path, harms: &[(&str, Harm)], tally: &mut Tally) {
    let copy_at = folder.join("copy");
    let _ = fs::remove_dir_all(&copy_at);
    copy(&found.folder, &copy_at);
    let mut changed = false;
    for (file, harm) in harms {
        changed |= harm.apply(&copy_at, &found.older, file);
    }
    if !changed {
        return;
    }
    let what = format!("{}: {harms:?}", found.name);
    let names: Vec<&str> = harms.iter().map(|(file, _)| *file).collect();
    match open_damaged(found, &copy_at, &what).await {
        Outcome::Whole => tally.whole += 1,
        Outcome::Refused => tally.refused += 1,
        Outcome::Told => tally.told += 1,
        Outcome::Checked => tally.checked += 1,
        Outcome::Silent(gone) if may_be_lost(found, &names, &gone) => tally.whole += 1,
        Outcome::Silent(gone) => {
            panic!("{what}: {} acknowledged runs are silently gone or older", gone.len())
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_file_is_an_error_or_loses_nothing() {
    webhook_sled::quiet_caught_panics();
    let folder = tempfile::tempdir().unwrap();
    for found in found(folder.path()).await {
        let mut tally = Tally::default();
        for file in files(&found.folder) {
            for harm in Harm::all(steps(1)) {
                harm_and_open(&found, folder.path(), &[(&file, harm)], &mut tally).await;
            }
        }
        let Tally { whole, refused, told, checked } = tally;
        eprintln!(
            "{}: {whole} whole, {refused} refused, {told} told, {checked} found by the check",
            found.name
        );
        assert!(whole > 5 && refused > 0, "{}: hardly anything was tried", found.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_damaged_files_are_an_error_or_lose_nothing() {
    webhook_sled::quiet_caught_panics();
    let folder = tempfile::tempdir().unwrap();
    let files = [SUPERBLOCK, JOURNALS[0], JOURNALS[1], DATABASE];
    for found in found(folder.path()).await {
        let mut tally = Tally::default();
        for (first, one) in files.iter().enumerate() {
            for two in &files[first + 1..] {
                for harm in Harm::of_pairs() {
                    for other in Harm::of_pairs() {
                        let harms = [(*one, harm), (*two, other)];
                        // Both files of an earlier moment are a rollback of the store. Only the database can
                        // reveal it, for the
                        // changes that it had received by then.
                        let is_superblock_older = *one == SUPERBLOCK && matches!(harm, Harm::Older);
                        if is_superblock_older && JOURNALS.contains(two) && matches!(other, Harm::Older) {
                            continue;
                        }
                        harm_and_open(&found, folder.path(), &harms, &mut tally).await;
                    }
                }
            }
        }
        let Tally { whole, refused, told, checked } = tally;
        eprintln!(
            "{}: {whole} whole, {refused} refused, {told} told, {checked} found by the check",
            found.name
        );
        assert!(refused + whole > 20, "{}: hardly anything was tried", found.name);
    }
}
