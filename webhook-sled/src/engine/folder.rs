//! Opening the folder of a store, so that a crash at any moment leaves one that opens, and damage is a typed error.
//!
//! [`journal`](crate::engine::journal) says how the files depend on one another and what an opening demands.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use sled::IVec;
use webhook_core::store::StoreError;

use crate::engine::batch::Window;
use crate::engine::disk::{Disk, SledFiles};
use crate::engine::journal::Journal;
use crate::engine::journal::found::{Found, Pending};
use crate::engine::open_files::OpenFiles;
use crate::engine::regular;
use crate::engine::superblock::{Content, FIRST_WITH_IDENTITY, FORMAT, Facts, NAME, Superblock};
use crate::error::OpenError;
use crate::format::identity::{Identity, StoreId};
use crate::format::keys;
use crate::format::value::{decode_number, encode_number};
use crate::panics::catch;
use crate::tree::damage::Damage;
use crate::tree::sums::Kept;

/// The folder within the store's folder that is sled's.
pub(crate) const SLED: &str = "sled";
/// The same while it is being made.
const UNFINISHED: &str = "sled.unfinished";
/// The folder within sled's own for pages that are too large for its log.
pub(crate) const BLOBS: &str = "blobs";

/// A store's folder that this process holds.
pub(crate) struct Folder {
    place: Place,
    superblock: Superblock,
    store: StoreId,
    journal: Mutex<Journal>,
}

/// A database that is closed in order when it is dropped, also where sled panics.
pub(crate) struct Opened(Option<sled::Db>);

impl Opened {
    pub(crate) fn into_inner(mut self) -> Option<sled::Db> {
        self.0.take()
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        close(self.0.take());
    }
}

/// Lets go of a database. sled syncs it then, and panics when that fails.
pub(crate) fn close(database: Option<sled::Db>) {
    if let Err(reason) = catch(|| drop(database)) {
        tracing::error!(reason, "the database was not closed in order");
    }
}

impl Folder {
    /// Locks the folder, makes a store where there is none, and opens its database.
    ///
    /// Returns the database with the number of its last change, up to which everything is durable in it.
    pub(crate) fn open(
        path: &Path,
        cache_bytes: u64,
        disk: Arc<dyn Disk>,
        damage: &Damage,
    ) -> Result<(Self, Opened, u64), OpenError> {
        let place = Place { path: path.to_owned(), cache_bytes, disk };
        make(path).map_err(place.io())?;
        let (superblock, content) = Superblock::lock(path)?;
        let found = Found::read(path).map_err(place.io())?;
        if !place.sled().exists() {
            if content != Content::Nothing {
                return Err(place.damaged("its database, the folder sled, is missing"));
            }
            if let Some(journal) = found.is_used() {
                let reason =
                    format!("its database, the folder sled, is missing, and its file {journal} has changes");
                return Err(place.damaged(reason));
            }
            place.make_database()?;
            sync_parents(path, &*place.disk).map_err(place.io())?;
        }
        let opened = place.start()?;
        let stored = place.identify(&opened)?;
        let (store, acknowledged) = match (content, stored.identity) {
            (Content::Ready(facts), Some(identity)) => {
                place.check_superblock(&facts, identity)?;
                (identity.store, facts.acknowledged)
            }
            // It is being made one of the present format.
            (Content::Ready(facts), None) => (facts.identity.store, facts.acknowledged),
            (Content::Earlier(acknowledged), None) => (StoreId::generate(), acknowledged),
            (Content::Earlier(_), Some(_)) => {
                return Err(place.damaged(format!("its file {NAME} is older than its database")));
            }
            (Content::Nothing, identity) => {
                // It is written, durably, before the first change of a store.
                if found.is_used().is_some() || place.is_used(&opened, identity)? {
                    return Err(place.damaged(format!("its file {NAME} is missing or empty")));
                }
                (identity.map_or_else(StoreId::generate, |identity| identity.store), 0)
            }
        };
        let folder = Self { superblock, store, journal: Mutex::default(), place };
        let (opened, last) = folder.bring_up_to_date(opened, &stored, &found, acknowledged, damage)?;
        Ok((folder, opened, last))
    }

    /// Opens the closed database again, with everything that was appended to the journal.
    ///
    /// With `rewrite`, sled's log is written once more first: the disk refused to sync it, and may have kept any part of it.
    pub(crate) fn recover(&self, rewrite: bool, damage: &Damage) -> Result<(Opened, u64), OpenError> {
        if rewrite {
            self.place.rewrite_log().map_err(self.place.io())?;
        }
        let opened = self.place.start()?;
        let stored = self.place.identify(&opened)?;
        let found = Found::read(&self.place.path).map_err(self.place.io())?;
        let acknowledged = self.journal().synced();
        self.bring_up_to_date(opened, &stored, &found, acknowledged, damage)
    }

    /// Notes that the database alone, which is synced, holds everything.
    pub(crate) fn close(&self, number: u64) -> io::Result<()> {
        self.superblock.close(number, &*self.place.disk)
    }

    /// Reads records while the store is opened.
    pub(crate) fn read<T>(
        &self,
        opened: &Opened,
        read: impl FnOnce(&sled::Tree) -> Result<T, StoreError>,
    ) -> Result<T, OpenError> {
        self.place.read(opened, read)
    }

    /// The journal, which the writer writes.
    pub(crate) fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock()
    }

    pub(crate) fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// The open files of the store.
    pub(crate) fn open_files(&self, sled: &SledFiles) -> io::Result<OpenFiles> {
        OpenFiles::new([self.superblock.file(), sled.log()].into_iter().chain(self.journal().files()))
    }

    /// sled's own folder.
    pub(crate) fn sled(&self) -> PathBuf {
        self.place.sled()
    }

    /// Takes to the database what only the journal has, checks that nothing is missing, and begins a new epoch.
    fn bring_up_to_date(
        &self,
        opened: Opened,
        stored: &Stored,
        found: &Found,
        acknowledged: u64,
        damage: &Damage,
    ) -> Result<(Opened, u64), OpenError> {
        let place = &self.place;
        let facts = self.superblock.facts();
        let required = acknowledged.max(stored.acknowledged);
        let pending = match stored.identity {
            Some(_)
                if let Some(closed) =
                    facts.filter(|facts| facts.is_closed && facts.acknowledged <= stored.last) =>
            {
                found.check_closed(closed.identity)
            }
            Some(identity) => found
                .check_files(identity, facts.map(|facts| facts.identity))
                .and_then(|()| found.pending(identity, stored.last, required)),
            None => found.pending_of_earlier_format(stored.last, required),
        };
        let pending = pending.map_err(|reason| place.damaged(reason))?;
        if stored.identity.is_none() {
            // Before anything is written that earlier versions do not understand.
            let identity = Identity { store: self.store, epoch: 0 };
            let facts = Facts { identity, acknowledged, is_closed: false };
            self.superblock.write(facts, &*place.disk).map_err(place.io())?;
        }
        let last = pending.back().map_or(stored.last, |change| change.number);
        let log = SledFiles::open(&place.sled()).map_err(place.io())?;
        let opened = if pending.is_empty() {
            opened
        } else {
            place.replay(&opened, pending, required, &log, damage)?;
            place.read_back(opened, last)?
        };
        let epochs = [facts.map(|facts| facts.identity), stored.identity].into_iter().flatten();
        let newest =
            epochs.map(|identity| identity.epoch).max().unwrap_or(0).max(found.newest_epoch(self.store));
        let identity = Identity { store: self.store, epoch: newest + 1 };
        self.begin(&opened, identity, last, &log)?;
        Ok((opened, last))
    }

    /// Begins an epoch of a database that shows everything up to `last`. Until the end of this, the superblock says that
    /// the database alone holds everything, so that it may be interrupted anywhere.
    fn begin(
        &self,
        opened: &Opened,
        identity: Identity,
        last: u64,
        log: &SledFiles,
    ) -> Result<(), OpenError> {
        let (place, disk) = (&self.place, &*self.place.disk);
        // Also what sled wrote while it recovered.
        place.flush(opened, log)?;
        let facts = Facts { identity, acknowledged: last, is_closed: true };
        self.superblock.write(facts, disk).map_err(place.io())?;
        disk.sync_folder(&place.path).map_err(place.io())?;
        *self.journal() = Journal::begin(&place.path, identity, last, disk).map_err(place.io())?;
        let identify = |database: &sled::Db| {
            let mut batch = sled::Batch::default();
            batch.insert(keys::FORMAT, &encode_number(u64::from(FORMAT)));
            batch.insert(keys::IDENTITY, &identity.encode());
            database.apply_batch(batch)
        };
        place.guarded(opened, identify)?;
        place.flush(opened, log)?;
        self.superblock.write(Facts { is_closed: false, ..facts }, disk).map_err(place.io())
    }
}

/// The database's records of itself.
struct Stored {
    /// `None` in a format that had none.
    identity: Option<Identity>,
    /// Number of its last change.
    last: u64,
    /// Number of the newest change that was acknowledged when its last change was made.
    acknowledged: u64,
}

/// The place of a store, and the disk that its files are reached through.
struct Place {
    path: PathBuf,
    cache_bytes: u64,
    disk: Arc<dyn Disk>,
}

impl Place {
    fn sled(&self) -> PathBuf {
        self.path.join(SLED)
    }

    fn io(&self) -> impl Fn(io::Error) -> OpenError {
        OpenError::io(&self.path)
    }

    fn damaged(&self, reason: impl Into<String>) -> OpenError {
        OpenError::damaged(&self.path, reason)
    }

    /// Calls sled, whose assertions about its files panic on damage.
    fn guarded<T>(
        &self,
        opened: &Opened,
        ask: impl FnOnce(&sled::Db) -> sled::Result<T>,
    ) -> Result<T, OpenError> {
        let Some(database) = &opened.0 else { return Err(self.io()(io::ErrorKind::BrokenPipe.into())) };
        match catch(|| ask(database)) {
            Ok(answer) => answer.map_err(|error| OpenError::from_sled(&self.path, error)),
            Err(panic) => Err(OpenError::of_panic(&self.path, &panic)),
        }
    }

    /// Reads records.
    fn read<T>(
        &self,
        opened: &Opened,
        read: impl FnOnce(&sled::Tree) -> Result<T, StoreError>,
    ) -> Result<T, OpenError> {
        let read = self.guarded(opened, |database| Ok(read(database)))?;
        read.map_err(|error| OpenError::from_store(&self.path, error))
    }

    fn flush(&self, opened: &Opened, log: &SledFiles) -> Result<(), OpenError> {
        self.guarded(opened, |database| database.flush())?;
        log.sync(&*self.disk).map_err(self.io())
    }

    fn get(&self, opened: &Opened, key: &[u8]) -> Result<Option<IVec>, OpenError> {
        self.guarded(opened, |database| database.get(key))
    }

    fn number(&self, opened: &Opened, key: &[u8]) -> Result<Option<u64>, OpenError> {
        let number = self.get(opened, key)?.map(|value| decode_number(&value)).transpose();
        number.map_err(|error| OpenError::from_store(&self.path, error))
    }

    fn identify(&self, opened: &Opened) -> Result<Stored, OpenError> {
        let format = match self.number(opened, keys::FORMAT)? {
            Some(format) if (1..=u64::from(FORMAT)).contains(&format) => format,
            Some(found) => {
                let found = u32::try_from(found).unwrap_or(u32::MAX);
                return Err(OpenError::NewerFormat { path: self.path.clone(), found, known: FORMAT });
            }
            None => return Err(self.damaged("its database says no format")),
        };
        let identity = self.get(opened, keys::IDENTITY)?.map(|value| Identity::decode(&value)).transpose();
        let identity = identity.map_err(|error| OpenError::from_store(&self.path, error))?;
        if identity.is_none() && format >= u64::from(FIRST_WITH_IDENTITY) {
            return Err(self.damaged("its database does not say which store it is"));
        }
        Ok(Stored {
            identity,
            last: self.number(opened, keys::BATCH_NUMBER)?.unwrap_or(0),
            acknowledged: self.number(opened, keys::ACKNOWLEDGED)?.unwrap_or(0),
        })
    }

    /// Whether the database was ever more than made.
    fn is_used(&self, opened: &Opened, identity: Option<Identity>) -> Result<bool, OpenError> {
        match identity {
            Some(identity) => Ok(identity.epoch > 0),
            // Earlier formats made it with the number of their format alone.
            None => self.guarded(opened, |database| Ok(database.iter().nth(1).transpose()?.is_some())),
        }
    }

    fn check_superblock(&self, facts: &Facts, database: Identity) -> Result<(), OpenError> {
        if facts.identity.store != database.store {
            return Err(self.damaged(format!("its file {NAME} belongs to another store than its database")));
        }
        if facts.identity.epoch < database.epoch {
            return Err(self.damaged(format!("its file {NAME} is older than its database")));
        }
        Ok(())
    }

    /// Takes changes to the database.
    fn replay(
        &self,
        opened: &Opened,
        mut pending: Pending,
        acknowledged: u64,
        log: &SledFiles,
        damage: &Damage,
    ) -> Result<(), OpenError> {
        while let Some(window) = Window::of(&mut pending) {
            let placed = self.read(opened, |tree| window.place(tree, acknowledged, damage))?;
            for step in placed.into_steps() {
                self.guarded(opened, |database| database.apply_batch(step.into_batch()))?;
                self.flush(opened, log)?;
            }
        }
        Ok(())
    }

    /// Opens the database once more, and checks that it has what was taken to it. What is written behind a damaged part of
    /// sled's log is there until the next opening only, and until then the journal has it too.
    fn read_back(&self, opened: Opened, last: u64) -> Result<Opened, OpenError> {
        drop(opened);
        let opened = self.start()?;
        if self.identify(&opened)?.last == last {
            Ok(opened)
        } else {
            Err(self.damaged("its database, the file sled/db, does not keep what is written to it"))
        }
    }

    /// Makes the database. It gets its name only once it is complete and durable, so that a crash in between
    /// leaves nothing that cannot be opened.
    fn make_database(&self) -> Result<(), OpenError> {
        let (io, disk) = (self.io(), &*self.disk);
        let unfinished = self.path.join(UNFINISHED);
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).map_err(&io)?;
        }
        make_private(&unfinished).map_err(&io)?;
        let opened = self.start_in(&unfinished)?;
        let identity = Identity { store: StoreId::generate(), epoch: 0 };
        self.guarded(&opened, |database| {
            database.insert(keys::FORMAT, &encode_number(u64::from(FORMAT)))?;
            database.insert(keys::IDENTITY, &identity.encode())?;
            database.insert(keys::SUMS, Kept::default().encode())?;
            database.flush()
        })?;
        drop(opened);
        for file in ["db", "conf"].map(|name| unfinished.join(name)) {
            File::open(&file).and_then(|open| disk.sync(&open, &file)).map_err(&io)?;
        }
        disk.sync_folder(&unfinished).map_err(&io)?;
        fs::rename(&unfinished, self.sled()).map_err(&io)?;
        disk.sync_folder(&self.path).map_err(&io)
    }

    /// Opens the database, which is there.
    fn start(&self) -> Result<Opened, OpenError> {
        let name = format!("{SLED}/db");
        let log = match regular::open_to_read(&self.path, &name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(self.damaged("its database, the file sled/db, is missing"));
            }
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(self.damaged("its database, sled, is no folder"));
            }
            log => log.map_err(self.io())?,
        };
        if log.metadata().map_err(self.io())?.len() == 0 {
            return Err(self.damaged("its database, the file sled/db, is empty"));
        }
        self.look_through_database().map_err(self.io())?;
        // What a killed process wrote may be in the page cache only, and sled's snapshot, which it syncs, builds on that.
        self.disk.sync(&log, &self.path.join(name)).map_err(self.io())?;
        self.start_in(&self.sled())
    }

    /// Removes snapshots that a killed sled left unfinished, of which it would take one for its newest.
    ///
    /// # Errors
    /// When sled would open a file that is no regular one, and could wait for it without end.
    fn look_through_database(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.sled())? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "generating") {
                fs::remove_file(path)?;
            } else if let Some(name) = path.file_name().filter(|name| *name != BLOBS) {
                regular::open_to_read(&self.path, &format!("{SLED}/{}", name.display()))?;
            }
        }
        Ok(())
    }

    fn start_in(&self, path: &Path) -> Result<Opened, OpenError> {
        start(&self.path, path, self.cache_bytes).map(|database| Opened(Some(database)))
    }

    /// Writes all of sled's log once more, as it is read, and syncs it.
    fn rewrite_log(&self) -> io::Result<()> {
        use std::os::unix::fs::FileExt;
        let path = self.sled().join("db");
        let log = File::options().read(true).write(true).open(&path)?;
        let (mut part, mut at) = (vec![0; 1 << 20], 0);
        loop {
            match log.read_at(&mut part, at)? {
                0 => return self.disk.sync(&log, &path),
                length => {
                    log.write_all_at(&part[..length], at)?;
                    at += length as u64;
                }
            }
        }
    }
}

/// Opens sled. The superblock's lock keeps others out, so when sled's own lock is taken, it is by what a database
/// that was just closed in this process leaves to sled's threads, and soon free.
pub(crate) fn start(store: &Path, database: &Path, cache_bytes: u64) -> Result<sled::Db, OpenError> {
    let patience = Instant::now() + Duration::from_secs(5);
    loop {
        match try_start(store, database, cache_bytes) {
            Err(OpenError::InUse { .. }) if Instant::now() < patience => sleep(Duration::from_millis(5)),
            outcome => return outcome,
        }
    }
}

fn try_start(store: &Path, database: &Path, cache_bytes: u64) -> Result<sled::Db, OpenError> {
    let config = sled::Config::new().path(database).cache_capacity(cache_bytes).flush_every_ms(None);
    match catch(|| config.open()) {
        Ok(Ok(database)) => Ok(database),
        Ok(Err(error)) => Err(OpenError::from_sled(store, error)),
        Err(panic) => Err(OpenError::of_panic(store, &panic)),
    }
}

/// Makes the store's folder, and the folders above it, where they are missing.
fn make(path: &Path) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    make_private(path)
}

/// Makes a folder for its owner alone, since parameters and callers are in it.
fn make_private(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes the name of the store's folder durable, and those of the folders above it that may be new as well.
fn sync_parents(path: &Path, disk: &dyn Disk) -> io::Result<()> {
    path.canonicalize()?.ancestors().skip(1).take(3).try_for_each(|folder| disk.sync_folder(folder))
}
