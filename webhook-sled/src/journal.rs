//! The journal: what was changed and may not be durable in sled yet.
//!
//! Batches are appended to one of two files, and one sync of that file makes them durable. Meanwhile they go to sled,
//! many at once. When a file is full the other one is begun anew, once all that is in it is durable in sled. After a
//! crash the batches that sled lacks are read from here.
//!
//! A batch is its length and a CRC-32 of what follows, its number, and its writes. Numbers have no gaps, so whatever
//! stands behind the newest batch, cut off or left over, is recognised.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use crate::window::{Numbered, Write};

/// From which length on a file is left for the other one.
const FULL: u64 = 1 << 20;
const NAMES: [&str; 2] = ["journal-0", "journal-1"];
const FRAME: usize = 8;

/// The journal of a folder that this process holds.
#[derive(Debug)]
pub(crate) struct Journal {
    files: [Arc<File>; 2],
    /// Which file is written, where in it, and the newest batch in it.
    active: usize,
    at: u64,
    newest: u64,
    /// The newest batch in the other file.
    newest_in_other: u64,
    /// Whether something was written since the last sync.
    pub(crate) is_dirty: bool,
}

impl Journal {
    /// Opens the journal, and makes it where there is none. Nothing may be appended before it was read and
    /// [emptied](Self::empty).
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let is_new = !NAMES.iter().all(|name| folder.join(name).exists());
        let open = |name: &str| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            options.open(folder.join(name)).map(Arc::new)
        };
        let files = [open(NAMES[0])?, open(NAMES[1])?];
        if is_new {
            File::open(folder)?.sync_all()?;
        }
        Ok(Self { files, active: 0, at: 0, newest: 0, newest_in_other: 0, is_dirty: false })
    }

    /// The batches after this one, without a gap, as far as they are whole.
    pub(crate) fn after(&self, number: u64) -> io::Result<Vec<Numbered>> {
        let mut batches = Vec::new();
        for file in &self.files {
            let mut bytes = vec![0; usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX)];
            file.read_exact_at(&mut bytes, 0)?;
            batches.extend(parse(&bytes));
        }
        batches.sort_by_key(|batch| batch.number);
        let mut last = number;
        batches.retain(|batch| {
            let follows = batch.number == last + 1;
            last += u64::from(follows);
            follows
        });
        Ok(batches)
    }

    /// Removes all that is in it, which is durable in sled.
    pub(crate) fn empty(&mut self) -> io::Result<()> {
        for file in &self.files {
            if file.metadata()?.len() > 0 {
                file.set_len(0)?;
                file.sync_all()?;
            }
        }
        *self = Self {
            active: 0,
            at: 0,
            newest: 0,
            newest_in_other: 0,
            is_dirty: false,
            files: self.files.clone(),
        };
        Ok(())
    }

    /// Which batch must be durable in sled before the next append, when this file is full.
    pub(crate) fn must_be_durable(&self) -> Option<u64> {
        (self.at >= FULL).then_some(self.newest_in_other)
    }

    /// Goes on with the other file. Answers the newest batch in the one that is left.
    pub(crate) fn turn(&mut self) -> u64 {
        self.active = 1 - self.active;
        self.at = 0;
        self.newest_in_other = self.newest;
        self.newest
    }

    /// Appends batches, of which the last one has this number.
    pub(crate) fn append(&mut self, frames: &[u8], newest: u64) -> io::Result<()> {
        self.files[self.active].write_all_at(frames, self.at)?;
        self.at += frames.len() as u64;
        self.newest = newest;
        self.is_dirty = true;
        Ok(())
    }

    /// The file that was written.
    pub(crate) fn file(&self) -> Arc<File> {
        self.files[self.active].clone()
    }
}

/// A batch as it is written.
pub(crate) fn frame(number: u64, writes: &[Write]) -> Vec<u8> {
    let bytes: usize = writes.iter().map(|write| write.bytes() + 6).sum();
    let mut frame = Vec::with_capacity(FRAME + 8 + bytes);
    frame.extend([0; FRAME]);
    frame.extend(number.to_le_bytes());
    for Write { key, value, fresh } in writes {
        // Keys have less than 256 bytes, and values less than 2^32.
        frame.push(u8::from(value.is_some()) | u8::from(*fresh) << 1);
        frame.push(key.len() as u8);
        frame.extend_from_slice(key);
        if let Some(value) = value {
            frame.extend((value.len() as u32).to_le_bytes());
            frame.extend_from_slice(value);
        }
    }
    let length = (frame.len() - FRAME) as u32;
    let checksum = crc32fast::hash(&frame[FRAME..]);
    frame[..4].copy_from_slice(&length.to_le_bytes());
    frame[4..FRAME].copy_from_slice(&checksum.to_le_bytes());
    frame
}

/// The batches at the beginning of a file, whose numbers follow one another.
fn parse(mut bytes: &[u8]) -> Vec<Numbered> {
    let mut batches: Vec<Numbered> = Vec::new();
    while let Some((batch, rest)) = parse_one(bytes) {
        if batches.last().is_some_and(|last| batch.number != last.number + 1) {
            break;
        }
        batches.push(batch);
        bytes = rest;
    }
    batches
}

fn parse_one(bytes: &[u8]) -> Option<(Numbered, &[u8])> {
    let (length, bytes) = bytes.split_first_chunk()?;
    let (checksum, bytes) = bytes.split_first_chunk()?;
    let (content, rest) = bytes.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    if crc32fast::hash(content) != u32::from_le_bytes(*checksum) {
        return None;
    }
    let (number, mut content) = content.split_first_chunk()?;
    let mut writes = Vec::new();
    while let Some((&[flags, key], after)) = content.split_first_chunk() {
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
    Some((Numbered { number: u64::from_le_bytes(*number), writes }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(key: &str) -> Write {
        Write { key: key.into(), value: (key != "gone").then(|| "value".into()), fresh: key == "new" }
    }

    fn journal() -> (Journal, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        (Journal::open(folder.path()).unwrap(), folder)
    }

    #[test]
    fn batches_are_read_back_as_they_were_written_over_both_files() {
        let (mut journal, folder) = journal();
        let writes = vec![write("new"), write("old"), write("gone")];
        for number in 5..9 {
            journal.append(&frame(number, &writes), number).unwrap();
            if number == 6 {
                assert_eq!(journal.turn(), 6);
            }
        }
        let read = Journal::open(folder.path()).unwrap().after(5).unwrap();
        assert_eq!(read.iter().map(|batch| batch.number).collect::<Vec<_>>(), [6, 7, 8]);
        assert!(read.iter().all(|batch| batch.writes == writes));
        assert!(journal.after(3).unwrap().is_empty(), "the fourth is missing");
        journal.empty().unwrap();
        assert!(journal.after(5).unwrap().is_empty());
    }

    #[test]
    fn what_is_left_over_behind_the_newest_batch_is_not_read() {
        let (mut journal, _folder) = journal();
        for number in 1..=4 {
            journal.append(&frame(number, &[write("old")]), number).unwrap();
        }
        journal.turn();
        journal.append(&frame(5, &[write("old")]), 5).unwrap();
        journal.turn();
        journal.append(&frame(6, &[write("old")]), 6).unwrap();
        let numbers: Vec<u64> = journal.after(4).unwrap().into_iter().map(|batch| batch.number).collect();
        assert_eq!(numbers, [5, 6]);
    }

    #[test]
    fn a_batch_that_was_cut_or_damaged_ends_what_is_read() {
        let whole = [frame(1, &[write("a")]), frame(2, &[write("b")])].concat();
        for length in 0..whole.len() {
            assert!(parse(&whole[..length]).len() < 2);
        }
        for at in whole.len() / 2..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x55;
            assert_eq!(parse(&damaged).len(), 1, "flipped at {at}");
        }
        assert_eq!(parse(&whole).len(), 2);
    }

    #[test]
    fn a_full_file_is_left_once_the_other_one_is_durable_elsewhere() {
        let (mut journal, _folder) = journal();
        journal.append(&frame(1, &[write("a")]), 1).unwrap();
        assert_eq!(journal.must_be_durable(), None);
        journal.append(&vec![0; FULL as usize], 2).unwrap();
        assert_eq!(journal.must_be_durable(), Some(0));
        assert_eq!(journal.turn(), 2);
        journal.append(&vec![0; FULL as usize], 3).unwrap();
        assert_eq!(journal.must_be_durable(), Some(2));
    }
}
