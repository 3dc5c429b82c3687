//! Records of sled's tree, joined from their parts.

use serde::de::DeserializeOwned;
use sled::{IVec, Tree};
use webhook_core::store::StoreError;

use crate::format::keys;
use crate::format::value::{damaged, decode, tail_count};
use crate::tree::scan;

/// Returns the record under this key.
pub(crate) fn record<T: DeserializeOwned>(tree: &Tree, key: &[u8]) -> Result<Option<T>, StoreError> {
    let Some(head) = scan::get(tree, key)? else { return Ok(None) };
    read(tree, key, &head).map(Some)
}

/// Returns the record with this first value.
pub(crate) fn read<T: DeserializeOwned>(tree: &Tree, key: &[u8], head: &IVec) -> Result<T, StoreError> {
    if tail_count(head)? == 0 { decode(head) } else { decode(&whole(tree, key, head)?) }
}

/// Returns the whole of a value whose first part is given.
pub(crate) fn whole(tree: &Tree, key: &[u8], head: &IVec) -> Result<Vec<u8>, StoreError> {
    let mut whole = head.to_vec();
    for number in 0..tail_count(head)? {
        let tail = scan::get(tree, &keys::tail(key, number))?;
        whole.extend_from_slice(&tail.ok_or_else(|| damaged("a part of a record is missing"))?);
    }
    Ok(whole)
}
