//! Events: what happens to runs, as it happens, for live views and for those who wait for a run's end.
//!
//! Events are news, not records: a bounded number is kept in memory, and who falls behind is told so and reads
//! the runs again.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::error::InvalidName;
use crate::id::{RunId, WebhookId, WorkflowKey};
use crate::run::{Progress, Run};

/// Something that happened to a run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Event {
    /// The place of this event, for resuming after it.
    pub cursor: EventCursor,
    /// The run.
    pub run: RunId,
    /// Its workflow.
    pub workflow: WorkflowKey,
    /// Its webhook.
    pub webhook_id: WebhookId,
    /// What happened.
    pub change: Change,
}

/// What happened to a run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Change {
    /// Its state changed; this is the run now.
    State(Arc<Run>),
    /// It is this far.
    Progress(Progress),
    /// It logged these lines.
    Log(String),
}

/// A place in the stream of events. Its text form is opaque.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventCursor {
    life: u64,
    sequence: u64,
}

impl fmt::Display for EventCursor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}-{}", self.life, self.sequence)
    }
}

impl FromStr for EventCursor {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let parse = || {
            let (life, sequence) = text.split_once('-')?;
            Some(Self { life: u64::from_str_radix(life, 16).ok()?, sequence: sequence.parse().ok()? })
        };
        parse().ok_or(InvalidName::new("event id", "an id that this service gave out"))
    }
}

/// The events after a cursor.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Events {
    /// The events, oldest first.
    pub items: Vec<Event>,
    /// The cursor to go on with.
    pub cursor: EventCursor,
    /// Whether events were missed before these: what is shown must be read again.
    pub reset: bool,
}

/// How many events are kept.
const KEPT: usize = 4_096;
/// How many events are given out at once.
const BATCH: usize = 512;

/// The newest events, for stores that one process opens.
#[derive(Debug)]
pub struct EventLog {
    life: u64,
    ring: Mutex<Ring>,
    arrived: Notify,
}

#[derive(Debug)]
struct Ring {
    events: VecDeque<Event>,
    next: u64,
    /// The newest cursor that was given out and is not too old yet: without one, nobody could ask for what is kept.
    given: Option<u64>,
}

impl Default for EventLog {
    fn default() -> Self {
        Self::new()
    }
}

impl EventLog {
    /// An empty log with a life of its own: cursors of an earlier one are recognised.
    #[must_use]
    pub fn new() -> Self {
        let ring = Ring { events: VecDeque::new(), next: 1, given: None };
        Self { life: rand::random(), ring: Mutex::new(ring), arrived: Notify::new() }
    }

    /// Adds an event and wakes those who wait.
    pub fn publish(&self, run: &Run, change: Change) {
        self.add(run, || change);
    }

    /// Adds the event that a run's state changed.
    pub fn publish_state(&self, run: &Arc<Run>) {
        self.add(run, || Change::State(run.clone()));
    }

    fn add(&self, run: &Run, change: impl FnOnce() -> Change) {
        {
            let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
            let sequence = ring.next;
            ring.next += 1;
            let Some(given) = ring.given else { return };
            if sequence - given > KEPT as u64 {
                ring.given = None;
                ring.events = VecDeque::new();
                return;
            }
            if ring.events.len() == KEPT {
                ring.events.pop_front();
            }
            let cursor = EventCursor { life: self.life, sequence };
            let (workflow, webhook_id) = (run.workflow.clone(), run.webhook_id);
            ring.events.push_back(Event { cursor, run: run.id, workflow, webhook_id, change: change() });
        }
        self.arrived.notify_waiters();
    }

    /// The events after `cursor`, as [`Store::events_since`](crate::store::Store::events_since). Cancel safe.
    pub async fn since(&self, cursor: Option<EventCursor>) -> Events {
        loop {
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            let events = self.read(cursor);
            if cursor.is_none() || events.reset || !events.items.is_empty() {
                return events;
            }
            arrived.await;
        }
    }

    fn read(&self, cursor: Option<EventCursor>) -> Events {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let events = self.after(&ring, cursor);
        ring.given = ring.given.max(Some(events.cursor.sequence));
        events
    }

    fn after(&self, ring: &Ring, cursor: Option<EventCursor>) -> Events {
        let present = EventCursor { life: self.life, sequence: ring.next - 1 };
        let Some(cursor) = cursor else {
            return Events { items: Vec::new(), cursor: present, reset: false };
        };
        let oldest = ring.next - ring.events.len() as u64;
        let known = cursor.life == self.life && cursor.sequence < ring.next && cursor.sequence + 1 >= oldest;
        if !known {
            return Events { items: Vec::new(), cursor: present, reset: true };
        }
        let skip = (cursor.sequence + 1 - oldest) as usize;
        let items: Vec<Event> = ring.events.iter().skip(skip).take(BATCH).cloned().collect();
        let cursor = items.last().map_or(cursor, |event| event.cursor);
        Events { items, cursor, reset: false }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::run::{Caller, RunParameters};

    fn run() -> Arc<Run> {
        let now = SystemTime::UNIX_EPOCH;
        let workflow = "report/a".parse().unwrap();
        let (id, webhook) = (RunId::generate(now), WebhookId::generate(now));
        Arc::new(Run::new(id, workflow, webhook, RunParameters::default(), 1, Caller::default(), now))
    }

    #[tokio::test]
    async fn events_come_in_order_and_none_twice() {
        let log = EventLog::new();
        let start = log.since(None).await.cursor;
        let runs = [run(), run(), run()];
        runs.iter().for_each(|run| log.publish_state(run));
        let events = log.since(Some(start)).await;
        assert_eq!(events.items.iter().map(|event| event.run).collect::<Vec<_>>(), runs.map(|run| run.id));
        let text = events.items[0].cursor.to_string();
        let rest = log.since(Some(text.parse().unwrap())).await;
        assert_eq!(rest.items.len(), 2);
    }

    #[tokio::test]
    async fn who_waits_is_woken() {
        let log = Arc::new(EventLog::new());
        let start = log.since(None).await.cursor;
        let waiting = tokio::spawn({
            let log = log.clone();
            async move { log.since(Some(start)).await }
        });
        tokio::task::yield_now().await;
        log.publish_state(&run());
        assert_eq!(waiting.await.unwrap().items.len(), 1);
    }

    #[tokio::test]
    async fn what_nobody_can_ask_for_is_not_kept() {
        let log = EventLog::new();
        let run = run();
        let kept = || log.ring.lock().unwrap().events.len();
        log.publish_state(&run);
        assert_eq!(kept(), 0, "nobody has a cursor yet");
        let start = log.since(None).await.cursor;
        (0..KEPT).for_each(|_| log.publish_state(&run));
        assert_eq!(kept(), KEPT);
        let events = log.since(Some(start)).await;
        assert_eq!(events.items.len(), BATCH);
        (0..=KEPT).for_each(|_| log.publish_state(&run));
        assert_eq!(kept(), 0, "every cursor is too old");
        assert!(log.since(Some(events.cursor)).await.reset);
        let again = log.since(None).await.cursor;
        log.publish_state(&run);
        assert_eq!(log.since(Some(again)).await.items.len(), 1);
    }

    #[tokio::test]
    async fn who_falls_behind_or_comes_from_another_life_is_told() {
        let log = EventLog::new();
        let start = log.since(None).await.cursor;
        let run = run();
        (0..=KEPT).for_each(|_| log.publish_state(&run));
        assert!(log.since(Some(start)).await.reset);
        let elsewhere = EventLog::new().since(None).await.cursor;
        assert!(log.since(Some(elsewhere)).await.reset);
        let never = EventCursor { sequence: u64::MAX, ..start };
        assert!(log.since(Some(never)).await.reset);
    }
}
