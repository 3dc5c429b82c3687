//! A channel to a supervised task.

use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// A channel whose receiver outlives a panic of the receiving task.
pub(super) struct Inbox<T> {
    sender: UnboundedSender<T>,
    pub(super) receiver: Mutex<UnboundedReceiver<T>>,
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        let (sender, receiver) = unbounded_channel();
        Self { sender, receiver: Mutex::new(receiver) }
    }
}

impl<T> Inbox<T> {
    pub(super) fn push(&self, item: T) {
        // The receiver lives as long as the sender, so sending cannot fail.
        let _ = self.sender.send(item);
    }
}
