//! The changes of the tree, as the journal and the checkpoints carry them.

use sled::IVec;

use crate::format::keys::{LOG, PARAMETERS, TAIL};

/// Cost of removing a small value, in bytes. Only its key is written, but its page is rewritten once enough has gone from it.
const REMOVAL: usize = 200;

/// One record put or removed. The key of a run is `l` or `r` and its id; where it is placed follows from that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Write {
    pub(crate) key: IVec,
    /// `None` removes it.
    pub(crate) value: Option<IVec>,
    /// Nothing was ever put under this key.
    pub(crate) fresh: bool,
}

impl Write {
    pub(crate) fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, |value| value.len())
    }

    /// Its share of a checkpoint batch, in bytes.
    pub(crate) fn cost(&self) -> usize {
        cost(&self.key, self.value.as_ref())
    }
}

pub(crate) fn cost(key: &[u8], value: Option<&IVec>) -> usize {
    key.len() + value.map_or(REMOVAL, |value| value.len())
}

/// Returns true if the key is that of a part of a log, of parameters or of a large record. Readers reach a part through its record.
pub(crate) fn is_part(key: &[u8]) -> bool {
    matches!(key.first(), Some(&(LOG | PARAMETERS | TAIL)))
}

/// One change of the writer, with its sequence number.
pub(crate) struct LogRecord {
    pub(crate) number: u64,
    pub(crate) writes: Vec<Write>,
}

impl LogRecord {
    pub(crate) fn cost(&self) -> usize {
        self.writes.iter().map(Write::cost).sum()
    }

    /// About its bytes in the journal.
    pub(crate) fn bytes(&self) -> usize {
        self.writes.iter().map(Write::bytes).sum()
    }
}
