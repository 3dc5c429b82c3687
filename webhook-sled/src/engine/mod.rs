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
//! Two threads write. The *writer* takes operations from its [queue](crate::writer::queue), decides them against what is in
//! memory, and numbers the resulting [log records](change::LogRecord). Its [flusher](flusher::Flusher) appends a
//! [group](group::Group) of records to the [journal], syncs it once, notes that in the [superblock], and tells the callers;
//! what arrives meanwhile is the next group. The *[checkpointer]* takes [batches](batch) of records to sled.
//! What was put and removed within one batch never reaches it.
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
//! - Records are appended to one of two files. When it is full, the other one is begun again, once all of that file's records
//!   are durable in sled and the file that is left is synced.
//! - A record goes to sled only after it was appended. A refused one is in neither.
//! - Records of an earlier turn of a file lie behind the newer ones. Their numbers are lower.
//!
//! # What an opening demands
//!
//! Every opening, and every recovery within the process, is an epoch of its own. It takes all records to sled, syncs that,
//! and only then writes, durably and in this order: the superblock, the beginning of both journal files, the epoch in sled.
//! So the superblock is never of an older epoch than the journal, and the journal never of an older one than sled.
//!
//! The records after sled's last one must follow one another up to the newest one that is known to have been synced.
//! The superblock tells of such records, each record of the journal of those before it, and sled of those before its last one.
//! So a damaged record is noticed if a later one was written after its sync.
//! A missing or cut file is noticed by its length, and an older one by its epoch or by a gap.
//! What follows a damaged record without such a witness was never acknowledged, or is the last record, which cannot be told
//! from a write that the loss of power tore.
//! The superblock is synced within a second. Only of the last second before a loss of power can an older copy of a whole
//! journal file hide more.
//!
//! # Facts about sled 0.34
//!
//! - **Its `flush` does not reach the disk.** [`SledFiles`](sled_files::SledFiles) syncs its log through a descriptor of its
//!   own. That costs most of a millisecond for each commit, hence the journal. A failed sync fails the
//!   store until it is opened again, unless there was no room ([`Severity`](condition::Severity)).
//! - **It drops a damaged tail of its log without a word.** So superblock, journal and database carry the
//!   [identity](crate::format::identity) of the store and the epoch.
//!   An opening that took records from the journal opens sled again and reads them back
//!   ([`SledFolder::read_back`](sled_folder::SledFolder::read_back)).
//! - **It reuses parts of its log without knowing what is synced.** So it is synced before more than
//!   [96 KiB](batch::BYTES_BETWEEN_SYNCS) were written to it. A removal counts for what it makes sled rewrite.
//! - **It moves pages of more than 128 KiB to files that it never syncs.** A page has up to 16 values.
//!   So values stay below 6,000 bytes, and larger records are split.
//! - **A small value costs as much as a large one**, so runs of the same 16 ms share a value ([`placement`]).
//! - **It passes over damage in the middle of its log and shows older pages.** So the tree keeps [sums](crate::tree::sums) of
//!   its values, and [checks](crate::check) compare them.
//! - **It panics on damage.** Every call is [guarded](crate::tree::scan::guarded).

pub(crate) mod announcements;
pub(crate) mod batch;
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
