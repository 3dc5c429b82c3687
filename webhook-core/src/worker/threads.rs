//! Threads for attempts: an executor may block the thread it is polled on, and only that one.
//!
//! A thread that is awake works through what is queued. A crowd of jobs wakes one at once. Otherwise threads are woken
//! only when the queue stands still for two milliseconds: because nobody is awake, or because the executors before it
//! take their time or block. So many short attempts share one change of threads, and long ones each get a thread of
//! their own. What lasts longer than that is [watched](Job::watch); what is over before costs nothing but its own work.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::service::lock;

/// How long the queue may stand still before more threads are woken, and how long a job goes unwatched.
const PATIENCE: Duration = Duration::from_millis(2);
/// How many queued jobs wake a thread at once: enough to be worth it.
const CROWD: usize = 32;
/// How long a job may wait for a thread, when the system has none to give, before it is watched.
const QUEUED: Duration = Duration::from_millis(100);
/// How long an idle thread stays.
const IDLE: Duration = Duration::from_secs(10);

/// Work for a thread.
pub(super) trait Job: Send + Sync + 'static {
    /// Does the work on the present thread, for as long as it takes. It does not panic.
    fn run(self: Arc<Self>);

    /// Watches over work that takes its time, until it is over or given up. Called again for the same work, and for
    /// work that is over already, it does nothing.
    fn watch(self: Arc<Self>) -> impl Future<Output = ()> + Send;
}

pub(super) struct Threads<J> {
    state: Mutex<State<J>>,
    woken: Condvar,
    queued: Notify,
}

struct State<J> {
    jobs: VecDeque<(Instant, Arc<J>)>,
    /// Jobs under way that nobody watches, with the tick in which they were begun.
    unwatched: Vec<(u64, Arc<J>)>,
    ticks: u64,
    /// How many jobs were ever begun: the sign that the queue moves.
    begun: u64,
    /// Threads that wait for a job.
    idle: usize,
    /// How many idle threads may wake up.
    waking: usize,
    /// Threads that were started or told to wake up and have not looked for a job yet.
    coming: usize,
    /// Whether the system refused a thread, which is said once.
    refused: bool,
    closed: bool,
}

impl<J: Job> Threads<J> {
    pub(super) fn new() -> Arc<Self> {
        let state = State {
            jobs: VecDeque::new(),
            unwatched: Vec::new(),
            ticks: 0,
            begun: 0,
            idle: 0,
            waking: 0,
            coming: 0,
            refused: false,
            closed: false,
        };
        Arc::new(Self { state: Mutex::new(state), woken: Condvar::new(), queued: Notify::new() })
    }

    /// Does these jobs, each on one of the threads, where it may block.
    pub(super) fn run(self: &Arc<Self>, jobs: impl IntoIterator<Item = Arc<J>>) {
        let now = Instant::now();
        let mut state = lock(&self.state);
        state.jobs.extend(jobs.into_iter().map(|job| (now, job)));
        if state.jobs.len() >= CROWD && state.nobody_moves() {
            self.wake(&mut state, 1);
        }
        drop(state);
        self.queued.notify_one();
    }

    /// Wakes more threads whenever the queue stands still, and watches the jobs that take their time. Runs until it
    /// is dropped.
    pub(super) async fn keep_moving(self: Arc<Self>) {
        let mut watching = JoinSet::new();
        loop {
            self.queued.notified().await;
            let mut begun = lock(&self.state).begun;
            let mut burst = 1;
            loop {
                tokio::time::sleep(PATIENCE).await;
                while watching.try_join_next().is_some() {}
                let mut state = lock(&self.state);
                let waiting = state.jobs.len();
                let mut lasting = state.lasting();
                if state.begun > begun || state.coming > 0 {
                    // It moves, or threads wait for a processor, of which more threads make no more.
                    burst = 1;
                } else if waiting > 0 {
                    self.wake(&mut state, waiting.min(burst));
                    lasting.extend(state.stuck());
                    burst *= 2;
                }
                begun = state.begun;
                let is_over = waiting == 0 && state.unwatched.is_empty();
                drop(state);
                lasting.into_iter().for_each(|job| {
                    watching.spawn(job.watch());
                });
                if is_over {
                    break;
                }
            }
        }
    }

    /// Lets the threads end once they are done with their present jobs, and forgets what is queued.
    pub(super) fn close(&self) {
        let queued = {
            let mut state = lock(&self.state);
            state.closed = true;
            std::mem::take(&mut state.jobs)
        };
        drop(queued);
        self.woken.notify_all();
    }

    fn wake(self: &Arc<Self>, state: &mut State<J>, count: usize) {
        let sleeping = (state.idle - state.waking).min(count);
        for _ in 0..sleeping {
            state.waking += 1;
            self.woken.notify_one();
        }
        state.coming += sleeping;
        for _ in sleeping..count {
            let threads = self.clone();
            let thread = std::thread::Builder::new().name("webhook-attempt".to_owned());
            match thread.spawn(move || threads.work()) {
                Ok(_) => state.coming += 1,
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
            if let Some(job) = state.begin() {
                drop(state);
                job.clone().run();
                state = lock(&self.state);
                state.end(&job);
                continue;
            }
            if state.closed {
                return;
            }
            state.idle += 1;
            let waited =
                self.woken.wait_timeout_while(state, IDLE, |state| state.waking == 0 && !state.closed);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.idle -= 1;
            if state.waking > 0 {
                // Whoever woke this thread expects it.
                state.waking -= 1;
                state.coming -= 1;
            } else if state.closed || state.jobs.is_empty() {
                return;
            }
        }
    }
}

impl<J> State<J> {
    fn begin(&mut self) -> Option<Arc<J>> {
        let (_, job) = self.jobs.pop_front()?;
        self.begun += 1;
        self.unwatched.push((self.ticks, job.clone()));
        Some(job)
    }

    fn end(&mut self, job: &Arc<J>) {
        if let Some(index) = self.unwatched.iter().position(|(_, unwatched)| Arc::ptr_eq(unwatched, job)) {
            self.unwatched.swap_remove(index);
        }
    }

    /// Whether no thread is about to take the next job: those that are awake have been busy with one for a while.
    fn nobody_moves(&self) -> bool {
        self.coming == 0 && self.unwatched.is_empty()
    }

    /// Takes the jobs that were under way at the last tick already, and begins the next tick.
    fn lasting(&mut self) -> Vec<Arc<J>> {
        let tick = self.ticks;
        self.ticks += 1;
        self.unwatched.extract_if(.., |(begun, _)| *begun < tick).map(|(_, job)| job).collect()
    }

    /// The jobs that have waited for a thread for too long.
    fn stuck(&self) -> Vec<Arc<J>> {
        let waiting = self.jobs.iter().take_while(|(queued, _)| queued.elapsed() >= QUEUED);
        waiting.map(|(_, job)| job.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Note(std::sync::mpsc::Sender<()>);

    impl Job for Note {
        fn run(self: Arc<Self>) {
            let _ = self.0.send(());
        }

        async fn watch(self: Arc<Self>) {}
    }

    #[test]
    fn a_crowd_is_worked_through_before_the_queue_is_looked_at() {
        let threads = Threads::new();
        let (done, all_done) = std::sync::mpsc::channel();
        let jobs = |count: usize| (0..count).map(|_| Arc::new(Note(done.clone()))).collect::<Vec<_>>();
        threads.run(jobs(CROWD - 1));
        assert_eq!(lock(&threads.state).coming, 0, "these few wait for more");
        threads.run(jobs(1));
        for _ in 0..CROWD {
            all_done.recv_timeout(Duration::from_secs(20)).expect("the crowd is worked through");
        }
        threads.close();
    }
}
