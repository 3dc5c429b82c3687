//! Results of operations, and when their callers learn them.

use tokio::sync::oneshot;
use webhook_core::store::StoreError;

use crate::engine::group::{Acknowledgement, Level};

/// Where the result of an operation goes.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// The result of an operation.
pub(crate) struct Decision<T> {
    pub(crate) result: T,
    /// The failure that the change must survive first. At [`Level::None`] the caller is told at once.
    pub(crate) level: Level,
}

/// The result of a decision. An error is told at once, and means that nothing was changed.
pub(crate) type Decided<T> = Result<Decision<T>, StoreError>;

impl<T> Decision<T> {
    /// A result that depends on no change that could be lost.
    pub(crate) fn now(result: T) -> Decided<T> {
        Ok(Self { result, level: Level::None })
    }

    /// A result that a crash of the process must not undo.
    pub(crate) fn flushed(result: T) -> Decided<T> {
        Ok(Self { result, level: Level::Flushed })
    }

    /// A result that must be as durable as the store promises.
    pub(crate) fn synced(result: T) -> Decided<T> {
        Ok(Self { result, level: Level::Synced })
    }
}

/// Sends a result. A caller that no longer waits does not miss it.
pub(crate) fn send<T>(reply: Reply<T>, result: Result<T, StoreError>) {
    let _ = reply.send(result);
}

/// Sends a result once its change is durable.
pub(crate) fn acknowledge<T: Send + 'static>(reply: Reply<T>, result: T) -> Acknowledgement {
    Box::new(move |outcome| send(reply, outcome.map(|()| result)))
}
