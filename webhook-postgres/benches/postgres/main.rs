//! Runs per second against a PostgreSQL server of its own, with its syncs. Beside them: pgbench's one-row inserts into a
//! table with the same columns and indexes.
//!
//! `cargo bench -p webhook-postgres --bench postgres` prints a table. `WEBHOOK_BENCH_SECONDS` sets the length of each
//! case, 4 by default.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "it prints what it measures, and ends at a failure"
)]

#[path = "../../tests/scene/mod.rs"]
mod scene;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tokio::task::JoinSet;
use webhook_core::clock::{Clock, SystemClock};
use webhook_core::id::{RunId, WebhookId};
use webhook_core::parameters::{EffectiveParameter, EffectiveParameters, Source};
use webhook_core::run::{Caller, Ending, Run, RunParameters, RunState};
use webhook_core::store::{
    ClaimRequest, Enqueue, Enqueued, Outcome, PruneRequest, RunQuery, Settled, Settlement, Store, Work,
};
use webhook_core::token::Token;
use webhook_core::webhook::{Webhook, WebhookSettings};
use webhook_postgres::PostgresStore;

use webhook_testing::postgres::PrivatePostgres;

const LEASE: Duration = Duration::from_secs(30);
/// Runs that a worker claims at once while it drains the queue.
const BATCH: usize = 512;

fn now() -> SystemTime {
    SystemClock.now()
}

fn seconds() -> Duration {
    let seconds = std::env::var("WEBHOOK_BENCH_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(4))
}

async fn webhook(store: &PostgresStore) -> Webhook {
    let (id, workflow) = (WebhookId::generate(now()), "noop/bench".parse().unwrap());
    let webhook = Webhook::new(id, workflow, WebhookSettings::default(), &Token::generate(), None, now());
    store.create_webhook(webhook.clone()).await.unwrap();
    webhook
}

fn request(webhook: &Webhook) -> Enqueue {
    let id = RunId::generate(now());
    let given: EffectiveParameters =
        [("region".to_owned(), EffectiveParameter::new("EMEA", Source::Query))].into_iter().collect();
    let parameters = RunParameters::seal(given, None, id).unwrap();
    let mut caller = Caller::default();
    caller.method = "POST".into();
    caller.user_agent = Some("curl/8.5.0".to_owned());
    caller.address = Some(std::net::Ipv4Addr::LOCALHOST.into());
    let run = Run::new(id, webhook.workflow.clone(), webhook.id, parameters, 1, caller, now());
    Enqueue::new(run)
        .with_queue_limits(None, 100_000_000)
        .with_token_digest(webhook.token_digest)
        .with_must_be_enabled(true)
}

/// Enqueues with so many callers, each awaiting its own commit. Returns runs a second, and how many there were.
async fn enqueue(store: &PostgresStore, webhook: &Webhook, callers: usize, most: u64) -> (f64, u64) {
    let (count, start) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let end = start + seconds();
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let (store, webhook, count) = (store.clone(), webhook.clone(), count.clone());
        tasks.spawn(async move {
            while Instant::now() < end && count.load(Ordering::Relaxed) < most {
                let enqueued = store.enqueue(request(&webhook)).await.unwrap();
                assert!(matches!(enqueued, Enqueued::Created { .. }), "{enqueued:?}");
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    tasks.join_all().await;
    let count = count.load(Ordering::Relaxed);
    (count as f64 / start.elapsed().as_secs_f64(), count)
}

/// Claims and settles until nothing is left. Settlements go on while the next runs are claimed.
async fn drain(store: &PostgresStore, left: u64) -> f64 {
    let start = Instant::now();
    let done = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    while done.load(Ordering::Relaxed) < left {
        let claims = store.claim(ClaimRequest::new(BATCH, LEASE, now())).await.unwrap();
        if claims.is_empty() {
            if tasks.join_next().await.is_none() {
                break;
            }
            continue;
        }
        let (store, done) = (store.clone(), done.clone());
        tasks.spawn(async move {
            let ending = Ending::Succeeded { summary: None, artifacts: Vec::new() };
            let outcome = Outcome::Ended { ending, deliveries: Vec::new() };
            let settle = |claim: webhook_core::store::Claim| {
                Settlement::new(claim.run.id(), claim.run.fence(), outcome.clone(), now())
            };
            let settled = store.settle(claims.into_iter().map(settle).collect()).await.unwrap();
            assert!(settled.iter().all(|settled| matches!(settled, Settled::Applied(_))));
            done.fetch_add(settled.len() as u64, Ordering::Relaxed);
        });
        while tasks.len() > 3 {
            tasks.join_next().await;
        }
    }
    tasks.join_all().await;
    assert_eq!(done.load(Ordering::Relaxed), left);
    left as f64 / start.elapsed().as_secs_f64()
}

/// Milliseconds from the call to its claim by a worker that waits, at the median and at the 99th percentile.
async fn idle(store: &PostgresStore, worker: &PostgresStore, webhook: &Webhook) -> (f64, f64) {
    let (claimed, mut claims) = tokio::sync::mpsc::unbounded_channel();
    let ends = Arc::new(AtomicBool::new(false));
    let task = tokio::spawn({
        let (worker, ends) = (worker.clone(), ends.clone());
        async move {
            while !ends.load(Ordering::Relaxed) {
                let found = worker.claim(ClaimRequest::new(16, LEASE, now())).await.unwrap();
                let at = Instant::now();
                let count = found.len();
                for claim in found {
                    let ending = Ending::Succeeded { summary: None, artifacts: Vec::new() };
                    let outcome = Outcome::Ended { ending, deliveries: Vec::new() };
                    let settlement = Settlement::new(claim.run.id(), claim.run.fence(), outcome, now());
                    let _ = claimed.send(at);
                    worker.settle(vec![settlement]).await.unwrap();
                }
                if count < 16 {
                    let _ =
                        tokio::time::timeout(Duration::from_millis(500), worker.wait_for_work(Work::Runs))
                            .await;
                }
            }
        }
    });
    let mut times = Vec::new();
    for _ in 0..300 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let begun = Instant::now();
        store.enqueue(request(webhook)).await.unwrap();
        times.push(claims.recv().await.unwrap().duration_since(begun).as_secs_f64() * 1_000.0);
    }
    ends.store(true, Ordering::Relaxed);
    task.await.unwrap();
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

/// Rows a second of pgbench with so many clients, into a table like that of live runs.
fn pgbench(server: &PrivatePostgres, clients: usize) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("insert.sql");
    let fixed = "\\x".to_owned() + &"7b".repeat(150);
    let parameters = "\\x".to_owned() + &"7b".repeat(45);
    let insert = format!(
        "INSERT INTO pgbench.live (id, webhook, workflow, bytes, state, fixed, parameters) VALUES (gen_random_uuid(), \
         '00000000-0000-7000-8000-000000000001', 'noop/bench', 45, 0, '{fixed}', '{parameters}');\n"
    );
    std::fs::write(&script, insert).unwrap();
    let output = Command::new(server.programs().join("pgbench"))
        .args(["-n", "-M", "prepared", "-j", "2", "-h", "127.0.0.1", "-U", "app"])
        .args(["-p", &server.port().to_string(), "-c", &clients.to_string()])
        .args(["-T", &seconds().as_secs().to_string(), "-f"])
        .arg(&script)
        .arg("postgres")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let tps = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    tps.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// Microseconds of what a call, a worker and the panel ask for, each at the median of 100.
async fn single(store: &PostgresStore, webhook: &Webhook) -> String {
    let (mut enqueues, mut claims, mut pages, mut failed, mut of_webhook) =
        (vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..100 {
        enqueues.push(timed(store.enqueue(request(webhook))).await);
        let begun = Instant::now();
        let claimed = store.claim(ClaimRequest::new(16, LEASE, now())).await.unwrap();
        claims.push(begun.elapsed().as_secs_f64() * 1e6);
        let back = |claim: webhook_core::store::Claim| {
            Settlement::new(claim.run.id(), claim.run.fence(), Outcome::HandBack, now())
        };
        store.settle(claimed.into_iter().map(back).collect()).await.unwrap();
        let query = RunQuery::default;
        pages.push(timed(store.list_runs(query())).await);
        failed.push(timed(store.list_runs(query().in_state(Some(RunState::Failed)))).await);
        of_webhook.push(timed(store.list_runs(query().of_webhook(Some(webhook.id)))).await);
    }
    let mut line = String::new();
    for (name, mut times) in [
        ("enqueue", enqueues),
        ("claim of 16", claims),
        ("page", pages),
        ("page of failed", failed),
        ("page of a webhook", of_webhook),
    ] {
        times.sort_by(f64::total_cmp);
        line.push_str(&format!("{name} {:.0} µs  ", times[times.len() / 2]));
    }
    line
}

async fn timed<T: std::fmt::Debug>(
    call: impl Future<Output = Result<T, webhook_core::store::StoreError>>,
) -> f64 {
    let begun = Instant::now();
    call.await.unwrap();
    begun.elapsed().as_secs_f64() * 1e6
}

/// Fills the history and the queue with rows made of those that are there.
fn fill(server: &PrivatePostgres, ended: u64, queued: u64) {
    let id = "(lpad(to_hex(1700000000000 + n), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid";
    server.psql(&format!(
        "INSERT INTO webhook.history SELECT {id}, CASE WHEN n % 10 = 0 THEN h.webhook ELSE \
         ('00000000-0000-7000-8000-' || lpad(to_hex(n % 1000), 12, '0'))::uuid END, 1, h.started_ms, NULL, \
         1700000000000 + n, 1, 0, CASE WHEN n % 100 = 0 THEN 6 ELSE 5 END, NULL, 'report/r' || n % 100, NULL, h.fixed, \
         h.parameters, NULL, NULL FROM generate_series(1, {ended}) n, (SELECT * FROM webhook.history LIMIT 1) h"
    ));
    let id = "(lpad(to_hex(1600000000000 + n), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid";
    server.psql(&format!(
        "INSERT INTO webhook.live (id, webhook, bytes, state, workflow, fixed, parameters) SELECT {id}, h.webhook, 45, 0, \
         h.workflow, h.fixed, h.parameters FROM generate_series(1, {queued}) n, \
         (SELECT * FROM webhook.history WHERE workflow = 'noop/bench' LIMIT 1) h"
    ));
    server.psql("VACUUM ANALYZE webhook.history, webhook.live");
}

fn main() {
    let settings = ["shared_buffers=512MB", "max_wal_size=4GB", "max_connections=300"];
    let Some(server) = PrivatePostgres::start(&settings) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = PostgresStore::open(scene::options(&server, "webhook")).await.unwrap();
        let other = PostgresStore::open(scene::options(&server, "webhook")).await.unwrap();
        server.psql("CREATE SCHEMA pgbench; CREATE TABLE pgbench.live (LIKE webhook.live INCLUDING ALL)");
        let webhook = webhook(&store).await;

        let (median, worst) = idle(&store, &other, &webhook).await;
        println!("idle, enqueue to claim in another process: p50 {median:.2} ms, p99 {worst:.2} ms");
        let baseline = pgbench(&server, 64);
        println!("pgbench, 64 clients, one-row inserts:      {baseline:>9.0} rows/s");
        server.psql("TRUNCATE pgbench.live");
        let mut queued = 0;
        for callers in [1, 16, 64, 256] {
            let (rate, count) = enqueue(&store, &webhook, callers, 400_000).await;
            queued += count;
            println!("enqueue, {callers:>3} callers:                      {rate:>9.0} runs/s  {:.2} x", rate / baseline);
        }
        let rate = drain(&store, queued).await;
        println!("drain of {queued} no-op runs:              {rate:>9.0} runs/s");
        let sizes = "SELECT string_agg(relname || ' ' || pg_size_pretty(pg_total_relation_size(oid)), ', ') FROM pg_class \
                     WHERE relnamespace = 'webhook'::regnamespace AND relkind = 'r' AND relname IN ('live', 'history', 'counts')";
        println!("sizes: {}", server.psql(sizes));
        let ended = std::env::var("WEBHOOK_BENCH_HISTORY").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
        println!("with {queued} ended:  {}", single(&store, &webhook).await);
        fill(&server, ended, 100_000);
        println!("with {ended} more ended and 100000 queued:  {}", single(&store, &webhook).await);
        let old = now() + Duration::from_secs(400 * 86_400);
        let begun = Instant::now();
        let pruned = store.prune(PruneRequest::new(old, Duration::from_secs(86_400), 1_000)).await.unwrap();
        println!("prune of {} runs: {:.1} ms", pruned.runs.len(), begun.elapsed().as_secs_f64() * 1e3);
    });
}
