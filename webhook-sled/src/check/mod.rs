//! Checks of everything in the database: slowly in the background, or at once.

pub(crate) mod scrub;
pub(crate) mod verify;
pub(crate) mod walk;
