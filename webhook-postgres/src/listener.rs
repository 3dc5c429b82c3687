//! The connection that listens: it wakes those who wait for work, and tells of events in the order of their commits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_postgres::{AsyncMessage, Client, Row};
use uuid::Uuid;
use webhook_core::events::{EventCursor, Events};
use webhook_core::store::CancelNotice;

use crate::backlog::Backlog;
use crate::database::{Database, Messages};
use crate::failure::Failure;
use crate::record::*;
use crate::ring::EventRing;
use crate::telling::Teller;
use crate::waiting::Waits;

/// Time for which events are requested after they were last read.
const READING: Duration = Duration::from_secs(60);
/// Interval at which the request is renewed.
const RENEWED: Duration = Duration::from_secs(15);
/// Time within which the connection that listens must answer. One that a firewall forgot does not end by itself.
const ANSWER: Duration = Duration::from_secs(10);
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
    /// Notifications of the stream of events that are still to be told.
    backlog: Mutex<Backlog>,
    /// Signalled for a notification in the backlog, and when someone begins to read.
    arrived: Notify,
    teller: Teller,
    ring: EventRing,
    /// Reads under way.
    reads: AtomicUsize,
    reading: Mutex<Reading>,
    /// Number of the last token of this process.
    registering: tokio::sync::Mutex<u64>,
    /// Number of the last token of this process that came back as a notification.
    tokens: watch::Sender<u64>,
    is_connected: watch::Sender<bool>,
    /// Cancellations that no worker has taken yet.
    cancelled: Mutex<Vec<CancelNotice>>,
    cancellation: Notify,
}

#[derive(Default)]
struct Reading {
    /// True while notifications of events are told here.
    is_on: bool,
    /// Until when the database knows that this process reads.
    until: Option<Instant>,
    last: Option<Instant>,
}

impl Listener {
    pub(crate) fn new(database: Arc<Database>, waits: Arc<Waits>, process: Uuid, name: String) -> Arc<Self> {
        Arc::new(Self {
            teller: Teller::new(database.clone()),
            database,
            waits,
            process,
            name,
            backlog: Mutex::default(),
            arrived: Notify::new(),
            ring: EventRing::default(),
            reads: AtomicUsize::new(0),
            reading: Mutex::default(),
            registering: tokio::sync::Mutex::new(0),
            tokens: watch::Sender::new(0),
            is_connected: watch::Sender::new(false),
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
            if self.database.listens_elsewhere() {
                self.check_address(&client).await?;
            }
            client.batch_execute(&format!("LISTEN {}", self.database.schema())).await?;
            Ok::<(), Failure>(())
        };
        tokio::pin!(listen);
        // The connection does its work while its messages are read.
        loop {
            tokio::select! {
                biased;
                done = &mut listen => break done?,
                message = messages.next() => self.message(message)?,
            }
        }
        *failures = 0;
        self.waits.set_listening(true);
        self.is_connected.send_replace(true);
        self.changed();
        tokio::try_join!(self.follow(&mut messages), self.keep_up(&client), self.tell_all()).map(drop)
    }

    /// Makes sure that both addresses are of one database: at another one, nothing would ever be told.
    async fn check_address(&self, client: &Client) -> Result<(), Failure> {
        let sql = "SELECT extract(epoch FROM pg_postmaster_start_time())::float8, oid::bigint
            FROM pg_database WHERE datname = current_database()";
        let rows = [client.query_typed(sql, &[]).await?, self.database.read(sql, &[]).await?];
        let read = |rows: &Vec<Row>| -> Result<Option<(f64, i64)>, Failure> {
            rows.first().map(|row| Ok((at(row, 0)?, at(row, 1)?))).transpose()
        };
        if read(&rows[0])? != read(&rows[1])? {
            return Err(Failure::Unreachable("listen: this address is of another database".to_owned()));
        }
        Ok(())
    }

    async fn follow(&self, messages: &mut Messages) -> Result<(), Failure> {
        loop {
            self.message(messages.next().await)?;
        }
    }

    /// Makes sure now and then that the connection lives, and that events are requested while there are readers.
    async fn keep_up(&self, client: &Client) -> Result<(), Failure> {
        let mut tick = tokio::time::interval(RENEWED);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            match tokio::time::timeout(ANSWER, client.batch_execute("")).await {
                Ok(answered) => answered?,
                Err(_) => return Err(Failure::Connection(format!("no answer within {ANSWER:?}"))),
            }
            self.renew().await?;
        }
    }

    /// Wakes those who wait, and passes on what takes longer, in order.
    fn message(&self, message: Option<Result<AsyncMessage, tokio_postgres::Error>>) -> Result<(), Failure> {
        let message = message.ok_or_else(|| Failure::Connection("it was closed".to_owned()))??;
        let AsyncMessage::Notification(notification) = message else { return Ok(()) };
        let payload = notification.payload();
        match payload.as_bytes().first() {
            Some(b'r') => self.waits.runs_changed(),
            Some(b'd') => self.waits.deliveries_changed(),
            Some(b'c') => self.note_cancelled(&payload[1..]),
            Some(b'e' | b'm' | b'y') => self.keep(payload)?,
            _ => {}
        }
        Ok(())
    }

    /// Keeps a notification of the stream of events. While no one reads here, the newest are kept for a reader that has
    /// read elsewhere before.
    fn keep(&self, payload: &str) -> Result<(), Failure> {
        let is_reading = self.is_reading();
        let mut backlog = self.backlog.lock();
        if !is_reading {
            backlog.make_room(payload.len());
        } else if backlog.is_full() {
            return Err(Failure::Connection("events come faster than they are read".to_owned()));
        }
        backlog.push(payload);
        drop(backlog);
        self.arrived.notify_one();
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

    /// Tells of the notifications of events, in their order, while there are readers.
    async fn tell_all(&self) -> Result<(), Failure> {
        let own = format!("y{} ", self.process);
        loop {
            if self.is_reading() {
                let (payloads, has_gap) = self.backlog.lock().take();
                if has_gap {
                    self.ring.forget();
                }
                if !payloads.is_empty() {
                    self.teller.tell(&payloads, &self.ring).await?;
                    let mut tokens = payloads.iter().filter_map(|payload| payload.strip_prefix(&own));
                    if let Some(Ok(newest)) = tokens.next_back().map(str::parse) {
                        self.tokens.send_replace(newest);
                    }
                    continue;
                }
            }
            self.arrived.notified().await;
        }
    }

    fn is_reading(&self) -> bool {
        self.reading.lock().is_on
    }

    /// Returns whether the database knows that this process reads.
    fn is_registered(&self) -> bool {
        self.reading.lock().until.is_some_and(|until| until > Instant::now())
    }

    /// Forgets all events, since some were missed: every cursor is a gap.
    fn forget_events(&self) {
        *self.reading.lock() = Reading::default();
        *self.backlog.lock() = Backlog::default();
        self.ring.forget();
    }

    /// The events after a cursor, of all processes.
    pub(crate) async fn since(&self, cursor: Option<EventCursor>) -> Result<Events, Failure> {
        let _read = Read::new(self);
        let Some(mut cursor) = cursor else {
            self.catch_up().await?;
            return Ok(Events::new(Vec::new(), self.present()?));
        };
        let mut has_caught_up = false;
        loop {
            let changed = self.ring.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if !self.is_registered() {
                self.catch_up().await?;
                has_caught_up = true;
            }
            match self.ring.after(cursor) {
                Some(events) if !events.items.is_empty() => return Ok(events),
                Some(events) => {
                    // Places without events may become more than are kept.
                    cursor = events.cursor;
                    changed.await;
                    has_caught_up = false;
                }
                None if has_caught_up => return Ok(Events::gap(self.present()?)),
                // Another process may have told of a place whose notification has not come here yet.
                None => {
                    self.catch_up().await?;
                    has_caught_up = true;
                }
            }
        }
    }

    fn present(&self) -> Result<EventCursor, Failure> {
        let broke = || Failure::Connection("the connection that listens broke".to_owned());
        self.ring.present().ok_or_else(broke)
    }

    /// Makes sure that events are written, and that those up to now have been told here.
    async fn catch_up(&self) -> Result<(), Failure> {
        let mut last = self.registering.lock().await;
        if !*self.is_connected.borrow() {
            return Err(Failure::Unreachable("events cannot be read at present".to_owned()));
        }
        *last += 1;
        let token = *last;
        let mut tokens = self.tokens.subscribe();
        let is_new = !self.is_registered();
        self.reading.lock().is_on = true;
        self.arrived.notify_one();
        self.database
            .query(
                "SELECT @S@.read_events_1($1, $2, $3, $4, $5)",
                &[
                    uuid(&self.process),
                    text(&self.name),
                    double(&READING.as_secs_f64()),
                    flag(&is_new),
                    text(&format!("{} {token}", self.process)),
                ],
            )
            .await?;
        self.reading.lock().until = Some(Instant::now() + READING);
        let came = tokens.wait_for(|came| *came >= token);
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
            // The ring stays, for a reader that comes back while others still read elsewhere.
            *self.reading.lock() = Reading::default();
            // A reader that has begun meanwhile registers again.
            self.ring.wake();
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

pub(crate) fn random_uuid() -> Uuid {
    uuid::Builder::from_random_bytes(rand::random()).into_uuid()
}
