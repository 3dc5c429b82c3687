//! Shutdown of the server, as waiting requests learn of it.

use std::sync::Arc;

use tokio::sync::watch;

/// Signal of the server's shutdown. A server puts it into the extensions of every request.
///
/// A call that waits for its run (`Prefer: wait`) is then answered at once. Without a signal, it is answered when the
/// service stops accepting calls.
#[derive(Debug, Clone)]
pub struct ShutdownSignal(watch::Receiver<bool>);

/// Source of [`ShutdownSignal`]s. Dropping it sends no signal.
#[derive(Debug, Clone)]
pub struct ShutdownSource(Arc<watch::Sender<bool>>);

impl Default for ShutdownSource {
    fn default() -> Self {
        Self::new()
    }
}

impl ShutdownSource {
    /// Creates a source that has sent no signal.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Returns a signal of this source.
    #[must_use]
    pub fn signal(&self) -> ShutdownSignal {
        ShutdownSignal(self.0.subscribe())
    }

    /// Sends all signals. They stay set.
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
