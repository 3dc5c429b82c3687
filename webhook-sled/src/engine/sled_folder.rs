//! sled's own folder while a store is opened: making it, opening it, and taking changes to it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use sled::IVec;
use webhook_core::store::StoreError;

use crate::engine::batch::CheckpointBatch;
use crate::engine::disk::Disk;
use crate::engine::journal::files::Pending;
use crate::engine::placement;
use crate::engine::regular;
use crate::engine::sled_files::{BLOBS, SledFiles};
use crate::engine::superblock::{FIRST_WITH_IDENTITY, FORMAT, NAME, SuperblockFacts};
use crate::error::OpenError;
use crate::format::identity::{Identity, StoreId};
use crate::format::keys;
use crate::format::value::{decode_number, encode_number};
use crate::panics::catch;
use crate::tree::damage::Damage;
use crate::tree::sums::StoredSums;

/// Name of sled's folder within the store's.
pub(crate) const SLED: &str = "sled";
/// Its name until it is complete.
const UNFINISHED: &str = "sled.unfinished";

/// A database that is closed in order when it is dropped, also where sled panics.
pub(crate) struct OpenDatabase(Option<sled::Db>);

impl OpenDatabase {
    pub(crate) fn into_inner(mut self) -> Option<sled::Db> {
        self.0.take()
    }
}

impl Drop for OpenDatabase {
    fn drop(&mut self) {
        close(self.0.take());
    }
}

/// Closes a database. sled syncs it then, and panics when that fails.
pub(crate) fn close(database: Option<sled::Db>) {
    if let Err(reason) = catch(|| drop(database)) {
        tracing::error!(reason, "the database was not closed in order");
    }
}

/// The database's records of itself.
pub(crate) struct StoredFacts {
    /// `None` in a format that had none.
    pub(crate) identity: Option<Identity>,
    /// Newest record in it.
    pub(crate) last: u64,
    /// Newest record that was acknowledged when its last one was written.
    pub(crate) acknowledged: u64,
}

/// The place of a store, and the disk that its files are reached through.
pub(crate) struct SledFolder {
    pub(crate) path: PathBuf,
    pub(crate) cache_bytes: u64,
    pub(crate) disk: Arc<dyn Disk>,
}

impl SledFolder {
    pub(crate) fn sled(&self) -> PathBuf {
        self.path.join(SLED)
    }

    pub(crate) fn io(&self) -> impl Fn(io::Error) -> OpenError {
        OpenError::io(&self.path)
    }

    pub(crate) fn damaged(&self, reason: impl Into<String>) -> OpenError {
        OpenError::damaged(&self.path, reason)
    }

    /// Calls sled, whose assertions about its files panic on damage.
    pub(crate) fn guarded<T>(
        &self,
        opened: &OpenDatabase,
        ask: impl FnOnce(&sled::Db) -> sled::Result<T>,
    ) -> Result<T, OpenError> {
        let Some(database) = &opened.0 else { return Err(self.io()(io::ErrorKind::BrokenPipe.into())) };
        match catch(|| ask(database)) {
            Ok(answer) => answer.map_err(|error| OpenError::from_sled(&self.path, error)),
            Err(panic) => Err(OpenError::of_panic(&self.path, &panic)),
        }
    }

    /// Reads records of the database.
    pub(crate) fn read<T>(
        &self,
        opened: &OpenDatabase,
        read: impl FnOnce(&sled::Tree) -> Result<T, StoreError>,
    ) -> Result<T, OpenError> {
        let read = self.guarded(opened, |database| Ok(read(database)))?;
        read.map_err(|error| OpenError::from_store(&self.path, error))
    }

    pub(crate) fn flush(&self, opened: &OpenDatabase, log: &SledFiles) -> Result<(), OpenError> {
        self.guarded(opened, |database| database.flush())?;
        log.sync(&*self.disk).map_err(self.io())
    }

    fn get(&self, opened: &OpenDatabase, key: &[u8]) -> Result<Option<IVec>, OpenError> {
        self.guarded(opened, |database| database.get(key))
    }

    fn number(&self, opened: &OpenDatabase, key: &[u8]) -> Result<Option<u64>, OpenError> {
        let number = self.get(opened, key)?.map(|value| decode_number(&value)).transpose();
        number.map_err(|error| OpenError::from_store(&self.path, error))
    }

    pub(crate) fn identify(&self, opened: &OpenDatabase) -> Result<StoredFacts, OpenError> {
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
        Ok(StoredFacts {
            identity,
            last: self.number(opened, keys::BATCH_NUMBER)?.unwrap_or(0),
            acknowledged: self.number(opened, keys::ACKNOWLEDGED)?.unwrap_or(0),
        })
    }

    /// Returns true if the store was ever opened after it was made.
    pub(crate) fn is_used(
        &self,
        opened: &OpenDatabase,
        identity: Option<Identity>,
    ) -> Result<bool, OpenError> {
        match identity {
            Some(identity) => Ok(identity.epoch > 0),
            // Earlier formats made it with nothing but the number of their format.
            None => self.guarded(opened, |database| Ok(database.iter().nth(1).transpose()?.is_some())),
        }
    }

    pub(crate) fn check_superblock(
        &self,
        facts: &SuperblockFacts,
        database: Identity,
    ) -> Result<(), OpenError> {
        if facts.identity.store != database.store {
            return Err(self.damaged(format!("its file {NAME} belongs to another store than its database")));
        }
        if facts.identity.epoch < database.epoch {
            return Err(self.damaged(format!("its file {NAME} is older than its database")));
        }
        Ok(())
    }

    /// Takes log records to the database.
    pub(crate) fn replay(
        &self,
        opened: &OpenDatabase,
        mut pending: Pending,
        acknowledged: u64,
        log: &SledFiles,
        damage: &Damage,
    ) -> Result<(), OpenError> {
        while let Some(batch) = CheckpointBatch::take_from(&mut pending) {
            let steps = self.read(opened, |tree| placement::place(batch, tree, acknowledged, damage))?;
            for step in steps.into_steps() {
                self.guarded(opened, |database| database.apply_batch(step.into_batch()))?;
                self.flush(opened, log)?;
            }
        }
        Ok(())
    }

    /// Opens the database again, and checks that it has the records that were taken to it.
    ///
    /// Behind a damaged part of sled's log, writes last only until the next opening. Until then the journal has them too.
    pub(crate) fn read_back(&self, opened: OpenDatabase, last: u64) -> Result<OpenDatabase, OpenError> {
        drop(opened);
        let opened = self.start()?;
        if self.identify(&opened)?.last == last {
            Ok(opened)
        } else {
            Err(self.damaged("its database, the file sled/db, does not keep what is written to it"))
        }
    }

    /// Makes the database. It gets its name once it is complete and durable, so a crash leaves nothing that cannot be
    /// opened.
    pub(crate) fn make_database(&self) -> Result<(), OpenError> {
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
            database.insert(keys::SUMS, StoredSums::default().encode())?;
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

    /// Opens the existing database.
    pub(crate) fn start(&self) -> Result<OpenDatabase, OpenError> {
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
        // Writes of a killed process may be in the page cache only. sled's snapshot, which it syncs, builds on them.
        self.disk.sync(&log, &self.path.join(name)).map_err(self.io())?;
        self.start_in(&self.sled())
    }

    /// Removes unfinished snapshots of a killed process. sled would take one of them for its newest.
    ///
    /// # Errors
    /// When a file is not a regular one, which sled could wait for without end.
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

    fn start_in(&self, path: &Path) -> Result<OpenDatabase, OpenError> {
        start(&self.path, path, self.cache_bytes).map(|database| OpenDatabase(Some(database)))
    }

    /// Writes all of sled's log again, as it reads, and syncs it.
    pub(crate) fn rewrite_log(&self) -> io::Result<()> {
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

/// Opens the database in a folder of sled's.
///
/// The superblock's lock keeps other processes out. If sled's own lock is taken, a thread of a database that was just closed
/// in this process has it, and soon frees it.
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

/// Makes a folder for its owner alone, since parameters and callers are in it.
pub(crate) fn make_private(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}
