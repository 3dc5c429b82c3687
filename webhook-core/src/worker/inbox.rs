//! What one task hands to another, which takes it in batches.

use parking_lot::Mutex;

use tokio::sync::Notify;

pub(super) struct Inbox<T> {
    items: Mutex<Vec<T>>,
    arrived: Notify,
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        Self { items: Mutex::default(), arrived: Notify::new() }
    }
}

impl<T> Inbox<T> {
    pub(super) fn push(&self, item: T) {
        self.items.lock().push(item);
        self.arrived.notify_one();
    }

    /// Waits until something is there, and takes the oldest items, at most so many. Cancel safe. For one task only.
    pub(super) async fn take(&self, most: usize) -> Vec<T> {
        loop {
            let taken = self.try_take(most);
            if !taken.is_empty() {
                return taken;
            }
            self.arrived.notified().await;
        }
    }

    /// Takes the oldest items that are there, at most so many.
    pub(super) fn try_take(&self, most: usize) -> Vec<T> {
        let mut items = self.items.lock();
        let count = items.len().min(most);
        if count == items.len() { std::mem::take(&mut *items) } else { items.drain(..count).collect() }
    }

    pub(super) fn clear(&self) {
        let dropped = std::mem::take(&mut *self.items.lock());
        drop(dropped);
    }
}
