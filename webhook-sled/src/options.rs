//! Options for opening a store.

/// Failure that an acknowledged change survives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// Loss of power: the disk has confirmed the change.
    #[default]
    Power,
    /// Death of the process, but not of the machine. After a loss of power, the last changes may be lost, and
    /// the folder may not open at all.
    Process,
}

/// Options for opening a store.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path();
/// use webhook_sled::{Durability, SledStore};
/// let store = SledStore::options().with_durability(Durability::Process).with_cache_bytes(64 << 20).open(path)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SledOptions {
    /// Failure that an acknowledged change survives. Default: [`Durability::Power`].
    pub durability: Durability,
    /// Approximate size of the cache of records for reading, in bytes. Default: 16 MiB.
    pub cache_bytes: u64,
    /// Free disk space below which new runs are refused, in bytes. Default: 64 MiB. Accepted runs use this
    /// reserve to end.
    pub reserve_bytes: u64,
    /// Size of records, logs and parameters above which new runs are refused, in bytes. Default: 10 GiB.
    ///
    /// Accepted runs still end. The database's file takes two to three times as much: it reuses space that
    /// pruning frees, and seldom shrinks.
    pub quota_bytes: u64,
}

impl Default for SledOptions {
    fn default() -> Self {
        Self {
            durability: Durability::default(),
            cache_bytes: 16 << 20,
            reserve_bytes: 64 << 20,
            quota_bytes: 10 << 30,
        }
    }
}

impl SledOptions {
    /// Sets the failure that an acknowledged change survives.
    #[must_use]
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Sets the size of the cache of records for reading, in bytes.
    #[must_use]
    pub fn with_cache_bytes(mut self, bytes: u64) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// Sets the free disk space below which new runs are refused, in bytes.
    #[must_use]
    pub fn with_reserve_bytes(mut self, bytes: u64) -> Self {
        self.reserve_bytes = bytes;
        self
    }

    /// Sets the size of records, logs and parameters above which new runs are refused, in bytes.
    #[must_use]
    pub fn with_quota_bytes(mut self, bytes: u64) -> Self {
        self.quota_bytes = bytes;
        self
    }
}
