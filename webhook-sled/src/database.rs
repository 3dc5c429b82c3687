//! Opening sled so that a crash at any moment leaves a folder that opens, and damage is a typed error.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::damage::Damage;
use crate::error::{OpenError, panic_text};
use crate::journal::Journal;
use crate::keys;
use crate::record::{decode_number, encode_number};
use crate::shared::lock;
use crate::superblock::{Content, FORMAT, NAME, Superblock};
use crate::window::Window;

/// The folder within the store's folder that is sled's.
const SLED: &str = "sled";
/// The same while it is being made.
const UNFINISHED: &str = "sled.unfinished";

/// A store's folder that this process holds.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    pub(crate) superblock: Superblock,
    journal: Mutex<Journal>,
    cache_bytes: u64,
}

impl Folder {
    /// Takes the folder for this process, makes what is missing, and opens its database.
    pub(crate) fn open(
        path: &Path,
        cache_bytes: u64,
        damage: &Damage,
    ) -> Result<(Self, sled::Db), OpenError> {
        let is_new = !path.exists();
        if is_new {
            make(path).map_err(OpenError::io(path))?;
        }
        let (superblock, content) = Superblock::lock(path)?;
        let journal = Mutex::new(Journal::open(path).map_err(OpenError::io(path))?);
        let folder = Self { path: path.to_owned(), superblock, journal, cache_bytes };
        let database = match content {
            Content::Unfinished => {
                let database = folder.finish()?;
                folder.superblock.finish(path).map_err(OpenError::io(path))?;
                if is_new {
                    sync_parents(path).map_err(OpenError::io(path))?;
                }
                database
            }
            Content::Ready(acknowledged) => {
                let log = folder.sled().join("db");
                if fs::metadata(&log).map_or(0, |log| log.len()) == 0 {
                    return Err(OpenError::damaged(path, "its database is missing or empty"));
                }
                let database = folder.reopen()?;
                // Before anything is written that earlier versions do not understand.
                folder.upgrade(&database)?;
                folder.replay(&database, damage)?;
                folder.check_complete(&database, acknowledged)?;
                database
            }
        };
        folder.journal().empty().map_err(OpenError::io(path))?;
        Ok((folder, database))
    }

    /// Opens the database anew, which was closed, with all that was changed before.
    pub(crate) fn recover(&self, damage: &Damage) -> Result<sled::Db, OpenError> {
        let database = self.reopen()?;
        self.replay(&database, damage)?;
        self.journal().empty().map_err(OpenError::io(&self.path))?;
        Ok(database)
    }

    /// The journal, which the writer writes.
    pub(crate) fn journal(&self) -> MutexGuard<'_, Journal> {
        lock(&self.journal)
    }

    /// Takes to the database what only the journal has.
    fn replay(&self, database: &sled::Db, damage: &Damage) -> Result<(), OpenError> {
        let io = OpenError::io(&self.path);
        let mut batches = VecDeque::from(self.journal().after(self.batch_number(database)?).map_err(&io)?);
        let log = File::open(self.sled().join("db")).map_err(&io)?;
        while let Some(window) = Window::of(&mut batches) {
            let apply = || -> Result<(), OpenError> {
                let from_sled = |error| OpenError::from_sled(&self.path, error);
                let placed = window
                    .place(database, damage)
                    .map_err(|error| OpenError::from_store(&self.path, error))?;
                for step in placed.into_steps() {
                    database.apply_batch(step.batch).map_err(from_sled)?;
                    database.flush().map_err(from_sled)?;
                    log.sync_data().map_err(&io)?;
                }
                Ok(())
            };
            catch_unwind(AssertUnwindSafe(apply))
                .map_err(|panic| OpenError::damaged(&self.path, panic_text(&*panic)))??;
        }
        Ok(())
    }

    /// Marks a folder of an earlier format as one of the present format, which holds what it has as it is. From then
    /// on, earlier versions refuse it.
    fn upgrade(&self, database: &sled::Db) -> Result<(), OpenError> {
        let from_sled = |error| OpenError::from_sled(&self.path, error);
        if self.number(database, keys::FORMAT)? != Some(u64::from(FORMAT)) {
            self.superblock.upgrade().map_err(OpenError::io(&self.path))?;
            database.insert(keys::FORMAT, &encode_number(u64::from(FORMAT))).map_err(from_sled)?;
            database.flush().map_err(from_sled)?;
        }
        Ok(())
    }

    /// Opens the database, which is there.
    fn reopen(&self) -> Result<sled::Db, OpenError> {
        remove_torn_snapshots(&self.sled()).map_err(OpenError::io(&self.path))?;
        let database = self.start(&self.sled())?;
        match self.number(&database, keys::FORMAT)? {
            Some(found) if (1..=u64::from(FORMAT)).contains(&found) => Ok(database),
            Some(found) => {
                let found = u32::try_from(found).unwrap_or(u32::MAX);
                Err(OpenError::NewerFormat { path: self.path.clone(), found, known: FORMAT })
            }
            None => Err(OpenError::damaged(&self.path, "its database says no format")),
        }
    }

    /// sled's own folder.
    pub(crate) fn sled(&self) -> PathBuf {
        self.path.join(SLED)
    }

    /// The number of the last batch in the database.
    pub(crate) fn batch_number(&self, database: &sled::Db) -> Result<u64, OpenError> {
        Ok(self.number(database, keys::BATCH_NUMBER)?.unwrap_or(0))
    }

    /// Makes the database. It gets its name only once it is complete and durable, so that a crash in between
    /// leaves nothing that cannot be opened.
    fn finish(&self) -> Result<sled::Db, OpenError> {
        if self.sled().exists() {
            return self.reopen();
        }
        let unfinished = self.path.join(UNFINISHED);
        let make = || -> Result<(), OpenError> {
            let io = OpenError::io(&self.path);
            if unfinished.exists() {
                fs::remove_dir_all(&unfinished).map_err(&io)?;
            }
            make_private(&unfinished).map_err(&io)?;
            let database = self.start(&unfinished)?;
            let sled = |error| OpenError::from_sled(&self.path, error);
            database.insert(keys::FORMAT, &encode_number(u64::from(FORMAT))).map_err(sled)?;
            database.flush().map_err(sled)?;
            drop(database);
            for file in ["db", "conf"] {
                File::open(unfinished.join(file)).and_then(|file| file.sync_all()).map_err(&io)?;
            }
            sync_folder(&unfinished).map_err(&io)?;
            fs::rename(&unfinished, self.sled()).map_err(&io)?;
            sync_folder(&self.path).map_err(&io)
        };
        make()?;
        self.reopen()
    }

    /// Opens sled. The superblock's lock keeps others out, so when sled's own lock is taken, it is by what a database
    /// that was just closed in this process leaves to sled's threads, and soon free.
    fn start(&self, path: &Path) -> Result<sled::Db, OpenError> {
        let patience = Instant::now() + Duration::from_secs(5);
        loop {
            match self.try_start(path) {
                Err(OpenError::InUse { .. }) if Instant::now() < patience => sleep(Duration::from_millis(5)),
                outcome => return outcome,
            }
        }
    }

    fn try_start(&self, path: &Path) -> Result<sled::Db, OpenError> {
        let config = sled::Config::new().path(path).cache_capacity(self.cache_bytes).flush_every_ms(None);
        // sled asserts what it expects of its files, so damage can make it panic.
        match catch_unwind(AssertUnwindSafe(|| config.open())) {
            Ok(opened) => opened.map_err(|error| OpenError::from_sled(&self.path, error)),
            Err(panic) => Err(OpenError::Damaged {
                path: self.path.clone(),
                reason: "the database cannot be recovered".to_owned(),
                source: Some(panic_text(&*panic).into()),
            }),
        }
    }

    fn check_complete(&self, database: &sled::Db, acknowledged: u64) -> Result<(), OpenError> {
        let found = self.batch_number(database)?;
        if found < acknowledged {
            let reason = format!(
                "acknowledged changes are missing from its database (it ends with number {found}, and \
                 {acknowledged} was acknowledged); restore a backup, or remove the file {NAME} to go on without them"
            );
            return Err(OpenError::damaged(&self.path, reason));
        }
        Ok(())
    }

    fn number(&self, database: &sled::Db, key: &[u8]) -> Result<Option<u64>, OpenError> {
        let read = catch_unwind(AssertUnwindSafe(|| database.get(key)));
        let value = read
            .map_err(|panic| OpenError::damaged(&self.path, panic_text(&*panic)))?
            .map_err(|error| OpenError::from_sled(&self.path, error))?;
        value
            .map(|value| decode_number(&value))
            .transpose()
            .map_err(|error| OpenError::from_store(&self.path, error))
    }
}

/// Makes the store's folder, and the folders above it where they are missing.
fn make(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    make_private(path)
}

/// Makes a folder that nobody but its owner can look into, since parameters and callers are in it.
fn make_private(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Removes what sled leaves when it is killed while it writes a snapshot: it would take that for the newest one.
fn remove_torn_snapshots(folder: &Path) -> io::Result<()> {
    for file in fs::read_dir(folder)? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "generating") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Makes a new folder's name durable, and those of the folders above it that may be new as well.
fn sync_parents(path: &Path) -> io::Result<()> {
    path.canonicalize()?.ancestors().skip(1).take(3).try_for_each(sync_folder)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
