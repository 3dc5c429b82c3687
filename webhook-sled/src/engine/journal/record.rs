//! The records of the journal as bytes.
//!
//! | bytes | |
//! |---|---|
//! | 4 | length of what follows the checksum |
//! | 4 | CRC-32 of that, begun with [`SEED`] |
//! | 16 | id of the store |
//! | 8 | epoch: which opening wrote it |
//! | 8 | sequence number of the change |
//! | 8 | newest sequence number that was known to be durable in the journal before |
//! | | the writes: flags, length of the key, key, and of a put its length and the value |
//!
//! Numbers are little-endian. A file begins with a record without writes, alone in its sector, written when the store is opened.

use crate::engine::change::{LogRecord, Write};
use crate::format::identity::{Identity, StoreId};

/// Beginning of the checksummed bytes, which keeps records of earlier formats from passing for one.
const SEED: &[u8] = b"webhook journal 4";
const PREFIX: usize = 8;
const MARK: usize = 40;

/// The fields of a record besides its writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) identity: Identity,
    pub(crate) number: u64,
    /// Newest change that was known to be durable in the journal before this record was written.
    pub(crate) synced: u64,
}

/// A record as it is written.
pub(crate) fn encode(mark: RecordHeader, writes: &[Write]) -> Vec<u8> {
    let bytes: usize = writes.iter().map(|write| write.bytes() + 6).sum();
    let mut record = Vec::with_capacity(PREFIX + MARK + bytes);
    record.extend([0; PREFIX]);
    record.extend(mark.identity.store.0);
    for number in [mark.identity.epoch, mark.number, mark.synced] {
        record.extend(number.to_le_bytes());
    }
    for Write { key, value, fresh } in writes {
        // Keys have less than 256 bytes, and values less than 2^32.
        record.push(u8::from(value.is_some()) | u8::from(*fresh) << 1);
        record.push(key.len() as u8);
        record.extend_from_slice(key);
        if let Some(value) = value {
            record.extend((value.len() as u32).to_le_bytes());
            record.extend_from_slice(value);
        }
    }
    let length = (record.len() - PREFIX) as u32;
    let checksum = checksum(&record[PREFIX..]);
    record[..4].copy_from_slice(&length.to_le_bytes());
    record[4..PREFIX].copy_from_slice(&checksum.to_le_bytes());
    record
}

/// The record at the beginning of these bytes, and its length; `None` when there is no whole one.
pub(crate) fn decode(bytes: &[u8]) -> Option<(RecordHeader, Vec<Write>, usize)> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (expected, rest) = rest.split_first_chunk()?;
    let length = u32::from_le_bytes(*length) as usize;
    let content = rest.get(..length)?;
    if checksum(content) != u32::from_le_bytes(*expected) {
        return None;
    }
    let (store, content) = content.split_first_chunk()?;
    let (epoch, content) = content.split_first_chunk()?;
    let (number, content) = content.split_first_chunk()?;
    let (synced, content) = content.split_first_chunk()?;
    let identity = Identity { store: StoreId(*store), epoch: u64::from_le_bytes(*epoch) };
    let mark =
        RecordHeader { identity, number: u64::from_le_bytes(*number), synced: u64::from_le_bytes(*synced) };
    Some((mark, decode_writes(content)?, PREFIX + length))
}

/// Where the next whole record of this store begins, at `from` or behind it.
pub(crate) fn find(bytes: &[u8], from: usize, store: StoreId) -> Option<usize> {
    const NOTHING: [u8; 4_096] = [0; 4_096];
    let mut at = from;
    while let Some(rest) = bytes.get(at + PREFIX..) {
        if rest.starts_with(&NOTHING) && store.0 != [0; 16] {
            // A file that is not full ends with zeroes.
            at += NOTHING.len() - store.0.len() + 1;
        } else if rest.starts_with(&store.0) && decode(&bytes[at..]).is_some() {
            return Some(at);
        } else {
            at += 1;
        }
    }
    None
}

/// The writes of a record.
pub(crate) fn decode_writes(mut content: &[u8]) -> Option<Vec<Write>> {
    let mut writes = Vec::new();
    while !content.is_empty() {
        let (&[flags, key], after) = content.split_first_chunk()?;
        let (key, mut after) = after.split_at_checked(key.into())?;
        let mut value = None;
        if flags & 1 == 1 {
            let (length, behind) = after.split_first_chunk()?;
            let (content, behind) = behind.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            (value, after) = (Some(content.into()), behind);
        }
        writes.push(Write { key: key.into(), value, fresh: flags & 2 == 2 });
        content = after;
    }
    Some(writes)
}

/// The changes in a file of an earlier format, whose records had a length, a CRC-32, a number and the writes. Their numbers
/// follow one another; the first record that does not is what was cut off or left over.
pub(crate) fn decode_earlier(mut bytes: &[u8]) -> Vec<LogRecord> {
    let mut changes: Vec<LogRecord> = Vec::new();
    while let Some((change, rest)) = decode_one_earlier(bytes) {
        if changes.last().is_some_and(|last| change.number != last.number + 1) {
            break;
        }
        changes.push(change);
        bytes = rest;
    }
    changes
}

fn decode_one_earlier(bytes: &[u8]) -> Option<(LogRecord, &[u8])> {
    let (length, bytes) = bytes.split_first_chunk()?;
    let (checksum, bytes) = bytes.split_first_chunk()?;
    let (content, rest) = bytes.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    if crc32fast::hash(content) != u32::from_le_bytes(*checksum) {
        return None;
    }
    let (number, content) = content.split_first_chunk()?;
    Some((LogRecord { number: u64::from_le_bytes(*number), writes: decode_writes(content)? }, rest))
}

fn checksum(content: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(SEED);
    hasher.update(content);
    hasher.finalize()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn write(key: &str) -> Write {
        Write { key: key.into(), value: (key != "gone").then(|| "value".into()), fresh: key == "new" }
    }

    pub(crate) fn mark(epoch: u64, number: u64, synced: u64) -> RecordHeader {
        RecordHeader { identity: Identity { store: StoreId([7; 16]), epoch }, number, synced }
    }

    #[test]
    fn a_record_is_read_back_as_it_was_written_and_one_that_was_cut_or_changed_is_not() {
        let writes = vec![write("new"), write("old"), write("gone")];
        let bytes = encode(mark(3, 9, 8), &writes);
        assert_eq!(decode(&bytes), Some((mark(3, 9, 8), writes, bytes.len())));
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length]), None);
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert_eq!(decode(&damaged), None, "flipped at {at}");
        }
    }

    #[test]
    fn a_record_behind_a_damaged_one_is_found() {
        let first = encode(mark(3, 9, 8), &[write("a")]);
        let mut bytes = [first.clone(), encode(mark(3, 10, 9), &[write("b")])].concat();
        bytes[2] ^= 1;
        assert_eq!(find(&bytes, 0, StoreId([7; 16])), Some(first.len()));
        assert_eq!(find(&bytes, 0, StoreId([8; 16])), None);
    }

    #[test]
    fn records_of_earlier_formats_and_of_this_one_are_not_taken_for_one_another() {
        let earlier = |number: u64| {
            let content = [&number.to_le_bytes()[..], &[0, 1, b'k']].concat();
            let length = content.len() as u32;
            [&length.to_le_bytes()[..], &crc32fast::hash(&content).to_le_bytes(), &content].concat()
        };
        let bytes = [earlier(4), earlier(5), earlier(3)].concat();
        let numbers: Vec<u64> = decode_earlier(&bytes).iter().map(|change| change.number).collect();
        assert_eq!(numbers, [4, 5], "the third is left over");
        assert_eq!(decode(&bytes), None);
        assert!(decode_earlier(&encode(mark(1, 1, 0), &[])).is_empty());
    }
}
