//! Load bench: how many calls a server takes, beside what takes as many calls and does less.
//!
//! `cargo bench --bench load` takes some three minutes. `-- --help` lists what can be chosen.
//!
//! Every row is measured for a second in each of three rounds, one after another, each time with a new process and a
//! new folder. Figures are medians over the rounds. A ratio is one to the references of the same round, since the
//! speed of a machine and of its disk changes from one minute to the next. The folders are where `TMPDIR` says, so that
//! disk is measured.
//!
//! - The example server runs with its default flags, but for its address, data and workflows.
//!   "Workers off" is `--workers 0`. Its webhook has room for 100,000 queued runs, where calls end when it is full.
//! - The library is this program with webhook-warp's routes under warp's own server.
//! - The bare warp server answers 202 to the same requests, and does nothing else.
//! - The bare commit loop has no HTTP. It appends 300 bytes for each of as many callers, and syncs once.
//! - Debian's [`webhook`](https://packages.debian.org/stable/webhook) executes the same command and waits for its end.
//!
//! Calls are those of curl. The webhook declares one parameter of each type, and two of them are given.
//! One thread of this program drives all connections, which stay open. Requests are rendered once, and of an
//! answer only the status, the length and the run id are read: the client shares the cores with the server.
//!
//! After each turn the server is killed with SIGKILL. Then its store is opened, and every run that it acknowledged is
//! looked up.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it prints what it measures")]

mod bench;
mod client;
mod commit_loop;
mod debian;
mod example;
mod figures;
mod library;
mod plot;
mod process;
mod results;
mod rows;
mod table;
mod turn;
mod workflow;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;

use bench::Bench;
use results::Results;
use rows::Row;

/// The example server has it too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Said before and after the measurements.
const DEBIAN_IS_MISSING: &str =
    "*** Debian's webhook is NOT INSTALLED, so its row is SKIPPED: apt-get install webhook ***";

/// Measures how many calls a server takes, beside what takes as many calls and does less
#[derive(Parser)]
#[command(name = "load")]
struct Arguments {
    /// Number of turns of each row
    #[arg(long, default_value_t = 3, value_name = "N")]
    rounds: usize,
    /// Length of a turn
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS")]
    seconds: f64,
    /// Numbers of connections
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64, 256], value_name = "N,…")]
    connections: Vec<usize>,
    /// Rows and figures with one of these in their names, such as example/post, 64 or wait [default: all]
    #[arg(long, value_delimiter = ',', value_name = "PARTS,…")]
    only: Vec<String>,
    /// Every server with every kind of call at every number of connections
    #[arg(long)]
    every: bool,
    /// Lists the names of all rows and figures, and measures nothing
    #[arg(long)]
    list: bool,
    /// Draws the calls with JSON parameters into this file, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Comes from cargo
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    fn includes(&self, name: &str) -> bool {
        let name = format!("/{name}/");
        self.only.is_empty() || self.only.iter().any(|parts| name.contains(&format!("/{parts}/")))
    }
}

fn main() {
    // A server of the library, or a bare one, is this program as well.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [serve, kind, folder] = arguments.as_slice()
        && serve == "serve"
    {
        return library::serve(kind, folder.as_ref());
    }
    let arguments = Arguments::parse();
    let rows: Vec<_> = rows::plan(&arguments.connections, arguments.every)
        .into_iter()
        .filter(|row| arguments.includes(&row.name()))
        .collect();
    let figures: Vec<_> =
        figures::ALL.into_iter().filter(|figure| arguments.includes(figure.name())).collect();
    if arguments.list {
        for name in rows.iter().map(Row::name).chain(figures.iter().map(|figure| figure.name().to_owned())) {
            println!("{name}");
        }
        return;
    }
    let mut rows = rows::with_references(rows);
    let lacks_debian = rows.iter().any(Row::needs_debian) && !debian::is_installed();
    if lacks_debian {
        eprintln!("{DEBIAN_IS_MISSING}");
        rows.retain(|row| !row.needs_debian());
    }
    let bench = Bench {
        runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"),
        time: Duration::from_secs_f64(arguments.seconds),
        example: example::build(),
    };
    let started = Instant::now();
    let mut results = Results::new(rows, figures);
    for round in 1..=arguments.rounds {
        eprintln!("round {round} of {}", arguments.rounds);
        results.add_round(&bench);
    }
    eprintln!("measured for {} s", started.elapsed().as_secs());
    table::print(&results);
    if lacks_debian {
        println!("\n{DEBIAN_IS_MISSING}");
    }
    if let Some(file) = arguments.plot {
        std::fs::write(&file, plot::draw(&results)).expect("the plot is written");
    }
}
