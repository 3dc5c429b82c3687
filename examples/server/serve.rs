//! From options to a server at work, and to its clean end.

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use warp::Filter;
use webhook_core::Webhooks;
use webhook_core::memory::MemoryStore;
use webhook_core::service::TriggerUrl;
use webhook_core::store::{Store, WebhookQuery};
use webhook_core::token::TokenKey;
use webhook_core::webhook::WebhookSettings;
use webhook_core::worker::WorkerOptions;
use webhook_sled::{Durability, SledStore};
use webhook_warp::AdminAccess;
use webhook_warp::server::{Server, ServerOptions};

use crate::admin_token;
use crate::executor::ServerExecutor;
use crate::options::{DurabilityChoice, Options, StoreChoice};
use crate::workflow_file::LoadedWorkflow;

/// The bundled workflow that gets a webhook at the first start.
const DEMO: &str = "report/daily-sales";
/// The label of that webhook.
const DEMO_LABEL: &str = "Demo";

/// Everything that was made before the first call can come.
pub(crate) struct Prepared {
    webhooks: Webhooks,
    server: Server,
    access: AdminAccess,
    workers: Option<usize>,
    shutdown_timeout: Duration,
}

/// Opens the store, then binds the port, and says on standard output how to go on.
pub(crate) async fn prepare(
    options: Options,
    workflows: Vec<LoadedWorkflow>,
) -> Result<Prepared, Box<dyn Error>> {
    std::fs::create_dir_all(&options.data)
        .map_err(|error| format!("the data folder {} cannot be made: {error}", options.data.display()))?;
    let folder = options.data.join("store");
    let first_start = options.store == StoreChoice::Memory || !folder.exists();
    let store = open_store(&options, &folder)?;
    let key = TokenKey::load_or_create(&options.token_key)?;
    let (admin_token, admin_token_place) = match &options.admin_token {
        Some(token) => (token.expose().to_owned(), "as given".to_owned()),
        None => {
            let file = options.data.join("admin.token");
            (admin_token::load_or_create(&file)?, format!("in {}", file.display()))
        }
    };
    let server = Server::bind(options.listen).await?;
    let webhooks = Webhooks::builder()
        .store(store)
        .executor(ServerExecutor::new(workflows, options.data.join("artifacts")))
        .token_key(key)
        .base_url(options.base_url(server.local_address()?)?)
        .build()
        .await?;
    let demo = if options.uses_bundled_workflows() { demo_url(&webhooks, first_start).await? } else { None };
    greet(&webhooks, demo.as_ref(), &admin_token_place)?;
    Ok(Prepared {
        webhooks,
        server,
        access: AdminAccess::token(&admin_token),
        workers: options.workers,
        shutdown_timeout: options.shutdown_timeout,
    })
}

fn open_store(options: &Options, folder: &Path) -> Result<Arc<dyn Store>, Box<dyn Error>> {
    let durability = match options.durability {
        DurabilityChoice::Power => Durability::Power,
        DurabilityChoice::Process => Durability::Process,
    };
    Ok(match options.store {
        StoreChoice::Sled => Arc::new(SledStore::options().durability(durability).open(folder)?),
        StoreChoice::Memory => Arc::new(MemoryStore::new()),
    })
}

/// The URL of the demo webhook, which is made at the first start only: who deletes it is rid of it.
async fn demo_url(webhooks: &Webhooks, first_start: bool) -> Result<Option<TriggerUrl>, Box<dyn Error>> {
    if first_start {
        let settings = WebhookSettings::default().patched(&serde_json::json!({ "label": DEMO_LABEL }));
        let settings = settings.map_err(|_| "the demo webhook has wrong settings")?;
        return Ok(Some(webhooks.manage().create(DEMO.parse()?, settings).await?.url));
    }
    let query = WebhookQuery::default().of_workflow(DEMO.parse()?).limit(200);
    let page = webhooks.manage().list(query).await?;
    let demo = page.items.iter().find(|webhook| webhook.settings.label.as_deref() == Some(DEMO_LABEL));
    Ok(match demo {
        Some(webhook) => webhooks.manage().url(webhook.id).await.ok(),
        None => None,
    })
}

fn greet(webhooks: &Webhooks, demo: Option<&TriggerUrl>, admin_token_place: &str) -> std::io::Result<()> {
    let mut output = std::io::stdout().lock();
    if let Some(url) = demo {
        writeln!(output, "Start the demo report:\n  curl -X POST '{}'", url.expose())?;
    }
    let base = webhooks.base_url().as_str().trim_end_matches('/');
    writeln!(output, "Management API:\n  {base}/admin/api/v1/webhooks")?;
    writeln!(output, "Admin token:\n  {admin_token_place}")?;
    output.flush()
}

impl Prepared {
    /// Serves until a signal to stop comes, then stops within the shutdown timeout: runs and answers under way
    /// share it, for both end side by side.
    pub(crate) async fn serve(self) -> Result<(), Box<dyn Error>> {
        let workers = match self.workers {
            Some(0) => None,
            slots => Some(self.webhooks.start_workers(worker_options(slots))),
        };
        let stop = stop_signal()?;
        let (stopping, mut stopped) = tokio::sync::watch::channel(false);
        let routes = webhook_warp::all_routes(&self.webhooks, self.access);
        let routes = routes.or(webhook_warp::not_found()).unify();
        let options = ServerOptions::default().with_shutdown_deadline(self.shutdown_timeout);
        let serving = self.server.with_options(options).serve(routes, async move {
            // The sender is dropped only after it was told to stop.
            let _ = stopped.wait_for(|stopping| *stopping).await;
        });
        let ending = async {
            stop.await;
            tracing::info!("stopping; a second signal stops at once");
            self.webhooks.stop_accepting();
            stopping.send_replace(true);
            if let Some(workers) = workers {
                workers.shutdown(self.shutdown_timeout).await;
            }
        };
        tokio::join!(serving, ending);
        Ok(())
    }
}

fn worker_options(slots: Option<usize>) -> WorkerOptions {
    let options = WorkerOptions::default();
    match slots {
        Some(slots) => options.with_slots(slots),
        None => options,
    }
}

/// Completes at SIGTERM or Ctrl-C. The signal after that ends the process at once.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            std::process::exit(1);
        });
    })
}
