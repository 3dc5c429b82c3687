//! Runs that come at a steady rate, end at once, and expire soon: what that leaves behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval, timeout};
use webhook_core::id::WebhookId;
use webhook_core::store::{ClaimRequest, PruneRequest, Store, Work};
use webhook_core::token::Token;
use webhook_core::webhook::{Webhook, WebhookSettings};
use webhook_postgres::PostgresStore;
use webhook_testing::postgres::PrivatePostgres;

use crate::store::{LEASE, enqueue_one, now, open, succeeded};
use crate::table::median;

/// Calls come in steps of this length.
const STEP: Duration = Duration::from_millis(20);
const STEPS_PER_SECOND: u64 = 50;
/// Runs of one claim.
const CLAIMED: usize = 64;
/// Runs that housekeeping removes in one step, and the pause between two rounds of it.
const PRUNED: usize = 500;
const PRUNE_EVERY: Duration = Duration::from_secs(1);
/// Interval of the lines.
const REPORT_EVERY: u64 = 5;

/// Work done since the last line.
#[derive(Debug, Default)]
struct Done {
    settled: AtomicU64,
    pruned: AtomicU64,
    /// Milliseconds of each claim that found runs.
    claims: Mutex<Vec<f64>>,
}

/// Calls, executes and prunes for so many minutes, of which those do not count for which this process is stopped.
pub(crate) async fn measure(server: &PrivatePostgres, minutes: u64, rate: u64, keep: Duration) {
    let store = open(server).await;
    let id = WebhookId::generate(now());
    let webhook = Webhook::new(
        id,
        "report/bench".parse().unwrap(),
        WebhookSettings::default(),
        &Token::generate(),
        None,
        now(),
    );
    store.create_webhook(webhook.clone()).await.unwrap();
    let done = Arc::new(Done::default());
    tokio::spawn(work(store.clone(), done.clone()));
    tokio::spawn(prune(store.clone(), keep, done.clone()));
    println!("{rate} runs/s, kept for {} s. Sizes in kB, times in ms.\n", keep.as_secs());
    println!(
        "| minute | runs | settled/s | pruned/s | claim p50 | p99 | live | its indexes | dead rows | history | its indexes | rows | dead rows | all |\n\
         |--:|{}",
        "--:|".repeat(13)
    );
    let mut steps = interval(STEP);
    steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = 0;
    for step in 1..=minutes * 60 * STEPS_PER_SECOND {
        steps.tick().await;
        for _ in 0..rate / STEPS_PER_SECOND {
            let (store, webhook) = (store.clone(), webhook.clone());
            tokio::spawn(async move { enqueue_one(&store, &webhook).await });
        }
        let minute = step / (60 * STEPS_PER_SECOND);
        let is_minute = step.is_multiple_of(60 * STEPS_PER_SECOND);
        if is_minute && (minute == 1 || minute.is_multiple_of(REPORT_EVERY)) {
            let seconds = (step - last) as f64 / STEPS_PER_SECOND as f64;
            last = step;
            report(server, minute, step * rate / STEPS_PER_SECOND, seconds, &done);
        }
    }
    println!("\nsizes of tables and indexes in kB: {}", sizes(server));
}

async fn work(store: PostgresStore, done: Arc<Done>) {
    loop {
        let begun = Instant::now();
        let claims = store.claim(ClaimRequest::new(CLAIMED, LEASE, now())).await.unwrap();
        if claims.is_empty() {
            let _ = timeout(Duration::from_secs(1), store.wait_for_work(Work::Runs)).await;
            continue;
        }
        done.claims.lock().push(begun.elapsed().as_secs_f64() * 1e3);
        // After a stop of this process its leases have ended, so a settlement may come too late.
        let settled = store.settle(claims.iter().map(succeeded).collect()).await.unwrap();
        done.settled.fetch_add(settled.len() as u64, Ordering::Relaxed);
    }
}

async fn prune(store: PostgresStore, keep: Duration, done: Arc<Done>) {
    loop {
        tokio::time::sleep(PRUNE_EVERY).await;
        loop {
            let pruned = store.prune(PruneRequest::new(now(), keep, PRUNED)).await.unwrap();
            done.pruned.fetch_add(pruned.runs.len() as u64, Ordering::Relaxed);
            if !pruned.more {
                break;
            }
        }
    }
}

fn report(server: &PrivatePostgres, minute: u64, runs: u64, seconds: f64, done: &Done) {
    let claims = std::mem::take(&mut *done.claims.lock());
    let per_second = |count: &AtomicU64| count.swap(0, Ordering::Relaxed) as f64 / seconds;
    let (settled, pruned) = (per_second(&done.settled), per_second(&done.pruned));
    let mut sorted = claims.clone();
    sorted.sort_by(f64::total_cmp);
    let worst = sorted[sorted.len() * 99 / 100];
    let sizes = server.psql(
        "SELECT concat_ws(' | ', pg_table_size('webhook.live') / 1024, pg_indexes_size('webhook.live') / 1024, \
         (SELECT n_dead_tup FROM pg_stat_user_tables WHERE relid = 'webhook.live'::regclass), \
         pg_table_size('webhook.history') / 1024, pg_indexes_size('webhook.history') / 1024, \
         (SELECT concat_ws(' | ', n_live_tup, n_dead_tup) FROM pg_stat_user_tables \
          WHERE relid = 'webhook.history'::regclass), pg_database_size('postgres') / 1024)",
    );
    println!(
        "| {minute} | {runs} | {settled:.0} | {pruned:.0} | {:.2} | {worst:.2} | {sizes} |",
        median(claims)
    );
}

fn sizes(server: &PrivatePostgres) -> String {
    server.psql(
        "SELECT string_agg(format('%s %s', relname, pg_relation_size(oid) / 1024), ', ' ORDER BY relname) FROM pg_class \
         WHERE relnamespace = 'webhook'::regnamespace AND relkind IN ('r', 'i') AND pg_relation_size(oid) > 100000",
    )
}
