//! How a server tells those who wait in a request that it shuts down.

use std::sync::Arc;

use tokio::sync::watch;

/// Tells that the server shuts down. A server puts it into the extensions of every request; a call that waits for
/// its run (`Prefer: wait`) is then answered at once. Without it, such a call is answered when the service stops
/// accepting.
#[derive(Debug, Clone)]
pub struct ShutdownSignal(watch::Receiver<bool>);

/// Makes [`ShutdownSignal`]s and sets them off. Dropping it sets nothing off.
#[derive(Debug, Clone)]
pub struct ShutdownSource(Arc<watch::Sender<bool>>);

impl Default for ShutdownSource {
    fn default() -> Self {
        Self::new()
    }
}

impl ShutdownSource {
    /// A source that has not been set off.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// A signal of this source.
    #[must_use]
    pub fn signal(&self) -> ShutdownSignal {
        ShutdownSignal(self.0.subscribe())
    }

    /// Sets all signals off, for good.
    pub fn shut_down(&self) {
        self.0.send_replace(true);
    }
}

impl ShutdownSignal {
    /// Whether the server shuts down.
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
