//! What a connection is doing, and until when it may go on so.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::ServerOptions;

/// For how long a connection may do nothing when others wait, or at shutdown.
const BRIEFLY: Duration = Duration::from_secs(1);

/// What one connection is doing. Its clones share everything; only the connection's own task uses it.
#[derive(Debug, Clone)]
pub(super) struct Activity(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    phase: Phase,
    /// Since when it is in this phase.
    since: Instant,
    /// Requests that are being answered.
    busy: usize,
    /// Since when the client takes no byte of an answer.
    stalled: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing has come yet.
    Opened,
    /// A request's head is coming.
    Head,
    /// A request is being answered.
    Answering,
    /// The last request was answered.
    Idle,
}

impl Activity {
    pub(super) fn new() -> Self {
        let (phase, since) = (Phase::Opened, Instant::now());
        Self(Arc::new(Mutex::new(State { phase, since, busy: 0, stalled: None })))
    }

    /// Notes that a request's head has come; it is being answered until the guard is dropped.
    pub(super) fn begin(&self) -> Answering {
        let mut state = self.state();
        state.busy += 1;
        state.enter(Phase::Answering);
        Answering(self.clone())
    }

    /// Until when the connection may go on as it does; `None` while it may take the time it needs.
    pub(super) fn deadline(&self, options: &ServerOptions, hurried: Option<Instant>) -> Option<Instant> {
        let state = self.state();
        let allowed = match state.phase {
            Phase::Opened | Phase::Head => Some(options.header_deadline),
            Phase::Idle => Some(options.idle_deadline),
            Phase::Answering => None,
        };
        let own = allowed.map(|allowed| state.since + allowed);
        let hurried = hurried.filter(|_| allowed.is_some()).map(|start| start.max(state.since) + BRIEFLY);
        let stalled = state.stalled.map(|since| since + options.write_deadline);
        [own, hurried, stalled].into_iter().flatten().min()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.since = Instant::now();
    }

    fn bytes_came(&mut self) {
        if matches!(self.phase, Phase::Opened | Phase::Idle) {
            self.enter(Phase::Head);
        }
    }

    fn wrote(&mut self, made_progress: bool) {
        if made_progress {
            self.stalled = None;
        } else if self.stalled.is_none() {
            self.stalled = Some(Instant::now());
        }
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Answering(Activity);

impl Drop for Answering {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.busy = state.busy.saturating_sub(1);
        if state.busy == 0 {
            state.enter(Phase::Idle);
        }
    }
}

/// A stream whose reading and writing is noted.
pub(super) struct Watched<S> {
    stream: S,
    activity: Activity,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, activity: Activity) -> Self {
        Self { stream, activity }
    }

    fn note<T>(&self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.activity.state().wrote(written.is_ready());
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.activity.state().bytes_came();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(activity: &Activity, hurried: Option<Instant>) -> Option<u64> {
        let deadline = activity.deadline(&ServerOptions::default(), hurried);
        deadline.map(|deadline| (deadline - Instant::now()).as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn each_phase_has_its_own_deadline() {
        let activity = Activity::new();
        assert_eq!(left(&activity, None), Some(10));
        tokio::time::sleep(Duration::from_secs(4)).await;
        activity.state().bytes_came();
        tokio::time::sleep(Duration::from_secs(3)).await;
        activity.state().bytes_came();
        assert_eq!(left(&activity, None), Some(7));
        let answering = activity.begin();
        assert_eq!(left(&activity, Some(Instant::now())), None);
        drop(answering);
        assert_eq!(left(&activity, None), Some(60));
        assert_eq!(left(&activity, Some(Instant::now())), Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_no_byte_is_given_up() {
        let activity = Activity::new();
        let _answering = activity.begin();
        activity.state().wrote(false);
        tokio::time::sleep(Duration::from_secs(20)).await;
        activity.state().wrote(false);
        assert_eq!(left(&activity, None), Some(40));
        activity.state().wrote(true);
        assert_eq!(left(&activity, None), None);
    }
}
