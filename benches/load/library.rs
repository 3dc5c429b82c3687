//! Servers that are this program: those over the library, and the bare one.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use warp::Filter;
use warp::http::StatusCode;
use webhook_core::Webhooks;
use webhook_core::executor::{FnExecutor, RunOutput, Workflow};
use webhook_core::memory::MemoryStore;
use webhook_core::webhook::WebhookSettings;
use webhook_core::work::WorkerOptions;
use webhook_core::{ServiceOptions, WebhooksBuilder};
use webhook_sled::SledStore;

use crate::workflow::{NOOP, address_and_path, blocks};

/// For how long ended runs are kept at most.
const MONTH: Duration = Duration::from_secs(30 * 86_400);
/// Upper bound on ended runs in the store in memory: a host that takes calls by the thousand bounds them as well.
const KEPT: u64 = 10_000;
/// Pause between removals of those beyond.
const PRUNE_EVERY: Duration = Duration::from_millis(250);
/// Duration of a run that awaits.
pub(crate) const AWAITED: Duration = Duration::from_millis(5);
/// Pause between looks at what is left.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// The server that a process of this program is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bare,
    Memory,
    Sled,
    /// Without workers until they are asked for.
    SledOff,
    /// As `SledOff`, and each run awaits 5 ms.
    Awaiting,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Bare, Self::Memory, Self::Sled, Self::SledOff, Self::Awaiting];
}

/// A server process over the library. It is killed when this is dropped.
pub(crate) struct LibraryServer {
    pub(crate) process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// The URL of its webhook.
    pub(crate) url: String,
}

impl LibraryServer {
    /// Starts a server with its store in a folder.
    pub(crate) fn start(kind: Kind, folder: &Path) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("this program"))
            .args(["serve", &format!("{kind:?}")])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let input = process.stdin.take().expect("its input");
        let output = BufReader::new(process.stdout.take().expect("its output"));
        let mut server = Self { process, input, output, url: String::new() };
        server.url = server.line();
        server
    }

    /// The number of runs that have not ended.
    pub(crate) fn left(&mut self) -> u64 {
        self.ask("left").parse().expect("a number")
    }

    /// Starts default workers, and returns how long it took until nothing was left.
    pub(crate) fn drain(&mut self) -> Duration {
        Duration::from_secs_f64(self.ask("drain").parse().expect("seconds"))
    }

    fn ask(&mut self, what: &str) -> String {
        writeln!(self.input, "{what}").expect("it is asked");
        self.line()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line");
        line.trim().to_owned()
    }
}

impl Drop for LibraryServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Serves until the process is killed, after a first line with the URL.
pub(crate) fn serve(kind: &str, folder: &Path) {
    let kind = Kind::ALL.into_iter().find(|known| format!("{known:?}") == kind).expect("a kind");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        match kind {
            Kind::Bare => serve_bare().await,
            Kind::Memory => serve_ours(Webhooks::builder().store(MemoryStore::new()), kind).await,
            Kind::Sled | Kind::SledOff | Kind::Awaiting => {
                let store = SledStore::open(folder).expect("a store");
                serve_ours(Webhooks::builder().store(store), kind).await;
            }
        }
    });
}

/// Serves the same route and an answer of the same size, with nothing behind it.
async fn serve_bare() {
    const BODY: &str = r#"{"run_id":"019ab1c4-0000-7000-8000-000000000000","state":"queued","status_url":"http://127.0.0.1:8080/api/v1/report/nothing/runs/019ab1c4-0000-7000-8000-000000000000"}"#;
    let route = warp::path!("api" / "v1" / String / String / "webhook").map(|_kind: String, _id: String| {
        let reply = warp::reply::with_header(BODY, "content-type", "application/json");
        warp::reply::with_status(reply, StatusCode::ACCEPTED)
    });
    run(&format!("api/v1/{NOOP}/webhook"), route).await;
}

async fn serve_ours(builder: WebhooksBuilder, kind: Kind) {
    let workflow = Workflow::new(NOOP.parse().expect("a workflow"), "Nothing", blocks());
    let keep = (kind == Kind::Memory).then_some(KEPT);
    let webhooks = builder
        .executor(FnExecutor::new([workflow], move |_| async move {
            if kind == Kind::Awaiting {
                tokio::time::sleep(AWAITED).await;
            }
            Ok(RunOutput::new())
        }))
        .options(
            ServiceOptions::default()
                .with_queue_limit(10_000_000)
                .with_queue_bytes(8 << 30, 16 << 30)
                .with_keep_runs(MONTH, keep),
        )
        .build()
        .await
        .expect("a service");
    let workflow = NOOP.parse().expect("a workflow");
    let created =
        webhooks.manage().create_webhook(workflow, WebhookSettings::default()).await.expect("a webhook");
    let options = match kind {
        Kind::Memory => Some(WorkerOptions::default().with_prune_every(PRUNE_EVERY)),
        Kind::Sled => Some(WorkerOptions::default()),
        Kind::Bare | Kind::SledOff | Kind::Awaiting => None,
    };
    let _workers = options.map(|options| webhooks.start_workers(options));
    let (asked, runtime) = (webhooks.clone(), tokio::runtime::Handle::current());
    std::thread::spawn(move || answer_questions(&asked, &runtime));
    let (_, path) = address_and_path(created.url.expose());
    run(path, webhook_warp::routes(&webhooks)).await;
}

/// Does what the lines of standard input ask for.
fn answer_questions(webhooks: &Webhooks, runtime: &tokio::runtime::Handle) {
    let left = || {
        let health = runtime.block_on(webhooks.health()).expect("the store is well");
        health.queued + health.running
    };
    let mut workers = None;
    for line in std::io::stdin().lines() {
        match line.expect("a line").as_str() {
            "left" => println!("{}", left()),
            "drain" => {
                let started = Instant::now();
                workers = Some(runtime.block_on(async { webhooks.start_workers(WorkerOptions::default()) }));
                while left() > 0 {
                    std::thread::sleep(LOOK_EVERY);
                }
                println!("{}", started.elapsed().as_secs_f64());
            }
            other => panic!("{other} is no question"),
        }
    }
    drop(workers);
}

async fn run<F>(path: &str, route: F)
where
    F: Filter<Error = warp::Rejection> + Clone + Send + Sync + 'static,
    F::Extract: warp::Reply,
{
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    println!("http://{address}/{path}");
    std::io::stdout().flush().expect("the first line is out");
    warp::serve(route).incoming(listener).run().await;
}
