//! A journaled tree: changes are durable in the journal first, and are taken to sled later, many at once.

pub(crate) mod batch;
pub(crate) mod checkpointer;
pub(crate) mod disk;
pub(crate) mod flusher;
pub(crate) mod folder;
pub(crate) mod group;
pub(crate) mod journal;
pub(crate) mod log_joining;
pub(crate) mod open_files;
pub(crate) mod regular;
pub(crate) mod shared;
pub(crate) mod superblock;
pub(crate) mod watch;
