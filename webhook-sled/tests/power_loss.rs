//! Power is lost at some moment: of what was written since the last finished sync, some blocks are on the disk and
//! some are not. Whatever was acknowledged by then is there, and the store opens.

#![allow(clippy::unwrap_used)]

mod scene;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use scene::*;
use webhook_core::id::RunId;
use webhook_core::run::RunState;
use webhook_core::store::{PruneRequest, RunQuery, Store};
use webhook_sled::testing::{Disk, WrapDisk};

const BLOCK: usize = 4_096;
const LOSSES: usize = 14;
/// The files that are synced.
const DATABASE: &str = "sled/db";
const JOURNAL: [&str; 2] = ["journal-0", "journal-1"];

/// What callers were told, by run.
type Acknowledged = Arc<Mutex<HashMap<RunId, RunState>>>;

/// One loss of power: the folder as it is found afterwards, and what was acknowledged before.
struct Loss {
    folder: PathBuf,
    acknowledged: HashMap<RunId, RunState>,
}

/// A disk that notes what is durable and, now and then, what is left when power is lost just before a sync.
struct LosingDisk {
    inner: Box<dyn Disk>,
    store: PathBuf,
    losses_in: PathBuf,
    state: Mutex<State>,
    scene: Scene,
}

/// What a test and its disk share.
#[derive(Clone, Default)]
struct Scene {
    acknowledged: Acknowledged,
    losses: Arc<Mutex<Vec<Loss>>>,
    /// Power is lost before about one sync in so many; 0 is never.
    one_in: Arc<AtomicU64>,
}

impl Scene {
    fn count(&self) -> usize {
        self.losses.lock().unwrap().len()
    }

    /// Opens a store on a disk that loses power.
    fn open(&self, folder: &Path, seed: u64) -> (webhook_sled::SledStore, PathBuf) {
        let path = folder.join("store");
        let (store, losses_in, scene) = (path.clone(), folder.join("losses"), self.clone());
        let wrap: WrapDisk = Box::new(move |inner| {
            // A store that was just opened is durable.
            let state = Mutex::new(State { durable: files(&store).unwrap(), random: seed });
            Box::new(LosingDisk { inner, store, losses_in, state, scene })
        });
        (webhook_sled::testing::open_with_disk(&path, options(), wrap).unwrap(), path)
    }
}

struct State {
    /// Each file as it was when the last finished sync of it began: that much is durable.
    durable: HashMap<&'static str, Vec<u8>>,
    random: u64,
}

impl LosingDisk {
    fn lose_power(&self, state: &mut State, written: &HashMap<&'static str, Vec<u8>>) {
        let mut losses = self.scene.losses.lock().unwrap();
        let acknowledged = self.scene.acknowledged.lock().unwrap().clone();
        let folder = self.losses_in.join(losses.len().to_string());
        // Every third time nothing that was not synced is on the disk.
        let keep_some = !losses.len().is_multiple_of(3);
        copy(&self.store, &folder);
        for (file, written) in written {
            let durable = state.durable.get(file).cloned().unwrap_or_default();
            let left = left_of(written, &durable, keep_some, &mut state.random);
            fs::write(folder.join(file), left).unwrap();
        }
        losses.push(Loss { folder, acknowledged });
    }

    /// Syncs these files, which may lose power just before.
    fn syncing(&self, synced: &[&'static str], sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        let written = files(&self.store)?;
        let one_in = self.scene.one_in.load(Ordering::SeqCst);
        let may_lose = one_in > 0 && self.scene.count() < LOSSES;
        if may_lose && next(&mut state.random).is_multiple_of(one_in) {
            self.lose_power(&mut state, &written);
        }
        sync()?;
        let is_synced = |(file, _): &(&'static str, Vec<u8>)| synced.contains(file);
        state.durable.extend(written.into_iter().filter(is_synced));
        Ok(())
    }
}

/// The content of the files that are synced.
fn files(store: &Path) -> io::Result<HashMap<&'static str, Vec<u8>>> {
    let read = |file: &'static str| fs::read(store.join(file)).map(|content| (file, content));
    [JOURNAL[0], JOURNAL[1], DATABASE].into_iter().map(read).collect()
}

/// What is left of a file: of its blocks that were not synced, some or none.
fn left_of(written: &[u8], durable: &[u8], keep_some: bool, random: &mut u64) -> Vec<u8> {
    let mut left = Vec::with_capacity(written.len());
    for (number, block) in written.chunks(BLOCK).enumerate() {
        let old = durable.get(number * BLOCK..).unwrap_or_default();
        let old = &old[..old.len().min(block.len())];
        let keep = keep_some && next(random).is_multiple_of(2);
        if keep {
            left.extend_from_slice(block);
        } else {
            left.extend_from_slice(old);
            left.resize(left.len() + block.len() - old.len(), 0);
        }
    }
    left
}

impl Disk for LosingDisk {
    fn sync(&self) -> io::Result<()> {
        self.syncing(&[DATABASE], || self.inner.sync())
    }

    fn sync_journal(&self, file: &fs::File) -> io::Result<()> {
        // Which of the two it is, its number in the file system tells.
        let inode = file.metadata()?.ino();
        let is_it =
            |name: &&&'static str| fs::metadata(self.store.join(name)).is_ok_and(|data| data.ino() == inode);
        let name = JOURNAL.iter().find(is_it).unwrap();
        self.syncing(&[name], || self.inner.sync_journal(file))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.inner.free_bytes()
    }

    fn before_write(&self) -> io::Result<()> {
        self.inner.before_write()
    }
}

fn seed() -> u64 {
    now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64 | 1
}

/// A random number (xorshift).
fn next(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random >> 11
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_unsynced_writes_are() {
    let folder = tempfile::tempdir().unwrap();
    let (scene, seed) = (Scene::default(), seed());
    eprintln!("seed {seed}");
    let (store, path) = scene.open(folder.path(), seed);
    let (acknowledged, losses) = (scene.acknowledged.clone(), scene.losses.clone());
    let webhook = webhook(&store).await;
    let done = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for caller in 0..8 {
        let (store, webhook) = (store.clone(), webhook.clone());
        let (acknowledged, done) = (acknowledged.clone(), done.clone());
        tasks.push(tokio::spawn(async move {
            let mut number = 0_usize;
            while !done.load(Ordering::SeqCst) {
                number += 1;
                let text = "x".repeat(100 + (number * 97 + caller * 31) % 2_500);
                let run =
                    enqueue(&store, keyed(&webhook, &format!("{caller} {number} {text}"))).await.unwrap();
                acknowledged.lock().unwrap().insert(run.id, RunState::Queued);
            }
        }));
    }
    tasks.push(tokio::spawn(settle_and_prune(store.clone(), acknowledged.clone(), done.clone())));
    let enough = async {
        while acknowledged.lock().unwrap().len() < 20 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        scene.one_in.store(25, Ordering::SeqCst);
        while scene.count() < LOSSES {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), enough).await.expect("so many losses");
    done.store(true, Ordering::SeqCst);
    for task in tasks {
        task.await.unwrap();
    }
    let log_bytes = fs::metadata(path.join("sled/db")).unwrap().len();
    assert!(log_bytes > 2 << 20, "the log must have grown over several segments: {log_bytes}");
    drop(store);
    let losses = std::mem::take(&mut *losses.lock().unwrap());
    for (number, loss) in losses.iter().enumerate() {
        check(&loss.folder, &loss.acknowledged, number).await;
    }
}

/// Nothing but removals: of runs with logs and with large parameters, whose pages are shared with what stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_stays_is_lost_while_runs_with_logs_and_large_parameters_are_pruned() {
    let folder = tempfile::tempdir().unwrap();
    let (scene, seed) = (Scene::default(), seed());
    eprintln!("seed {seed}");
    let (store, _) = scene.open(folder.path(), seed);
    let (going, staying) = (webhook(&store).await, webhook_kept_for(&store, 30).await);
    let (mut kept, mut waiting) = (Vec::new(), Vec::new());
    for number in 0..120_usize {
        let webhook = if number.is_multiple_of(6) { &staying } else { &going };
        let text = "p".repeat(if number.is_multiple_of(5) { 120_000 } else { 300 });
        let run = enqueue(&store, request(webhook, &text)).await.unwrap();
        let claimed = claim(&store, 1).await.remove(0).run;
        for _ in 0..8 {
            let line = format!("{number} {}\n", "x".repeat(3_000));
            store.append_log(run.id, claimed.fence, line).await.unwrap();
        }
        let ended = succeed(&store, &claimed, Vec::new()).await;
        if webhook.id == staying.id {
            scene.acknowledged.lock().unwrap().insert(ended.id, ended.state);
            kept.push((ended, store.read_log(run.id, 0).await.unwrap()));
        }
    }
    for _ in 0..40 {
        let run = enqueue(&store, request(&going, &"q".repeat(400))).await.unwrap();
        scene.acknowledged.lock().unwrap().insert(run.id, run.state);
        waiting.push(run);
    }
    scene.one_in.store(4, Ordering::SeqCst);
    let request = PruneRequest::new(now() + Duration::from_secs(1), Duration::ZERO, 20);
    while store.prune(request).await.unwrap().more {}
    drop(store);
    let losses = std::mem::take(&mut *scene.losses.lock().unwrap());
    assert!(losses.len() >= 5, "power was lost {} times only", losses.len());
    for (number, loss) in losses.iter().enumerate() {
        let store = check(&loss.folder, &loss.acknowledged, number).await;
        for (run, log) in &kept {
            assert_eq!(store.get_run(run.id).await.unwrap().as_ref(), Some(run), "loss {number}");
            assert_eq!(store.read_log(run.id, 0).await.unwrap(), *log, "loss {number}");
        }
        for run in &waiting {
            assert_eq!(store.get_run(run.id).await.unwrap().as_ref(), Some(run), "loss {number}");
        }
        // What was about to be removed is there, or gone.
        while store.prune(request).await.unwrap().more {}
        let left = store.list_runs(RunQuery::default().limit(200)).await.unwrap().items;
        let ended = left.iter().filter(|run| run.state.is_ended()).count();
        assert_eq!(ended, kept.len(), "loss {number}");
    }
}

async fn settle_and_prune(store: webhook_sled::SledStore, acknowledged: Acknowledged, done: Arc<AtomicBool>) {
    while !done.load(Ordering::SeqCst) {
        let claims = claim(&store, 16).await;
        if claims.is_empty() {
            tokio::task::yield_now().await;
        }
        for claim in claims {
            let ended = succeed(&store, &claim.run, Vec::new()).await;
            acknowledged.lock().unwrap().insert(ended.id, ended.state);
        }
        // The oldest of those that have ended go; whether they are still there after a loss does not matter.
        let mut old: Vec<RunId> = {
            let acknowledged = acknowledged.lock().unwrap();
            acknowledged.iter().filter(|(_, state)| state.is_ended()).map(|(id, _)| *id).collect()
        };
        old.sort();
        let keep = 60;
        for id in old.iter().rev().skip(keep) {
            acknowledged.lock().unwrap().remove(id);
        }
        let request = PruneRequest::new(now(), Duration::from_secs(3_600), 64);
        store.prune(request.with_keep_per_webhook(Some(keep as u64))).await.unwrap();
    }
}

async fn check(
    folder: &Path,
    acknowledged: &HashMap<RunId, RunState>,
    number: usize,
) -> webhook_sled::SledStore {
    let store = options().open(folder).unwrap_or_else(|error| panic!("loss {number}: {error:?}"));
    assert!(!acknowledged.is_empty());
    for (id, state) in acknowledged {
        let run = store.get_run(*id).await.unwrap_or_else(|error| panic!("loss {number}: {error:?}"));
        let run = run.unwrap_or_else(|| panic!("loss {number}: an acknowledged run is gone"));
        assert!(
            run.state == *state || *state == RunState::Queued,
            "loss {number}: {} again",
            run.state.as_str()
        );
    }
    let report = store.verify().await.unwrap();
    assert!(report.is_whole(), "loss {number}: {report:?}");
    // And it goes on.
    let webhook = webhook(&store).await;
    enqueue(&store, request(&webhook, "x")).await.unwrap();
    store
}
