//! Waits for the end of runs: one reader of events serves all waiters.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, watch};

use crate::events::Change;
use crate::id::RunId;
use crate::run::Run;
use crate::store::{Store, StoreError};

pub(super) struct Waiters {
    store: Arc<dyn Store>,
    waiting: Mutex<Waiting>,
    /// Bounds the concurrent reads of runs, since all waiters may read at the same moment, and runs can be
    /// large.
    reads: Semaphore,
    /// Signalled when the last ticket is dropped, so that the reader releases the store.
    deserted: Notify,
}

/// Upper bound on concurrent reads of runs: few enough to leave most of a store's capacity to other reads.
const READS: usize = 4;

#[derive(Default)]
struct Waiting {
    /// Tells the waiters of a run to read it again.
    runs: HashMap<RunId, watch::Sender<()>>,
    reading: bool,
}

impl Waiters {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, waiting: Mutex::default(), reads: Semaphore::new(READS), deserted: Notify::new() }
    }

    pub(super) async fn wait(
        self: &Arc<Self>,
        id: RunId,
        patience: Duration,
    ) -> Result<Option<Arc<Run>>, StoreError> {
        let mut ticket = Ticket::new(self, id);
        let ended = async {
            loop {
                let run = self.look(id).await?;
                if run.as_ref().is_none_or(|run| run.state().is_ended()) {
                    return Ok(run);
                }
                // No waiter keeps a run in memory while it waits.
                drop(run);
                // The sender stays in the map for as long as this ticket exists.
                let _ = ticket.changed.changed().await;
                self.ensure_reading();
            }
        };
        match tokio::time::timeout(patience, ended).await {
            Ok(outcome) => outcome,
            Err(_) => self.look(id).await,
        }
    }

    async fn look(&self, id: RunId) -> Result<Option<Arc<Run>>, StoreError> {
        let _permit = self.reads.acquire().await;
        self.store.get_run(id).await
    }

    fn ensure_reading(self: &Arc<Self>) {
        let mut waiting = self.waiting.lock();
        if !waiting.reading {
            waiting.reading = true;
            tokio::spawn(self.clone().read());
        }
    }

    /// Reads events while a ticket exists. It holds the store no longer than that, even when no event comes.
    async fn read(self: Arc<Self>) {
        let _guard = ReaderGuard(self.clone());
        tokio::select! {
            () = self.pass_on_events() => {}
            () = self.wait_until_deserted() => {}
        }
    }

    async fn wait_until_deserted(&self) {
        while !self.waiting.lock().runs.is_empty() {
            // A ticket that was dropped since the check above has left a permit.
            self.deserted.notified().await;
        }
    }

    async fn pass_on_events(&self) {
        let mut cursor = None;
        loop {
            match self.store.events_since(cursor).await {
                Ok(events) => {
                    let first = cursor.replace(events.cursor).is_none();
                    let waiting = self.waiting.lock();
                    if first || events.reset {
                        waiting.runs.values().for_each(|sender| sender.send_replace(()));
                    }
                    for event in events.items {
                        let ended = matches!(&event.change, Change::State(run) if run.state().is_ended());
                        let sender = event.run.filter(|_| ended).and_then(|run| waiting.runs.get(&run));
                        if let Some(sender) = sender {
                            sender.send_replace(());
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "events cannot be read");
                    cursor = None;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    // A store that has no events for now may still read runs.
                    let waiting = self.waiting.lock();
                    waiting.runs.values().for_each(|sender| sender.send_replace(()));
                }
            }
        }
    }
}

/// Guard of the one reader. It stops when there is no waiter, or vanishes with its runtime.
///
/// Then the remaining waiters read again, and one of them becomes the reader.
struct ReaderGuard(Arc<Waiters>);

impl Drop for ReaderGuard {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting.lock();
        waiting.reading = false;
        waiting.runs.values().for_each(|sender| sender.send_replace(()));
    }
}

/// A waiter for a run. When the last one for a run is dropped, the run is removed from the map.
struct Ticket {
    waiters: Arc<Waiters>,
    id: RunId,
    changed: watch::Receiver<()>,
}

impl Ticket {
    fn new(waiters: &Arc<Waiters>, id: RunId) -> Self {
        let mut waiting = waiters.waiting.lock();
        let changed = waiting.runs.entry(id).or_insert_with(|| watch::Sender::new(())).subscribe();
        drop(waiting);
        waiters.ensure_reading();
        Self { waiters: waiters.clone(), id, changed }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut waiting = self.waiters.waiting.lock();
        if waiting.runs.get(&self.id).is_some_and(|sender| sender.receiver_count() <= 1) {
            waiting.runs.remove(&self.id);
        }
        if waiting.runs.is_empty() {
            self.waiters.deserted.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::id::{RunId, WebhookId};
    use crate::memory::MemoryStore;
    use crate::run::{Caller, RunParameters};
    use crate::store::Enqueue;
    use crate::token::Token;
    use crate::webhook::{Webhook, WebhookSettings};

    #[tokio::test(start_paused = true)]
    async fn nothing_holds_the_store_once_the_last_one_who_waited_is_gone() {
        let (store, now) = (Arc::new(MemoryStore::new()), SystemTime::UNIX_EPOCH);
        let workflow: crate::id::WorkflowKey = "report/a".parse().unwrap();
        let (id, settings) = (WebhookId::generate(now), WebhookSettings::default());
        let webhook = Webhook::new(id, workflow.clone(), settings, &Token::generate(), None, now);
        store.create_webhook(webhook).await.unwrap();
        let (run, parameters) = (RunId::generate(now), RunParameters::default());
        let run = Run::new(run, workflow, id, parameters, 1, Caller::default(), now);
        let id = run.id();
        store.enqueue(Enqueue::new(run)).await.unwrap();

        let waiters = Arc::new(Waiters::new(store.clone()));
        let (first, second) = tokio::join!(
            waiters.wait(id, Duration::from_millis(10)),
            waiters.wait(id, Duration::from_millis(20))
        );
        assert!(!first.unwrap().unwrap().state().is_ended() && !second.unwrap().unwrap().state().is_ended());
        let store = {
            let weak = Arc::downgrade(&store);
            drop((store, waiters));
            weak
        };
        // No event wakes the reader here.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(store.upgrade().is_none(), "the reader still holds it");
    }
}
