//! Events from the lines of notifications: what never changes of a run is read by its id, and the rest is in the line.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use uuid::Uuid;
use webhook_core::events::{Change, Event, EventCursor};
use webhook_core::id::{RunId, WebhookId};
use webhook_core::notifier::Delivery;
use webhook_core::run::Run;

use crate::database::Database;
use crate::failure::Failure;
use crate::record::*;
use crate::ring::{EventRing, Mark};
use crate::{reading, webhooks};

/// Upper bound on runs whose unchanging part is kept for events.
const RECENT: usize = 2_000;

pub(crate) struct Teller {
    database: Arc<Database>,
    recent: Mutex<HashMap<Uuid, Arc<Run>>>,
}

/// A notification about the stream of events.
enum Payload<'a> {
    Mark(Mark),
    /// Lines, with the number of the first one. A server of the first version numbers none.
    Lines(Option<u64>, Vec<Line<'a>>),
}

/// One line: what it is about, and fields.
struct Line<'a>(Vec<&'a str>);

impl Line<'_> {
    fn kind(&self) -> &str {
        self.0[0]
    }

    fn text(&self, place: usize) -> Option<&str> {
        self.0.get(place).copied().filter(|text| !text.is_empty())
    }

    fn number(&self, place: usize) -> Option<i64> {
        self.text(place)?.parse().ok()
    }

    /// The run or webhook.
    fn id(&self) -> Option<Uuid> {
        Uuid::parse_str(self.text(1)?).ok()
    }

    /// Returns whether deliveries were recorded with the end of a run.
    fn is_notified(&self) -> bool {
        self.kind() == "h" && self.text(2) == Some("d")
    }
}

impl<'a> Payload<'a> {
    fn read(payload: &'a str) -> Option<Self> {
        match payload.split_at_checked(1)? {
            ("m", mark) => {
                let (kind, numbers) = mark.split_at_checked(1)?;
                let (life, number) = numbers.split_once(' ')?;
                let read = |number: &str| number.parse().ok().map(i64::cast_unsigned);
                Some(Self::Mark(Mark { life: read(life)?, number: read(number)?, begins: kind == "b" }))
            }
            ("e", rest) => {
                let (number, lines) = rest.split_once('\n')?;
                let lines = lines.lines().map(|line| Line(line.split('\t').collect())).collect();
                Some(Self::Lines(number.parse().ok().map(i64::cast_unsigned), lines))
            }
            _ => None,
        }
    }
}

/// Records that the lines of some notifications are about.
struct Found {
    runs: HashMap<Uuid, Arc<Run>>,
    deliveries: HashMap<RunId, Vec<Delivery>>,
}

impl Teller {
    pub(crate) fn new(database: Arc<Database>) -> Self {
        Self { database, recent: Mutex::default() }
    }

    /// Adds the events of notifications to the ring, in their order.
    pub(crate) async fn tell(&self, payloads: &[String], ring: &EventRing) -> Result<(), Failure> {
        let payloads: Vec<Payload<'_>> = payloads.iter().filter_map(|text| Payload::read(text)).collect();
        let mut found = self.find(&payloads).await?;
        for payload in payloads {
            match payload {
                Payload::Mark(mark) => ring.mark(mark),
                // A place without a number cannot be found again.
                Payload::Lines(None, _) => ring.forget(),
                Payload::Lines(Some(first), lines) => {
                    for (number, line) in (first..).zip(&lines) {
                        let event = self.event(line, &mut found).await?;
                        ring.push(number, event);
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads the runs that lines are about, as far as they are not known, and the deliveries of those that ended.
    async fn find(&self, payloads: &[Payload<'_>]) -> Result<Found, Failure> {
        let lines = payloads.iter().flat_map(|payload| match payload {
            Payload::Lines(_, lines) => lines.as_slice(),
            Payload::Mark(_) => &[],
        });
        let (mut missing, mut notified): (Vec<RunId>, Vec<RunId>) = (Vec::new(), Vec::new());
        {
            let recent = self.recent.lock();
            for line in lines.filter(|line| line.kind() != "a") {
                let Some(run) = line.id() else { continue };
                // A run that has ended changes no more, so what is read now is what the event is about.
                if line.kind() == "h" || !recent.contains_key(&run) {
                    missing.push(run_id(run));
                }
                if line.is_notified() {
                    notified.push(run_id(run));
                }
            }
        }
        let mut found = Found { runs: HashMap::new(), deliveries: HashMap::new() };
        missing.sort_unstable();
        missing.dedup();
        if !missing.is_empty() {
            for run in reading::runs(&self.database, &missing).await? {
                found.runs.insert(uuid_of_run(run.id()), run);
            }
        }
        if !notified.is_empty() {
            for delivery in reading::deliveries(&self.database, &notified).await? {
                found.deliveries.entry(delivery.run).or_default().push(delivery);
            }
        }
        Ok(found)
    }

    /// The event of a line. `None` if what it is about is gone, or unknown to this version.
    async fn event(&self, line: &Line<'_>, found: &mut Found) -> Result<Option<Event>, Failure> {
        let Some(id) = line.id() else { return Ok(None) };
        if line.kind() == "a" {
            return self.event_of_calls(webhook_id(id), line).await;
        }
        let base = found.runs.get(&id).cloned().or_else(|| self.recent.lock().get(&id).cloned());
        // A run that is gone was pruned.
        let Some(base) = base else { return Ok(None) };
        let change = match line.kind() {
            "s" => {
                let run = overlaid(&base, line).map_or_else(|| base.clone(), Arc::new);
                Some(Change::State(run.excerpt()))
            }
            "h" => {
                let deliveries = found.deliveries.remove(&base.id()).unwrap_or_default();
                self.recent.lock().remove(&id);
                let event = Event::new(NO_CURSOR, &base, Change::State(base.excerpt()));
                return Ok(Some(event.with_deliveries(deliveries.into())));
            }
            "p" => line.text(2).and_then(|text| serde_json::from_str(text).ok()).map(Change::Progress),
            "l" => {
                let start = line.number(2).unwrap_or(0);
                let text = reading::log_piece(&self.database, id, start).await?;
                text.map(|text| Change::of_log(&text))
            }
            _ => None,
        };
        let event = change.map(|change| Event::new(NO_CURSOR, &base, change));
        let mut recent = self.recent.lock();
        if recent.len() >= RECENT {
            recent.clear();
        }
        recent.insert(id, base);
        Ok(event)
    }

    /// The event of a webhook's calls, whose ids are in a line.
    async fn event_of_calls(&self, webhook: WebhookId, line: &Line<'_>) -> Result<Option<Event>, Failure> {
        let ids = line.text(2).unwrap_or_default().split(',');
        let ids = ids.filter_map(|id| Uuid::parse_str(id).ok()).collect();
        let calls = reading::calls(&self.database, &ids).await?;
        // Those of a webhook that is deleted meanwhile are gone.
        if calls.is_empty() {
            return Ok(None);
        }
        let webhook = webhooks::get_by_id(&self.database, webhook).await?;
        Ok(webhook.map(|webhook| Event::of_calls(NO_CURSOR, &webhook, &calls)))
    }
}

/// The ring gives each event its cursor.
const NO_CURSOR: EventCursor = EventCursor::new(0, 0);

/// The run as it was when a line was written.
fn overlaid(base: &Run, line: &Line<'_>) -> Option<Run> {
    let changing = Changing {
        state: i16::try_from(line.number(2)?).ok()?,
        attempt: i32::try_from(line.number(3)?).ok()?,
        interruptions: i32::try_from(line.number(4)?).ok()?,
        fence: line.number(5)?,
        cancel: line.number(6).and_then(|reason| i16::try_from(reason).ok()),
        started_ms: line.number(7),
        due_ms: line.number(8),
        outcome: line.text(9).map(str::as_bytes),
        worker: line.text(10),
        ..Changing::default()
    };
    changed(base.parts().clone(), &changing).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_has_the_life_of_the_stream_as_the_database_writes_it() {
        let read = |text| match Payload::read(text) {
            Some(Payload::Mark(mark)) => mark,
            _ => panic!("{text}"),
        };
        assert_eq!(read("mb-1 7"), Mark { life: u64::MAX, number: 7, begins: true });
        assert_eq!(read("mc12 8"), Mark { life: 12, number: 8, begins: false });
    }

    #[test]
    fn lines_are_numbered_from_the_first_on_or_not_at_all() {
        for (text, expected) in [("e41\nh\tid\td\nl\tid\t0\t9", Some(41)), ("e\nh\tid\td\nl\tid\t0\t9", None)]
        {
            let Some(Payload::Lines(first, lines)) = Payload::read(text) else { panic!("{text}") };
            assert_eq!(first, expected);
            assert!(lines.len() == 2 && lines[0].is_notified() && lines[1].number(3) == Some(9));
        }
        for unknown in ["", "r", "d", "é", "m", "mb", "mbx y", "e"] {
            assert!(Payload::read(unknown).is_none(), "{unknown}");
        }
    }
}
