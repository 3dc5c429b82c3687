//! Group commit: concurrent requests share statements, round trips and syncs.
//!
//! A request that finds no group under way goes out at once, alone. Those that come meanwhile go out together with the
//! next statement, so groups grow with the load and no timer delays anybody.

use std::collections::{HashSet, VecDeque};
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::failure::Failure;

/// So many waiting requests make it worthwhile to begin another group beside one that is under way. Fewer do better in
/// one group: two commits that notify wait for each other, and a group costs as much as some ten requests in it.
const CROWD: usize = 64;

/// A request that may share a statement with others.
pub(crate) trait Grouped: Clone + Send + Sync + 'static {
    /// Key that two requests of one group must not have in common.
    type Key: Hash + Eq;

    /// Returns the key that only one request of a group may have.
    fn key(&self) -> Option<Self::Key>;

    /// About how many bytes it sends.
    fn bytes(&self) -> usize;
}

/// Upper bounds of a group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Upper bound on groups under way at once. A further one begins when [`CROWD`] requests wait.
    pub(crate) executors: usize,
    /// Requests in one group.
    pub(crate) requests: usize,
    /// Bytes in one group; a single request may have more.
    pub(crate) bytes: usize,
}

type Execute<I, A> = Box<dyn Fn(Arc<[I]>) -> BoxFuture<'static, Result<Vec<A>, Failure>> + Send + Sync>;

pub(crate) struct Group<I, A> {
    bounds: Bounds,
    execute: Execute<I, A>,
    queue: Mutex<Queue<I, A>>,
    /// Signalled when no executor is at work.
    idle: Notify,
}

struct Queue<I, A> {
    waiting: VecDeque<Waiting<I, A>>,
    /// Executors at work: `executing <= bounds.executors`, and one is at least when something waits.
    executing: usize,
}

struct Waiting<I, A> {
    item: I,
    answer: oneshot::Sender<Result<A, Failure>>,
}

impl<I: Grouped, A: Send + 'static> Group<I, A> {
    pub(crate) fn new(
        bounds: Bounds,
        execute: impl Fn(Arc<[I]>) -> BoxFuture<'static, Result<Vec<A>, Failure>> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let queue = Mutex::new(Queue { waiting: VecDeque::new(), executing: 0 });
        Arc::new(Self { bounds, execute: Box::new(execute), queue, idle: Notify::new() })
    }

    /// Executes a request within a group. When dropped, the request is executed all the same.
    pub(crate) async fn submit(self: &Arc<Self>, item: I) -> Result<A, Failure> {
        let (answer, answered) = oneshot::channel();
        self.push([Waiting { item, answer }]);
        Self::answer(answered).await
    }

    /// Executes several requests, and returns their answers in order or the first error.
    pub(crate) async fn submit_all(self: &Arc<Self>, items: Vec<I>) -> Result<Vec<A>, Failure> {
        let mut answers = Vec::with_capacity(items.len());
        let mut waiting = Vec::with_capacity(items.len());
        for item in items {
            let (answer, answered) = oneshot::channel();
            waiting.push(Waiting { item, answer });
            answers.push(answered);
        }
        self.push(waiting);
        let mut done = Vec::with_capacity(answers.len());
        for answered in answers {
            done.push(Self::answer(answered).await?);
        }
        Ok(done)
    }

    /// Waits until no request waits and none is under way.
    pub(crate) async fn drained(&self) {
        loop {
            let idle = self.idle.notified();
            tokio::pin!(idle);
            // Registered before the look, so that no change falls between the two.
            idle.as_mut().enable();
            if self.queue.lock().executing == 0 {
                return;
            }
            idle.await;
        }
    }

    async fn answer(answered: oneshot::Receiver<Result<A, Failure>>) -> Result<A, Failure> {
        let gone = || Err(Failure::Connection("the statement was given up".to_owned()));
        answered.await.unwrap_or_else(|_| gone())
    }

    fn push(self: &Arc<Self>, waiting: impl IntoIterator<Item = Waiting<I, A>>) {
        let starts = {
            let mut queue = self.queue.lock();
            queue.waiting.extend(waiting);
            let wanted = if queue.executing == 0 { 1 } else { CROWD };
            let starts = queue.executing < self.bounds.executors && queue.waiting.len() >= wanted;
            queue.executing += usize::from(starts);
            starts
        };
        if starts {
            tokio::spawn(self.clone().work());
        }
    }

    async fn work(self: Arc<Self>) {
        while let Some(group) = self.next() {
            let (items, answers): (Vec<I>, Vec<_>) =
                group.into_iter().map(|waiting| (waiting.item, waiting.answer)).unzip();
            let items: Arc<[I]> = items.into();
            match self.execute(items.clone()).await {
                Ok(done) => {
                    for (answer, done) in answers.into_iter().zip(done) {
                        // This fails where the caller has gone, who then needs no answer.
                        let _ = answer.send(Ok(done));
                    }
                }
                // One of them may be what the database refuses, and the others are none the worse for it.
                Err(Failure::Database { .. }) if items.len() > 1 => {
                    for (item, answer) in items.iter().zip(answers) {
                        let alone = self.execute([item.clone()].into()).await;
                        let none = || Failure::Corrupt("there was no answer".to_owned());
                        let _ = answer.send(alone.and_then(|mut done| done.pop().ok_or_else(none)));
                    }
                }
                Err(failure) => {
                    for answer in answers {
                        let _ = answer.send(Err(failure.clone()));
                    }
                }
            }
            // Those who were answered get the chance to join the next group.
            tokio::task::yield_now().await;
        }
    }

    async fn execute(&self, items: Arc<[I]>) -> Result<Vec<A>, Failure> {
        let panicked = |_| Err(Failure::Connection("the statement panicked".to_owned()));
        AssertUnwindSafe((self.execute)(items)).catch_unwind().await.unwrap_or_else(panicked)
    }

    /// The next group. Without one, the executor is counted as idle.
    fn next(&self) -> Option<Vec<Waiting<I, A>>> {
        let mut queue = self.queue.lock();
        let (mut group, mut left, mut keys, mut bytes) = (Vec::new(), VecDeque::new(), HashSet::new(), 0);
        while group.len() < self.bounds.requests {
            let Some(waiting) = queue.waiting.pop_front() else { break };
            let size = waiting.item.bytes();
            if !group.is_empty() && bytes + size > self.bounds.bytes {
                queue.waiting.push_front(waiting);
                break;
            }
            if waiting.item.key().is_none_or(|key| keys.insert(key)) {
                bytes += size;
                group.push(waiting);
            } else {
                left.push_back(waiting);
            }
        }
        while let Some(waiting) = left.pop_back() {
            queue.waiting.push_front(waiting);
        }
        if group.is_empty() {
            queue.executing -= 1;
            if queue.executing == 0 {
                self.idle.notify_waiters();
            }
            return None;
        }
        Some(group)
    }
}
