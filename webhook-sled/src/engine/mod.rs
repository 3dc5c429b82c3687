//! A journaled tree: changes are durable in the journal first, and reach sled later, many at once.
//!
//! # The path of a write
//!
//! ```mermaid
//! flowchart LR
//!     caller([caller]) -->|operation| queue[Queue]
//!     queue --> writer[Writer: decides, gathers a record]
//!     writer -->|group of records| flusher[Flusher]
//!     flusher -->|append| journal[(journal-0, journal-1)]
//!     journal -->|fdatasync| superblock[(superblock: acknowledged)]
//!     superblock -->|result| caller
//!     flusher -->|push after the append| pending[CheckpointQueue]
//!     pending -->|100 ms later, or when a reader waits| checkpointer[Checkpointer]
//!     checkpointer -->|batches of at most 96 KiB| sled[(sled)]
//!     sled -->|fdatasync, at least every 96 KiB| turn[the other journal file may be reused]
//! ```
//!
//! Two threads write.
//!
//! - The *writer* takes operations from its [queue](crate::writer::queue), decides them by what is in memory, and numbers the
//!   resulting [log records](change::LogRecord). Its [flusher](flusher::Flusher) appends a [group](group::Group) of records to
//!   the [journal], syncs it once, notes that in the [superblock], and tells the callers. Operations that arrive meanwhile
//!   are the next group.
//! - The *[checkpointer]* takes [batches](batch) of records to sled. A value that is put and removed within one batch never
//!   reaches sled.
//!
//! A reader of sled first waits until sled shows everything acknowledged ([`CheckpointQueue::wait_applied`](checkpoint_queue::CheckpointQueue::wait_applied)).
//!
//! # Sequence numbers
//!
//! Every log record has a sequence number, one more than the last. At any time
//!
//! ```text
//!  durable <= applied <= appended        acknowledged <= synced <= appended
//! ```
//!
//! | number | newest record that is … | held by |
//! |---|---|---|
//! | appended | in the journal | [`Journal`](journal::Journal), `newest` of the checkpoint queue |
//! | synced | durable in the journal | `Journal` |
//! | acknowledged | noted as durable in the superblock | superblock, checkpoint queue |
//! | applied | in sled | checkpoint queue, key `n` of the tree |
//! | durable | durable in sled | checkpoint queue |
//!
//! A record that is not durable in sled is in the journal:
//!
//! - Records are appended to one of two files. When it is full, the writer turns to the other file. Before that, the full file
//!   is synced, and all records of the other file are made durable in sled.
//! - A record goes to sled only after it was appended. A refused record is neither in the journal nor in sled.
//! - Records of an earlier turn of a file lie behind the newer ones. Their numbers are lower.
//!
//! # What an opening demands
//!
//! Every opening, and every recovery within the process, begins an *epoch*. It takes all records to sled and syncs sled.
//! Only then does it write, durably and in this order: the superblock, the beginning of both journal files, the epoch in sled.
//! So the superblock is never of an older epoch than the journal, and the journal is never of an older epoch than sled.
//!
//! The records after sled's last one must be complete, up to the newest record that is known to have been synced. Three
//! places name a synced record: the superblock, each record of the journal, and sled. Together they reveal:
//!
//! | fault | noticed by |
//! |---|---|
//! | a damaged record | a later record, written after the sync of the damaged one |
//! | a missing or cut file | its length |
//! | an older copy of a file | its epoch, or a gap in the numbers |
//!
//! Damage that none of these reveals counts as the end of the journal. Records behind it were never acknowledged. The one
//! exception is damage to the very last record, which looks like a write that a loss of power tore.
//! The superblock is synced within a second of a change. So an older copy of a whole journal file can hide
//! acknowledged records only of the last second before a loss of power.
//!
//! # Facts about sled 0.34
//!
//! - **Its `flush` does not reach the disk.** [`SledFiles`](sled_files::SledFiles) syncs its log through a descriptor of its
//!   own. That costs most of a millisecond for each commit, hence the journal. A failed sync fails the
//!   store until it is opened again, unless there was no room ([`Severity`](condition::Severity)).
//! - **It silently drops a damaged end of its log.** So superblock, journal and database carry the
//!   [identity](crate::format::identity) of the store and the epoch.
//!   An opening that took records from the journal opens sled again and reads them back
//!   ([`SledFolder::read_back`](sled_folder::SledFolder::read_back)).
//! - **It reuses parts of its log without knowing what is synced.** So it is synced after at most
//!   [96 KiB](batch::BYTES_BETWEEN_SYNCS) of changes. A removal counts for what it makes sled rewrite.
//! - **It moves pages of more than 128 KiB to files that it never syncs.** A page has up to 16 values.
//!   So values stay below 6,000 bytes, and larger records are split.
//! - **A small value costs as much as a large one**, so runs of the same 16 ms share a value ([`placement`]).
//! - **It skips damage in the middle of its log and shows older pages.** So the tree keeps [sums](crate::tree::sums) of
//!   its values, and [checks](crate::check) compare them.
//! - **It panics on damage.** Every call is [guarded](crate::tree::scan::guarded).

pub(crate) mod announcements;
pub(crate) mod batch;
pub(crate) mod call_file;
pub(crate) mod capacity;
pub(crate) mod change;
pub(crate) mod checkpoint_queue;
pub(crate) mod checkpointer;
pub(crate) mod clock;
pub(crate) mod condition;
pub(crate) mod database;
pub(crate) mod disk;
pub(crate) mod flusher;
pub(crate) mod folder;
pub(crate) mod group;
pub(crate) mod journal;
pub(crate) mod log_joining;
pub(crate) mod open_files;
pub(crate) mod parts;
pub(crate) mod placement;
pub(crate) mod regular;
pub(crate) mod sled_files;
pub(crate) mod sled_folder;
pub(crate) mod step;
pub(crate) mod superblock;
pub(crate) mod visible_runs;
pub(crate) mod watch;
