//! A disk for tests that loses power.

#![allow(dead_code, unreachable_pub, reason = "each file of tests is a crate that uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use webhook_core::id::RunId;
use webhook_core::run::RunState;
use webhook_sled::testing::{Disk, WrapDisk, open_with_disk};
use webhook_sled::{OpenError, SledOptions, SledStore};

const BLOCK: usize = 4_096;
/// Files of which only synced content is durable. sled syncs its snapshots itself.
const SYNCED: [&str; 5] = ["db", "conf", "journal-0", "journal-1", "webhook-store"];

/// Acknowledged states, by run.
pub type Acknowledged = Arc<Mutex<HashMap<RunId, RunState>>>;

/// One loss of power: the folder as it is found afterwards, and the states acknowledged before.
pub struct Loss {
    pub folder: PathBuf,
    pub acknowledged: HashMap<RunId, RunState>,
    /// File whose sync the loss of power preceded.
    pub before: String,
    _kept: Arc<tempfile::TempDir>,
}

/// State shared by a test and its disk.
#[derive(Clone)]
pub struct Losses {
    pub acknowledged: Acknowledged,
    losses: Arc<Mutex<Vec<Loss>>>,
    /// Power is lost before about one sync in so many; 0 is never.
    pub one_in: Arc<AtomicU64>,
    /// True if the disk is full for writes of the journal.
    pub no_room: Arc<AtomicBool>,
    most: usize,
    /// Durable content, by the path within the store.
    durable: Arc<Mutex<HashMap<PathBuf, Vec<u8>>>>,
    folder: Arc<tempfile::TempDir>,
}

impl Losses {
    /// Records at most `most` losses.
    pub fn new(most: usize) -> Self {
        Self {
            acknowledged: Acknowledged::default(),
            losses: Arc::default(),
            one_in: Arc::default(),
            no_room: Arc::default(),
            most,
            durable: Arc::default(),
            folder: Arc::new(tempfile::tempdir().unwrap()),
        }
    }

    pub fn count(&self) -> usize {
        self.losses.lock().len()
    }

    pub fn take(&self) -> Vec<Loss> {
        std::mem::take(&mut *self.losses.lock())
    }

    /// Returns the content that is durable now. A killed process leaves more, which the next one reads.
    pub fn durable(&self) -> HashMap<PathBuf, Vec<u8>> {
        self.durable.lock().clone()
    }

    /// Opens a store on a disk that loses power. The content of the folder is durable.
    pub fn open(&self, path: &Path, options: SledOptions, seed: u64) -> Result<SledStore, OpenError> {
        let durable = contents(path, path);
        self.open_with(path, options, seed, durable)
    }

    /// Opens a store of which only this content is durable.
    pub fn open_with(
        &self,
        path: &Path,
        options: SledOptions,
        seed: u64,
        durable: HashMap<PathBuf, Vec<u8>>,
    ) -> Result<SledStore, OpenError> {
        let names = names(path);
        *self.durable.lock() = durable;
        let (store, losses) = (path.to_owned(), self.clone());
        let state = Mutex::new(State { names, random: seed });
        let wrap: WrapDisk = Box::new(move |inner| Box::new(LosingDisk { inner, store, state, losses }));
        open_with_disk(path, options, wrap)
    }
}

struct LosingDisk {
    inner: Box<dyn Disk>,
    store: PathBuf,
    state: Mutex<State>,
    losses: Losses,
}

struct State {
    /// Durable names in the store's folder, each with its inode number.
    names: HashMap<String, u64>,
    random: u64,
}

impl LosingDisk {
    /// Called before each sync, at which power may be lost.
    fn before_sync(&self, state: &mut State, synced: &Path) {
        let one_in = self.losses.one_in.load(Ordering::SeqCst);
        if one_in == 0
            || self.losses.count() >= self.losses.most
            || !next(&mut state.random).is_multiple_of(one_in)
        {
            return;
        }
        let number = self.losses.count();
        let acknowledged = self.losses.acknowledged.lock().clone();
        // Every third time, no unsynced content is on disk.
        let keep_some = !number.is_multiple_of(3);
        let folder = self.losses.folder.path().join(format!("{number}-{}", next(&mut state.random)));
        fs::create_dir_all(&folder).unwrap();
        // A file that was renamed, created or removed since its folder was synced is so entirely or not at
        // all.
        let present = names(&self.store);
        let are_kept = keep_some && next(&mut state.random).is_multiple_of(2);
        let names = if are_kept { present.clone() } else { state.names.clone() };
        for (name, number) in names {
            // Its current name; a removal since is not modelled, and persists.
            let Some((now, _)) = present.iter().find(|(_, now)| **now == number) else { continue };
            self.leave(&self.store.join(now), &folder.join(name), keep_some, &mut state.random);
        }
        let before = synced.strip_prefix(&self.store).unwrap_or(synced).display().to_string();
        let loss = Loss { folder, acknowledged, before, _kept: self.losses.folder.clone() };
        self.losses.losses.lock().push(loss);
    }

    /// Copies the remains of a file, or of all files in a folder.
    fn leave(&self, from: &Path, to: &Path, keep_some: bool, random: &mut u64) {
        if from.is_dir() {
            fs::create_dir_all(to).unwrap();
            for entry in fs::read_dir(from).unwrap() {
                let entry = entry.unwrap();
                self.leave(&entry.path(), &to.join(entry.file_name()), keep_some, random);
            }
            return;
        }
        let Ok(written) = fs::read(from) else { return };
        let name = from.file_name().unwrap().to_str().unwrap();
        if !SYNCED.contains(&name) {
            fs::write(to, written).unwrap();
            return;
        }
        let durable = self.losses.durable.lock();
        let path = from.strip_prefix(&self.store).unwrap();
        // It was synced before it got its name.
        let before = Path::new("sled.unfinished").join(name);
        let was_renamed = path.starts_with("sled") && !durable.contains_key(path);
        let durable =
            durable.get(if was_renamed { before.as_path() } else { path }).cloned().unwrap_or_default();
        fs::write(to, left_of(&written, &durable, keep_some, random)).unwrap();
    }
}

/// Returns the names in a folder, each with its inode number.
fn names(folder: &Path) -> HashMap<String, u64> {
    let Ok(entries) = fs::read_dir(folder) else { return HashMap::new() };
    let entries = entries.filter_map(Result::ok);
    entries
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.metadata().ok()?.ino())))
        .collect()
}

/// Returns the content of all files in a folder and its subfolders.
pub fn contents(store: &Path, folder: &Path) -> HashMap<PathBuf, Vec<u8>> {
    let mut found = HashMap::new();
    for name in names(folder).into_keys() {
        let path = folder.join(name);
        if path.is_dir() {
            found.extend(contents(store, &path));
        } else if let Ok(content) = fs::read(&path) {
            found.insert(path.strip_prefix(store).unwrap().to_owned(), content);
        }
    }
    found
}

/// Returns the remains of a file: of its unsynced blocks some or none, and of its lengths the old or the new
/// one.
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
    // A file that was cut off may have its old length.
    if durable.len() > written.len() && (!keep_some || next(random).is_multiple_of(2)) {
        left.extend_from_slice(&durable[written.len()..]);
    }
    // A file that has grown may have its old length.
    if durable.len() < written.len() && (!keep_some || next(random).is_multiple_of(4)) {
        left.truncate(durable.len());
    }
    left
}

impl Disk for LosingDisk {
    fn sync(&self, file: &File, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let written = fs::read(path)?;
        self.before_sync(&mut state, path);
        self.inner.sync(file, path)?;
        let name = path.strip_prefix(&self.store).unwrap().to_owned();
        self.losses.durable.lock().insert(name, written);
        Ok(())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let present = names(&self.store);
        self.before_sync(&mut state, folder);
        self.inner.sync_folder(folder)?;
        if folder == self.store {
            state.names = present;
        }
        Ok(())
    }

    fn free_bytes(&self, folder: &Path) -> io::Result<u64> {
        self.inner.free_bytes(folder)
    }

    fn before_write(&self) -> io::Result<()> {
        if self.losses.no_room.load(Ordering::SeqCst) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        self.inner.before_write()
    }

    fn before_apply(&self) -> io::Result<()> {
        self.inner.before_apply()
    }
}

/// Returns a random number (xorshift).
pub fn next(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random >> 11
}
