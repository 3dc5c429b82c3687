//! Opening the folder of a store, so that a crash at any moment leaves one that opens, and damage is a typed error.
//!
//! The page of the [engine](crate::engine) says how the files depend on one another and what an opening demands.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use webhook_core::store::StoreError;

use crate::engine::disk::Disk;
use crate::engine::journal::Journal;
use crate::engine::journal::files::JournalFiles;
use crate::engine::open_files::OpenFiles;
use crate::engine::sled_files::SledFiles;
use crate::engine::sled_folder::{OpenDatabase, SledFolder, StoredFacts, make_private};
use crate::engine::superblock::{FORMAT, NAME, Superblock, SuperblockContent, SuperblockFacts};
use crate::error::OpenError;
use crate::format::identity::{Identity, StoreId};
use crate::format::keys;
use crate::format::value::encode_number;
use crate::tree::damage::Damage;

/// A store's folder that this process holds.
pub(crate) struct Folder {
    place: SledFolder,
    superblock: Superblock,
    store: StoreId,
    journal: Mutex<Journal>,
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
    ) -> Result<(Self, OpenDatabase, u64), OpenError> {
        let place = SledFolder { path: path.to_owned(), cache_bytes, disk };
        make(path).map_err(place.io())?;
        let (superblock, content) = Superblock::lock(path)?;
        let found = JournalFiles::read(path).map_err(place.io())?;
        if !place.sled().exists() {
            if content != SuperblockContent::Nothing {
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
            (SuperblockContent::Ready(facts), Some(identity)) => {
                place.check_superblock(&facts, identity)?;
                (identity.store, facts.acknowledged)
            }
            // It is being made one of the present format.
            (SuperblockContent::Ready(facts), None) => (facts.identity.store, facts.acknowledged),
            (SuperblockContent::Earlier(acknowledged), None) => (StoreId::generate(), acknowledged),
            (SuperblockContent::Earlier(_), Some(_)) => {
                return Err(place.damaged(format!("its file {NAME} is older than its database")));
            }
            (SuperblockContent::Nothing, identity) => {
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
    pub(crate) fn recover(&self, rewrite: bool, damage: &Damage) -> Result<(OpenDatabase, u64), OpenError> {
        if rewrite {
            self.place.rewrite_log().map_err(self.place.io())?;
        }
        let opened = self.place.start()?;
        let stored = self.place.identify(&opened)?;
        let found = JournalFiles::read(&self.place.path).map_err(self.place.io())?;
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
        opened: &OpenDatabase,
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
        opened: OpenDatabase,
        stored: &StoredFacts,
        found: &JournalFiles,
        acknowledged: u64,
        damage: &Damage,
    ) -> Result<(OpenDatabase, u64), OpenError> {
        let place = &self.place;
        let facts = self.superblock.facts();
        let required = acknowledged.max(stored.acknowledged);
        let closed = facts.filter(|facts| facts.is_closed && facts.acknowledged <= stored.last);
        let pending = match (stored.identity, closed) {
            (Some(_), Some(closed)) => found.check_closed(closed.identity),
            (Some(identity), None) => found
                .check_files(identity, facts.map(|facts| facts.identity))
                .and_then(|()| found.pending(identity, stored.last, required)),
            (None, _) => found.pending_of_earlier_format(stored.last, required),
        };
        let pending = pending.map_err(|reason| place.damaged(reason))?;
        if stored.identity.is_none() {
            // Before anything is written that earlier versions do not understand.
            let identity = Identity { store: self.store, epoch: 0 };
            let facts = SuperblockFacts { identity, acknowledged, is_closed: false };
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

    /// Begins an epoch of a database that shows everything up to `last`. It may be interrupted anywhere: until its end,
    /// the superblock says that the database alone holds everything.
    fn begin(
        &self,
        opened: &OpenDatabase,
        identity: Identity,
        last: u64,
        log: &SledFiles,
    ) -> Result<(), OpenError> {
        let (place, disk) = (&self.place, &*self.place.disk);
        // Also what sled wrote while it recovered.
        place.flush(opened, log)?;
        let facts = SuperblockFacts { identity, acknowledged: last, is_closed: true };
        self.superblock.write(facts, disk).map_err(place.io())?;
        disk.sync_folder(&place.path).map_err(place.io())?;
        // The journal is worthless from here on, until the end: the superblock says that the database holds everything.
        *self.journal() = Journal::begin(&place.path, identity, last, disk).map_err(place.io())?;
        let identify = |database: &sled::Db| {
            let mut batch = sled::Batch::default();
            batch.insert(keys::FORMAT, &encode_number(u64::from(FORMAT)));
            batch.insert(keys::IDENTITY, &identity.encode());
            database.apply_batch(batch)
        };
        place.guarded(opened, identify)?;
        place.flush(opened, log)?;
        self.superblock.write(SuperblockFacts { is_closed: false, ..facts }, disk).map_err(place.io())
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

/// Makes the name of the store's folder durable, and those of the folders above it that may be new as well.
fn sync_parents(path: &Path, disk: &dyn Disk) -> io::Result<()> {
    path.canonicalize()?.ancestors().skip(1).take(3).try_for_each(|folder| disk.sync_folder(folder))
}
