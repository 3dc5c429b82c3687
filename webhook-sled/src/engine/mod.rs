//! A journaled tree: changes are durable in the journal first, and are taken to sled later, many at once.

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
