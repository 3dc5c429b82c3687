//! The superblock of a store, its file `webhook-store`: the identity of the store, and its newest acknowledged change.
//!
//! Its lock keeps a second process out before anything else is touched. The first sector has the format of the folder.
//! The second and third sectors are equal, so one damaged sector hides nothing. They have the format, the store's id, its
//! epoch, the newest acknowledged change, and whether the store was closed in order.
//!
//! The number of that change is written in place after each sync of the journal, and synced within a second. On disk it may
//! lag behind the journal, and never runs ahead of it.

use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::engine::disk::Disk;
use crate::engine::regular;
use crate::error::OpenError;
use crate::format::identity::{Identity, StoreId};

pub(crate) const NAME: &str = "webhook-store";
/// The newest format that is understood.
pub(crate) const FORMAT: u32 = 4;
/// The first format whose files are tied together by an [`Identity`].
pub(crate) const FIRST_WITH_IDENTITY: u32 = 4;

/// Longest wait for a lock that another process holds. A process killed between fork and exec leaves its lock to the child until
/// the exec.
const PATIENCE: Duration = Duration::from_secs(1);

pub(crate) const SECTOR: usize = 512;
const TITLE: &str = "webhook store, format ";

/// The superblock of a folder that this process holds. The lock goes with it.
#[derive(Debug)]
pub(crate) struct Superblock {
    file: File,
    path: PathBuf,
    facts: Mutex<Option<SuperblockFacts>>,
}

/// The content of a superblock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SuperblockFacts {
    pub(crate) identity: Identity,
    /// Number of the newest change that is known to have been acknowledged.
    pub(crate) acknowledged: u64,
    /// The store was closed in order: the database alone holds everything.
    pub(crate) is_closed: bool,
}

/// The result of reading a superblock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SuperblockContent {
    /// The file was missing, or is empty.
    Nothing,
    /// It is of a format that had no identity; the number of the newest acknowledged change.
    Earlier(u64),
    Ready(SuperblockFacts),
}

impl Superblock {
    /// Locks the folder and reads its superblock, which is made, empty, where there is none.
    pub(crate) fn lock(folder: &Path) -> Result<(Self, SuperblockContent), OpenError> {
        let io = OpenError::io(folder);
        let path = folder.join(NAME);
        let mut options = File::options();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = regular::open(folder, NAME, options).map_err(&io)?;
        let patience = Instant::now() + PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < patience => sleep(Duration::from_millis(5)),
                Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { path: folder.to_owned() }),
                Err(TryLockError::Error(error)) => return Err(io(error)),
            }
        }
        let mut bytes = Vec::new();
        (&mut file).take(4 * SECTOR as u64).read_to_end(&mut bytes).map_err(&io)?;
        let content = parse(&bytes).map_err(|problem| match problem {
            SuperblockProblem::Newer(found) => {
                OpenError::NewerFormat { path: folder.to_owned(), found, known: FORMAT }
            }
            SuperblockProblem::Damaged => {
                OpenError::damaged(folder, format!("its file {NAME} cannot be understood"))
            }
        })?;
        let facts = match content {
            SuperblockContent::Ready(facts) => Some(facts),
            _ => None,
        };
        if facts.is_some_and(|facts| bytes != whole(&facts)) {
            tracing::warn!(file = %path.display(), "a part of the file is damaged and will be rewritten");
        }
        Ok((Self { file, path, facts: Mutex::new(facts) }, content))
    }

    /// Writes all of it, durably.
    pub(crate) fn write(&self, facts: SuperblockFacts, disk: &dyn Disk) -> io::Result<()> {
        let mut present = self.facts.lock();
        self.file.write_all_at(&whole(&facts), 0)?;
        *present = Some(facts);
        disk.sync(&self.file, &self.path)
    }

    /// Notes the number of the newest change that is durable in the journal.
    pub(crate) fn acknowledge(&self, number: u64) -> io::Result<()> {
        let mut present = self.facts.lock();
        let Some(facts) = &mut *present else { return Ok(()) };
        debug_assert!(number >= facts.acknowledged, "acknowledged only grows");
        facts.acknowledged = number;
        // Not the first sector: it never changes while the store is open. A torn write spoils one of the other two at most.
        self.file.write_all_at(&whole(facts)[SECTOR..], SECTOR as u64)
    }

    /// Makes the noted number durable.
    pub(crate) fn sync(&self, disk: &dyn Disk) -> io::Result<()> {
        disk.sync(&self.file, &self.path)
    }

    /// Notes, durably, that the database alone holds everything.
    pub(crate) fn close(&self, number: u64, disk: &dyn Disk) -> io::Result<()> {
        let present = *self.facts.lock();
        let closed = present.map(|facts| SuperblockFacts { acknowledged: number, is_closed: true, ..facts });
        closed.map_or(Ok(()), |facts| self.write(facts, disk))
    }

    /// The open file and its path.
    pub(crate) fn file(&self) -> (&File, PathBuf) {
        (&self.file, self.path.clone())
    }

    pub(crate) fn facts(&self) -> Option<SuperblockFacts> {
        *self.facts.lock()
    }
}

#[derive(Debug)]
pub(crate) enum SuperblockProblem {
    Newer(u32),
    Damaged,
}

pub(crate) fn parse(bytes: &[u8]) -> Result<SuperblockContent, SuperblockProblem> {
    // The loss of power may leave zeroes of a file that was just made.
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(SuperblockContent::Nothing);
    }
    let lines: Vec<_> = bytes.chunks(SECTOR).map(|line| str::from_utf8(line).map(str::trim_end)).collect();
    let lines = lines.iter().map(|line| line.unwrap_or_default());
    let facts = lines.clone().skip(1).filter_map(parse_facts);
    if let Some(facts) = facts.max_by_key(|facts| (facts.identity.epoch, facts.acknowledged)) {
        return Ok(SuperblockContent::Ready(facts));
    }
    let format = lines.clone().next().and_then(|line| line.strip_prefix(TITLE)?.parse().ok());
    match format {
        Some(1..FIRST_WITH_IDENTITY) => {
            let numbers = lines.skip(1).filter_map(|line| checked(line.strip_prefix("acknowledged ")?));
            numbers
                .filter_map(|number| number.parse().ok())
                .max()
                .map(SuperblockContent::Earlier)
                .ok_or(SuperblockProblem::Damaged)
        }
        Some(newer) if newer > FORMAT => Err(SuperblockProblem::Newer(newer)),
        _ => Err(SuperblockProblem::Damaged),
    }
}

/// The whole file.
pub(crate) fn whole(facts: &SuperblockFacts) -> Vec<u8> {
    let SuperblockFacts { identity: Identity { store, epoch }, acknowledged, is_closed } = facts;
    let state = if *is_closed { "closed" } else { "open" };
    let line = format!("format {FORMAT} store {store} epoch {epoch} acknowledged {acknowledged} {state}");
    let line = format!("{line} {:08x}", crc32fast::hash(line.as_bytes()));
    [sector(&format!("{TITLE}{FORMAT}")), sector(&line), sector(&line)].concat()
}

fn parse_facts(line: &str) -> Option<SuperblockFacts> {
    let words: Vec<&str> = checked(line)?.split(' ').collect();
    let ["format", format, "store", store, "epoch", epoch, "acknowledged", acknowledged, state] = words[..]
    else {
        return None;
    };
    let is_known = (FIRST_WITH_IDENTITY..=FORMAT).contains(&format.parse().ok()?);
    let identity = Identity { store: StoreId::parse(store)?, epoch: epoch.parse().ok()? };
    let facts =
        SuperblockFacts { identity, acknowledged: acknowledged.parse().ok()?, is_closed: state == "closed" };
    is_known.then_some(facts)
}

/// The line without its last word, if that is the checksum of the rest.
fn checked(line: &str) -> Option<&str> {
    let (content, checksum) = line.rsplit_once(' ')?;
    let matches = u32::from_str_radix(checksum, 16).ok()? == crc32fast::hash(content.as_bytes());
    matches.then_some(content)
}

/// A line of text that fills one sector of the disk. A disk writes a sector wholly or not at all.
fn sector(line: &str) -> [u8; SECTOR] {
    let mut bytes = [b' '; SECTOR];
    let text = line.as_bytes();
    bytes[..text.len()].copy_from_slice(text);
    bytes[SECTOR - 1] = b'\n';
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::disk::FileDisk;

    fn facts(epoch: u64, acknowledged: u64) -> SuperblockFacts {
        let identity = Identity { store: StoreId([7; 16]), epoch };
        SuperblockFacts { identity, acknowledged, is_closed: false }
    }

    fn read(folder: &Path) -> SuperblockContent {
        Superblock::lock(folder).unwrap().1
    }

    #[test]
    fn what_was_noted_last_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let (superblock, content) = Superblock::lock(folder.path()).unwrap();
        assert_eq!(content, SuperblockContent::Nothing);
        superblock.write(facts(3, 40), &FileDisk).unwrap();
        superblock.acknowledge(41).unwrap();
        assert!(matches!(Superblock::lock(folder.path()), Err(OpenError::InUse { .. })));
        drop(superblock);
        assert_eq!(read(folder.path()), SuperblockContent::Ready(facts(3, 41)));
        let (superblock, _) = Superblock::lock(folder.path()).unwrap();
        superblock.close(42, &FileDisk).unwrap();
        drop(superblock);
        assert_eq!(
            read(folder.path()),
            SuperblockContent::Ready(SuperblockFacts { is_closed: true, ..facts(3, 42) })
        );
    }

    #[test]
    fn one_damaged_sector_hides_nothing_and_two_are_an_error_or_tell_the_same() {
        let bytes = whole(&facts(3, 41));
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                assert_eq!(parse(&damaged).unwrap(), SuperblockContent::Ready(facts(3, 41)), "{at}");
            }
        }
        for length in 1..bytes.len() {
            match parse(&bytes[..length]) {
                Ok(content) => assert_eq!(content, SuperblockContent::Ready(facts(3, 41)), "cut to {length}"),
                Err(problem) => {
                    assert!(matches!(problem, SuperblockProblem::Damaged), "cut to {length}: {problem:?}");
                }
            }
        }
        let newer = [&bytes[..SECTOR], &whole(&facts(3, 42))[SECTOR..2 * SECTOR], &bytes[SECTOR..2 * SECTOR]]
            .concat();
        assert_eq!(parse(&newer).unwrap(), SuperblockContent::Ready(facts(3, 42)), "written in part");
        assert_eq!(parse(&[0; 700]).unwrap(), SuperblockContent::Nothing);
    }

    #[test]
    fn superblocks_of_earlier_formats_are_read() {
        let acknowledged = |number: u64| {
            let digits = format!("{number:020}");
            sector(&format!("acknowledged {digits} {:08x}", crc32fast::hash(digits.as_bytes())))
        };
        let bytes = [sector("webhook store, format 3"), acknowledged(42), acknowledged(41)].concat();
        assert_eq!(parse(&bytes).unwrap(), SuperblockContent::Earlier(42));
        assert!(matches!(parse(&bytes[..SECTOR]), Err(SuperblockProblem::Damaged)));
    }

    #[test]
    fn a_lock_that_is_about_to_be_free_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let (superblock, _) = Superblock::lock(folder.path()).unwrap();
        let ending = std::thread::spawn(move || {
            sleep(PATIENCE / 10);
            drop(superblock);
        });
        Superblock::lock(folder.path()).unwrap();
        ending.join().unwrap();
    }

    #[test]
    fn garbage_and_newer_formats_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let newer = sector("webhook store, format 5").to_vec();
        for (bytes, is_newer) in [(&b"garbage"[..], false), (&[0xff; 2_000], false), (&newer, true)] {
            std::fs::write(folder.path().join(NAME), bytes).unwrap();
            let error = Superblock::lock(folder.path()).unwrap_err();
            assert_eq!(matches!(error, OpenError::NewerFormat { found: 5, .. }), is_newer, "{error}");
            assert_eq!(matches!(error, OpenError::Damaged { .. }), !is_newer, "{error}");
        }
    }
}
