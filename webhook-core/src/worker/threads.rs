//! Threads for attempts: an executor may block the thread it is polled on, and only that one.
//!
//! A thread that is awake works through what is queued. Threads are woken only when the queue stands still for two
//! milliseconds: because nobody is awake, or because the executors before it take their time or block. So many
//! short attempts share one change of threads, and long ones each get a thread of their own.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};

use crate::service::lock;

/// How long the queue may stand still before more threads are woken.
const PATIENCE: Duration = Duration::from_millis(2);
/// How long an idle thread stays.
const IDLE: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

/// How a future on such a thread ended: with its output, or with the payload of its panic.
pub(super) type Joined<T> = Result<T, Box<dyn Any + Send>>;

#[derive(Default)]
pub(super) struct Threads {
    state: Mutex<State>,
    woken: Condvar,
    queued: Notify,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// How many jobs were ever begun: the sign that the queue moves.
    begun: u64,
    /// Threads that wait for a job.
    idle: usize,
    /// How many idle threads may wake up.
    waking: usize,
    /// Threads that are not idle.
    active: usize,
    /// Threads that were started or told to wake up and have not looked for a job yet.
    coming: usize,
    /// Whether the system refused a thread, which is said once.
    refused: bool,
    closed: bool,
}

impl Threads {
    /// Polls a future to its end on one of the threads, where it may block and panic.
    pub(super) fn run<F>(self: &Arc<Self>, future: F) -> oneshot::Receiver<Joined<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let runtime = Handle::current();
        let job = Box::new(move || {
            let joined = std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(future)));
            // Who gave the attempt up does not want to know how it ended.
            let _ = sender.send(joined);
        });
        lock(&self.state).jobs.push_back(job);
        self.queued.notify_one();
        receiver
    }

    /// Wakes more threads whenever the queue stands still. Runs until it is dropped.
    pub(super) async fn keep_moving(self: Arc<Self>) {
        loop {
            self.queued.notified().await;
            let mut begun = lock(&self.state).begun;
            let mut burst = 1;
            loop {
                tokio::time::sleep(PATIENCE).await;
                let mut state = lock(&self.state);
                let waiting = state.jobs.len();
                if waiting == 0 {
                    break;
                }
                if state.begun > begun || state.coming > 0 {
                    // It moves, or threads wait for a processor, of which more threads make no more.
                    burst = 1;
                } else {
                    self.wake(&mut state, waiting.min(burst));
                    burst *= 2;
                }
                begun = state.begun;
            }
        }
    }

    /// Lets the threads end once they are done with their present jobs.
    pub(super) fn close(&self) {
        lock(&self.state).closed = true;
        self.woken.notify_all();
    }

    fn wake(self: &Arc<Self>, state: &mut State, count: usize) {
        let sleeping = (state.idle - state.waking).min(count);
        for _ in 0..sleeping {
            state.waking += 1;
            self.woken.notify_one();
        }
        state.active += sleeping;
        state.coming += sleeping;
        for _ in sleeping..count {
            let threads = self.clone();
            let thread = std::thread::Builder::new().name("webhook-attempt".to_owned());
            match thread.spawn(move || threads.work()) {
                Ok(_) => {
                    state.active += 1;
                    state.coming += 1;
                }
                Err(error) => {
                    // What is queued waits for the threads there are.
                    if !std::mem::replace(&mut state.refused, true) {
                        tracing::error!(%error, "a thread for an attempt cannot be started");
                    }
                    return;
                }
            }
        }
    }

    /// Works through the queue, then waits for more for a while.
    fn work(self: Arc<Self>) {
        let mut state = lock(&self.state);
        state.coming -= 1;
        loop {
            if let Some(job) = state.jobs.pop_front() {
                state.begun += 1;
                drop(state);
                job();
                state = lock(&self.state);
                continue;
            }
            state.active -= 1;
            if state.closed {
                return;
            }
            state.idle += 1;
            let waited =
                self.woken.wait_timeout_while(state, IDLE, |state| state.waking == 0 && !state.closed);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.idle -= 1;
            if state.waking > 0 {
                // Whoever woke this thread has counted it as active already.
                state.waking -= 1;
                state.coming -= 1;
            } else if state.closed || state.jobs.is_empty() {
                return;
            } else {
                state.active += 1;
            }
        }
    }
}
