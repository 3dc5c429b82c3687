//! The connection that listens: it wakes those who wait for work, and tells of events in the order of their commits.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};
use tokio_postgres::AsyncMessage;
use uuid::Uuid;
use webhook_core::backend::EventLog;
use webhook_core::events::{EventCursor, Events};
use webhook_core::id::{RunId, WebhookId};
use webhook_core::notifier::Delivery;
use webhook_core::run::Run;
use webhook_core::store::CancelNotice;

use crate::database::{Database, Messages};
use crate::failure::Failure;
use crate::record::*;
use crate::waiting::Waits;
use crate::{reading, webhooks};

/// Time for which events are requested after they were last read.
const READING: Duration = Duration::from_secs(60);
/// Interval at which the request is renewed.
const RENEWED: Duration = Duration::from_secs(15);
/// Upper bound on notifications that wait to be told, of 8 kB each. More is a gap.
const BACKLOG: usize = 4_096;
/// Upper bound on runs whose unchanging part is kept for events.
const RECENT: usize = 2_000;
/// Upper bound on cancellations that are kept.
const MOST_CANCELLED: usize = 10_000;
/// Pause before a connection is tried again, growing up to the last.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(50), Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(3)];

pub(crate) struct Listener {
    database: Arc<Database>,
    waits: Arc<Waits>,
    process: Uuid,
    name: String,
    /// The events, of one stretch of listening: what a broken connection missed is a gap.
    events: Mutex<Arc<EventLog>>,
    replaced: Notify,
    /// Reads under way.
    reads: AtomicUsize,
    reading: Mutex<Reading>,
    registering: tokio::sync::Mutex<()>,
    /// Tokens that came back as notifications.
    tokens: watch::Sender<Option<String>>,
    is_connected: watch::Sender<bool>,
    recent: Mutex<HashMap<Uuid, Arc<Run>>>,
    /// Cancellations that no worker has taken yet.
    cancelled: Mutex<Vec<CancelNotice>>,
    cancellation: Notify,
}

#[derive(Default)]
struct Reading {
    /// Until when the database knows that this process reads.
    until: Option<Instant>,
    last: Option<Instant>,
}

impl Listener {
    pub(crate) fn new(database: Arc<Database>, waits: Arc<Waits>, process: Uuid, name: String) -> Arc<Self> {
        Arc::new(Self {
            database,
            waits,
            process,
            name,
            events: Mutex::new(Arc::new(EventLog::new())),
            replaced: Notify::new(),
            reads: AtomicUsize::new(0),
            reading: Mutex::default(),
            registering: tokio::sync::Mutex::new(()),
            tokens: watch::Sender::new(None),
            is_connected: watch::Sender::new(false),
            recent: Mutex::default(),
            cancelled: Mutex::default(),
            cancellation: Notify::new(),
        })
    }

    /// Listens until dropped, and again after the connection broke.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut failures = 0;
        loop {
            if let Err(failure) = self.listen(&mut failures).await {
                tracing::warn!(?failure, "the connection that listens to the database broke");
            }
            self.waits.set_listening(false);
            self.is_connected.send_replace(false);
            // Changes in the meantime are unknown.
            self.forget_events();
            self.changed();
            tokio::time::sleep(PAUSES[failures.min(PAUSES.len() - 1)]).await;
            failures += 1;
        }
    }

    fn changed(&self) {
        self.waits.runs_changed();
        self.waits.deliveries_changed();
    }

    /// Waits until notifications come, for as long as that may take at start.
    pub(crate) async fn connected(&self, patience: Duration) {
        let mut connected = self.is_connected.subscribe();
        // Without it, work is looked for now and then.
        let _ = tokio::time::timeout(patience, connected.wait_for(|connected| *connected)).await;
    }

    async fn listen(&self, failures: &mut usize) -> Result<(), Failure> {
        let (client, mut messages) = self.database.connect().await?;
        let listen = async {
            client.batch_execute(&format!("LISTEN {}", self.database.schema())).await?;
            Ok::<(), Failure>(())
        };
        tokio::pin!(listen);
        // The connection does its work while its messages are read.
        let (told, telling) = mpsc::channel(BACKLOG);
        loop {
            tokio::select! {
                biased;
                done = &mut listen => break done?,
                message = messages.next() => self.message(message, &told)?,
            }
        }
        *failures = 0;
        self.waits.set_listening(true);
        self.is_connected.send_replace(true);
        self.changed();
        tokio::try_join!(self.follow(&mut messages, told), self.tell_all(telling)).map(drop)
    }

    async fn follow(&self, messages: &mut Messages, told: mpsc::Sender<String>) -> Result<(), Failure> {
        let mut tick = tokio::time::interval(RENEWED);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = messages.next() => self.message(message, &told)?,
                _ = tick.tick() => self.renew().await?,
            }
        }
    }

    /// Wakes those who wait, and passes on what takes longer, in order.
    fn message(
        &self,
        message: Option<Result<AsyncMessage, tokio_postgres::Error>>,
        told: &mpsc::Sender<String>,
    ) -> Result<(), Failure> {
        let message = message.ok_or_else(|| Failure::Connection("it was closed".to_owned()))??;
        let AsyncMessage::Notification(notification) = message else { return Ok(()) };
        let payload = notification.payload();
        match payload.as_bytes().first() {
            Some(b'r') => self.waits.runs_changed(),
            Some(b'd') => self.waits.deliveries_changed(),
            Some(b'c') => self.note_cancelled(&payload[1..]),
            Some(b'e' | b'y') if self.is_reading() => {
                let behind = |_| Failure::Connection("events come faster than they are read".to_owned());
                told.try_send(payload.to_owned()).map_err(behind)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Keeps notices of cancelled runs: a reason, and the ids of runs.
    fn note_cancelled(&self, notice: &str) {
        let Some((reason, runs)) = notice.split_at_checked(1) else { return };
        let Some(reason) = cancel_reason(reason.parse().ok()) else { return };
        let runs = runs.split(',').filter_map(|id| Uuid::parse_str(id).ok());
        {
            let mut cancelled = self.cancelled.lock();
            // Nobody asks where no worker runs. Renewals tell of what is dropped.
            if cancelled.len() > MOST_CANCELLED {
                cancelled.clear();
            }
            cancelled.extend(runs.map(|id| CancelNotice::new(run_id(id), reason)));
        }
        self.cancellation.notify_one();
    }

    /// Waits for cancellations, of all processes.
    pub(crate) async fn cancellations(&self) -> Vec<CancelNotice> {
        loop {
            let cancelled = std::mem::take(&mut *self.cancelled.lock());
            if !cancelled.is_empty() {
                return cancelled;
            }
            self.cancellation.notified().await;
        }
    }

    async fn tell_all(&self, mut telling: mpsc::Receiver<String>) -> Result<(), Failure> {
        while let Some(payload) = telling.recv().await {
            match payload.strip_prefix('y') {
                Some(token) => drop(self.tokens.send_replace(Some(token.to_owned()))),
                None => self.tell(&payload).await?,
            }
        }
        Ok(())
    }

    fn is_reading(&self) -> bool {
        self.reading.lock().until.is_some()
    }

    /// Returns whether the database knows that this process reads.
    fn is_registered(&self) -> bool {
        self.reading.lock().until.is_some_and(|until| until > Instant::now())
    }

    /// Begins a new log, with a new life: every cursor of the old one is a gap.
    fn forget_events(&self) {
        *self.events.lock() = Arc::new(EventLog::new());
        *self.reading.lock() = Reading::default();
        self.replaced.notify_waiters();
    }

    /// The events after a cursor, of all processes.
    pub(crate) async fn since(&self, cursor: Option<EventCursor>) -> Result<Events, Failure> {
        let _read = Read::new(self);
        loop {
            let replaced = self.replaced.notified();
            tokio::pin!(replaced);
            replaced.as_mut().enable();
            self.register(cursor.is_none()).await?;
            let events = self.events.lock().clone();
            tokio::select! {
                events = events.since(cursor) => return Ok(events),
                () = &mut replaced => {}
            }
        }
    }

    /// Makes sure that events are written and that those up to now are behind.
    async fn register(&self, from_now: bool) -> Result<(), Failure> {
        if !from_now && self.is_registered() {
            return Ok(());
        }
        let _one = self.registering.lock().await;
        let is_new = !self.is_registered();
        if !from_now && !is_new {
            return Ok(());
        }
        if !*self.is_connected.borrow() {
            return Err(Failure::Unreachable("events cannot be read at present".to_owned()));
        }
        let mut tokens = self.tokens.subscribe();
        let token = Uuid::new_v4_like().to_string();
        // From here on notifications are read; those before the token are of what was before.
        self.reading.lock().until.get_or_insert(Instant::now() + READING);
        self.database
            .query(
                "SELECT @S@.read_events_1($1, $2, $3, $4, $5)",
                &[
                    uuid(&self.process),
                    text(&self.name),
                    double(&READING.as_secs_f64()),
                    flag(&is_new),
                    text(&token),
                ],
            )
            .await?;
        self.reading.lock().until = Some(Instant::now() + READING);
        let came = tokens.wait_for(|came| came.as_deref() == Some(&token));
        match tokio::time::timeout(Duration::from_secs(10), came).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Failure::Connection("the notification of a reader did not come".to_owned())),
        }
    }

    /// Requests events for longer, as long as there are readers.
    async fn renew(&self) -> Result<(), Failure> {
        if !self.is_reading() {
            return Ok(());
        }
        let is_recent = self.reading.lock().last.is_some_and(|last| last.elapsed() < READING);
        if self.reads.load(Ordering::SeqCst) == 0 && !is_recent {
            self.forget_events();
            return Ok(());
        }
        self.database
            .query(
                "SELECT @S@.read_events_1($1, $2, $3, false, '')",
                &[uuid(&self.process), text(&self.name), double(&READING.as_secs_f64())],
            )
            .await?;
        self.reading.lock().until = Some(Instant::now() + READING);
        Ok(())
    }

    /// Publishes the events of a notification.
    async fn tell(&self, payload: &str) -> Result<(), Failure> {
        let lines: Vec<Vec<&str>> = payload.lines().skip(1).map(|line| line.split('\t').collect()).collect();
        let run_of = |line: &Vec<&str>| line.get(1).and_then(|id| Uuid::parse_str(id).ok());
        let (mut missing, mut notified): (Vec<RunId>, Vec<RunId>) = (Vec::new(), Vec::new());
        {
            let recent = self.recent.lock();
            for line in lines.iter().filter(|line| line[0] != "a") {
                let Some(run) = run_of(line) else { continue };
                // A run that has ended changes no more, so what is read now is what the event is about.
                if line[0] == "h" || !recent.contains_key(&run) {
                    missing.push(run_id(run));
                }
                if line.get(2) == Some(&"d") && line[0] == "h" {
                    notified.push(run_id(run));
                }
            }
        }
        let mut found: HashMap<Uuid, Arc<Run>> = HashMap::new();
        if !missing.is_empty() {
            for run in reading::runs(&self.database, &missing).await? {
                found.insert(uuid_of_run(run.id()), run);
            }
        }
        let mut deliveries: HashMap<RunId, Vec<Delivery>> = HashMap::new();
        if !notified.is_empty() {
            for delivery in reading::deliveries(&self.database, &notified).await? {
                deliveries.entry(delivery.run).or_default().push(delivery);
            }
        }
        let events = self.events.lock().clone();
        for line in &lines {
            let Some(id) = run_of(line) else { continue };
            if line[0] == "a" {
                self.tell_calls(&events, webhook_id(id), line).await?;
                continue;
            }
            let base = found.get(&id).cloned().or_else(|| self.recent.lock().get(&id).cloned());
            // A run that is gone was pruned.
            let Some(base) = base else { continue };
            match line[0] {
                "s" => match overlaid(&base, line) {
                    Some(run) => events.publish_state(&Arc::new(run), &Arc::default()),
                    None => events.publish_state(&base, &Arc::default()),
                },
                "h" => {
                    let of_run: Arc<[Delivery]> = deliveries.remove(&base.id()).unwrap_or_default().into();
                    events.publish_state(&base, &of_run);
                    self.recent.lock().remove(&id);
                    continue;
                }
                "p" => {
                    if let Some(progress) = line.get(2).and_then(|text| serde_json::from_str(text).ok()) {
                        events.publish_progress(&base, &progress);
                    }
                }
                "l" => {
                    let start = line.get(2).and_then(|start| start.parse().ok()).unwrap_or(0);
                    if let Some(text) = reading::log_piece(&self.database, id, start).await? {
                        events.publish_log(&base, &text);
                    }
                }
                _ => {}
            }
            let mut recent = self.recent.lock();
            if recent.len() >= RECENT {
                recent.clear();
            }
            recent.insert(id, base);
        }
        Ok(())
    }

    /// Publishes the calls of a webhook, whose ids are in a line.
    async fn tell_calls(&self, events: &EventLog, webhook: WebhookId, line: &[&str]) -> Result<(), Failure> {
        let ids = line.get(2).copied().unwrap_or_default().split(',');
        let ids = ids.filter_map(|id| Uuid::parse_str(id).ok()).collect();
        let calls = reading::calls(&self.database, &ids).await?;
        // Those of a webhook that is deleted meanwhile are gone.
        if !calls.is_empty()
            && let Some(webhook) = webhooks::get_by_id(&self.database, webhook).await?
        {
            events.publish_calls(&webhook, &calls);
        }
        Ok(())
    }
}

/// The run as it was when a line was written.
fn overlaid(base: &Run, line: &[&str]) -> Option<Run> {
    let number = |place: usize| line.get(place)?.parse::<i64>().ok();
    let error = line.get(9).filter(|text| !text.is_empty()).map(|text| text.as_bytes());
    let state = i16::try_from(number(2)?).ok()?;
    let changing = Changing {
        state,
        attempt: i32::try_from(number(3)?).ok()?,
        interruptions: i32::try_from(number(4)?).ok()?,
        fence: number(5)?,
        cancel: number(6).and_then(|reason| i16::try_from(reason).ok()),
        started_ms: number(7),
        due_ms: number(8),
        outcome: error,
        worker: line.get(10).copied().filter(|name| !name.is_empty()),
        ..Changing::default()
    };
    changed(base.parts().clone(), &changing).ok()
}

/// A read under way, and the time of the last one.
struct Read<'a>(&'a Listener);

impl<'a> Read<'a> {
    fn new(listener: &'a Listener) -> Self {
        listener.reads.fetch_add(1, Ordering::SeqCst);
        Self(listener)
    }
}

impl Drop for Read<'_> {
    fn drop(&mut self) {
        self.0.reading.lock().last = Some(Instant::now());
        self.0.reads.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A random identifier.
trait Random {
    fn new_v4_like() -> Self;
}

impl Random for Uuid {
    fn new_v4_like() -> Self {
        uuid::Builder::from_random_bytes(rand::random()).into_uuid()
    }
}

pub(crate) fn random_uuid() -> Uuid {
    Uuid::new_v4_like()
}
