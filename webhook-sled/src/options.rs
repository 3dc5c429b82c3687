//! Options for opening a store.

/// The failure that an acknowledged change survives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// The loss of power: the disk has confirmed it.
    #[default]
    Power,
    /// The death of the process, but not of the machine: after a loss of power the last changes may be gone, and the folder
    /// may not open at all.
    Process,
}

/// Options for opening a store.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path();
/// use webhook_sled::{Durability, SledStore};
/// let store = SledStore::options().durability(Durability::Process).cache_bytes(64 << 20).open(path)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SledOptions {
    /// The failure that an acknowledged change survives. [`Durability::Power`] by default.
    pub durability: Durability,
    /// Size of the cache of records for reading, in bytes, about; 16 MiB by default.
    pub cache_bytes: u64,
    /// Free bytes on the disk that a run needs to be accepted, 64 MiB by default. Accepted runs use this reserve to end.
    pub reserve_bytes: u64,
    /// Upper bound on records, logs and parameters for a run to be accepted, in bytes; 10 GiB by default. Accepted runs
    /// still end. The database's file takes two to three times as much: it reuses what pruning frees, and seldom shrinks.
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
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Sets the size of the cache of records for reading, in bytes.
    #[must_use]
    pub fn cache_bytes(mut self, bytes: u64) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// Sets the free bytes on the disk that a run needs to be accepted.
    #[must_use]
    pub fn reserve_bytes(mut self, bytes: u64) -> Self {
        self.reserve_bytes = bytes;
        self
    }

    /// Sets the upper bound on records, logs and parameters for a run to be accepted, in bytes.
    #[must_use]
    pub fn quota_bytes(mut self, bytes: u64) -> Self {
        self.quota_bytes = bytes;
        self
    }
}
