//! Recording runs, in groups.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio_postgres::Transaction;
use uuid::Uuid;
use webhook_core::error::Resource;
use webhook_core::id::{RunId, WebhookId};
use webhook_core::run::{CancelReason, Ending, Run};
use webhook_core::store::{Enqueue, Enqueued, Idempotency, StoreError};
use webhook_core::webhook::OnOverlap;

use crate::database::{Database, Via};
use crate::failure::Failure;
use crate::group::{Bounds, Group, Grouped};
use crate::reading;
use crate::record::*;

/// A run of more bytes is recorded by [`Enqueuer::each`], which counts exactly: so the space that the other way keeps
/// for groups under way at the same time stays small.
const LARGE: usize = 64 * 1024;
/// For how long a webhook whose runs had to be recorded one by one is taken to be such.
const REMEMBERED: Duration = Duration::from_secs(10);

pub(crate) struct Enqueuer {
    database: Arc<Database>,
    quick: Arc<Group<Item, Verdict>>,
    each: Arc<Group<Item, Verdict>>,
    /// Webhooks with a bound or near a limit, with when that was found. It only saves a statement.
    strict: Mutex<HashMap<WebhookId, Instant>>,
}

/// A run on its way.
#[derive(Clone)]
struct Item {
    request: Arc<Enqueue>,
    fixed: Vec<u8>,
}

impl Grouped for Item {
    type Key = (WebhookId, String);

    fn key(&self) -> Option<Self::Key> {
        let key = self.request.idempotency.as_ref()?;
        Some((self.request.run.webhook_id(), key.key.clone()))
    }

    fn bytes(&self) -> usize {
        self.fixed.len() + self.request.run.parameters().bytes()
    }
}

enum Verdict {
    Created {
        asked_to_stop: Vec<RunId>,
    },
    Skipped,
    Replayed(RunId),
    KeyMismatch,
    QueueFull,
    Unauthorized,
    Disabled,
    NoWebhook,
    IdTaken,
    /// The other way has to decide.
    Each,
}

impl Enqueuer {
    pub(crate) fn new(database: Arc<Database>) -> Self {
        let bounds = Bounds { executors: 2, requests: 256, bytes: 128 * 1024 };
        let quick = {
            let database = database.clone();
            Group::new(bounds, move |items| {
                let database = database.clone();
                Box::pin(async move { quick(Via::Pool(&database), &items).await })
            })
        };
        let each = {
            let database = database.clone();
            let bounds = Bounds { executors: 2, requests: 256, bytes: 4 * 1024 * 1024 };
            Group::new(bounds, move |items| {
                let database = database.clone();
                Box::pin(async move { each(Via::Pool(&database), &items).await })
            })
        };
        Self { database, quick, each, strict: Mutex::default() }
    }

    /// Waits until no run is being recorded.
    pub(crate) async fn drained(&self) {
        self.quick.drained().await;
        self.each.drained().await;
    }

    pub(crate) async fn enqueue(&self, request: Enqueue) -> Result<Enqueued, StoreError> {
        let request = Arc::new(request);
        let mut is_repeated = false;
        loop {
            let verdict = match self.decide(&request, is_repeated).await {
                // Nothing is known of what was asked; asking for the same run again records it once.
                Err(failure) if failure.is_unknown() && !is_repeated => {
                    is_repeated = true;
                    continue;
                }
                other => other?,
            };
            return self.answer(&request, verdict, is_repeated).await;
        }
    }

    /// Records a run within a host's transaction.
    pub(crate) async fn enqueue_in(
        &self,
        transaction: &Transaction<'_>,
        request: Enqueue,
    ) -> Result<Enqueued, StoreError> {
        let request = Arc::new(request);
        let items = [Item { fixed: fixed_of(&request.run), request: request.clone() }];
        let via = Via::Transaction(&self.database, transaction);
        let sql = format!(
            "SELECT set_config('{}.slot', (100 + pg_backend_pid() % 30000)::text, true)",
            self.database.schema()
        );
        via.query(&sql, &[]).await?;
        let is_strict = self.is_strict(&request);
        let mut verdicts = if is_strict { Vec::new() } else { quick(via, &items).await? };
        if is_strict || matches!(verdicts.last(), Some(Verdict::Each)) {
            verdicts = each(via, &items).await?;
        }
        let verdict = verdicts.pop().unwrap_or(Verdict::Each);
        if let Verdict::Replayed(id) = verdict {
            // It may have been recorded by this transaction, which no other connection sees.
            return match reading::run_via(via, id).await? {
                Some(run) => Ok(Enqueued::Replayed(run)),
                None => Err(StoreError::unavailable("the run of a key was just removed")),
            };
        }
        self.answer(&request, verdict, false).await
    }

    async fn decide(&self, request: &Arc<Enqueue>, is_repeated: bool) -> Result<Verdict, Failure> {
        let item = || Item { request: request.clone(), fixed: fixed_of(&request.run) };
        let webhook = request.run.webhook_id();
        if !is_repeated && !self.is_strict(request) {
            match self.quick.submit(item()).await {
                Ok(Verdict::Each) => {
                    let mut strict = self.strict.lock();
                    if strict.len() > 10_000 {
                        strict.clear();
                    }
                    strict.insert(webhook, Instant::now());
                }
                // Some run's id was taken.
                Err(failure) if failure.is_code("WH001") || failure.violates("live_pkey") => {}
                other => return other,
            }
        }
        self.each.submit(item()).await
    }

    /// Returns whether a run has to be recorded by itself.
    fn is_strict(&self, request: &Enqueue) -> bool {
        let run = &request.run;
        let remembered = |since: &Instant| since.elapsed() < REMEMBERED;
        request.concurrency.on_overlap != OnOverlap::Queue
            || run.due_at() > run.queued_at()
            || run.parameters().bytes() > LARGE
            || self.strict.lock().get(&run.webhook_id()).is_some_and(remembered)
    }

    async fn answer(
        &self,
        request: &Enqueue,
        verdict: Verdict,
        is_repeated: bool,
    ) -> Result<Enqueued, StoreError> {
        let run = request.run.clone();
        Ok(match verdict {
            Verdict::Created { asked_to_stop } => Enqueued::Created { run, asked_to_stop },
            Verdict::Skipped => Enqueued::Created { run: skipped(&run), asked_to_stop: Vec::new() },
            Verdict::Replayed(id) if id == run.id() && is_repeated => self.recorded(&run).await?,
            Verdict::Replayed(id) => match reading::run(&self.database, id).await? {
                Some(run) => Enqueued::Replayed(run),
                None => return Err(StoreError::unavailable("the run of a key was just removed")),
            },
            Verdict::KeyMismatch => Enqueued::KeyMismatch,
            Verdict::QueueFull => Enqueued::QueueFull,
            Verdict::Unauthorized => Enqueued::Unauthorized,
            Verdict::Disabled => Enqueued::Disabled,
            Verdict::NoWebhook => return Err(StoreError::NotFound(Resource::Webhook)),
            Verdict::IdTaken if is_repeated => self.recorded(&run).await?,
            Verdict::IdTaken => return Err(StoreError::Conflict(Resource::Run)),
            Verdict::Each => return Err(StoreError::unavailable("a run was neither recorded nor refused")),
        })
    }

    /// A run that a statement has recorded whose answer was lost.
    async fn recorded(&self, run: &Arc<Run>) -> Result<Enqueued, StoreError> {
        let found = reading::run(&self.database, run.id()).await?;
        Ok(Enqueued::Created { run: found.unwrap_or_else(|| run.clone()), asked_to_stop: Vec::new() })
    }
}

fn skipped(run: &Arc<Run>) -> Arc<Run> {
    run.ended(Ending::Skipped, run.queued_at()).map_or_else(|_| run.clone(), Arc::new)
}

/// Returns the outcome of a run that a newer one superseded.
pub(crate) fn superseded_outcome() -> Vec<u8> {
    let now = std::time::SystemTime::UNIX_EPOCH;
    let workflow = "a/a".parse();
    let ended = workflow.ok().and_then(|workflow| {
        let (id, webhook) = (RunId::from_bytes([0; 16]), WebhookId::from_bytes([0; 16]));
        let run = Run::new(id, workflow, webhook, Default::default(), 1, Default::default(), now);
        run.ended(Ending::Cancelled(CancelReason::Superseded), now).ok()
    });
    ended.as_ref().and_then(Left::of).unwrap_or_default()
}

/// Idempotency keys of a group, each with the place of its run.
#[derive(Default)]
struct Keys {
    rows: Vec<i32>,
    keys: Vec<Vec<u8>>,
    prints: Vec<Vec<u8>>,
    formers: Vec<Option<Vec<u8>>>,
    keep_ms: Vec<i64>,
    until_ms: Vec<i64>,
}

/// Returns the other hashes of the request, or `None` if the key alone names it.
fn formers_of(key: &Idempotency) -> Option<Vec<u8>> {
    (!key.any_request).then(|| key.former_fingerprints.concat())
}

/// Facts that runs of a group have in common.
#[derive(PartialEq, Eq, Hash)]
struct Lane<'a> {
    webhook: WebhookId,
    workflow: &'a webhook_core::id::WorkflowKey,
    digest: Option<[u8; 32]>,
    must_be_enabled: bool,
}

fn limit(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Records runs that meet no bound and no limit, in one statement for all.
async fn quick(via: Via<'_>, items: &[Item]) -> Result<Vec<Verdict>, Failure> {
    let mut places: HashMap<Lane<'_>, usize> = HashMap::new();
    let (mut webhooks, mut workflows, mut digests, mut enabled) = (vec![], vec![], vec![], vec![]);
    let (mut counts, mut lane_bytes, mut limits, mut limits_bytes) =
        (Vec::<i64>::new(), Vec::<i64>::new(), Vec::<i64>::new(), Vec::<i64>::new());
    let (mut all, mut all_bytes) = (i64::MAX, i64::MAX);
    let (mut ids, mut lanes, mut sizes) = (vec![], vec![], vec![]);
    let (mut fixed, mut parameters) = (vec![], vec![]);
    let mut keys = Keys::default();
    for (index, item) in items.iter().enumerate() {
        let request = &*item.request;
        let run = &*request.run;
        let lane = Lane {
            webhook: run.webhook_id(),
            workflow: run.workflow(),
            digest: request.token_digest.map(|digest| *digest.as_bytes()),
            must_be_enabled: request.must_be_enabled,
        };
        let size = run.parameters().bytes() as i64;
        let webhook_limit = request.webhook_queue_limit.map_or(i64::MAX, i64::from);
        let place = *places.entry(lane).or_insert_with(|| {
            webhooks.push(uuid_of_webhook(run.webhook_id()));
            workflows.push(run.workflow().to_string());
            digests.push(request.token_digest.map(|digest| digest.as_bytes().to_vec()));
            enabled.push(request.must_be_enabled);
            counts.push(0);
            lane_bytes.push(0);
            limits.push(i64::MAX);
            limits_bytes.push(i64::MAX);
            webhooks.len() - 1
        });
        counts[place] += 1;
        lane_bytes[place] += size;
        limits[place] = limits[place].min(webhook_limit);
        limits_bytes[place] = limits_bytes[place].min(limit(request.webhook_queue_bytes));
        all = all.min(i64::from(request.queue_limit));
        all_bytes = all_bytes.min(limit(request.queue_bytes));
        ids.push(uuid_of_run(run.id()));
        lanes.push(place as i32 + 1);
        sizes.push(size as i32);
        fixed.push(Some(item.fixed.as_slice()));
        parameters.push(parameters_of(run));
        if let Some(key) = &request.idempotency {
            keys.rows.push(index as i32 + 1);
            keys.keys.push(key.key.as_bytes().to_vec());
            keys.prints.push(key.fingerprint.to_vec());
            keys.formers.push(formers_of(key));
            keys.keep_ms.push(duration_ms(key.keep_for));
            keys.until_ms.push(milliseconds(run.queued_at()).saturating_add(duration_ms(key.keep_for)));
        }
    }
    // Sums of 64-bit limits must not overflow in the database.
    for number in limits.iter_mut().chain(&mut limits_bytes).chain([&mut all, &mut all_bytes]) {
        *number = (*number).min(i64::MAX / 4);
    }
    let row = via
        .query(
            "SELECT verdicts, replays FROM @S@.enqueue_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, \
             $15, $16, $17, $18, $19, $20, $21)",
            &[
                uuids(&webhooks),
                texts(&workflows),
                maybe_many_bytes(&digests),
                flags(&enabled),
                longs(&counts),
                longs(&lane_bytes),
                longs(&limits),
                longs(&limits_bytes),
                long(&all),
                long(&all_bytes),
                uuids(&ids),
                ints(&lanes),
                ints(&sizes),
                slices!(&fixed),
                slices!(&parameters),
                ints(&keys.rows),
                many_bytes(&keys.keys),
                many_bytes(&keys.prints),
                maybe_many_bytes(&keys.formers),
                longs(&keys.keep_ms),
                longs(&keys.until_ms),
            ],
        )
        .await?;
    let row = row.first().ok_or_else(|| Failure::Corrupt("no answer to an enqueue".to_owned()))?;
    let created = || Verdict::Created { asked_to_stop: Vec::new() };
    match at::<Option<&str>>(row, 0)? {
        None => Ok(items.iter().map(|_| created()).collect()),
        Some(letters) => verdicts(letters, at(row, 1)?, items.len(), |_| Vec::new()),
    }
}

/// Records runs one after another, in one statement.
async fn each(via: Via<'_>, items: &[Item]) -> Result<Vec<Verdict>, Failure> {
    let runs = || items.iter().map(|item| &*item.request.run);
    let requests = || items.iter().map(|item| &*item.request);
    let keys = || requests().map(|request| request.idempotency.as_ref());
    let overlap = |request: &Enqueue| match request.concurrency.on_overlap {
        OnOverlap::Queue => 0,
        OnOverlap::Skip => 1,
        OnOverlap::Replace => 2,
        OnOverlap::Coalesce => 3,
        #[allow(
            unreachable_patterns,
            reason = "`OnOverlap` may get more rules, which the database does not know"
        )]
        _ => 0,
    };
    let delay = |run: &Run| run.due_at().duration_since(run.queued_at()).map_or(0, duration_ms);
    let until = |(request, key): (&Enqueue, Option<&Idempotency>)| {
        key.map(|key| milliseconds(request.run.queued_at()).saturating_add(duration_ms(key.keep_for)))
    };
    let rows = via
        .query(
            "SELECT verdicts, replays, stopped::text FROM @S@.enqueue_each_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, \
             $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)",
            &[
                uuids(&runs().map(|run| uuid_of_webhook(run.webhook_id())).collect()),
                texts(&runs().map(|run| run.workflow().to_string()).collect()),
                maybe_many_bytes(
                    &requests().map(|it| it.token_digest.map(|digest| digest.as_bytes().to_vec())).collect(),
                ),
                flags(&requests().map(|request| request.must_be_enabled).collect()),
                ints(&requests().map(overlap).collect()),
                longs(&requests().map(|it| it.webhook_queue_limit.map_or(i64::MAX, i64::from)).collect()),
                longs(&requests().map(|request| limit(request.webhook_queue_bytes)).collect()),
                longs(&requests().map(|request| i64::from(request.queue_limit)).collect()),
                longs(&requests().map(|request| limit(request.queue_bytes)).collect()),
                uuids(&runs().map(|run| uuid_of_run(run.id())).collect()),
                ints(&runs().map(|run| run.parameters().bytes() as i32).collect()),
                slices!(&items.iter().map(|item| Some(item.fixed.as_slice())).collect::<Vec<_>>()),
                slices!(&runs().map(parameters_of).collect::<Vec<_>>()),
                longs(&runs().map(|run| milliseconds(run.queued_at())).collect()),
                longs(&runs().map(delay).collect()),
                slices!(&keys().map(|key| key.map(|key| key.key.as_bytes())).collect::<Vec<_>>()),
                slices!(&keys().map(|key| key.map(|key| key.fingerprint.as_slice())).collect::<Vec<_>>()),
                maybe_many_bytes(&keys().map(|key| key.and_then(formers_of)).collect()),
                maybe_longs(&keys().map(|key| key.map(|key| duration_ms(key.keep_for))).collect()),
                maybe_longs(&requests().zip(keys()).map(until).collect()),
                bytes(&superseded_outcome()),
            ],
        )
        .await?;
    let row = rows.first().ok_or_else(|| Failure::Corrupt("no answer to an enqueue".to_owned()))?;
    let stopped: HashMap<String, Vec<Uuid>> =
        serde_json::from_str(at(row, 2)?).map_err(|error| Failure::corrupt("an answer", error))?;
    verdicts(at(row, 0)?, at(row, 1)?, items.len(), |index| {
        let stopped = stopped.get(&(index + 1).to_string());
        stopped.into_iter().flatten().map(|id| run_id(*id)).collect()
    })
}

fn verdicts(
    letters: &str,
    replays: Option<Vec<Option<Uuid>>>,
    count: usize,
    stopped: impl Fn(usize) -> Vec<RunId>,
) -> Result<Vec<Verdict>, Failure> {
    let replays = replays.unwrap_or_default();
    let verdict = |(index, letter): (usize, char)| {
        Ok(match letter {
            'c' => Verdict::Created { asked_to_stop: stopped(index) },
            's' => Verdict::Skipped,
            'm' => Verdict::KeyMismatch,
            'f' => Verdict::QueueFull,
            'u' => Verdict::Unauthorized,
            'd' => Verdict::Disabled,
            'n' => Verdict::NoWebhook,
            'x' => Verdict::IdTaken,
            'r' => match replays.get(index).copied().flatten() {
                Some(id) => Verdict::Replayed(run_id(id)),
                None => return Err(Failure::Corrupt("a key stands for no run".to_owned())),
            },
            _ => Verdict::Each,
        })
    };
    let verdicts: Vec<Verdict> = letters.chars().enumerate().map(verdict).collect::<Result<_, _>>()?;
    if verdicts.len() == count {
        Ok(verdicts)
    } else {
        Err(Failure::Corrupt(format!("{} answers to {count} runs", verdicts.len())))
    }
}
