//! Signal by which a server tells waiting requests that it shuts down.

use std::sync::Arc;

use tokio::sync::watch;

/// Signal that the server shuts down. The server puts it into the extensions of every request.
///
/// A call that waits for its run (`Prefer: wait`) is then answered at once. Without the signal, such a call
/// is answered when the service stops accepting.
#[derive(Debug, Clone)]
pub struct ShutdownSignal(watch::Receiver<bool>);

/// Sender of [`ShutdownSignal`]s. Dropping it sends nothing.
#[derive(Debug, Clone)]
pub struct ShutdownSource(Arc<watch::Sender<bool>>);

impl Default for ShutdownSource {
    fn default() -> Self {
        Self::new()
    }
}

impl ShutdownSource {
    /// Creates a source that has not been signalled.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Returns a signal of this source.
    #[must_use]
    pub fn signal(&self) -> ShutdownSignal {
        ShutdownSignal(self.0.subscribe())
    }

    /// Signals the shutdown, permanently.
    pub fn shut_down(&self) {
        self.0.send_replace(true);
    }
}

impl ShutdownSignal {
    /// Returns whether the server shuts down.
    #[must_use]
    pub fn is_shutting_down(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until the server shuts down. Cancel safe.
    pub async fn shutting_down(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|shutting_down| *shutting_down).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
