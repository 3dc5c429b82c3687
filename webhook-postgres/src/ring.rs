//! The newest events in memory, each at a place that all processes know by the same number.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;
use webhook_core::events::{Event, EventCursor, Events};

/// Upper bound on the places that are kept.
const KEPT: usize = 4_096;
/// Upper bound on the size of the kept events in memory, in bytes.
const KEPT_BYTES: usize = 8 * 1024 * 1024;
/// Upper bound on the events that are returned at once.
const BATCH: usize = 256;

/// Newest places of the stream of events, in the order of their notifications.
///
/// Their numbers are not in order, so a cursor is looked up. A place may have no event: a mark, or a run that is gone.
#[derive(Default)]
pub(crate) struct EventRing {
    places: Mutex<Places>,
    /// Woken when there is something new, or nothing any more.
    changed: Notify,
}

#[derive(Default)]
struct Places {
    /// Identity of the stream, by which a cursor of another stretch is told. It is unknown before the first mark.
    life: Option<u64>,
    /// Numbers with their events. The cursor in an event is not used: its life may come later.
    newest: VecDeque<(u64, Option<Event>)>,
    /// Size of the events in memory, in bytes.
    bytes: usize,
}

/// A mark in the stream: what is before it has been told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) life: u64,
    pub(crate) number: u64,
    /// True if events before it may be missing.
    pub(crate) begins: bool,
}

impl EventRing {
    /// Adds a mark. One of another life ends everything before it.
    pub(crate) fn mark(&self, mark: Mark) {
        let mut places = self.places.lock();
        if mark.begins || places.life.is_some_and(|life| life != mark.life) {
            places.clear();
        }
        places.life = Some(mark.life);
        places.push(mark.number, None);
        drop(places);
        self.changed.notify_waiters();
    }

    /// Adds the event with this number, or its place if there is nothing to tell.
    pub(crate) fn push(&self, number: u64, event: Option<Event>) {
        self.places.lock().push(number, event);
        self.changed.notify_waiters();
    }

    /// Forgets everything, since some events were missed.
    pub(crate) fn forget(&self) {
        let mut places = self.places.lock();
        places.clear();
        places.life = None;
        drop(places);
        self.changed.notify_waiters();
    }

    /// Wakes those who wait, though nothing is new.
    pub(crate) fn wake(&self) {
        self.changed.notify_waiters();
    }

    /// Returns when something has changed after this call.
    pub(crate) fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }

    /// Returns the cursor of the newest place. `None` before the first mark.
    pub(crate) fn present(&self) -> Option<EventCursor> {
        let places = self.places.lock();
        Some(EventCursor::new(places.life?, places.newest.back()?.0))
    }

    /// Returns the events after a cursor. `None` if its place is not known here.
    pub(crate) fn after(&self, cursor: EventCursor) -> Option<Events> {
        let places = self.places.lock();
        let life = places.life.filter(|life| *life == cursor.life())?;
        // Most readers are near the end.
        let place = places.newest.iter().rposition(|(number, _)| *number == cursor.sequence())?;
        let later = places.newest.iter().skip(place + 1);
        let events = later.filter_map(|(number, event)| {
            let mut event = event.clone()?;
            event.cursor = EventCursor::new(life, *number);
            Some(event)
        });
        let items: Vec<Event> = events.take(BATCH).collect();
        // A reader that has all of them goes on from the newest place, also where that has no event.
        let last = items.last().filter(|_| items.len() == BATCH).map(|event| event.cursor);
        let newest = places.newest.back().map(|(number, _)| EventCursor::new(life, *number));
        let cursor = last.or(newest).unwrap_or(cursor);
        Some(Events::new(items, cursor))
    }
}

impl Places {
    /// Adds a place, and drops the oldest ones beyond the bounds.
    fn push(&mut self, number: u64, event: Option<Event>) {
        self.bytes += size(event.as_ref());
        self.newest.push_back((number, event));
        while self.newest.len() > KEPT || self.bytes > KEPT_BYTES {
            let Some((_, oldest)) = self.newest.pop_front() else { return };
            self.bytes -= size(oldest.as_ref());
        }
    }

    fn clear(&mut self) {
        self.newest.clear();
        self.bytes = 0;
    }
}

fn size(event: Option<&Event>) -> usize {
    event.map_or(0, Event::bytes_in_memory)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use webhook_core::events::Change;
    use webhook_core::id::{RunId, WebhookId};
    use webhook_core::run::{Caller, Progress, Run, RunParameters};

    use super::*;

    const LIFE: u64 = 7;

    fn event(text: &str) -> Option<Event> {
        event_of(Change::of_log(text))
    }

    fn event_of(change: Change) -> Option<Event> {
        let (now, workflow) = (SystemTime::UNIX_EPOCH, "report/a".parse().unwrap());
        let (id, webhook) = (RunId::generate(now), WebhookId::generate(now));
        let run = Run::new(id, workflow, webhook, RunParameters::default(), 1, Caller::default(), now);
        Some(Event::new(EventCursor::new(0, 0), &run, change))
    }

    fn begun() -> EventRing {
        let ring = EventRing::default();
        ring.mark(Mark { life: LIFE, number: 100, begins: true });
        ring
    }

    /// Numbers of the events after a place. `None` if the place is not known.
    fn after(ring: &EventRing, life: u64, number: u64) -> Option<Vec<u64>> {
        let events = ring.after(EventCursor::new(life, number))?;
        assert!(events.items.iter().all(|event| event.cursor.life() == life));
        Some(events.items.iter().map(|event| event.cursor.sequence()).collect())
    }

    #[test]
    fn a_place_is_found_whatever_the_order_of_numbers() {
        let ring = begun();
        for number in [300, 200, 250] {
            ring.push(number, event("line\n"));
        }
        assert_eq!(after(&ring, LIFE, 100), Some(vec![300, 200, 250]));
        assert_eq!(after(&ring, LIFE, 300), Some(vec![200, 250]));
        assert_eq!(after(&ring, LIFE, 250), Some(vec![]));
        assert_eq!(ring.present(), Some(EventCursor::new(LIFE, 250)));
        assert_eq!(after(&ring, LIFE, 299), None);
        assert_eq!(after(&ring, LIFE + 1, 300), None);
    }

    #[test]
    fn a_place_without_an_event_is_one_to_go_on_from() {
        let ring = begun();
        ring.push(1, None);
        ring.push(2, event("line\n"));
        ring.mark(Mark { life: LIFE, number: 3, begins: false });
        assert_eq!(after(&ring, LIFE, 1), Some(vec![2]));
        assert_eq!(after(&ring, LIFE, 3), Some(vec![]));
    }

    #[test]
    fn who_has_read_all_goes_on_from_the_newest_place() {
        let ring = begun();
        let mut cursor = EventCursor::new(LIFE, 100);
        for number in 1_000..1_000 + 2 * KEPT as u64 {
            ring.mark(Mark { life: LIFE, number, begins: false });
            cursor = ring.after(cursor).unwrap().cursor;
            assert_eq!(cursor, EventCursor::new(LIFE, number));
        }
        for number in 0..=BATCH as u64 {
            ring.push(number, event("line\n"));
        }
        let events = ring.after(cursor).unwrap();
        assert_eq!(events.items.len(), BATCH);
        assert_eq!(ring.after(events.cursor).unwrap().items.len(), 1);
    }

    #[test]
    fn what_came_before_the_first_mark_gets_its_life() {
        let ring = EventRing::default();
        ring.push(1, event("line\n"));
        ring.push(2, event("line\n"));
        assert_eq!(ring.present(), None);
        ring.mark(Mark { life: LIFE, number: 3, begins: false });
        assert_eq!(after(&ring, LIFE, 1), Some(vec![2]));
    }

    #[test]
    fn a_stream_that_begins_again_knows_no_place_of_before() {
        let ring = begun();
        ring.push(101, event("line\n"));
        ring.mark(Mark { life: LIFE, number: 102, begins: true });
        assert_eq!((after(&ring, LIFE, 101), after(&ring, LIFE, 102)), (None, Some(vec![])));
        ring.mark(Mark { life: LIFE + 1, number: 103, begins: false });
        assert_eq!((after(&ring, LIFE, 102), after(&ring, LIFE + 1, 103)), (None, Some(vec![])));
        ring.forget();
        assert_eq!((ring.present(), after(&ring, LIFE + 1, 103)), (None, None));
    }

    #[test]
    fn the_ring_is_bounded_in_places_and_in_bytes() {
        let ring = begun();
        for number in 1_000..1_000 + KEPT as u64 {
            ring.push(number, event("line\n"));
        }
        assert_eq!(after(&ring, LIFE, 100), None, "the mark is the oldest place");
        assert_eq!(after(&ring, LIFE, 1_000).unwrap().len(), BATCH);
        let mut most = 0;
        for number in 0..2 * KEPT as u64 {
            ring.push(
                1_000_000 + number,
                event_of(Change::Progress(Progress::new(0.5, Some("x".repeat(4_000))))),
            );
            most = most.max(ring.places.lock().bytes);
        }
        assert!(most <= KEPT_BYTES && most > KEPT_BYTES / 2, "{most}");
        let places = ring.places.lock();
        let bytes: usize = places.newest.iter().map(|(_, event)| size(event.as_ref())).sum();
        assert_eq!(places.bytes, bytes);
    }

    #[tokio::test]
    async fn who_waits_is_woken() {
        let ring = begun();
        let changed = ring.changed();
        tokio::pin!(changed);
        changed.as_mut().enable();
        ring.push(101, event("line\n"));
        changed.await;
    }
}
