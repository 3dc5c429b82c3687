//! Threads on which executors are polled, so that one that blocks its thread delays no other.
//!
//! Executors that wait share threads. A thread polls one ready executor after another, and each poll may
//! block.
//! There may be as many threads as slots, so each executor gets a thread even if all others block theirs.
//!
//! A thread that takes work while more is left wakes the next thread before it polls. So many short polls
//! share one thread, and long ones spread over all.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_task::Runnable;
use parking_lot::{Condvar, Mutex};

/// Time after which an idle thread ends.
const IDLE: Duration = Duration::from_secs(10);

/// See the [module](self).
pub(in crate::service::work) struct ExecutorThreads {
    state: Mutex<State>,
    woken: Condvar,
}

#[derive(Default)]
struct State {
    runnable: VecDeque<Runnable>,
    /// Upper bound on threads: one for each slot, and one for each thread that is blocked by a given-up
    /// executor.
    most: usize,
    /// Number of threads. It exceeds `most` only after a blocked thread has returned, until one of them finds
    /// no work.
    threads: usize,
    /// Number of threads that wait for work: `idle <= threads`.
    idle: usize,
    /// True if a thread was woken or started and has not looked for work yet.
    ///
    /// Meanwhile no other is woken: it wakes the next one itself if more work is left. So a burst of short
    /// polls wakes one thread, not all of them. Work is never left alone: while `runnable` is not empty, this
    /// is true, or no further thread is allowed, or the system refuses one, which `retry` asks for again.
    starting: bool,
    /// True if the system refused to start the last thread, so that this is logged once.
    refused: bool,
    closed: bool,
}

impl ExecutorThreads {
    /// Allows `most` threads. Each is started when it is needed.
    pub(super) fn new(most: usize) -> Arc<Self> {
        let state = State { most, ..State::default() };
        Arc::new(Self { state: Mutex::new(state), woken: Condvar::new() })
    }

    /// Polls a future on these threads until it is ready.
    pub(super) fn spawn(self: &Arc<Self>, future: impl Future<Output = ()> + Send + 'static) {
        let threads = self.clone();
        let (runnable, task) = async_task::spawn(future, move |runnable| threads.push(runnable));
        task.detach();
        runnable.schedule();
    }

    /// Allows one more thread when one is blocked, and one less when that one has returned.
    pub(super) fn replace(self: &Arc<Self>, is_blocked: bool) {
        let mut state = self.state.lock();
        state.most = if is_blocked { state.most + 1 } else { state.most - 1 };
        self.rouse(&mut state);
    }

    /// Tries again to start a thread that the system refused.
    pub(super) fn retry(self: &Arc<Self>) {
        self.rouse(&mut self.state.lock());
    }

    /// Lets the threads end after their current polls, and drops the waiting work.
    pub(in crate::service::work) fn close(&self) {
        let left = {
            let mut state = self.state.lock();
            state.closed = true;
            std::mem::take(&mut state.runnable)
        };
        drop(left);
        self.woken.notify_all();
    }

    fn push(self: &Arc<Self>, runnable: Runnable) {
        let mut state = self.state.lock();
        if state.closed {
            // Dropped without the lock, since that drops its future.
            drop(state);
            return drop(runnable);
        }
        state.runnable.push_back(runnable);
        self.rouse(&mut state);
    }

    /// Wakes or starts a thread if there is work and none is on its way.
    fn rouse(self: &Arc<Self>, state: &mut State) {
        if state.starting || state.runnable.is_empty() {
            return;
        }
        debug_assert!(state.idle <= state.threads, "an idle thread is a thread");
        if state.idle > 0 {
            state.starting = true;
            self.woken.notify_one();
        } else if state.threads < state.most {
            let threads = self.clone();
            let thread = std::thread::Builder::new().name("webhook-executor".to_owned());
            match thread.spawn(move || threads.work()) {
                // The new thread waits for the lock, so it sees itself counted.
                Ok(_) => {
                    state.threads += 1;
                    state.starting = true;
                    state.refused = false;
                }
                Err(error) => {
                    if !std::mem::replace(&mut state.refused, true) {
                        tracing::error!(%error, "a thread for executors cannot be started; it is tried again");
                    }
                }
            }
        }
    }

    /// Polls ready executors. Ends after an idle time.
    fn work(self: Arc<Self>) {
        let mut state = self.state.lock();
        state.starting = false;
        loop {
            if let Some(runnable) = state.runnable.pop_front() {
                self.rouse(&mut state);
                drop(state);
                // An attempt catches the panics of its executor.
                runnable.run();
                state = self.state.lock();
                continue;
            }
            if state.closed || state.threads > state.most {
                break;
            }
            state.idle += 1;
            let has_timed_out = self.woken.wait_for(&mut state, IDLE).timed_out();
            state.idle -= 1;
            // Also after a time-out: the wake-up of that very moment may have been meant for this thread.
            state.starting = false;
            if has_timed_out && state.runnable.is_empty() {
                break;
            }
        }
        state.threads -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn threads(threads: &ExecutorThreads) -> usize {
        threads.state.lock().threads
    }

    #[test]
    fn as_many_block_at_once_as_there_may_be_threads() {
        let pool = ExecutorThreads::new(8);
        let (begun, all_begun) = mpsc::channel();
        let releases: Vec<_> = (0..8)
            .map(|_| {
                let (begun, (release, released)) = (begun.clone(), mpsc::channel::<()>());
                pool.spawn(async move {
                    begun.send(()).unwrap();
                    released.recv().unwrap_err();
                });
                release
            })
            .collect();
        for _ in 0..8 {
            all_begun.recv_timeout(PATIENCE).expect("each gets a thread");
        }
        drop(releases);
        let (done, is_done) = mpsc::channel();
        pool.spawn(async move { done.send(()).unwrap() });
        is_done.recv_timeout(PATIENCE).expect("the threads go on");
        assert!(threads(&pool) <= 8);
        pool.close();
    }

    #[test]
    fn those_that_wait_share_a_thread() {
        let pool = ExecutorThreads::new(64);
        let (done, all_done) = mpsc::channel();
        let gate = Arc::new(tokio::sync::Semaphore::new(0));
        for _ in 0..64 {
            let (done, gate) = (done.clone(), gate.clone());
            pool.spawn(async move {
                let _permit = gate.acquire().await;
                done.send(()).unwrap();
            });
        }
        // One after the other, so that each thread is idle again before the next poll.
        for _ in 0..64 {
            gate.add_permits(1);
            all_done.recv_timeout(PATIENCE).expect("all end");
        }
        assert!(threads(&pool) < 64, "{} threads", threads(&pool));
        pool.close();
    }

    #[test]
    fn what_waits_for_a_thread_is_dropped_when_they_are_closed() {
        let pool = ExecutorThreads::new(1);
        let (begun, has_begun) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        pool.spawn(async move {
            begun.send(()).unwrap();
            released.recv().unwrap_err();
        });
        has_begun.recv_timeout(PATIENCE).unwrap();
        let (held, dropped) = mpsc::channel::<()>();
        pool.spawn(async move { held.send(()).unwrap() });
        pool.close();
        assert_eq!(dropped.recv_timeout(PATIENCE), Err(mpsc::RecvTimeoutError::Disconnected));
        drop(release);
    }
}
