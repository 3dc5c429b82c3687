//! Operations: work for the writer, as closures.

use tokio::sync::oneshot;
use webhook_core::store::StoreError;

use crate::writer::reply::{Decided, Reply, send};
use crate::writer::state::Writer;

/// One operation. It is called once, with the writer or with the reason why nothing is done.
pub(crate) type Operation = Box<dyn FnOnce(Result<&mut Writer, StoreError>) + Send>;

/// The result to come. It fails when the writer ends or panics before it.
pub(crate) type Answer<T> = oneshot::Receiver<Result<T, StoreError>>;

/// Makes an operation that decides at once. Its caller is told when the change is durable enough.
///
/// Instants come from the caller, whose runtime may have a clock of its own.
pub(crate) fn deciding<T: Send + 'static>(
    decide: impl FnOnce(&mut Writer) -> Decided<T> + Send + 'static,
) -> (Operation, Answer<T>) {
    replying(move |writer, reply| {
        let decided = decide(writer);
        writer.tell(reply, decided);
    })
}

/// Makes an operation that replies whenever it is done.
pub(crate) fn replying<T: Send + 'static>(
    work: impl FnOnce(&mut Writer, Reply<T>) + Send + 'static,
) -> (Operation, Answer<T>) {
    let (reply, answer) = oneshot::channel();
    let operation = move |writer: Result<&mut Writer, StoreError>| match writer {
        Ok(writer) => work(writer, reply),
        Err(refusal) => send(reply, Err(refusal)),
    };
    (Box::new(operation), answer)
}
