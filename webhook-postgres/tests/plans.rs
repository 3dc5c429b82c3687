//! No statement of the hot path reads a whole table, whatever the statistics say.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]
#![allow(clippy::print_stderr, reason = "a test says why it is skipped")]

mod scene;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use webhook_core::id::{RunId, WebhookId};
use webhook_core::run::{Caller, Run, RunParameters, RunState};
use webhook_core::store::{ClaimRequest, Enqueue, RunQuery, Store, Workflows};
use webhook_core::token::Token;
use webhook_core::webhook::{Webhook, WebhookSettings};
use webhook_postgres::PostgresStore;
use webhook_testing::postgres::PrivatePostgres;

/// Ended and queued runs of one webhook, in a table that has nearly no others.
const ENDED: u32 = 100_000;
const QUEUED: u32 = 20_000;

fn webhook(workflow: &str) -> Webhook {
    let (now, workflow) = (SystemTime::now(), workflow.parse().unwrap());
    Webhook::new(
        WebhookId::generate(now),
        workflow,
        WebhookSettings::default(),
        &Token::generate(),
        None,
        now,
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_plan_has_a_sequential_scan() {
    let Some(server) = explaining() else { return };
    let mut stores = Vec::new();
    for schema in ["one", "two", "three", "four", "five"] {
        stores.push(Arc::new(PostgresStore::open(scene::options(&server, schema)).await.unwrap()));
    }
    // Statistics of empty tables, by which every scan is cheap.
    server.psql("ANALYZE");
    let mut store = || stores.pop().unwrap();
    webhook_testing::conformance::agrees_with_a_simple_model(store()).await;
    webhook_testing::conformance::nothing_of_a_pruned_run_is_left(store()).await;
    webhook_testing::conformance::deliveries_are_found_by_state_and_channel(store()).await;
    webhook_testing::conformance::runs_are_listed_by_every_combination(store()).await;
    webhook_testing::conformance::replace_stops_the_running_and_ends_the_waiting_run(store()).await;
    let log = server.whole_log();
    let tables = ["live", "history", "keys", "logs", "deliveries"];
    let is_scan = |line: &&String| tables.iter().any(|table| line.contains(&format!("Seq Scan on {table}")));
    let plans = log.iter().filter(|line| line.contains("Index")).count();
    assert!(plans > 1_000, "only {plans} plans were logged");
    let scans: Vec<_> = log.iter().enumerate().filter(|(_, line)| is_scan(line)).collect();
    for (place, _) in scans.iter().take(2) {
        let from = log[..*place].iter().rposition(|line| line.contains("Query Text")).unwrap_or(*place);
        eprintln!("{}", log[from..(*place + 12).min(log.len())].concat());
    }
    assert!(scans.is_empty(), "{} sequential scans", scans.len());
}

/// Starts a server that logs every plan with the rows that it read.
fn explaining() -> Option<PrivatePostgres> {
    PrivatePostgres::start(&[
        "fsync=off",
        "shared_preload_libraries=auto_explain",
        "auto_explain.log_min_duration=0",
        "auto_explain.log_nested_statements=on",
        "auto_explain.log_analyze=on",
        "auto_explain.log_timing=off",
        "log_min_messages=log",
    ])
}

/// Rows that a plan read and threw away, as its line says.
fn removed(line: &str) -> Option<u64> {
    line.split_once("Rows Removed by Filter: ")?.1.trim().parse().ok()
}

/// Rows that a step of a plan gave to the next one, as its line says.
fn given(line: &str) -> Option<u64> {
    let (rows, loops) = line.split_once("(actual rows=")?.1.split_once(" loops=")?;
    let (rows, loops): (f64, f64) = (rows.parse().ok()?, loops.split(')').next()?.parse().ok()?);
    Some((rows * loops) as u64)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_list_and_no_claim_reads_rows_that_it_was_not_asked_for() {
    let Some(server) = explaining() else { return };
    let store = PostgresStore::open(scene::options(&server, "many")).await.unwrap();
    let (busy, quiet) = (webhook("report/busy"), webhook("notebook/quiet"));
    let deleted = webhook("report/deleted");
    for webhook in [&busy, &quiet, &deleted] {
        store.create_webhook(webhook.clone()).await.unwrap();
    }
    // Nearly all runs are of one webhook and one state, by which statistics make every other filter look cheap.
    let fixed = r#"convert_to('{"queued_ms":1,"due_ms":1,"max_attempts":1,"caller":{}}', 'UTF8')"#;
    server.psql(&format!(
        "INSERT INTO many.history (id, webhook, fence, finished_ms, attempt, interruptions, state, workflow, fixed)
         SELECT ('01890000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, '{busy}', 1, n, 1, 0, 5,
             'report/busy', {fixed} FROM generate_series(1, {ENDED}) n;
         INSERT INTO many.history (id, webhook, fence, finished_ms, attempt, interruptions, state, workflow, fixed)
         SELECT ('01880000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, '{deleted}', 1, n, 1, 0, 5,
             'report/deleted', {fixed} FROM generate_series(1, {QUEUED}) n;
         INSERT INTO many.live (id, webhook, bytes, state, workflow, fixed)
         SELECT ('01990000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, '{busy}', 0, 0,
             'report/busy', {fixed} FROM generate_series(1, {QUEUED}) n;
         ANALYZE",
        busy = uuid::Uuid::from_bytes(*busy.id.as_bytes()),
        deleted = uuid::Uuid::from_bytes(*deleted.id.as_bytes()),
    ));
    let run = Run::new(
        RunId::generate(SystemTime::now()),
        quiet.workflow.clone(),
        quiet.id,
        RunParameters::default(),
        1,
        Caller::default(),
        SystemTime::now(),
    );
    store.enqueue(Enqueue::new(run)).await.unwrap();
    let from = server.whole_log().len();
    store.delete_webhook(deleted.id, None, SystemTime::now()).await.unwrap();
    let middle: u128 = 0x0189_0000_0000_7000_8000_0000_0000_0000 + u128::from(ENDED / 2);
    let middle = RunId::from_bytes(middle.to_be_bytes());
    let states = RunState::ALL.into_iter().map(Some).chain([None]);
    let workflows = [&busy, &quiet, &deleted].map(|webhook| Some(webhook.workflow.clone()));
    let webhooks = [&busy, &quiet, &deleted].map(|webhook| Some(webhook.id));
    for state in states {
        for workflow in workflows.iter().chain([&None]) {
            for webhook in webhooks.iter().chain([&None]) {
                let query = RunQuery::default().in_state(state).limit(10);
                let query = query.of_workflow(workflow.clone()).of_webhook(*webhook);
                store.list_runs(query.clone().before(Some(middle))).await.unwrap();
                store.list_runs(query).await.unwrap();
            }
        }
    }
    let kinds = [quiet.workflow.kind.clone()].into_iter().collect();
    let request = ClaimRequest::new(4, Duration::from_secs(60), SystemTime::now());
    let of_quiet = request.clone().with_workflows(Workflows::OfKinds(Arc::new(kinds)));
    assert_eq!(store.claim(of_quiet).await.unwrap().len(), 1);
    assert_eq!(store.claim(request).await.unwrap().len(), 4);
    let log = server.whole_log();
    let plans = log[from..].iter().filter(|line| line.contains("Index")).count();
    assert!(plans > 50, "only {plans} plans were logged");
    for (place, line) in log.iter().enumerate().skip(from) {
        let is_wasteful =
            removed(line).is_some_and(|rows| rows > 100) || given(line).is_some_and(|rows| rows > 500);
        if is_wasteful {
            let start = log[..place].iter().rposition(|line| line.contains("Query Text")).unwrap_or(from);
            panic!("{}", log[start..(place + 3).min(log.len())].concat());
        }
    }
}
