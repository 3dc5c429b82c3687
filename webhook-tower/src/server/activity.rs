//! State of a connection, and its deadline.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::Instant;
use webhook_core::id::WebhookId;
use webhook_http::Room;

use super::options::ServerOptions;

/// Time for which a connection may bring nothing at shutdown.
const BRIEFLY: Duration = Duration::from_secs(1);
/// Time for a request's head or body in any case, even if others need the connection.
const FIRST: Duration = Duration::from_millis(100);
/// Time without reading a byte after which a client is slow enough to make room for others.
const STALLED: Duration = Duration::from_millis(500);
/// Rate of a body below which its connection makes room for others.
const BODY_BYTES_PER_SECOND: f64 = 16.0 * 1024.0;

/// State of one connection. Its clones share it. The connection's own task writes it, and the accepting task
/// reads it.
#[derive(Debug, Clone)]
pub(super) struct Activity(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    address: IpAddr,
    room: Room,
    /// Signalled when the connection is asked to make room.
    asked: Notify,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// Start of this phase.
    since: Instant,
    /// Number of requests that are being answered.
    busy: usize,
    /// Time since which the client has read no byte of an answer.
    stalled: Option<Instant>,
    body: Option<BodyProgress>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No byte has arrived yet.
    Opened,
    /// A request's head is arriving.
    Head,
    /// A request is being answered.
    Answering,
    /// The answer is complete, but not yet handed over to the system.
    Flushing,
    /// The last request was answered.
    Idle,
}

/// Progress of a request's body.
#[derive(Debug, Clone, Copy)]
struct BodyProgress {
    begun: Instant,
    bytes: u64,
    given_up: bool,
}

/// Holder of a connection: the webhook whose token it brought, or else its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Holder {
    Webhook(WebhookId),
    Address(IpAddr),
}

/// Reaction of a connection that was asked to make room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MakeRoom {
    /// It closes the connection.
    Close,
    /// It answers, without waiting for the rest of the body.
    GiveUpBody,
    /// It continues, since it has begun another request in the meantime.
    GoOn,
}

impl Activity {
    pub(super) fn new(address: IpAddr, room: Room) -> Self {
        let (phase, since) = (Phase::Opened, Instant::now());
        let state = Mutex::new(State { phase, since, busy: 0, stalled: None, body: None });
        Self(Arc::new(Shared { state, address: address.to_canonical(), room, asked: Notify::new() }))
    }

    pub(super) fn room(&self) -> &Room {
        &self.0.room
    }

    pub(super) fn holder(&self) -> Holder {
        self.0.room.owner().map_or(Holder::Address(self.0.address), Holder::Webhook)
    }

    /// Records that a request's head has arrived. The request is being answered until the guard is dropped.
    pub(super) fn begin(&self) -> Answering {
        let mut state = self.state();
        state.busy += 1;
        state.enter(Phase::Answering);
        Answering(self.clone())
    }

    /// Returns whether a request is being answered, or its answer is being sent.
    pub(super) fn is_answering(&self) -> bool {
        matches!(self.state().phase, Phase::Answering | Phase::Flushing)
    }

    pub(super) fn bytes_came(&self) {
        let mut state = self.state();
        if matches!(state.phase, Phase::Opened | Phase::Idle) {
            state.enter(Phase::Head);
        }
    }

    /// Records whether the client has read a part of an answer.
    pub(super) fn wrote(&self, made_progress: bool) {
        let mut state = self.state();
        if made_progress {
            state.stalled = None;
        } else if state.stalled.is_none() {
            state.stalled = Some(Instant::now());
        }
    }

    /// Records that everything written was handed over to the system.
    pub(super) fn flushed(&self) {
        let mut state = self.state();
        if state.phase == Phase::Flushing {
            state.enter(Phase::Idle);
        }
    }

    /// Records that `bytes` further bytes of a body have arrived.
    pub(super) fn body_came(&self, bytes: usize) {
        let mut state = self.state();
        let begun = Instant::now();
        let body = state.body.get_or_insert(BodyProgress { begun, bytes: 0, given_up: false });
        body.bytes += bytes as u64;
    }

    pub(super) fn body_is_given_up(&self) -> bool {
        self.state().body.is_some_and(|body| body.given_up)
    }

    pub(super) fn body_is_over(&self) {
        self.state().body = None;
    }

    /// Returns the deadline of the current phase; `None` if it has none. `stopping` is the start of the
    /// shutdown.
    pub(super) fn deadline(&self, options: &ServerOptions, stopping: Option<Instant>) -> Option<Instant> {
        let state = self.state();
        let allowed = match state.phase {
            Phase::Opened | Phase::Head => Some(options.header_deadline),
            Phase::Idle => Some(options.idle_deadline),
            Phase::Answering | Phase::Flushing => None,
        };
        let own = allowed.map(|allowed| state.since + allowed);
        let hurried = stopping.filter(|_| allowed.is_some()).map(|start| start.max(state.since) + BRIEFLY);
        let stalled = state.stalled.map(|since| since + options.write_deadline);
        [own, hurried, stalled].into_iter().flatten().min()
    }

    /// Returns since when it occupies a place without need; `None` while it works, or has only begun.
    pub(super) fn dispensable(&self, now: Instant) -> Option<Instant> {
        self.state().dispensable(now)
    }

    /// Asks the connection to make room for others.
    pub(super) fn ask(&self) {
        self.0.asked.notify_one();
    }

    /// Waits until the connection is asked to make room. Cancel safe.
    pub(super) async fn asked(&self) {
        self.0.asked.notified().await;
    }

    /// Returns the reaction to having been asked to make room.
    pub(super) fn make_room(&self) -> MakeRoom {
        let mut state = self.state();
        if state.dispensable(Instant::now()).is_none() {
            return MakeRoom::GoOn;
        }
        match &mut state.body {
            Some(body) => {
                body.given_up = true;
                MakeRoom::GiveUpBody
            }
            None => MakeRoom::Close,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock()
    }
}

impl State {
    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.since = Instant::now();
    }

    fn dispensable(&self, now: Instant) -> Option<Instant> {
        let for_long = |since: Instant, allowed: Duration| {
            (now.saturating_duration_since(since) >= allowed).then_some(since)
        };
        match (self.phase, self.stalled, self.body) {
            (Phase::Idle, ..) => Some(self.since),
            (Phase::Opened | Phase::Head, ..) => for_long(self.since, FIRST),
            (Phase::Answering | Phase::Flushing, Some(since), _) => for_long(since, STALLED),
            (Phase::Answering, None, Some(body)) if !body.given_up => {
                let taken = now.saturating_duration_since(body.begun).as_secs_f64();
                let is_slow = (body.bytes as f64) < taken * BODY_BYTES_PER_SECOND;
                for_long(body.begun, FIRST).filter(|_| is_slow)
            }
            (Phase::Answering | Phase::Flushing, None, _) => None,
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
            // The server holds the rest of the answer until the client reads it.
            state.enter(Phase::Flushing);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;
    use webhook_http::RoomSource;

    use super::*;

    fn activity() -> Activity {
        Activity::new([127, 0, 0, 1].into(), RoomSource::new(8).room())
    }

    fn left(activity: &Activity, stopping: Option<Instant>) -> Option<u64> {
        let deadline = activity.deadline(&ServerOptions::default(), stopping);
        deadline.map(|deadline| (deadline - Instant::now()).as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn each_phase_has_its_own_deadline() {
        let activity = activity();
        assert_eq!(left(&activity, None), Some(10));
        advance(Duration::from_secs(4)).await;
        activity.bytes_came();
        advance(Duration::from_secs(3)).await;
        activity.bytes_came();
        assert_eq!(left(&activity, None), Some(7));
        let answering = activity.begin();
        assert_eq!(left(&activity, Some(Instant::now())), None);
        drop(answering);
        assert_eq!(left(&activity, Some(Instant::now())), None, "the answer is not taken yet");
        activity.flushed();
        assert_eq!(left(&activity, None), Some(60));
        assert_eq!(left(&activity, Some(Instant::now())), Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_no_byte_is_given_up() {
        let activity = activity();
        let _answering = activity.begin();
        activity.wrote(false);
        advance(Duration::from_secs(20)).await;
        activity.wrote(false);
        assert_eq!(left(&activity, None), Some(40));
        activity.wrote(true);
        assert_eq!(left(&activity, None), None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_works_keeps_its_connection_and_who_does_not_makes_room() {
        let activity = activity();
        let makes_room = || activity.dispensable(Instant::now()).is_some();
        assert!(!makes_room(), "it has only begun");
        advance(FIRST).await;
        assert!(makes_room(), "it is silent");
        activity.bytes_came();
        assert!(!makes_room());
        let answering = activity.begin();
        advance(Duration::from_secs(600)).await;
        assert!(!makes_room(), "it is being answered");
        activity.wrote(false);
        advance(STALLED).await;
        assert!(makes_room(), "it takes nothing");
        activity.wrote(true);
        assert!(!makes_room());
        drop(answering);
        assert!(!makes_room(), "its answer is on its way");
        activity.flushed();
        assert!(makes_room(), "it is idle");
        assert_eq!(activity.make_room(), MakeRoom::Close);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_makes_room_once_it_comes_too_slowly() {
        let activity = activity();
        let _answering = activity.begin();
        activity.body_came(0);
        advance(FIRST).await;
        assert_eq!(activity.make_room(), MakeRoom::GiveUpBody);
        assert!(activity.body_is_given_up());
        assert_eq!(activity.make_room(), MakeRoom::GoOn, "it is being answered");
        activity.body_is_over();
        activity.body_came(2 * 16 * 1024);
        advance(Duration::from_secs(1)).await;
        assert_eq!(activity.make_room(), MakeRoom::GoOn, "it is quick enough");
        advance(Duration::from_secs(2)).await;
        assert_eq!(activity.make_room(), MakeRoom::GiveUpBody);
    }
}
