//! Calls and runs per second against a PostgreSQL server of its own, with its syncs, beside what else takes rows into the
//! same database.
//!
//! `cargo bench -p webhook-postgres --bench postgres` takes some three minutes. Every case is measured once in each round,
//! one after another. Figures are medians over the rounds. A ratio is one to the reference of the same round, since the
//! speed of a machine and of its disk changes from one minute to the next.
//!
//! - pgbench inserts one row per transaction, over 64 connections, by a prepared statement.
//! - The bare loop inserts the rows of as many callers in groups, over two connections, with one NOTIFY per group.
//! - Both fill a table with the columns and indexes of `live`.
//! - The store is called directly. HTTP goes through webhook-tower and its server, with clients that keep their connections.
//! - Runs do nothing. They are claimed and settled by the store alone, and by the default workers of a service.
//!
//! `-- grown` compares a small database with one of 10 million ended and 100,000 queued runs. `-- churn` reports what an
//! hour of runs that come, end and expire leaves behind.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it prints what it measures, and ends at a failure"
)]

mod calling;
mod churn;
mod client;
mod grown;
mod references;
mod service;
mod speed;
mod store;
mod table;

use std::time::Duration;

use clap::{Parser, Subcommand};
use webhook_testing::postgres::PrivatePostgres;

/// The example server has it too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Settings of every server. `fsync` and `synchronous_commit` stay on.
const SETTINGS: [&str; 3] = ["shared_buffers=512MB", "max_wal_size=4GB", "max_connections=300"];

/// Measures the PostgreSQL store beside what else takes rows into the same database
#[derive(Parser)]
#[command(name = "postgres")]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
    /// Number of turns of each case
    #[arg(long, default_value_t = 3, value_name = "N")]
    rounds: usize,
    /// Length of a turn
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
    seconds: f64,
    /// Comes from cargo
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Part {
    /// Compares a small database with one of many runs
    Grown {
        #[arg(long, default_value_t = 10_000_000, value_name = "N")]
        ended: u64,
        #[arg(long, default_value_t = 100_000, value_name = "N")]
        queued: u64,
        /// Prints the plans of the grown database
        #[arg(long)]
        explain: bool,
    },
    /// Reports the sizes of tables while runs come, end and expire
    Churn {
        #[arg(long, default_value_t = 60, value_name = "N")]
        minutes: u64,
        /// Runs per second
        #[arg(long, default_value_t = 1_000, value_name = "N")]
        rate: u64,
        /// Retention of ended runs
        #[arg(long, default_value_t = 120, value_name = "SECONDS")]
        keep: u64,
    },
}

fn main() {
    let arguments = Arguments::parse();
    let track = ["track_functions=pl"];
    let grown = ["maintenance_work_mem=1GB"];
    let more: &[&str] = match arguments.part {
        Some(Part::Grown { .. }) => &grown,
        Some(Part::Churn { .. }) => &track,
        None => &[],
    };
    let Some(server) = PrivatePostgres::start(&[&SETTINGS, more].concat()) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        match arguments.part {
            None => {
                let seconds = Duration::from_secs_f64(arguments.seconds);
                speed::measure(&server, arguments.rounds, seconds).await;
            }
            Some(Part::Grown { ended, queued, explain }) => {
                grown::measure(&server, ended, queued, explain).await;
            }
            Some(Part::Churn { minutes, rate, keep }) => {
                churn::measure(&server, minutes, rate, Duration::from_secs(keep)).await;
            }
        }
    });
}
