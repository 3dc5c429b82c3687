//! The means of every measurement.

use std::path::PathBuf;
use std::time::Duration;

/// The means of every measurement.
pub(crate) struct Bench {
    /// Runs the client on one thread.
    pub(crate) runtime: tokio::runtime::Runtime,
    /// Length of a turn.
    pub(crate) time: Duration,
    /// Path of the example server, built for release.
    pub(crate) example: PathBuf,
}
