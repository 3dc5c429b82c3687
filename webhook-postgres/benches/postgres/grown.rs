//! A database of many runs beside a small one.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use webhook_core::id::WebhookId;
use webhook_core::run::RunState;
use webhook_core::store::{
    CallQuery, CallStore, Claim, ClaimRequest, DeliveryQuery, Outcome, PruneRequest, RunQuery, Settlement,
    Store, StoreError,
};
use webhook_core::token::Token;
use webhook_core::webhook::{Webhook, WebhookSettings};
use webhook_postgres::PostgresStore;
use webhook_testing::postgres::PrivatePostgres;

use crate::store::{LEASE, drain, enqueue, enqueue_one, now, open, succeeded};
use crate::table::median;

/// Webhooks, and workflows among them. The first webhook has a tenth of the ended runs and half of the queued ones.
const WEBHOOKS: u64 = 1_000;
const WORKFLOWS: u64 = 100;
/// Webhooks that have queued runs.
const QUEUEING: u64 = 50;
/// Ended runs of the small database, and its queued ones.
const FEW_ENDED: u64 = 20_000;
const FEW_QUEUED: u64 = 1_000;
/// Times that each question is asked.
const TIMES: usize = 50;
/// Times that runs are removed, and how many at once, as housekeeping does.
const PRUNES: usize = 10;
const PRUNED: usize = 500;
/// Runs of one claim.
const CLAIMED: usize = 16;
const DAY: Duration = Duration::from_secs(86_400);

/// Names of questions with their times in milliseconds, at the median.
type Times = Vec<(&'static str, f64)>;

fn webhook(number: u64) -> Webhook {
    let mut id = [0x01, 0x89, 0, 0, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, 0];
    id[8..].copy_from_slice(&(0x8000_0000_0000_0000 + number).to_be_bytes());
    let workflow = format!("report/r{}", number % WORKFLOWS).parse().unwrap();
    let settings = WebhookSettings::default();
    Webhook::new(WebhookId::from_bytes(id), workflow, settings, &Token::generate(), None, now())
}

pub(crate) async fn measure(server: &PrivatePostgres, ended: u64, queued: u64, explain: bool) {
    let store = open(server).await;
    let webhooks: Vec<_> = (0..WEBHOOKS).map(webhook).collect();
    for webhook in &webhooks {
        store.create_webhook(webhook.clone()).await.unwrap();
    }
    let busy = Arc::new(webhooks[0].clone());
    let mut enqueued = 0;
    while enqueued < FEW_ENDED + FEW_QUEUED {
        enqueued += enqueue(&store, &busy, 64, Duration::from_millis(50)).await.count;
    }
    drain(&store, enqueued - FEW_QUEUED).await;
    server.psql("VACUUM ANALYZE webhook.history, webhook.live");
    println!("bytes of an ended run as the store writes it: {}", bytes_of_a_run(server));
    let small = ask(&store, &webhooks).await;
    eprintln!("the small database has answered");

    let begun = Instant::now();
    fill(server, ended, queued);
    eprintln!("filled within {:.0} s", begun.elapsed().as_secs_f64());
    println!("bytes of an ended run among {ended}: {}", bytes_of_a_run(server));
    let grown = ask(&store, &webhooks).await;
    println!("\n| question | small, ms | {ended} ended and {queued} queued, ms | ratio |\n|---|--:|--:|--:|");
    for ((name, small), (_, grown)) in small.iter().zip(&grown) {
        println!("| {name} | {small:.2} | {grown:.2} | {:.1} |", grown / small);
    }
    if explain {
        explain_all(server);
    }
}

/// Returns the bytes of the table and of each index.
fn bytes_of_a_run(server: &PrivatePostgres) -> String {
    server.psql(
        "WITH runs AS (SELECT count(*) AS runs FROM webhook.history) \
         SELECT format('table %s', pg_table_size('webhook.history') / runs) || (SELECT string_agg(\
         format(', %s %s', indexrelname, pg_relation_size(indexrelid) / runs), '' ORDER BY indexrelname) \
         FROM pg_stat_user_indexes WHERE relname = 'history' AND schemaname = 'webhook') FROM runs",
    )
}

/// Fills history and queue with rows made of one that is there. Indexes of the history are made afterwards.
fn fill(server: &PrivatePostgres, ended: u64, queued: u64) {
    let id = |from: u64, pace: u64| {
        format!(
            "(lpad(to_hex({from} + n::bigint * {pace}), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid"
        )
    };
    let of_webhook = "('018900000000700080000000' || lpad(to_hex(w), 8, '0'))::uuid";
    let indexes = server.psql(
        "SELECT string_agg(indexdef, '; ') FROM pg_indexes \
         WHERE schemaname = 'webhook' AND tablename = 'history' AND indexname <> 'history_pkey'",
    );
    server.psql("DROP INDEX webhook.history_webhook, webhook.history_workflow, webhook.history_state, webhook.history_end");
    server.psql(&format!(
        "INSERT INTO webhook.history (id, webhook, fence, started_ms, finished_ms, attempt, interruptions, state, \
             workflow, claimer, fixed, parameters, outcome) \
         SELECT {}, {of_webhook}, 1, 1700000000000 + n::bigint * 2000 - 20, 1700000000000 + n::bigint * 2000, 1, 0, \
             CASE WHEN s < 95 THEN 5 WHEN s < 98 THEN 6 ELSE s - 91 END, 'report/r' || w % {WORKFLOWS}, h.claimer, \
             h.fixed, h.parameters, h.outcome \
         FROM (SELECT n, abs(hashint4(-n)::bigint) % 100 AS s, CASE WHEN abs(hashint4(n)::bigint) % 10 = 0 THEN 0 \
             ELSE 1 + abs(hashint4(n)::bigint) / 10 % {} END AS w FROM generate_series(1, {ended}) n) n, \
             (SELECT * FROM webhook.history LIMIT 1) h",
        id(1_700_000_000_000, 2_000),
        WEBHOOKS - 1
    ));
    server.psql(&indexes);
    server.psql(&format!(
        "INSERT INTO webhook.live (id, webhook, bytes, state, workflow, fixed, parameters) \
         SELECT {}, {of_webhook}, l.bytes, 0, 'report/r' || w % {WORKFLOWS}, l.fixed, l.parameters \
         FROM (SELECT n, CASE WHEN n % 2 = 0 THEN 0 ELSE n % {QUEUEING} END AS w FROM generate_series(1, {queued}) n) n, \
             (SELECT * FROM webhook.live LIMIT 1) l",
        id(1_780_000_000_000, 10)
    ));
    server.psql(
        "SELECT webhook.count_queued(array_agg(webhook), array_agg(runs), array_agg(sum), 0) FROM \
         (SELECT webhook, count(*) AS runs, sum(bytes) FROM webhook.live WHERE id < '019f0000-0000-0000-0000-000000000000' \
         GROUP BY webhook) l",
    );
    server.psql("VACUUM ANALYZE webhook.history, webhook.live");
}

/// Asks what calls, workers and the panel ask for.
async fn ask(store: &PostgresStore, webhooks: &[Webhook]) -> Times {
    let (busy, other) = (&webhooks[0], &webhooks[7]);
    let query = || RunQuery::default().limit(50);
    let (of_busy, of_other) = (query().of_webhook(Some(busy.id)), query().of_webhook(Some(other.id)));
    let workflow = query().of_workflow(Some(busy.workflow.clone()));
    let failed = Some(RunState::Failed);
    let lists = [
        ("page of all", query()),
        ("page of queued", query().in_state(Some(RunState::Queued))),
        ("page of running", query().in_state(Some(RunState::Running))),
        ("page of succeeded", query().in_state(Some(RunState::Succeeded))),
        ("page of failed", query().in_state(failed)),
        ("page of a busy webhook", of_busy.clone()),
        ("page of a busy webhook, failed", of_busy.clone().in_state(failed)),
        ("page of a busy webhook, queued", of_busy.clone().in_state(Some(RunState::Queued))),
        ("page of a busy webhook, another workflow", of_busy.of_workflow(Some(other.workflow.clone()))),
        ("page of a quiet webhook", of_other.clone()),
        ("page of a quiet webhook, failed", of_other.in_state(failed)),
        ("page of a workflow", workflow.clone()),
        ("page of a workflow, failed", workflow.clone().in_state(failed)),
        ("page of a workflow, queued", workflow.in_state(Some(RunState::Queued))),
    ];
    let mut times = Times::new();
    times.push(("enqueue", repeated(async || enqueue_one(store, busy).await).await));
    let claim = repeated_then(
        TIMES,
        async || store.claim(ClaimRequest::new(CLAIMED, LEASE, now())).await.unwrap(),
        async |claims| {
            let back =
                |claim: &Claim| Settlement::new(claim.run.id(), claim.run.fence(), Outcome::HandBack, now());
            store.settle(claims.iter().map(back).collect()).await.unwrap();
        },
    );
    times.push(("claim of 16", claim.await));
    let settle = async || {
        let claims = store.claim(ClaimRequest::new(CLAIMED, LEASE, now())).await.unwrap();
        let begun = Instant::now();
        store.settle(claims.iter().map(succeeded).collect()).await.unwrap();
        begun.elapsed().as_secs_f64() * 1e3
    };
    let mut settles = Vec::new();
    for _ in 0..10 {
        settles.push(settle().await);
    }
    times.push(("settle of 16", median(settles)));
    for (name, query) in lists {
        times.push((name, repeated(async || asked(store.list_runs(query.clone()).await)).await));
    }
    times.push((
        "deliveries",
        repeated(async || asked(store.find_deliveries(DeliveryQuery::default()).await)).await,
    ));
    let calls = || CallQuery::new(busy.id);
    times.push(("calls of a webhook", repeated(async || asked(store.list_calls(calls()).await)).await));
    times.push(("health", repeated(async || asked(store.health().await)).await));
    let prune = async |keep: Duration, per_webhook: Option<u64>| {
        // All ended runs are older than a day by then.
        let request = PruneRequest::new(now() + 400 * DAY, keep, PRUNED).with_keep_per_webhook(per_webhook);
        let asked = async || asked(store.prune(request).await);
        repeated_then(PRUNES, asked, async |()| ()).await
    };
    times.push(("prune step of 500", prune(DAY, None).await));
    times.push(("prune step with nothing to remove", prune(10_000 * DAY, None).await));
    times.push(("prune step of 500, 100 kept per webhook", prune(10_000 * DAY, Some(100)).await));
    times
}

fn asked<T>(answer: Result<T, StoreError>) {
    drop(answer.unwrap());
}

/// Returns the milliseconds of a question, at the median.
async fn repeated(question: impl AsyncFnMut()) -> f64 {
    repeated_then(TIMES, question, async |()| ()).await
}

/// As [`repeated`], with something between the questions.
async fn repeated_then<T>(
    count: usize,
    mut question: impl AsyncFnMut() -> T,
    mut then: impl AsyncFnMut(T),
) -> f64 {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let begun = Instant::now();
        let answer = question().await;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        then(answer).await;
    }
    median(times)
}

/// Prints the plans of every statement within some functions. Nothing is changed.
fn explain_all(server: &PrivatePostgres) {
    let ended = "'{5,6,7,8,9}'::smallint[]";
    let live = "'{0,1,2,3,4}'::smallint[]";
    let busy = "'01890000-0000-7000-8000-000000000000'::uuid";
    let last = "'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid";
    let calls = [
        "SELECT count(*) FROM webhook.claim_1(16, 0, 30000, 5, 0, '00000000-0000-0000-0000-000000000000', true, 'x', NULL, NULL)".to_owned(),
        format!(
            "SELECT webhook.enqueue_1(ARRAY[{busy}], '{{report/r0}}', '{{NULL}}', '{{f}}', '{{1}}', '{{45}}', '{{1000000000}}', \
             '{{1000000000000}}', 1000000000, 1000000000000, ARRAY[gen_random_uuid()], '{{1}}', '{{45}}', ARRAY['\\x7b7d'::bytea], \
             ARRAY['\\x7b7d'::bytea], '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}')"
        ),
        format!("SELECT cardinality(webhook.list_runs_1({live}, {ended}, NULL, NULL, {last}, 51))"),
        format!("SELECT cardinality(webhook.list_runs_1('{{}}', '{{6}}', NULL, NULL, {last}, 51))"),
        format!("SELECT cardinality(webhook.list_runs_1({live}, {ended}, {busy}, NULL, {last}, 51))"),
        format!("SELECT cardinality(webhook.list_runs_1('{{}}', {ended}, NULL, 'report/r0', {last}, 51))"),
        "SELECT cardinality(removed) FROM webhook.prune_1(1800000000000, 86400000, NULL, 500)".to_owned(),
    ];
    for call in calls {
        let sql = format!(
            "LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET auto_explain.log_analyze = on; \
             SET auto_explain.log_buffers = on; SET auto_explain.log_nested_statements = on; \
             SET client_min_messages = log; BEGIN; {call}; ROLLBACK"
        );
        let output = Command::new(server.programs().join("psql"))
            .args(["-h", "127.0.0.1", "-U", "app", "-d", "postgres", "-At", "-p", &server.port().to_string()])
            .args(["-c", &sql])
            .output()
            .unwrap();
        println!("\n== {call}\n{}", String::from_utf8_lossy(&output.stderr));
    }
}
