//! The newest events, for readers that follow them.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::calls::CallRecord;
use crate::events::{Change, Event, EventCursor, Events};
use crate::notifier::Delivery;
use crate::run::{Progress, Run};
use crate::webhook::Webhook;

/// Upper bound on the number of kept events.
const KEPT: usize = 4_096;
/// Upper bound on the size of the kept events in memory, in bytes.
const KEPT_BYTES: usize = 8 * 1024 * 1024;
/// Upper bound on the events that are returned at once.
const BATCH: usize = 256;

/// Log of the newest events, for stores that one process opens.
#[derive(Debug)]
pub struct EventLog {
    life: u64,
    ring: Mutex<Ring>,
    arrived: Notify,
}

#[derive(Debug)]
struct Ring {
    events: VecDeque<Event>,
    /// Size of `events` in memory, in bytes.
    bytes: usize,
    /// Sequence number of the next event; the first is 1.
    next: u64,
    /// Newest cursor that was returned and is not too old. If `None`, no reader can ask for the kept events.
    given: Option<u64>,
}

impl Ring {
    /// Returns the sequence number of the oldest kept event, or of the next event if none is kept.
    fn oldest(&self) -> u64 {
        self.next - self.events.len() as u64
    }

    /// Adds an event, and drops the oldest events beyond the bounds.
    fn push(&mut self, event: Event) {
        self.bytes += event.bytes_in_memory();
        self.events.push_back(event);
        self.next += 1;
        while self.events.len() > KEPT || self.bytes > KEPT_BYTES {
            let Some(oldest) = self.events.pop_front() else { return };
            self.bytes -= oldest.bytes_in_memory();
        }
    }

    /// Drops all events, and keeps none until the next cursor is returned.
    fn clear(&mut self) {
        self.given = None;
        self.events = VecDeque::new();
        self.bytes = 0;
    }
}

impl Default for EventLog {
    fn default() -> Self {
        Self::new()
    }
}

impl EventLog {
    /// Creates an empty log with a random identity, by which it recognizes cursors of an earlier log.
    #[must_use]
    pub fn new() -> Self {
        let ring = Ring { events: VecDeque::new(), bytes: 0, next: 1, given: None };
        Self { life: rand::random(), ring: Mutex::new(ring), arrived: Notify::new() }
    }

    /// Publishes a change of state, with the deliveries recorded with a run's end, and wakes readers.
    pub fn publish_state(&self, run: &Arc<Run>, deliveries: &Arc<[Delivery]>) {
        self.add(run, || (Change::State(run.excerpt()), deliveries.clone()));
    }

    /// Publishes progress of a run, and wakes readers.
    pub fn publish_progress(&self, run: &Run, progress: &Progress) {
        self.add(run, || (Change::Progress(progress.clone()), Arc::default()));
    }

    /// Publishes lines that a run logged, and wakes readers.
    pub fn publish_log(&self, run: &Run, text: &str) {
        self.add(run, || (Change::of_log(text), Arc::default()));
    }

    /// Publishes calls of a webhook that were logged, oldest first, and wakes readers.
    pub fn publish_calls(&self, webhook: &Webhook, calls: &[Arc<CallRecord>]) {
        self.push(|cursor| Event::of_calls(cursor, webhook, calls));
    }

    /// Tells all readers that they missed events.
    pub(crate) fn note_missed(&self) {
        {
            let mut ring = self.ring.lock();
            // No cursor is at the event that this skips.
            ring.next += 1;
            ring.clear();
        }
        self.arrived.notify_waiters();
    }

    fn add(&self, run: &Run, change: impl FnOnce() -> (Change, Arc<[Delivery]>)) {
        self.push(|cursor| {
            let (change, deliveries) = change();
            Event::new(cursor, run, change).with_deliveries(deliveries)
        });
    }

    /// Adds the result of `event`. It is called only if a reader may ask for the event.
    fn push(&self, event: impl FnOnce(EventCursor) -> Event) {
        {
            let mut ring = self.ring.lock();
            let Some(given) = ring.given else {
                ring.next += 1;
                return;
            };
            let event = event(EventCursor { life: self.life, sequence: ring.next });
            ring.push(event);
            if given + 1 < ring.oldest() {
                ring.clear();
                return;
            }
        }
        self.arrived.notify_waiters();
    }

    /// Returns the events after `cursor`, like [`Store::events_since`](crate::store::Store::events_since).
    /// Cancel safe.
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
        let mut ring = self.ring.lock();
        let events = self.after(&ring, cursor);
        ring.given = ring.given.max(Some(events.cursor.sequence));
        events
    }

    fn after(&self, ring: &Ring, cursor: Option<EventCursor>) -> Events {
        let present = EventCursor { life: self.life, sequence: ring.next - 1 };
        let Some(cursor) = cursor else {
            return Events::new(Vec::new(), present);
        };
        // A cursor may hold any number: add to it only after the bounds check.
        let known =
            cursor.life == self.life && cursor.sequence < ring.next && cursor.sequence + 1 >= ring.oldest();
        if !known {
            return Events::gap(present);
        }
        let skip = (cursor.sequence + 1 - ring.oldest()) as usize;
        let items: Vec<Event> = ring.events.iter().skip(skip).take(BATCH).cloned().collect();
        let cursor = items.last().map_or(cursor, |event| event.cursor);
        Events::new(items, cursor)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::id::{RunId, WebhookId};
    use crate::parameters::{EffectiveParameter, EffectiveParameters, Source};
    use crate::run::{Caller, EXCERPT_BYTES, RunParameters};

    fn run() -> Arc<Run> {
        run_with(RunParameters::default())
    }

    fn run_with(parameters: RunParameters) -> Arc<Run> {
        let now = SystemTime::UNIX_EPOCH;
        let workflow = "report/a".parse().unwrap();
        let (id, webhook) = (RunId::generate(now), WebhookId::generate(now));
        Arc::new(Run::new(id, workflow, webhook, parameters, 1, Caller::default(), now))
    }

    /// Returns a run with `values` parameters of so many bytes each.
    fn large_run(values: usize, bytes: usize) -> Arc<Run> {
        let value = || EffectiveParameter::new("x".repeat(bytes), Source::Body);
        let given: EffectiveParameters = (0..values).map(|number| (format!("p{number}"), value())).collect();
        run_with(RunParameters::seal(given, None, RunId::from_bytes([0; 16])).unwrap())
    }

    fn publish(log: &EventLog, run: &Arc<Run>) {
        log.publish_state(run, &Arc::default());
    }

    #[tokio::test]
    async fn parameters_of_a_mebibyte_are_not_kept_for_an_idle_listener() {
        let log = EventLog::new();
        let start = log.since(None).await.cursor;
        let gone: Vec<_> = (0..50)
            .map(|_| {
                let run = large_run(1, 1 << 20);
                publish(&log, &run);
                Arc::downgrade(&run)
            })
            .collect();
        assert!(gone.iter().all(|run| run.upgrade().is_none()), "the ring keeps no whole run");
        assert!(log.ring.lock().bytes < 256 * 1024);
        let events = log.since(Some(start)).await;
        assert_eq!(events.items.len(), 50);
        let Change::State(run) = &events.items[0].change else { panic!("a change of state") };
        assert!(run.parameters().iter().all(|(_, parameter)| parameter.is_truncated()));
    }

    #[tokio::test]
    async fn the_ring_is_bounded_in_bytes_and_a_listener_that_is_idle_for_too_long_is_told() {
        let log = EventLog::new();
        let start = log.since(None).await.cursor;
        let (large, chatty) = (large_run(256, 4_096), run());
        let text = "line\n".repeat(256 * 1024 / 5);
        let mut most = 0;
        for number in 0..KEPT {
            if number == KEPT - 100 {
                // Another reader keeps the ring filled until the end.
                log.since(None).await;
            }
            match number % 2 {
                0 => publish(&log, &large),
                _ => log.publish_log(&chatty, &text),
            }
            most = most.max(log.ring.lock().bytes);
        }
        assert!(most <= KEPT_BYTES && most > KEPT_BYTES / 2, "{most}");
        assert!(log.since(Some(start)).await.reset);
        let ring = log.ring.lock();
        assert_eq!(ring.bytes, ring.events.iter().map(Event::bytes_in_memory).sum::<usize>());
    }

    #[tokio::test]
    async fn a_long_log_is_told_by_its_beginning() {
        let log = EventLog::new();
        let start = log.since(None).await.cursor;
        log.publish_log(&run(), &"é".repeat(1_000));
        log.publish_log(&run(), "short\n");
        let told: Vec<_> = log.since(Some(start)).await.items.into_iter().map(|event| event.change).collect();
        let [Change::Log { text, truncated: true }, Change::Log { text: short, truncated: false }] =
            &told[..]
        else {
            panic!("{told:?}")
        };
        assert_eq!((text.len(), short.as_str()), (EXCERPT_BYTES, "short\n"));
    }

    #[tokio::test]
    async fn every_number_is_a_cursor_that_can_be_asked_for() {
        let log = EventLog::new();
        let start = log.since(None).await.cursor;
        let far: EventCursor = format!("{:016x}-{}", start.life, u64::MAX).parse().unwrap();
        assert!(log.since(Some(far)).await.reset);
    }

    #[tokio::test]
    async fn events_come_in_order_and_none_twice() {
        let log = EventLog::new();
        let start = log.since(None).await.cursor;
        let runs = [run(), run(), run()];
        for run in &runs {
            publish(&log, run);
        }
        let events = log.since(Some(start)).await;
        assert_eq!(
            events.items.iter().map(|event| event.run).collect::<Vec<_>>(),
            runs.map(|run| Some(run.id()))
        );
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
        publish(&log, &run());
        assert_eq!(waiting.await.unwrap().items.len(), 1);
    }

    #[tokio::test]
    async fn what_nobody_can_ask_for_is_not_kept() {
        let log = EventLog::new();
        let run = run();
        let kept = || log.ring.lock().events.len();
        publish(&log, &run);
        assert_eq!(kept(), 0, "nobody has a cursor yet");
        let start = log.since(None).await.cursor;
        (0..KEPT).for_each(|_| publish(&log, &run));
        assert_eq!(kept(), KEPT);
        let events = log.since(Some(start)).await;
        assert_eq!(events.items.len(), BATCH);
        (0..=KEPT).for_each(|_| publish(&log, &run));
        assert_eq!(kept(), 0, "every cursor is too old");
        assert!(log.since(Some(events.cursor)).await.reset);
        let again = log.since(None).await.cursor;
        publish(&log, &run);
        assert_eq!(log.since(Some(again)).await.items.len(), 1);
    }

    #[tokio::test]
    async fn who_falls_behind_or_comes_from_another_life_is_told() {
        let log = EventLog::new();
        let start = log.since(None).await.cursor;
        let run = run();
        (0..=KEPT).for_each(|_| publish(&log, &run));
        assert!(log.since(Some(start)).await.reset);
        let elsewhere = EventLog::new().since(None).await.cursor;
        assert!(log.since(Some(elsewhere)).await.reset);
        let never = EventCursor { sequence: u64::MAX, ..start };
        assert!(log.since(Some(never)).await.reset);
    }
}
