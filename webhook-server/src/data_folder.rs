//! The data folder: the files by which a start knows earlier ones, and the store in it.

use std::error::Error;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use webhook_core::memory::MemoryStore;
use webhook_core::store::Store;
use webhook_postgres::PostgresStore;
use webhook_sled::{Durability, SledStore};

use crate::options::{DurabilityChoice, Options, StoreChoice};

/// File that records the creation of the demo webhook.
pub(crate) const DEMO_MADE: &str = "demo-made";
/// File that records the creation of a store.
const STORE_MADE: &str = "store-made";
/// Files of a sled store, of which at least one exists.
const STORE_FILES: [&str; 2] = ["webhook-store", "sled"];
/// Files of a data folder, of which at least one exists after a start.
const USED_FILES: [&str; 3] = ["admin.token", "token.key", DEMO_MADE];

/// Creates a folder and its parents, for the server's user only. An existing folder is left unchanged.
pub(crate) fn make_private(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Returns whether the data folder has its store, and warns if a new one follows an earlier start.
///
/// # Errors
/// A store was made there and is missing, or the folder cannot be read.
pub(crate) fn check_store(data: &Path, store: &Path) -> Result<bool, String> {
    if has_store(store)? {
        return Ok(true);
    }
    let made = data.join(STORE_MADE);
    if made.exists() {
        return Err(format!(
            "the store is missing: {} has none, although one was made there; put back the folder as it was, or remove {} to \
             begin with an empty store",
            store.display(),
            made.display()
        ));
    }
    if USED_FILES.iter().any(|file| data.join(file).exists()) {
        tracing::warn!(
            "{} was used before, but its folder {} has no store: a new one is made, without webhooks and runs",
            data.display(),
            store.display()
        );
    }
    Ok(false)
}

/// Returns whether this is the folder of a sled store.
///
/// # Errors
/// The folder cannot be read, which must not be taken for a missing store.
pub(crate) fn has_store(folder: &Path) -> Result<bool, String> {
    let is_there = |file| match folder.join(file).try_exists() {
        // A file is in place of the folder.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(false),
        found => found.map_err(|error| format!("the store {} cannot be read: {error}", folder.display())),
    };
    STORE_FILES.into_iter().try_fold(false, |found, file| Ok(found || is_there(file)?))
}

/// Records that the data folder has a store.
pub(crate) fn note_store(data: &Path) -> Result<(), String> {
    note(&data.join(STORE_MADE))
}

/// Creates an empty file that survives a power loss, unless it exists.
pub(crate) fn note(file: &Path) -> Result<(), String> {
    let make = || {
        File::create_new(file)?.sync_all()?;
        file.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    };
    match make() {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(format!("{} cannot be made: {error}", file.display()))
        }
        _ => Ok(()),
    }
}

/// Opens the store that the options name.
pub(crate) async fn open_store(options: &Options, folder: &Path) -> Result<Arc<dyn Store>, Box<dyn Error>> {
    let durability = match options.durability {
        DurabilityChoice::Power => Durability::Power,
        DurabilityChoice::Process => Durability::Process,
    };
    Ok(match &options.store {
        StoreChoice::Sled => {
            let sled = SledStore::options().with_durability(durability).with_quota_bytes(options.store_quota);
            Arc::new(sled.open(folder)?)
        }
        StoreChoice::Memory => Arc::new(MemoryStore::new()),
        StoreChoice::Postgres(database) => Arc::new(PostgresStore::open((**database).clone()).await?),
    })
}
