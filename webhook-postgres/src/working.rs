//! Claiming, beginning, renewing and settling runs.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use uuid::Uuid;
use webhook_core::id::RunId;
use webhook_core::run::{Ending, Run, RunState};
use webhook_core::store::{
    Begun, Claim, ClaimRequest, Outcome, Renewal, Renewed, Settled, Settlement, StoreError, Workflows,
};

use crate::database::Database;
use crate::enqueue::superseded_outcome;
use crate::failure::Failure;
use crate::group::{Bounds, Group, Grouped};
use crate::options::plain_name;
use crate::reading;
use crate::record::*;
use crate::waiting::Waits;
use crate::webhooks::Known;

/// Upper bound on claimed runs that are kept, to settle them without reading what never changes.
const HELD: usize = 100_000;
/// Interval at which a busy claimer looks for leases that have ended.
const LOOK_FOR_EXPIRED: Duration = Duration::from_secs(1);
/// After so many runs that ended, the table of live runs is cleaned up. Autovacuum looks once a minute at the most
/// often, and by then a busy claim would step over millions of dead entries of its index.
const CLEANED_AFTER: usize = 20_000;
/// Upper bound on runs that are made ready or interrupted in one transaction, of each webhook.
const REVIVED: i32 = 500;

pub(crate) struct Working {
    database: Arc<Database>,
    name: String,
    waits: Arc<Waits>,
    webhooks: Arc<Known>,
    held: Arc<Held>,
    settle: Arc<Group<Settlement, Settled>>,
    cleaning: Arc<Cleaning>,
    begin: Arc<Group<Begin, ()>>,
    renew: Arc<Group<Renew, Renewed>>,
    claims: Semaphore,
    turn: Mutex<Turn>,
}

/// When the table of live runs is to be cleaned up.
#[derive(Default)]
struct Cleaning {
    settled: AtomicUsize,
    is_running: AtomicBool,
}

/// Runs that this process has claimed.
type Held = Mutex<HashMap<RunId, Arc<Run>>>;

struct Turn {
    /// The webhook that was the last to be given out.
    webhook: Uuid,
    /// When leases were last looked through, unless the last claim found less than it asked for.
    looked: Option<Instant>,
}

impl Grouped for Settlement {
    type Key = RunId;

    fn key(&self) -> Option<RunId> {
        Some(self.run)
    }

    fn bytes(&self) -> usize {
        256 + 512 * self.deliveries().len()
    }
}

#[derive(Clone, Copy)]
struct Begin(Begun);

impl Grouped for Begin {
    type Key = RunId;

    fn key(&self) -> Option<RunId> {
        Some(self.0.run)
    }

    fn bytes(&self) -> usize {
        32
    }
}

#[derive(Clone)]
struct Renew {
    renewal: Renewal,
    lease: Duration,
}

impl Grouped for Renew {
    type Key = RunId;

    fn key(&self) -> Option<RunId> {
        Some(self.renewal.run)
    }

    fn bytes(&self) -> usize {
        64
    }
}

impl Working {
    pub(crate) fn new(database: Arc<Database>, name: String, waits: Arc<Waits>) -> Self {
        let (webhooks, held) = (Arc::new(Known::default()), Arc::new(Held::default()));
        let bounds = |executors| Bounds { executors, requests: 512, bytes: 1024 * 1024 };
        let settle = {
            let (database, webhooks, held) = (database.clone(), webhooks.clone(), held.clone());
            Group::new(bounds(2), move |settlements| {
                let (database, webhooks, held) = (database.clone(), webhooks.clone(), held.clone());
                Box::pin(async move { settle(&database, &webhooks, &held, &settlements).await })
            })
        };
        let begin = {
            let database = database.clone();
            Group::new(bounds(1), move |begun| {
                let database = database.clone();
                Box::pin(async move { begin(&database, &begun).await })
            })
        };
        let renew = {
            let database = database.clone();
            Group::new(bounds(1), move |renewals| {
                let database = database.clone();
                Box::pin(async move { renew(&database, &renewals).await })
            })
        };
        let turn = Mutex::new(Turn { webhook: Uuid::nil(), looked: None });
        let (claims, cleaning) = (Semaphore::new(2), Arc::default());
        Self { database, name, waits, webhooks, held, settle, cleaning, begin, renew, claims, turn }
    }

    /// Waits until no run is being begun, renewed or settled.
    pub(crate) async fn drained(&self) {
        tokio::join!(self.begin.drained(), self.renew.drained(), self.settle.drained());
    }

    pub(crate) async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claim>, StoreError> {
        // Waiting is no dropping: the permit is only held while a statement is under way.
        let _permit = self.claims.acquire().await;
        let wanted = request.limit.saturating_add(request.ahead);
        let seen = self.waits.runs();
        let (mut claims, mut due) = self.claim_ready(&request, 0).await?;
        while due && self.revive(request.now).await? > 0 && claims.len() < wanted {
            let (more, more_due) = self.claim_ready(&request, claims.len()).await?;
            claims.extend(more);
            due = more_due;
        }
        let is_full = claims.len() >= wanted;
        self.waits.claimed_runs(&request.workflows, (!is_full).then_some(seen));
        self.turn.lock().looked = is_full.then(Instant::now);
        Ok(claims)
    }

    /// Claims ready runs when so many were claimed before. Also says whether [`Self::revive`] has something to do.
    async fn claim_ready(
        &self,
        request: &ClaimRequest,
        before: usize,
    ) -> Result<(Vec<Claim>, bool), Failure> {
        let clamp = |count: usize| i32::try_from(count).unwrap_or(i32::MAX / 2).min(100_000);
        let now_count = clamp(request.limit.saturating_sub(before));
        let ahead =
            clamp(request.ahead.min((request.limit.saturating_add(request.ahead)).saturating_sub(before)));
        let (turn, looks) = {
            let turn = self.turn.lock();
            (turn.webhook, turn.looked.is_none_or(|looked| looked.elapsed() > LOOK_FOR_EXPIRED))
        };
        let bound = i32::try_from(request.interruption_bound.max(1)).unwrap_or(i32::MAX);
        let claimer = plain_name(request.claimer.as_deref().unwrap_or(&self.name));
        let (workflows, kinds) = wanted(&request.workflows);
        let rows = self
            .database
            .query(
                "SELECT * FROM @S@.claim_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
                &[
                    int(&now_count),
                    int(&ahead),
                    long(&duration_ms(request.lease)),
                    int(&bound),
                    long(&milliseconds(request.now)),
                    uuid(&turn),
                    flag(&looks),
                    text(&claimer),
                    maybe_texts(&workflows),
                    maybe_texts(&kinds),
                ],
            )
            .await?;
        let Some(last) = rows.last() else { return Ok((Vec::new(), false)) };
        let due = get::<Option<bool>>(last, "due")?.unwrap_or(false);
        if let Some(next) = get::<Option<Uuid>>(last, "next_turn")? {
            self.turn.lock().webhook = next;
        }
        let mut wanted = HashMap::new();
        for row in &rows {
            if let (Some(webhook), Some(revision)) = (get(row, "webhook")?, get(row, "revision")?) {
                wanted.insert(webhook, revision);
            }
        }
        let webhooks = self.webhooks.of(&self.database, &wanted).await?;
        let mut claims = Vec::with_capacity(rows.len());
        for row in &rows {
            let Some(id) = get::<Option<Uuid>>(row, "id")? else { continue };
            let (webhook, is_ahead): (Uuid, bool) = (get(row, "webhook")?, get(row, "is_ahead")?);
            let base =
                read_base(id, webhook, get(row, "workflow")?, get(row, "fixed")?, get(row, "parameters")?)?;
            let attempt = get(row, "attempt")?;
            let started_ms: Option<i64> = get(row, "started_ms")?;
            let changing = Changing {
                state: RUNNING,
                attempt,
                interruptions: get(row, "interruptions")?,
                fence: get(row, "fence")?,
                cancel: get(row, "cancel")?,
                started_ms: if is_ahead {
                    started_ms.or(Some(milliseconds(request.now)))
                } else {
                    started_ms
                },
                due_ms: get(row, "due_ms")?,
                outcome: get(row, "error")?,
                worker: Some(&claimer),
                ..Changing::default()
            };
            let run = Arc::new(changed(base, &changing)?);
            claims.push(Claim::new(run, webhooks.get(&webhook).cloned()).with_ahead(is_ahead));
        }
        let mut held = self.held.lock();
        if held.len() > HELD {
            held.clear();
        }
        held.extend(claims.iter().map(|claim| (claim.run.id(), claim.run.clone())));
        Ok((claims, due))
    }

    /// Makes due runs ready, and interrupts those whose lease has ended.
    async fn revive(&self, now: SystemTime) -> Result<i32, Failure> {
        let now = milliseconds(now);
        let rows = self.database.query("SELECT @S@.revive_1($1, $2)", &[long(&now), int(&REVIVED)]).await?;
        rows.first().map_or(Ok(0), |row| at(row, 0))
    }

    pub(crate) async fn begin(&self, begun: Vec<Begun>) -> Result<(), StoreError> {
        self.begin.submit_all(begun.into_iter().map(Begin).collect()).await?;
        Ok(())
    }

    pub(crate) async fn renew(
        &self,
        renewals: Vec<Renewal>,
        lease: Duration,
    ) -> Result<Vec<Renewed>, StoreError> {
        let renewals = renewals.into_iter().map(|renewal| Renew { renewal, lease }).collect();
        Ok(self.renew.submit_all(renewals).await?)
    }

    pub(crate) async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Settled>, StoreError> {
        let count = settlements.len();
        let settled = self.settle.submit_all(settlements).await?;
        self.clean_up_after(count);
        Ok(settled)
    }

    /// Cleans up in the background once enough runs have ended.
    fn clean_up_after(&self, count: usize) {
        let settled = self.cleaning.settled.fetch_add(count, Ordering::Relaxed) + count;
        if settled < CLEANED_AFTER || self.cleaning.is_running.swap(true, Ordering::Relaxed) {
            return;
        }
        self.cleaning.settled.store(0, Ordering::Relaxed);
        let (database, cleaning) = (self.database.clone(), self.cleaning.clone());
        tokio::spawn(async move {
            if let Err(failure) = database.vacuum("live").await {
                tracing::debug!(?failure, "the table of live runs could not be cleaned up");
            }
            cleaning.is_running.store(false, Ordering::Relaxed);
        });
    }
}

/// Workflows as the database takes them: by name, or by kind.
fn wanted(workflows: &Workflows) -> (Option<Vec<String>>, Option<Vec<String>>) {
    match workflows {
        Workflows::All => (None, None),
        Workflows::OfKinds(kinds) => (None, Some(kinds.iter().map(ToString::to_string).collect())),
        Workflows::Only(keys) => (Some(keys.iter().map(ToString::to_string).collect()), None),
    }
}

async fn begin(database: &Database, begun: &[Begin]) -> Result<Vec<()>, Failure> {
    let begun_runs = || begun.iter().map(|begin| &begin.0);
    database
        .query(
            "SELECT @S@.begin_1($1, $2, $3)",
            &[
                uuids(&begun_runs().map(|begun| uuid_of_run(begun.run)).collect()),
                longs(&begun_runs().map(|begun| begun.fence.cast_signed()).collect()),
                longs(&begun_runs().map(|begun| milliseconds(begun.now)).collect()),
            ],
        )
        .await?;
    Ok(begun.iter().map(|_| ()).collect())
}

async fn renew(database: &Database, renewals: &[Renew]) -> Result<Vec<Renewed>, Failure> {
    // Those of one process have one lease.
    let lease = renewals.iter().map(|it| it.lease).max().unwrap_or_default();
    let progress = |it: &Renew| it.renewal.progress.as_ref().map(json);
    let rows = database
        .query(
            "SELECT @S@.renew_1($1, $2, $3, $4, $5)",
            &[
                uuids(&renewals.iter().map(|it| uuid_of_run(it.renewal.run)).collect()),
                longs(&renewals.iter().map(|it| it.renewal.fence.cast_signed()).collect()),
                maybe_many_bytes(&renewals.iter().map(progress).collect()),
                long(&duration_ms(lease)),
                long(&milliseconds(SystemTime::now())),
            ],
        )
        .await?;
    let answers: Vec<i32> = rows.first().map(|row| at(row, 0)).transpose()?.unwrap_or_default();
    let answer = |number: i32| match number {
        -1 => Renewed::Lost,
        0 => Renewed::Held { cancel: None },
        reason => Renewed::Held { cancel: cancel_reason(i16::try_from(reason).ok()) },
    };
    Ok(answers.into_iter().map(answer).collect())
}

/// A settlement as the database takes it.
struct Plain {
    kind: i32,
    state: i32,
    outcome: Option<Vec<u8>>,
    delay_ms: i64,
    due_ms: i64,
}

fn plain(settlement: &Settlement) -> Plain {
    let now = milliseconds(settlement.now);
    match &settlement.outcome {
        Outcome::Retry { error, delay } => {
            let left = Left { error: Some(error.clone()), ..Left::default() };
            let due_ms = now.saturating_add(duration_ms(*delay));
            Plain { kind: 1, state: 6, outcome: Some(json(&left)), delay_ms: duration_ms(*delay), due_ms }
        }
        Outcome::Ended { ending, .. } => {
            let (state, outcome) = ended(ending, settlement.now);
            Plain { kind: 0, state, outcome, delay_ms: 0, due_ms: now }
        }
        _ => Plain { kind: 2, state: 8, outcome: None, delay_ms: 0, due_ms: now },
    }
}

/// The state and the record of an ending, as [`Run::ended`] makes them.
fn ended(ending: &Ending, now: SystemTime) -> (i32, Option<Vec<u8>>) {
    let Ok(workflow) = "a/a".parse() else { return (8, None) };
    let (id, webhook) = (RunId::from_bytes([0; 16]), webhook_id(Uuid::nil()));
    let run = Run::new(id, workflow, webhook, Default::default(), 1, Default::default(), now);
    match run.claimed(1, 1, now).and_then(|run| run.ended(ending.clone(), now)) {
        Ok(run) => (ended_state(run.state()), Left::of(&run)),
        Err(_) => (9, None),
    }
}

async fn settle(
    database: &Database,
    webhooks: &Known,
    held: &Held,
    settlements: &[Settlement],
) -> Result<Vec<Settled>, Failure> {
    let known: Vec<Option<Arc<Run>>> = {
        let held = held.lock();
        let claimed = |it: &Settlement| held.get(&it.run).filter(|run| run.fence() == it.fence).cloned();
        settlements.iter().map(claimed).collect()
    };
    let bounded = webhooks.bounded(known.iter().flatten().map(|run| run.webhook_id()));
    let mut settled = match settle_once(database, &bounded, settlements, &known).await {
        // Nothing is known of what was asked. Asking again settles what is not settled, and what is stale then may
        // have been settled by the first try.
        Err(failure) if failure.is_unknown() => {
            let mut again = settle_once(database, &bounded, settlements, &known).await?;
            for (settled, settlement) in again.iter_mut().zip(settlements) {
                if settled.is_none() {
                    *settled = settled_before(database, settlement).await?;
                }
            }
            again
        }
        other => other?,
    };
    {
        let mut held = held.lock();
        for settlement in settlements {
            if held.get(&settlement.run).is_some_and(|run| run.fence() <= settlement.fence) {
                held.remove(&settlement.run);
            }
        }
    }
    Ok(settled.drain(..).map(|run| run.map_or(Settled::Stale, Settled::Applied)).collect())
}

/// The run, if this settlement stands already.
async fn settled_before(database: &Database, settlement: &Settlement) -> Result<Option<Arc<Run>>, Failure> {
    let run = reading::run(database, settlement.run).await?;
    Ok(run.filter(|run| run.fence() == settlement.fence && run.state() != RunState::Running))
}

async fn settle_once(
    database: &Database,
    bounded: &[Uuid],
    settlements: &[Settlement],
    known: &[Option<Arc<Run>>],
) -> Result<Vec<Option<Arc<Run>>>, Failure> {
    let plain: Vec<Plain> = settlements.iter().map(plain).collect();
    let (mut rows, mut ids, mut states, mut channels, mut records) = (vec![], vec![], vec![], vec![], vec![]);
    for (index, settlement) in settlements.iter().enumerate() {
        for delivery in settlement.deliveries() {
            rows.push(index as i32 + 1);
            ids.push(uuid_of_delivery(delivery.id));
            states.push(i32::from(reading::delivery_state(delivery.state)));
            channels.push(delivery.channel.as_str().to_owned());
            records.push(json(delivery));
        }
    }
    let outcomes: Vec<Option<&[u8]>> = plain.iter().map(|it| it.outcome.as_deref()).collect();
    let answer = database
        .query(
            "SELECT * FROM @S@.settle_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
            &[
                uuids(&bounded.to_vec()),
                uuids(&settlements.iter().map(|it| uuid_of_run(it.run)).collect()),
                longs(&settlements.iter().map(|it| it.fence.cast_signed()).collect()),
                ints(&plain.iter().map(|it| it.kind).collect()),
                ints(&plain.iter().map(|it| it.state).collect()),
                slices!(&outcomes),
                longs(&plain.iter().map(|it| it.delay_ms).collect()),
                longs(&plain.iter().map(|it| it.due_ms).collect()),
                longs(&settlements.iter().map(|it| milliseconds(it.now)).collect()),
                maybe_longs(&settlements.iter().map(|it| it.started_at.map(milliseconds)).collect()),
                flags(&known.iter().map(Option::is_none).collect()),
                bytes(&superseded_outcome()),
                ints(&rows),
                uuids(&ids),
                ints(&states),
                texts(&channels),
                many_bytes(&records),
            ],
        )
        .await?;
    let row = answer.first().ok_or_else(|| Failure::Corrupt("no answer to a settlement".to_owned()))?;
    let places: Vec<i32> = get(row, "places")?;
    let now_states: Vec<i32> = get(row, "now_states")?;
    let attempts: Vec<i32> = get(row, "attempts")?;
    let interruptions: Vec<i32> = get(row, "interruptions")?;
    let cancels: Vec<Option<i32>> = get(row, "cancels")?;
    let started_ms: Vec<Option<i64>> = get(row, "started_ms")?;
    let due_ms: Vec<Option<i64>> = get(row, "due_ms")?;
    let finished_ms: Vec<Option<i64>> = get(row, "finished_ms")?;
    let progresses: Vec<Option<&[u8]>> = get(row, "progresses")?;
    let results: Vec<Option<&[u8]>> = get(row, "results")?;
    let webhooks: Vec<Uuid> = get(row, "webhooks")?;
    let workflows: Vec<&str> = get(row, "workflows")?;
    let fixed: Vec<Option<&[u8]>> = get(row, "fixed")?;
    let parameters: Vec<Option<&[u8]>> = get(row, "parameters")?;
    let claimers: Vec<Option<&str>> = get(row, "claimers")?;
    let mut settled = vec![None; settlements.len()];
    for (index, place) in places.iter().enumerate() {
        let place = usize::try_from(*place - 1).unwrap_or(usize::MAX);
        let Some(settlement) = settlements.get(place) else { continue };
        let base = match &known[place] {
            Some(run) => run.parts().clone(),
            None => read_base(
                uuid_of_run(settlement.run),
                webhooks[index],
                workflows[index],
                fixed[index].unwrap_or_default(),
                parameters[index],
            )?,
        };
        let is_ended = finished_ms[index].is_some();
        let outcome =
            results[index].or(if is_ended && plain[place].kind == 0 { outcomes[place] } else { None });
        let changing = Changing {
            state: i16::try_from(now_states[index]).unwrap_or(-1),
            attempt: attempts[index],
            interruptions: interruptions[index],
            fence: settlement.fence.cast_signed(),
            cancel: cancels[index].and_then(|reason| i16::try_from(reason).ok()),
            started_ms: started_ms[index],
            due_ms: due_ms[index],
            finished_ms: finished_ms[index],
            progress: progresses[index],
            outcome,
            worker: claimers[index],
        };
        settled[place] = Some(Arc::new(changed(base, &changing)?));
    }
    Ok(settled)
}
