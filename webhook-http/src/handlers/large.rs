//! Answers that take long to write.

use crate::contract::problem::Problem;
use crate::contract::slug::Slug;
use crate::response::answer::Answer;

/// Size in memory from which a record is written on a thread of its own, in bytes.
const LARGE_BYTES: usize = 64 * 1024;

/// Writes an answer. One that shows many bytes is written on a thread of its own, so other calls are answered meanwhile.
pub(crate) async fn written(bytes: usize, write: impl FnOnce() -> Answer + Send + 'static) -> Answer {
    if bytes < LARGE_BYTES {
        return write();
    }
    let writing = tokio::task::spawn_blocking(write);
    writing.await.unwrap_or_else(|_| Problem::new(Slug::StoreUnavailable).into_response())
}
