//! sled's database while the store is open.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard, RwLock};
use webhook_core::store::StoreError;

use crate::engine::condition::Failure;
use crate::engine::disk::Disk;
use crate::engine::sled_files::SledFiles;
use crate::engine::sled_folder::close;
use crate::engine::step::Step;
use crate::engine::watch::Watch;
use crate::options::Durability;
use crate::tree::damage::Damage;
use crate::tree::tallies::Tallies;

/// The database, which can be read by any thread, written by one, and replaced by another opening of it.
///
/// Lock order: `tallies` before `sled`.
pub(crate) struct Database {
    /// `None` once the store is closed. A reader holds the lock while it reads, so no handle is left when the writer has
    /// replaced the database.
    sled: RwLock<Option<sled::Db>>,
    /// Sums of the checks under way. Held while sled is changed and during each step of a check, so a check never sees half
    /// of a batch.
    tallies: Mutex<Tallies>,
    files: SledFiles,
    disk: Arc<dyn Disk>,
    durability: Durability,
    damage: Arc<Damage>,
    watch: Watch,
    /// Bytes of all keys and values. Zero in a folder of an earlier format until the first check.
    stored_bytes: AtomicU64,
}

impl Database {
    pub(crate) fn new(
        sled: Option<sled::Db>,
        files: SledFiles,
        disk: Arc<dyn Disk>,
        durability: Durability,
        damage: Arc<Damage>,
    ) -> Self {
        Self {
            sled: RwLock::new(sled),
            tallies: Mutex::default(),
            files,
            disk,
            durability,
            damage,
            watch: Watch::default(),
            stored_bytes: AtomicU64::new(0),
        }
    }

    /// Reads on this thread.
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&sled::Tree) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match &*self.sled.read() {
            Some(sled) => read(sled),
            None => Err(StoreError::unavailable("it is closed")),
        }
    }

    /// Writes one atomic step. Only the checkpointer calls it.
    pub(crate) fn write(&self, mut step: Step, tallies: &mut Tallies) -> Result<(), Failure> {
        let (moves_history, stored_bytes) = (step.moves_history, step.stored_bytes);
        let changed = std::mem::take(&mut step.changed);
        let batch = step.into_batch();
        let _watched = self.watch.begin();
        let write = |sled: &Option<sled::Db>| match sled {
            Some(sled) => Failure::of_writing(|| {
                self.disk.before_apply()?;
                sled.apply_batch(batch)
            }),
            None => Ok(()),
        };
        // Readers of history go from value to value, so none may be under way while values change their places.
        if moves_history {
            write(&self.sled.write())?;
        } else {
            write(&self.sled.read())?;
        }
        tallies.note(&changed);
        if let Some(bytes) = stored_bytes {
            self.set_stored_bytes(bytes);
        }
        Ok(())
    }

    /// Makes the writes so far as durable as the store promises.
    pub(crate) fn sync(&self) -> Result<(), Failure> {
        let _watched = self.watch.begin();
        if let Some(sled) = &*self.sled.read() {
            Failure::of_writing(|| sled.flush())?;
        }
        if self.durability == Durability::Power {
            let synced = self.sync_files();
            synced.map_err(|error| Failure::of_sync("the disk did not confirm a write", &error))?;
        }
        Ok(())
    }

    /// Syncs sled's files, whatever the store promises.
    pub(crate) fn sync_files(&self) -> std::io::Result<()> {
        self.files.sync(&*self.disk)
    }

    /// Replaces the database by what `open` returns, once no reader uses the old one. Checks under way begin again.
    ///
    /// After an error the store has no database.
    pub(crate) fn reopen<T, E>(
        &self,
        open: impl FnOnce() -> Result<(Option<sled::Db>, T), E>,
    ) -> Result<T, E> {
        let mut tallies = self.tallies();
        let mut sled = self.sled.write();
        close(sled.take());
        let (opened, value) = open()?;
        tallies.forget();
        *sled = opened;
        Ok(value)
    }

    pub(crate) fn close(&self) {
        close(self.sled.write().take());
    }

    pub(crate) fn tallies(&self) -> MutexGuard<'_, Tallies> {
        self.tallies.lock()
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    pub(crate) fn durability(&self) -> Durability {
        self.durability
    }

    pub(crate) fn damage(&self) -> &Damage {
        &self.damage
    }

    pub(crate) fn watch(&self) -> &Watch {
        &self.watch
    }

    pub(crate) fn stored_bytes(&self) -> u64 {
        self.stored_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn set_stored_bytes(&self, bytes: u64) {
        self.stored_bytes.store(bytes, Ordering::Relaxed);
    }

    /// A handle of sled's own, for tests that write past the store.
    #[cfg(test)]
    pub(crate) fn sled(&self) -> Option<sled::Db> {
        self.sled.read().clone()
    }
}
