//! A server's room for connections, as handlers see it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use webhook_core::id::WebhookId;

use crate::contract::problem::Problem;
use crate::contract::slug::Slug;

/// Time that a call waits for others to leave the store before it is refused.
const PATIENCE: Duration = Duration::from_millis(250);

/// Source of the [`Room`]s that a server puts into the extensions of its requests.
///
/// With it, the contract prevents a few callers from taking all connections:
///
/// - Calls that wait for their run (`Prefer: wait`) hold at most half of the connections, and those of one webhook at
///   most a quarter. Further ones are answered 202 at once, as are all that wait while the server is crowded.
/// - Calls hold at most three quarters of the connections while the store works on them. Further ones are answered
///   503 after 250 ms, so a slow store leaves room for health checks and the management paths.
/// - While the server is crowded, bodies that are not needed are not drained.
///
/// Without a room, none of this applies. Its clones share all state.
#[derive(Debug, Clone)]
pub struct RoomSource(Arc<Shared>);

/// Room of one connection in its server: see [`RoomSource`]. Its clones belong to the same connection.
#[derive(Debug, Clone)]
pub struct Room {
    shared: Arc<Shared>,
    owner: Arc<Mutex<Option<WebhookId>>>,
}

#[derive(Debug)]
struct Shared {
    crowded: watch::Sender<bool>,
    /// One permit for each call that the store may process at once.
    working: Arc<Semaphore>,
    waiting: Mutex<Waiters>,
    connections: usize,
}

/// Numbers of calls that wait for their runs: of all webhooks, and of each that has any.
#[derive(Debug, Default)]
struct Waiters {
    all: usize,
    of: HashMap<WebhookId, usize>,
}

impl RoomSource {
    /// Creates the source of a server with at most this many connections.
    #[must_use]
    pub fn new(connections: usize) -> Self {
        let working = (connections - connections / 4).clamp(1, Semaphore::MAX_PERMITS);
        Self(Arc::new(Shared {
            crowded: watch::Sender::new(false),
            working: Arc::new(Semaphore::new(working)),
            waiting: Mutex::default(),
            connections,
        }))
    }

    /// Creates the room of a new connection.
    #[must_use]
    pub fn room(&self) -> Room {
        Room { shared: self.0.clone(), owner: Arc::default() }
    }

    /// Tells all rooms whether connections run short.
    pub fn set_crowded(&self, crowded: bool) {
        self.0.crowded.send_if_modified(|present| std::mem::replace(present, crowded) != crowded);
    }

    /// Returns whether connections run short.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        *self.0.crowded.borrow()
    }
}

impl Room {
    /// Returns whether connections run short.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        *self.shared.crowded.borrow()
    }

    /// Waits until connections run short. Cancel safe.
    pub async fn crowded(&self) {
        let mut receiver = self.shared.crowded.subscribe();
        // The sender lives as long as this room.
        let _ = receiver.wait_for(|crowded| *crowded).await;
    }

    /// Returns the webhook whose valid token the latest call of this connection presented.
    #[must_use]
    pub fn owner(&self) -> Option<WebhookId> {
        *self.owner.lock()
    }

    pub(crate) fn belongs_to(&self, webhook: WebhookId) {
        *self.owner.lock() = Some(webhook);
    }

    /// Returns a permit to wait for a run of this webhook, or `None` when too many calls wait already.
    pub(crate) fn wait(&self, webhook: WebhookId) -> Option<Waiting> {
        if self.is_crowded() {
            return None;
        }
        let most = self.shared.connections;
        let mut waiters = self.shared.waiting.lock();
        let own = waiters.of.get(&webhook).copied().unwrap_or_default();
        if waiters.all >= (most / 2).max(1) || own >= (most / 4).max(1) {
            return None;
        }
        waiters.all += 1;
        waiters.of.insert(webhook, own + 1);
        Some(Waiting { shared: self.shared.clone(), webhook })
    }

    /// Waits for a permit to let the store work on a call.
    pub(crate) async fn work(&self) -> Result<Working, Problem> {
        let permit = tokio::time::timeout(PATIENCE, self.shared.working.clone().acquire_owned()).await;
        // The semaphore is never closed.
        permit.ok().and_then(Result::ok).map(Working).ok_or_else(|| {
            Problem::new(Slug::StoreUnavailable)
                .with_detail("too many calls are under way; try again later")
                .retry_after(Duration::from_secs(1))
        })
    }
}

/// Permit of a call that waits for its run.
pub(crate) struct Waiting {
    shared: Arc<Shared>,
    webhook: WebhookId,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut waiters = self.shared.waiting.lock();
        waiters.all -= 1;
        if let Some(own) = waiters.of.get_mut(&self.webhook) {
            *own -= 1;
            if *own == 0 {
                waiters.of.remove(&self.webhook);
            }
        }
    }
}

/// Permit of a call that the store works on.
pub(crate) struct Working(#[allow(dead_code, reason = "held until it is dropped")] OwnedSemaphorePermit);

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn webhook() -> WebhookId {
        WebhookId::generate(SystemTime::now())
    }

    #[test]
    fn one_webhook_waits_on_a_quarter_and_all_on_half_of_the_connections() {
        let source = RoomSource::new(16);
        let room = source.room();
        let (first, second, third) = (webhook(), webhook(), webhook());
        let mut waiting: Vec<_> = (0..4).map(|_| room.wait(first).unwrap()).collect();
        assert!(room.wait(first).is_none());
        waiting.extend((0..4).map(|_| source.room().wait(second).unwrap()));
        assert!(room.wait(third).is_none());
        waiting.clear();
        assert!(room.wait(third).is_some());
        assert!(source.0.waiting.lock().of.is_empty());
    }

    #[tokio::test]
    async fn nobody_begins_to_wait_while_it_is_crowded() {
        let source = RoomSource::new(16);
        let room = source.room();
        source.set_crowded(true);
        room.crowded().await;
        assert!(room.wait(webhook()).is_none());
        source.set_crowded(false);
        assert!(room.wait(webhook()).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_the_store_is_slow_with_leave_a_quarter_of_the_connections_to_others() {
        let room = RoomSource::new(8).room();
        let mut working = Vec::new();
        for _ in 0..6 {
            working.push(room.work().await.ok().unwrap());
        }
        let problem = room.work().await.err().unwrap();
        assert_eq!(problem.slug(), Slug::StoreUnavailable);
        assert_eq!(problem.into_response().headers()["retry-after"], "1");
        working.pop();
        assert!(room.work().await.is_ok());
    }
}
