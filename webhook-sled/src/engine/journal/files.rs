//! Reading the journal when the store is opened, and checking that nothing is missing from it.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::path::Path;

use super::record::{self, RecordHeader};
use super::{BEGINNING, LEAST, NAMES};
use crate::engine::change::LogRecord;
use crate::engine::regular;
use crate::format::identity::{Identity, StoreId};

/// The files of the journal, as they are.
pub(crate) struct JournalFiles([JournalFile; 2]);

struct JournalFile {
    name: &'static str,
    /// `None` when the file is missing.
    bytes: Option<Vec<u8>>,
}

/// The changes that the database lacks, oldest first and without a gap.
pub(crate) type Pending = VecDeque<LogRecord>;

impl JournalFiles {
    pub(crate) fn read(folder: &Path) -> io::Result<Self> {
        let read = |name: &'static str| match regular::open_to_read(folder, name) {
            Ok(mut file) => {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes)?;
                Ok(JournalFile { name, bytes: Some(bytes) })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(JournalFile { name, bytes: None }),
            Err(error) => Err(error),
        };
        Ok(Self([read(NAMES[0])?, read(NAMES[1])?]))
    }

    /// Files with this content.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn of(contents: [Vec<u8>; 2]) -> Self {
        let [first, second] = contents.map(Some);
        Self([JournalFile { name: NAMES[0], bytes: first }, JournalFile { name: NAMES[1], bytes: second }])
    }

    /// The name of a file that holds anything.
    pub(crate) fn is_used(&self) -> Option<&'static str> {
        let used = self.0.iter().find(|file| file.bytes.as_ref().is_some_and(|bytes| !bytes.is_empty()));
        used.map(|file| file.name)
    }

    /// The newest opening that a file was begun in.
    pub(crate) fn newest_epoch(&self, store: StoreId) -> u64 {
        let epochs = self.0.iter().filter_map(|file| Some(file.mark()?.identity));
        epochs.filter(|identity| identity.store == store).map(|identity| identity.epoch).max().unwrap_or(0)
    }

    /// Returns no changes for a store that was closed in order, since its database holds everything.
    ///
    /// # Errors
    /// The journal is of a later opening, so superblock and database are an earlier copy.
    pub(crate) fn check_closed(&self, superblock: Identity) -> Result<Pending, String> {
        if self.newest_epoch(superblock.store) > superblock.epoch {
            return Err(format!(
                "its file {} and its database are older than its journal",
                crate::engine::superblock::NAME
            ));
        }
        Ok(Pending::new())
    }

    /// Checks each file by itself: it must not be missing, cut off, of another store, or of an earlier epoch than the database.
    pub(crate) fn check_files(&self, database: Identity, superblock: Option<Identity>) -> Result<(), String> {
        self.0.iter().try_for_each(|file| file.check(database, superblock))
    }

    /// The changes after the last one in the database.
    ///
    /// At least everything up to `acknowledged` must be there, and up to what any record says was durable before it. A change
    /// that is missing beyond that was never acknowledged, or is the last record.
    pub(crate) fn pending(
        &self,
        database: Identity,
        last: u64,
        acknowledged: u64,
    ) -> Result<Pending, String> {
        let files = [self.0[0].changes(database), self.0[1].changes(database)];
        let mut required = acknowledged;
        let (mut changes, mut damages) = (Vec::new(), Vec::new());
        for (file, read) in self.0.iter().zip(files) {
            required = required.max(read.synced);
            if let Some((at, number)) = read.damage {
                damages.push((file.name, at, number));
            }
            changes.extend(read.changes);
        }
        changes.retain(|change| change.number > last);
        changes.sort_by_key(|change| change.number);
        let first_found = changes.first().map(|change| change.number);
        let mut end = last;
        let pending: Pending = changes
            .into_iter()
            .take_while(|change| {
                let follows = change.number == end + 1;
                end += u64::from(follows);
                follows
            })
            .collect();
        if end >= required {
            return Ok(pending);
        }
        let damage = damages.iter().find(|(_, _, number)| *number > end + 1);
        let why = match (damage, first_found) {
            (Some((name, at, _)), _) => format!("its file {name} is damaged at byte {at}"),
            (None, Some(first)) if first > last + 1 => format!(
                "its database ends with change {last}, and its journal continues with change {first}, so that one is older \
                 than the other"
            ),
            _ => format!("its database and its journal end with change {end}"),
        };
        Err(missing(end + 1, required, &why))
    }

    /// The changes of a journal of an earlier format after the last one in the database.
    pub(crate) fn pending_of_earlier_format(&self, last: u64, acknowledged: u64) -> Result<Pending, String> {
        let of_file = |file: &JournalFile| record::decode_earlier(file.bytes.as_deref().unwrap_or_default());
        let mut changes: Vec<LogRecord> = self.0.iter().flat_map(of_file).collect();
        changes.retain(|change| change.number > last);
        changes.sort_by_key(|change| change.number);
        let end = last + changes.len() as u64;
        // Each file is whole up to its end, and the older one was durable before the newer one was begun.
        match changes.iter().zip(last + 1..).find(|(change, expected)| change.number != *expected) {
            Some((change, expected)) => {
                let why = format!("its journal continues with change {}", change.number);
                Err(missing(expected, change.number - 1, &why))
            }
            None if end < acknowledged => Err(missing(
                end + 1,
                acknowledged,
                &format!("its database and its journal end with change {end}"),
            )),
            None => Ok(changes.into()),
        }
    }
}

fn missing(first: u64, last: u64, why: &str) -> String {
    let which =
        if first == last { format!("change {first} is") } else { format!("changes {first} to {last} are") };
    format!("{which} missing, which were acknowledged: {why}")
}

/// The changes in one file.
#[derive(Default)]
struct Changes {
    changes: Vec<LogRecord>,
    /// Newest change that a record says was durable before it.
    synced: u64,
    /// Where the first damaged place is that whole records follow, and the number of the first that does.
    damage: Option<(usize, u64)>,
}

impl JournalFile {
    /// Returns the mark of the record at the beginning of the file.
    fn mark(&self) -> Option<RecordHeader> {
        let beginning = self.bytes.as_ref()?.get(..BEGINNING)?;
        record::decode(beginning).map(|(mark, _, _)| mark)
    }

    fn check(&self, database: Identity, superblock: Option<Identity>) -> Result<(), String> {
        let name = self.name;
        let Some(bytes) = &self.bytes else {
            // It is made after the database, when the store is.
            return if database.epoch == 0 { Ok(()) } else { Err(format!("its file {name} is missing")) };
        };
        let Some(mark) = self.mark() else {
            return match bytes.len() {
                _ if database.epoch == 0 => Ok(()),
                0 => Err(format!("its file {name} is empty")),
                length if length < BEGINNING => {
                    Err(format!("its file {name} is cut off after {length} bytes"))
                }
                _ => Err(format!("its file {name} is damaged at its beginning")),
            };
        };
        if mark.identity.store != database.store {
            return Err(format!("its file {name} belongs to another store than its database"));
        }
        if mark.identity.epoch < database.epoch {
            return Err(format!("its file {name} is older than its database"));
        }
        if superblock.is_some_and(|superblock| superblock.epoch < mark.identity.epoch) {
            return Err(format!("its file {} is older than {name}", crate::engine::superblock::NAME));
        }
        if (bytes.len() as u64) < LEAST {
            return Err(format!("its file {name} is cut off after {} bytes", bytes.len()));
        }
        Ok(())
    }

    /// The changes that were written since the file was last begun by an opening.
    fn changes(&self, database: Identity) -> Changes {
        let (Some(bytes), Some(begun)) = (&self.bytes, self.mark()) else { return Changes::default() };
        let mut read = Changes { synced: begun.synced, ..Changes::default() };
        let (mut at, mut damaged_at) = (BEGINNING, None);
        loop {
            match record::decode(&bytes[at.min(bytes.len())..]) {
                Some((mark, writes, length)) if mark.identity.store == database.store => {
                    // Others were left by an earlier opening, or by an earlier turn of the file: their numbers are lower.
                    let is_of_now = mark.identity.epoch == begun.identity.epoch;
                    if is_of_now {
                        read.synced = read.synced.max(mark.synced);
                        if let Some(damaged_at) = damaged_at {
                            read.damage.get_or_insert((damaged_at, mark.number));
                        }
                        read.changes.push(LogRecord { number: mark.number, writes });
                    }
                    at += length;
                }
                _ => {
                    damaged_at.get_or_insert(at);
                    match record::find(bytes, at + 1, database.store) {
                        Some(next) => at = next,
                        None => break,
                    }
                }
            }
        }
        read
    }
}
