//! The file that marks a folder as a store, `webhook-store`.
//!
//! It does three things. Its lock keeps a second process out before anything else is touched. Its first line says
//! which format the folder has. And it notes the number of the newest batch that was acknowledged, so that a
//! database whose end was cut off or damaged is noticed, which sled takes for a crash.
//!
//! The number is written in place after each sync and is not synced itself: on disk it may be behind, and is never
//! ahead of what the database holds. It has two places of one sector each, written in turn.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::error::OpenError;

pub(crate) const NAME: &str = "webhook-store";
/// The newest format that is understood.
pub(crate) const FORMAT: u32 = 4;

/// How long a lock that is taken is waited for. A process that is killed while it starts a program leaves its lock to
/// the child that is to become that program, for the moment until it does.
const PATIENCE: Duration = Duration::from_secs(1);

const SECTOR: usize = 512;
const TITLE: &str = "webhook store, format ";

/// The superblock of a folder that this process holds. The lock goes with it.
#[derive(Debug)]
pub(crate) struct Superblock {
    file: File,
}

/// What a superblock says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// Nothing: the folder is new, or making it did not come to an end.
    Unfinished,
    /// The number of the newest batch that is known to have been acknowledged.
    Ready(u64),
}

impl Superblock {
    /// Locks the folder and reads its superblock.
    pub(crate) fn lock(folder: &Path) -> Result<(Self, Content), OpenError> {
        let io = OpenError::io(folder);
        let path = folder.join(NAME);
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = options.map_err(&io)?;
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
            Problem::Newer(found) => OpenError::NewerFormat { path: folder.to_owned(), found, known: FORMAT },
            Problem::Damaged => {
                OpenError::damaged(folder, format!("its file {NAME} is not what it should be"))
            }
        })?;
        Ok((Self { file }, content))
    }

    /// Marks the folder as complete, durably.
    pub(crate) fn finish(&self, folder: &Path) -> io::Result<()> {
        self.file.write_all_at(&sector(&format!("{TITLE}{FORMAT}")), 0)?;
        for place in [1, 2] {
            self.file.write_all_at(&acknowledgement(0), SECTOR as u64 * place)?;
        }
        self.file.sync_all()?;
        File::open(folder)?.sync_all()
    }

    /// Says, durably, that the folder has the newest format.
    pub(crate) fn upgrade(&self) -> io::Result<()> {
        self.file.write_all_at(&sector(&format!("{TITLE}{FORMAT}")), 0)?;
        self.file.sync_data()
    }

    /// Notes the number of the newest batch that is durable.
    pub(crate) fn acknowledge(&self, number: u64) -> io::Result<()> {
        self.file.write_all_at(&acknowledgement(number), SECTOR as u64 * (1 + number % 2))
    }
}

enum Problem {
    Newer(u32),
    Damaged,
}

fn parse(bytes: &[u8]) -> Result<Content, Problem> {
    if bytes.is_empty() {
        return Ok(Content::Unfinished);
    }
    let mut lines = bytes.chunks(SECTOR).map(|line| str::from_utf8(line).map(str::trim_end));
    let format = lines.next().and_then(Result::ok).and_then(|line| line.strip_prefix(TITLE)?.parse().ok());
    match format {
        Some(1..=FORMAT) => {}
        Some(newer) if newer > FORMAT => return Err(Problem::Newer(newer)),
        _ => return Err(Problem::Damaged),
    }
    let numbers = lines.filter_map(|line| acknowledged(line.ok()?));
    numbers.max().map(Content::Ready).ok_or(Problem::Damaged)
}

fn acknowledgement(number: u64) -> [u8; SECTOR] {
    let digits = format!("{number:020}");
    sector(&format!("acknowledged {digits} {:08x}", crc32fast::hash(digits.as_bytes())))
}

fn acknowledged(line: &str) -> Option<u64> {
    let (digits, checksum) = line.strip_prefix("acknowledged ")?.split_once(' ')?;
    let matches = u32::from_str_radix(checksum, 16).ok()? == crc32fast::hash(digits.as_bytes());
    if matches { digits.parse().ok() } else { None }
}

/// A line of text that fills one sector of the disk, which is written wholly or not at all.
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

    #[test]
    fn the_newest_acknowledged_number_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let (superblock, content) = Superblock::lock(folder.path()).unwrap();
        assert_eq!(content, Content::Unfinished);
        superblock.finish(folder.path()).unwrap();
        superblock.acknowledge(41).unwrap();
        superblock.acknowledge(42).unwrap();
        assert!(matches!(Superblock::lock(folder.path()), Err(OpenError::InUse { .. })));
        drop(superblock);
        let (superblock, content) = Superblock::lock(folder.path()).unwrap();
        assert_eq!(content, Content::Ready(42));
        // A torn sector leaves the number before it.
        superblock.file.write_all_at(b"x", SECTOR as u64 + 20).unwrap();
        drop(superblock);
        assert_eq!(Superblock::lock(folder.path()).unwrap().1, Content::Ready(41));
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
        let mut newer = sector("webhook store, format 5").to_vec();
        for (bytes, is_newer) in [(&b"garbage"[..], false), (&[0xff; 2_000], false), (&newer, true)] {
            std::fs::write(folder.path().join(NAME), bytes).unwrap();
            let error = Superblock::lock(folder.path()).unwrap_err();
            assert_eq!(matches!(error, OpenError::NewerFormat { found: 5, .. }), is_newer, "{error}");
            assert_eq!(matches!(error, OpenError::Damaged { .. }), !is_newer, "{error}");
        }
        newer.truncate(10);
        assert!(parse(&newer).is_err());
    }
}
