//! Runs the server: from its options to its clean end.

use std::collections::BTreeSet;
use std::error::Error;
use std::io::{self, Write};
use std::pin::Pin;
use std::time::Duration;

use metrics_exporter_prometheus::{
    BuildError as RecorderError, Matcher, PrometheusBuilder, PrometheusHandle,
};
use url::Url;
use warp::Filter;
use webhook_core::Webhooks;
use webhook_core::manage::ManagementError;
use webhook_core::store::WebhookQuery;
use webhook_core::token::TriggerUrl;
use webhook_core::work::WorkerOptions;
use webhook_core::{BuildError, WebhooksBuilder};
use webhook_process::ArtifactFolder;
use webhook_warp::server::{Server, ServerOptions};
use webhook_warp::{AdminAccess, PanelOptions};

use crate::executor::ServerExecutor;
use crate::loaded_workflow::LoadedWorkflow;
use crate::options::{Options, StoreChoice};
use crate::report::chain;
use crate::{admin_token, data_folder, demo, token_key};

/// Buckets of durations in seconds: from a commit to a long run.
const SECONDS: [f64; 13] =
    [0.000_3, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 60.0, 600.0, 3_600.0];
/// Buckets of the number of changes in one commit.
const SIZES: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0];

/// Everything that is created before the first call can come.
pub(crate) struct Prepared {
    webhooks: Webhooks,
    server: Server,
    access: AdminAccess,
    metrics: PrometheusHandle,
    workers: Option<WorkerOptions>,
    shutdown_timeout: Duration,
    stop: Pin<Box<dyn Future<Output = ()>>>,
}

/// Opens the store, then binds the port, and prints how to continue.
pub(crate) async fn prepare(
    options: Options,
    workflows: Vec<LoadedWorkflow>,
) -> Result<Prepared, Box<dyn Error>> {
    raise_file_limit();
    // The store creates its counters when it is opened, and the service when it is built.
    let metrics = recorder()?;
    data_folder::make_private(&options.data)
        .map_err(|error| format!("the data folder {} cannot be made: {error}", options.data.display()))?;
    let folder = options.data.join("store");
    // The key comes first: if there is a store, there was a key.
    let is_sled = matches!(options.store, StoreChoice::Sled);
    let store_exists = is_sled && data_folder::check_store(&options.data, &folder)?;
    let may_create = !store_exists || options.forget_unknown_keys;
    let key = token_key::load_or_create(&options.token_key, may_create)?;
    let store = data_folder::open_store(&options, &folder).await?;
    if is_sled {
        // From now on, a start without the store is refused. Nothing in the store was announced before.
        data_folder::note_store(&options.data)?;
    }
    let (admin_token, admin_token_place) = match &options.admin_token {
        Some(token) => (token.expose().to_owned(), "as given".to_owned()),
        None => {
            let file = options.data.join("admin.token");
            (admin_token::load_or_create(&file)?, format!("in {}", file.display()))
        }
    };
    let access = AdminAccess::token(&admin_token)
        .map_err(|error| format!("the admin token {admin_token_place}: {error}"))?;
    let server = Server::bind(options.listen).await?;
    let unavailable = unavailable(&workflows);
    let artifacts = ArtifactFolder::new(options.data.join("artifacts")).with_quota(options.artifact_quota);
    let kinds: BTreeSet<_> = workflows.iter().map(|own| own.workflow.key.kind.to_string()).collect();
    let builder = kinds.into_iter().fold(Webhooks::builder(), WebhooksBuilder::kind);
    let builder = if options.forget_unknown_keys { builder.forget_unknown_keys() } else { builder };
    let builder = options.smtp.clone().into_iter().fold(builder, WebhooksBuilder::notifier);
    let builder = options.slack.clone().into_iter().fold(builder, WebhooksBuilder::notifier);
    let base_url = options.base_url(server.local_address()?)?;
    let builder = names_of_this_machine(&base_url).into_iter().fold(builder, WebhooksBuilder::allow_origin);
    let webhooks = builder
        .store(store)
        .executor(ServerExecutor::new(workflows, artifacts.clone()))
        .token_key(key)
        .base_url(base_url.clone())
        .trusted_proxies(options.trusted_proxies.clone())
        .run_url(move |run| Some(webhook_warp::panel_run_url(&base_url, run)))
        .build()
        .await
        .map_err(with_flags)?;
    let demo = match (options.uses_bundled_workflows(), &options.store) {
        // Of several servers that start at once, each would create one.
        (false, _) | (true, StoreChoice::Postgres(_)) => None,
        (true, StoreChoice::Memory) => Some(demo::create(&webhooks).await?),
        (true, StoreChoice::Sled) => demo::url(&webhooks, &options.data).await?,
    };
    // A store in memory does not know earlier runs, which a start with another store may find again.
    if !matches!(options.store, StoreChoice::Memory) {
        tokio::spawn(sweep(webhooks.clone(), artifacts));
    }
    warn_of_full_store(&webhooks).await;
    for (workflow, why) in unavailable {
        tracing::warn!("{workflow} is unavailable: {why}");
    }
    // A reader of the greeting may stop the server at once.
    let stop = Box::pin(stop_signal()?);
    let is_empty = webhooks.manage().list_webhooks(WebhookQuery::default().limit(1)).await?.items.is_empty();
    greet(&webhooks, demo.as_ref(), is_empty, &admin_token_place)?;
    Ok(Prepared {
        webhooks,
        server,
        access,
        metrics,
        workers: worker_options(&options),
        shutdown_timeout: options.shutdown_timeout,
        stop,
    })
}

/// Returns the error of building the service. For a wrong token key, it names the flags that help.
fn with_flags(error: BuildError) -> Box<dyn Error> {
    match &error {
        BuildError::WrongKey(_) => format!(
            "{}: name the key with --token-key, or go on with --forget-unknown-keys at every start until each \
             webhook's token was refreshed",
            chain(&error)
        )
        .into(),
        _ => error.into(),
    }
}

/// Returns every spelling of a base URL by which a browser on this machine can reach it.
fn names_of_this_machine(base_url: &Url) -> Vec<Url> {
    let names = ["localhost", "127.0.0.1", "[::1]"];
    let written = |name| {
        let mut url = base_url.clone();
        url.set_host(Some(name)).ok().map(|()| url)
    };
    match base_url.host_str() {
        Some(host) if names.contains(&host) => names.into_iter().filter_map(written).collect(),
        _ => Vec::new(),
    }
}

/// Warns at once if no call could be accepted.
async fn warn_of_full_store(webhooks: &Webhooks) {
    match webhooks.health().await {
        Ok(health) if health.is_full => {
            tracing::warn!("calls are answered 503 until there is more room on the disk of the data folder");
        }
        Ok(_) => {}
        Err(error) => tracing::warn!("the store is not healthy: {}", webhook_core::error::chain(&error)),
    }
}

/// Raises the limit of open files to the system's maximum. The usual 1,024 are too few for the connections
/// and the store.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

fn recorder() -> Result<PrometheusHandle, RecorderError> {
    let sizes = Matcher::Full("webhook_store_commit_size".to_owned());
    let builder = PrometheusBuilder::new().set_buckets(&SECONDS)?;
    builder.set_buckets_for_metric(sizes, &SIZES)?.install_recorder()
}

/// Returns the workflows that cannot be executed here, each with the reason.
fn unavailable(workflows: &[LoadedWorkflow]) -> Vec<(String, String)> {
    let reason =
        |own: &LoadedWorkflow| Some((own.workflow.key.to_string(), own.workflow.unavailable.clone()?));
    workflows.iter().filter_map(reason).collect()
}

/// Removes the artifacts of runs that no longer exist. They remain if the server ends between the removal of
/// both.
async fn sweep(webhooks: Webhooks, artifacts: ArtifactFolder) {
    let is_known = async |run| match webhooks.manage().get_run(run).await {
        Ok(_) => Ok(true),
        Err(ManagementError::NotFound(_)) => Ok(false),
        Err(error) => Err(Box::<dyn Error + Send + Sync>::from(error)),
    };
    match artifacts.sweep(is_known).await {
        Ok(0) => {}
        Ok(runs) => tracing::info!(runs, "removed artifacts of runs that are gone"),
        Err(error) => {
            tracing::warn!(error = chain(&*error), "artifacts of runs that are gone could not be removed");
        }
    }
}

fn greet(
    webhooks: &Webhooks,
    demo: Option<&TriggerUrl>,
    has_no_webhook: bool,
    admin_token_place: &str,
) -> io::Result<()> {
    let mut output = std::io::stdout().lock();
    if let Some(url) = demo {
        writeln!(output, "Start the demo report:\n  curl -X POST '{}'", url.expose())?;
    }
    if has_no_webhook {
        writeln!(
            output,
            "No workflow has a webhook yet: create one in the panel, or by POST to the management API."
        )?;
    }
    let base = webhooks.base_url().as_str().trim_end_matches('/');
    writeln!(output, "Panel:\n  {base}/panel")?;
    writeln!(output, "Management API:\n  {base}/admin/api/v1/webhooks")?;
    writeln!(output, "Admin token:\n  {admin_token_place}")?;
    output.flush()
}

impl Prepared {
    /// Serves until a signal to stop, then stops within the shutdown timeout.
    ///
    /// Runs and answers in progress end side by side, so they share that time.
    pub(crate) async fn serve(self) -> Result<(), Box<dyn Error>> {
        let workers = self.workers.map(|options| self.webhooks.start_workers(options));
        let (stopping, mut stopped) = tokio::sync::watch::channel(false);
        let routes = webhook_warp::all_routes(&self.webhooks, self.access);
        let metrics = self.metrics;
        let render = move || {
            metrics.run_upkeep();
            metrics.render()
        };
        let routes = routes.or(webhook_warp::metrics_route(&self.webhooks, render)).unify();
        let panel = webhook_warp::panel_routes(&PanelOptions::default());
        let routes = routes.or(panel).unify().or(webhook_warp::not_found()).unify();
        let options = ServerOptions::default().with_shutdown_deadline(self.shutdown_timeout);
        let serving = self.server.with_options(options).serve(webhook_warp::service(routes), async move {
            // The sender is dropped only after it was told to stop.
            let _ = stopped.wait_for(|stopping| *stopping).await;
        });
        let ending = async {
            self.stop.await;
            tracing::info!("stopping; a second signal stops at once");
            self.webhooks.stop_accepting();
            stopping.send_replace(true);
            if let Some(workers) = workers {
                workers.shutdown(self.shutdown_timeout).await;
            }
        };
        tokio::join!(serving, ending);
        self.webhooks.close().await;
        Ok(())
    }
}

/// Returns the options of the workers, or `None` if there are to be none.
fn worker_options(options: &Options) -> Option<WorkerOptions> {
    let workers = WorkerOptions::default().with_name(options.name.as_str()).with_lease(options.lease);
    match options.workers {
        Some(0) => None,
        Some(slots) => Some(workers.with_slots(slots)),
        None => Some(workers),
    }
}

/// Completes at SIGTERM, Ctrl-C or SIGHUP. A second SIGTERM or Ctrl-C ends the process at once.
///
/// A second SIGHUP does not, since a terminal that closes may send it twice.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hang_up.recv() => {}
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
