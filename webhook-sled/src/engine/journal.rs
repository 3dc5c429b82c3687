//! The journal: log records that may not be durable in sled yet, in two files that are written in turn.
//!
//! The page of the [engine](crate::engine) says what depends on them.

pub(crate) mod files;
pub(crate) mod record;

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::engine::change::Write;
use crate::engine::disk::Disk;
use crate::engine::regular;
use crate::format::identity::Identity;

use record::{RecordHeader, encode};

/// Length at which a file is full. Files are created with this length, so a shorter one was cut off.
const LEAST: u64 = 1 << 20;
/// Length of the first record of a file, which is alone in its sector.
pub(crate) const BEGINNING: usize = 512;
pub(crate) const NAMES: [&str; 2] = ["journal-0", "journal-1"];

/// The journal of a folder that this process holds.
///
/// It can be written only once it was [begun](Self::begin).
#[derive(Debug, Default)]
pub(crate) struct Journal {
    begun: Option<Begun>,
    /// Place in `files` of the file that is written.
    active: usize,
    /// End of the newest record in it.
    at: u64,
    /// Newest record in either file.
    appended: u64,
    /// Newest record that is as durable as the store promises. Never newer than `appended`.
    synced: u64,
    /// Newest record in the other file. It must be durable in sled before that file is begun again.
    newest_in_other: u64,
}

#[derive(Debug)]
struct Begun {
    files: [(File, PathBuf); 2],
    identity: Identity,
}

impl Journal {
    /// Begins the journal for an opening whose database durably holds everything up to `number`. The old records are not
    /// needed any more.
    pub(crate) fn begin(folder: &Path, identity: Identity, number: u64, disk: &dyn Disk) -> io::Result<Self> {
        let mark = RecordHeader { identity, number, synced: number };
        let mut beginning = encode(mark, &[]);
        beginning.resize(BEGINNING, 0);
        let begin = |name: &str| {
            let path = folder.join(name);
            let mut options = File::options();
            let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
            let file = regular::open(folder, name, options)?;
            if file.metadata()?.len() != LEAST {
                // First, so that no file with a beginning is ever shorter.
                file.set_len(LEAST)?;
                disk.sync(&file, &path)?;
            }
            file.write_all_at(&beginning, 0)?;
            disk.sync(&file, &path)?;
            Ok::<_, io::Error>((file, path))
        };
        let files = [begin(NAMES[0])?, begin(NAMES[1])?];
        disk.sync_folder(folder)?;
        Ok(Self {
            begun: Some(Begun { files, identity }),
            active: 0,
            at: BEGINNING as u64,
            appended: number,
            synced: number,
            newest_in_other: number,
        })
    }

    /// Encodes a record. It says that everything up to `synced` is durable.
    pub(crate) fn record(&self, number: u64, writes: &[Write]) -> io::Result<Vec<u8>> {
        let identity = self.begun()?.identity;
        Ok(encode(RecordHeader { identity, number, synced: self.synced }, writes))
    }

    /// Returns the record that must be durable in sled before the next append, when this file is full.
    pub(crate) fn must_be_durable(&self) -> Option<u64> {
        (self.at >= LEAST).then_some(self.newest_in_other)
    }

    /// Turns to the other file. Returns the newest record in the one that is left.
    pub(crate) fn turn(&mut self) -> u64 {
        debug_assert!(!self.is_dirty(), "a sync reaches the active file only");
        self.active = 1 - self.active;
        self.at = BEGINNING as u64;
        self.newest_in_other = self.appended;
        self.appended
    }

    /// Appends encoded records, the last of which has the number `newest`.
    pub(crate) fn append(&mut self, records: &[u8], newest: u64) -> io::Result<()> {
        self.begun()?.files[self.active].0.write_all_at(records, self.at)?;
        debug_assert!(newest > self.appended, "sequence numbers only grow");
        self.at += records.len() as u64;
        self.appended = newest;
        Ok(())
    }

    /// Returns true if something was written since the last sync.
    pub(crate) fn is_dirty(&self) -> bool {
        self.synced < self.appended
    }

    /// Makes the active file durable. The other one was synced before it was left.
    pub(crate) fn sync(&mut self, disk: &dyn Disk) -> io::Result<()> {
        let (file, path) = &self.begun()?.files[self.active];
        disk.sync(file, path)?;
        self.synced = self.appended;
        Ok(())
    }

    fn begun(&self) -> io::Result<&Begun> {
        self.begun.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// The open files and their paths.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&File, PathBuf)> {
        self.begun.iter().flat_map(|begun| &begun.files).map(|(file, path)| (file, path.clone()))
    }

    /// Treats everything appended as synced: it need not survive the loss of power.
    pub(crate) fn needs_no_sync(&mut self) {
        self.synced = self.appended;
    }

    /// The newest record that is as durable as the store promises.
    pub(crate) fn synced(&self) -> u64 {
        self.synced
    }
}

#[cfg(test)]
mod tests {
    use super::files::JournalFiles;
    use super::record::tests::{mark, write};
    use super::*;
    use crate::engine::disk::FileDisk;

    /// A journal begun after change 4, with its folder.
    fn journal() -> (Journal, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        (Journal::begin(folder.path(), mark(3, 0, 0).identity, 4, &FileDisk).unwrap(), folder)
    }

    fn append(journal: &mut Journal, number: u64) {
        let record = journal.record(number, &[write("new"), write("gone")]).unwrap();
        journal.append(&record, number).unwrap();
    }

    fn append_synced(journal: &mut Journal, number: u64) {
        append(journal, number);
        journal.sync(&FileDisk).unwrap();
    }

    /// The numbers of the changes after `last`.
    fn pending(folder: &Path, last: u64, acknowledged: u64) -> Result<Vec<u64>, String> {
        let found = JournalFiles::read(folder).unwrap();
        let identity = mark(3, 0, 0).identity;
        found.check_files(identity, Some(identity))?;
        let pending = found.pending(identity, last, acknowledged)?;
        Ok(pending.iter().map(|change| change.number).collect())
    }

    fn flip(path: &Path, at: usize) {
        let mut bytes = std::fs::read(path).unwrap();
        bytes[at] ^= 0x10;
        std::fs::write(path, bytes).unwrap();
    }

    #[test]
    fn changes_are_read_back_over_both_files_and_what_an_earlier_turn_left_is_not() {
        let (mut journal, folder) = journal();
        (5..9).for_each(|number| append_synced(&mut journal, number));
        assert_eq!(journal.turn(), 8);
        append_synced(&mut journal, 9);
        assert_eq!(pending(folder.path(), 4, 9).unwrap(), [5, 6, 7, 8, 9]);
        assert_eq!(pending(folder.path(), 7, 9).unwrap(), [8, 9]);
        journal.turn();
        append_synced(&mut journal, 10);
        assert_eq!(pending(folder.path(), 8, 10).unwrap(), [9, 10]);
        assert!(pending(folder.path(), 4, 4).unwrap_err().contains("changes 5 to 9 are missing"));
        let journal = Journal::begin(folder.path(), mark(4, 0, 0).identity, 10, &FileDisk).unwrap();
        assert_eq!(journal.must_be_durable(), None);
        assert!(pending(folder.path(), 10, 10).unwrap_err().contains("webhook-store is older"));
    }

    #[test]
    fn a_damaged_record_is_an_error_where_it_was_synced_and_the_end_where_nothing_says_so() {
        let (mut journal, folder) = journal();
        let begin = journal.at as usize;
        append_synced(&mut journal, 5);
        let second = journal.at as usize;
        append(&mut journal, 6);
        let third = journal.at as usize;
        append(&mut journal, 7);
        let path = folder.path().join(NAMES[0]);
        flip(&path, third + 10);
        assert_eq!(pending(folder.path(), 4, 4).unwrap(), [5, 6], "the last one may be torn");
        assert!(pending(folder.path(), 4, 7).unwrap_err().contains("change 7 is missing"));
        flip(&path, third + 10);
        flip(&path, second + 10);
        assert_eq!(pending(folder.path(), 4, 4).unwrap(), [5], "neither was synced");
        flip(&path, second + 10);
        flip(&path, begin + 10);
        let error = pending(folder.path(), 4, 4).unwrap_err();
        assert!(
            error.contains("change 5 is missing") && error.contains("journal-0 is damaged at byte 512"),
            "{error}"
        );
        assert_eq!(pending(folder.path(), 5, 4).unwrap(), [6, 7], "the database has it");
    }

    #[test]
    fn files_that_are_missing_cut_or_foreign_are_named() {
        let (mut journal, folder) = journal();
        append_synced(&mut journal, 5);
        let path = folder.path().join(NAMES[1]);
        let whole = std::fs::read(&path).unwrap();
        let foreign = encode(mark(3, 4, 4), &[]).iter().map(|byte| byte ^ 1).collect::<Vec<_>>();
        let older = [encode(mark(2, 4, 4), &[]), vec![0; 1 << 20]].concat();
        for (bytes, expected) in [
            (&[][..], "journal-1 is empty"),
            (&whole[..100], "journal-1 is cut off after 100 bytes"),
            (&whole[..600], "journal-1 is cut off after 600 bytes"),
            (&[foreign, vec![0; 1 << 20]].concat(), "journal-1 is damaged at its beginning"),
            (&older, "journal-1 is older than its database"),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let error = pending(folder.path(), 5, 5).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(pending(folder.path(), 5, 5).unwrap_err().contains("journal-1 is missing"));
        let other = Identity { store: crate::format::identity::StoreId([9; 16]), epoch: 3 };
        Journal::begin(folder.path(), other, 5, &FileDisk).unwrap();
        assert!(pending(folder.path(), 5, 5).unwrap_err().contains("journal-0 belongs to another store"));
    }

    #[test]
    fn a_full_file_is_left_once_the_other_one_is_durable_elsewhere() {
        let (mut journal, _folder) = journal();
        append(&mut journal, 5);
        assert_eq!(journal.must_be_durable(), None);
        journal.append(&vec![0; LEAST as usize], 6).unwrap();
        assert_eq!(journal.must_be_durable(), Some(4));
        journal.sync(&FileDisk).unwrap();
        assert_eq!(journal.turn(), 6);
        journal.append(&vec![0; LEAST as usize], 7).unwrap();
        assert_eq!(journal.must_be_durable(), Some(6));
    }
}
