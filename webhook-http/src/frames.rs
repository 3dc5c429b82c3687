//! Events as they are sent: each is written once for all listeners.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::Serialize;
use webhook_core::events::{Change, Event, EventCursor};

use crate::contract::links::Links;
use crate::contract::wire::call::CallsView;
use crate::contract::wire::event::EventView;
use crate::contract::wire::value::Detail;

/// Upper bound on the bytes of written events that are kept for further listeners.
const KEPT_BYTES: usize = 2 * 1024 * 1024;

/// Newest events in the form in which they are sent. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Frames(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    by_cursor: HashMap<EventCursor, Bytes>,
    /// Cursors in `by_cursor`, oldest first.
    order: VecDeque<EventCursor>,
    bytes: usize,
    /// Number of events that were written.
    #[cfg(test)]
    written: usize,
}

impl Frames {
    /// Returns an event in the form in which it is sent; empty for a kind that this version does not know.
    pub(crate) fn of(&self, event: &Event, links: Links<'_>) -> Bytes {
        if let Some(kept) = self.0.lock().by_cursor.get(&event.cursor) {
            return kept.clone();
        }
        let written = Bytes::from(written(event, links));
        self.0.lock().keep(event.cursor, written.clone());
        written
    }

    #[cfg(test)]
    pub(crate) fn written(&self) -> usize {
        self.0.lock().written
    }
}

impl Kept {
    fn keep(&mut self, cursor: EventCursor, frame: Bytes) {
        #[cfg(test)]
        {
            self.written += 1;
        }
        self.bytes += frame.len();
        match self.by_cursor.insert(cursor, frame) {
            // Two listeners serialized the same event at the same time.
            Some(same) => self.bytes -= same.len(),
            None => self.order.push_back(cursor),
        }
        while self.bytes > KEPT_BYTES
            && let Some(oldest) = self.order.pop_front()
        {
            self.bytes -= self.by_cursor.remove(&oldest).map_or(0, |frame| frame.len());
        }
    }
}

fn written(event: &Event, links: Links<'_>) -> Vec<u8> {
    let mut frame = Vec::new();
    match &event.change {
        Change::State(run) => {
            let run = links.managed_run(run, &*event.deliveries, Detail::Excerpt);
            write(&mut frame, "run", event.cursor, &run);
        }
        Change::Progress(progress) => {
            write(&mut frame, "progress", event.cursor, &EventView::progress(event, progress));
        }
        Change::Log { text, truncated } => {
            write(&mut frame, "log", event.cursor, &EventView::log(event, text, *truncated));
        }
        Change::Calls { calls, truncated } => {
            let calls = calls.iter().map(|call| &**call);
            write(&mut frame, "calls", event.cursor, &CallsView::new(event, calls, *truncated));
        }
        // Clients of this version do not know other changes.
        _ => {}
    }
    frame
}

/// Writes one event. JSON holds no line ends, so its data is one line.
pub(crate) fn write(frame: &mut Vec<u8>, name: &str, id: EventCursor, data: &impl Serialize) {
    frame.extend_from_slice(format!("event: {name}\nid: {id}\ndata: ").as_bytes());
    // Wire types have text for keys, and writing to memory never fails.
    let _ = serde_json::to_writer(&mut *frame, data);
    frame.extend_from_slice(b"\n\n");
}
