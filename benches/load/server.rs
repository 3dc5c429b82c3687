//! The servers that are measured.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use warp::Filter;
use warp::http::StatusCode;
use webhook_core::Webhooks;
use webhook_core::executor::{RunOutput, Workflow};
use webhook_core::memory::{FnExecutor, MemoryStore};
use webhook_core::parameters::ParameterBlocks;
use webhook_core::service::{ServiceOptions, WebhooksBuilder};
use webhook_core::webhook::WebhookSettings;
use webhook_core::worker::WorkerOptions;
use webhook_sled::SledStore;

use super::Contender;

/// For how long ended runs are kept at most.
const MONTH: Duration = Duration::from_secs(30 * 86_400);
/// How many ended runs the store in memory keeps: a host that takes calls by the thousand bounds them as well.
const KEPT: u64 = 10_000;
/// How often those beyond are removed.
const PRUNE_EVERY: Duration = Duration::from_millis(250);

/// Serves until the process is killed, after saying on its first line where.
pub(crate) fn serve(contender: Contender, folder: &Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        match contender {
            Contender::Bare => bare().await,
            Contender::Memory => ours(Webhooks::builder().store(MemoryStore::new()), true, Some(KEPT)).await,
            Contender::Sled | Contender::SledIdle => {
                let store = SledStore::open(folder).expect("a store");
                ours(Webhooks::builder().store(store), contender == Contender::Sled, None).await;
            }
        }
    });
}

/// The same route and an answer of the same size, with nothing behind it.
async fn bare() {
    const BODY: &str = r#"{"id":"019ab1c4-0000-7000-8000-000000000000","state":"queued","status_url":"http://127.0.0.1:8080/api/v1/report/bench/runs/019ab1c4-0000-7000-8000-000000000000"}"#;
    let route = warp::path!("api" / "v1" / String / String / "webhook").and(warp::post()).map(
        |_kind: String, _id: String| {
            let reply = warp::reply::with_header(BODY, "content-type", "application/json");
            warp::reply::with_status(reply, StatusCode::ACCEPTED)
        },
    );
    run("api/v1/report/bench/webhook", route).await;
}

/// Serves with a store, with or without workers, and keeps so many ended runs, or all of them.
async fn ours(builder: WebhooksBuilder, workers: bool, keep: Option<u64>) {
    let workflow = "report/bench".parse().expect("a workflow");
    let workflow = Workflow::new(workflow, "Bench", ParameterBlocks::default());
    let webhooks = builder
        .executor(FnExecutor::new([workflow], |_| async { Ok(RunOutput::new()) }))
        .options(
            ServiceOptions::default()
                .with_queue_limit(10_000_000)
                .with_queue_bytes(8 << 30, 16 << 30)
                .with_keep_runs(MONTH, keep),
        )
        .build()
        .await
        .expect("a service");
    let workflow = "report/bench".parse().expect("a workflow");
    let created = webhooks.manage().create(workflow, WebhookSettings::default()).await.expect("a webhook");
    let path = created.url.expose().splitn(4, '/').nth(3).expect("a path").to_owned();
    let options = WorkerOptions::default().with_slots(256);
    let options = if keep.is_some() { options.with_prune_every(PRUNE_EVERY) } else { options };
    let _workers = workers.then(|| webhooks.start_workers(options));
    let (asked, runtime) = (webhooks.clone(), tokio::runtime::Handle::current());
    std::thread::spawn(move || tell_what_is_left(&asked, &runtime));
    run(&path, webhook_warp::routes(&webhooks)).await;
}

/// Answers every line of standard input with how many runs have not ended.
fn tell_what_is_left(webhooks: &Webhooks, runtime: &tokio::runtime::Handle) {
    for _ in std::io::stdin().lines() {
        let health = runtime.block_on(webhooks.health()).expect("the store is well");
        println!("{}", health.queued + health.running);
    }
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
