//! The service: what a host builds once and hands to its front ends.

pub mod intake;
mod limiter;
pub mod manage;
pub(crate) mod meters;
mod trouble;
mod waiters;
pub mod work;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::sync::Notify;
use url::Url;

use crate::clock::{Clock, SystemClock};
use crate::error::InvalidName;
use crate::events::{EventCursor, Events};
use crate::executor::{CancellationSource, Executor, ExecutorError, StopReason};
use crate::id::{RunId, WebhookId, WorkflowKey, WorkflowKind};
use crate::notifier::Notifier;
use crate::parameters::ParameterLimits;
use crate::run::{CancelReason, Run};
use crate::service::limiter::{FailureLimiter, RateLimiter};
use crate::service::manage::Management;
use crate::service::work::{WorkerOptions, Workers};
use crate::store::{Store, StoreError, StoreHealth, WebhookQuery};
use crate::token::{OpenError, Token, TokenKey, TokenKeys, TriggerUrl};
use crate::webhook::Channel;

use meters::Meters;
use trouble::Trouble;
pub use trouble::WorkHealth;
use waiters::Ends;

/// The kinds every service knows.
const DEFAULT_KINDS: [&str; 2] = ["report", "notebook"];

/// Inbound webhook triggers: the service that front ends call. Cloning it is cheap and shares everything.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use webhook_core::executor::{FnExecutor, RunOutput, Workflow};
/// use webhook_core::memory::MemoryStore;
/// use webhook_core::parameters::ParameterBlocks;
/// use webhook_core::Webhooks;
/// use webhook_core::webhook::WebhookSettings;
///
/// let sales = Workflow::new("report/sales".parse()?, "Sales", ParameterBlocks::default());
/// let webhooks = Webhooks::builder()
///     .store(MemoryStore::new())
///     .executor(FnExecutor::new([sales], async |context| Ok(RunOutput::new().with_summary("done"))))
///     .base_url("https://app.example.com".parse()?)
///     .build()
///     .await?;
/// let created = webhooks.manage().create("report/sales".parse()?, WebhookSettings::default()).await?;
/// assert!(created.url.expose().starts_with("https://app.example.com/api/v1/report/sales/webhook?token=whk_"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Webhooks {
    pub(crate) inner: Arc<Inner>,
}

impl std::fmt::Debug for Webhooks {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let base_url = self.inner.base_url.as_str();
        formatter.debug_struct("Webhooks").field("base_url", &base_url).finish_non_exhaustive()
    }
}

/// Tells where people see a run.
type RunUrl = Arc<dyn Fn(&Run) -> Option<String> + Send + Sync>;

pub(crate) struct Inner {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) executor: Arc<dyn Executor>,
    pub(crate) notifiers: Vec<Arc<dyn Notifier>>,
    pub(crate) keys: Option<TokenKeys>,
    pub(crate) base_url: Url,
    allowed_origins: Vec<Url>,
    run_url: Option<RunUrl>,
    pub(crate) kinds: BTreeSet<WorkflowKind>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) options: ServiceOptions,
    pub(crate) failures: FailureLimiter,
    pub(crate) rates: RateLimiter,
    draining: AtomicBool,
    /// Signalled when new calls begin to be refused.
    drained: Notify,
    uses: Mutex<HashMap<WebhookId, SystemTime>>,
    executing: Mutex<HashMap<RunId, (u64, CancellationSource)>>,
    ends: Arc<Ends>,
    /// Signalled when workers have recorded something.
    pub(crate) progress: Notify,
    pub(crate) trouble: Trouble,
    pub(crate) meters: Meters,
}

/// Bounds and times of a whole service.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServiceOptions {
    /// The bounds on what a call brings.
    pub limits: ParameterLimits,
    /// Upper bound on queued runs in all. 100,000 by default. A webhook without a limit of its own may have half of
    /// them, and one at least.
    pub queue_limit: u32,
    /// Upper bound on the parameters of all queued runs, in bytes of JSON. 256 MiB by default.
    pub queue_bytes: u64,
    /// Upper bound on the parameters of the queued runs of one webhook, in bytes of JSON. 16 MiB by default, and never more
    /// than half of [`queue_bytes`](Self::queue_bytes).
    pub webhook_queue_bytes: u64,
    /// For how long an idempotency key is kept. 24 hours by default.
    pub keep_idempotency_keys: Duration,
    /// For how long ended runs are kept where their webhook does not say. 30 days by default.
    pub keep_runs: Duration,
    /// How many ended runs of each webhook are kept at most. Without bound by default.
    pub keep_runs_per_webhook: Option<u64>,
}

impl Default for ServiceOptions {
    fn default() -> Self {
        Self {
            limits: ParameterLimits::default(),
            queue_limit: 100_000,
            queue_bytes: 256 << 20,
            webhook_queue_bytes: 16 << 20,
            keep_idempotency_keys: Duration::from_secs(24 * 3_600),
            keep_runs: Duration::from_secs(30 * 86_400),
            keep_runs_per_webhook: None,
        }
    }
}

impl ServiceOptions {
    /// Sets the bounds on what a call brings.
    #[must_use]
    pub fn with_limits(mut self, limits: ParameterLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets how many runs may be queued in all.
    #[must_use]
    pub fn with_queue_limit(mut self, limit: u32) -> Self {
        self.queue_limit = limit;
        self
    }

    /// Sets how many bytes of parameters may be queued, of each webhook and in all.
    #[must_use]
    pub fn with_queue_bytes(mut self, of_webhook: u64, in_all: u64) -> Self {
        self.webhook_queue_bytes = of_webhook;
        self.queue_bytes = in_all;
        self
    }

    /// Returns the bound on queued runs of a webhook with this limit of its own.
    pub(crate) fn queue_share(&self, own_limit: Option<u32>) -> u32 {
        own_limit.unwrap_or_else(|| (self.queue_limit / 2).max(1))
    }

    /// Returns the bound on the parameters of the queued runs of one webhook, in bytes.
    pub(crate) fn queue_bytes_share(&self) -> u64 {
        self.webhook_queue_bytes.min(self.queue_bytes / 2)
    }

    /// Sets for how long an idempotency key is kept.
    #[must_use]
    pub fn with_keep_idempotency_keys(mut self, keep: Duration) -> Self {
        self.keep_idempotency_keys = keep;
        self
    }

    /// Sets for how long, and how many of each webhook, ended runs are kept.
    #[must_use]
    pub fn with_keep_runs(mut self, keep: Duration, per_webhook: Option<u64>) -> Self {
        self.keep_runs = keep;
        self.keep_runs_per_webhook = per_webhook;
        self
    }
}

/// Builds a [`Webhooks`] service. A store and an executor are needed; the rest has defaults.
#[derive(Default)]
pub struct WebhooksBuilder {
    store: Option<Arc<dyn Store>>,
    executor: Option<Arc<dyn Executor>>,
    notifiers: Vec<Arc<dyn Notifier>>,
    key: Option<TokenKey>,
    opening_keys: Vec<TokenKey>,
    forget_unknown_keys: bool,
    base_url: Option<Url>,
    allowed_origins: Vec<Url>,
    run_url: Option<RunUrl>,
    kinds: Vec<String>,
    clock: Option<Arc<dyn Clock>>,
    options: ServiceOptions,
}

impl std::fmt::Debug for WebhooksBuilder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("WebhooksBuilder").finish_non_exhaustive()
    }
}

impl WebhooksBuilder {
    /// Where webhooks and runs are kept.
    #[must_use]
    pub fn store(mut self, store: impl Store) -> Self {
        self.store = Some(Arc::new(store));
        self
    }

    /// What executes the workflows.
    #[must_use]
    pub fn executor(mut self, executor: impl Executor) -> Self {
        self.executor = Some(Arc::new(executor));
        self
    }

    /// What carries notifications. May be called once for each notifier; the first that serves a channel gets it.
    #[must_use]
    pub fn notifier(mut self, notifier: impl Notifier) -> Self {
        self.notifiers.push(Arc::new(notifier));
        self
    }

    /// The key that seals tokens, so that URLs can be copied later, and secret parameter values.
    #[must_use]
    pub fn token_key(mut self, key: TokenKey) -> Self {
        self.key = Some(key);
        self
    }

    /// A former key, which still opens what it sealed. May be called several times.
    #[must_use]
    pub fn opening_key(mut self, key: TokenKey) -> Self {
        self.opening_keys.push(key);
        self
    }

    /// Starts although the store holds tokens that no given key opens, as after the loss of a key: their webhooks
    /// go on, and their URLs can be copied again once their tokens are refreshed.
    #[must_use]
    pub fn forget_unknown_keys(mut self) -> Self {
        self.forget_unknown_keys = true;
        self
    }

    /// Under which address callers reach this service; a path in it is kept. `http://localhost:8080` by default.
    #[must_use]
    pub fn base_url(mut self, url: Url) -> Self {
        self.base_url = Some(url);
        self
    }

    /// Another origin at which people use the management pages, besides that of the base URL: the management paths
    /// accept requests of its pages and for its host. Only scheme, host and port count. May be called several times.
    #[must_use]
    pub fn allow_origin(mut self, url: Url) -> Self {
        self.allowed_origins.push(url);
        self
    }

    /// Where people see a run: notifications link to it. Without this they have no link, since this crate knows of no
    /// page. Where the panel is mounted, `webhook_http::panel_run_url` gives its address.
    #[must_use]
    pub fn run_url(mut self, url: impl Fn(&Run) -> Option<String> + Send + Sync + 'static) -> Self {
        self.run_url = Some(Arc::new(url));
        self
    }

    /// A kind of workflow besides `report` and `notebook`. May be called several times.
    #[must_use]
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.kinds.push(kind.into());
        self
    }

    /// Where the time of day comes from. The machine's clock by default.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// The bounds and times of the service.
    #[must_use]
    pub fn options(mut self, options: ServiceOptions) -> Self {
        self.options = options;
        self
    }

    /// Builds the service, after checking that the key at hand opens the sealed tokens of the store.
    ///
    /// # Errors
    /// [`BuildError`] says what is missing or wrong.
    ///
    /// # Cancel safety
    /// It changes nothing and may be dropped at any time.
    pub async fn build(self) -> Result<Webhooks, BuildError> {
        let store = self.store.ok_or(BuildError::Missing("store"))?;
        let executor = self.executor.ok_or(BuildError::Missing("executor"))?;
        let names = DEFAULT_KINDS.into_iter().map(str::to_owned).chain(self.kinds);
        let kinds = names.map(|name| WorkflowKind::new(&name)).collect::<Result<_, _>>()?;
        let is_web = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
        if !self.allowed_origins.iter().all(is_web) {
            return Err(BuildError::AllowedOrigin);
        }
        let base_url = match self.base_url {
            Some(url) if is_web(&url) => url,
            Some(_) => return Err(BuildError::BaseUrl),
            None => Url::parse("http://localhost:8080").map_err(|_| BuildError::BaseUrl)?,
        };
        let keys = self
            .key
            .map(|key| self.opening_keys.into_iter().fold(TokenKeys::new(key), TokenKeys::with_opening_key));
        if let Some(keys) = keys.as_ref().filter(|_| !self.forget_unknown_keys) {
            check_keys(&*store, keys).await?;
        }
        let channels = self.notifiers.iter().flat_map(|notifier| notifier.channels().to_vec());
        let meters = Meters::new(channels);
        let inner = Inner {
            ends: Arc::new(Ends::new(store.clone())),
            store,
            executor,
            notifiers: self.notifiers,
            keys,
            base_url,
            allowed_origins: self.allowed_origins,
            run_url: self.run_url,
            kinds,
            clock: self.clock.unwrap_or_else(|| Arc::new(SystemClock)),
            options: self.options,
            failures: FailureLimiter::default(),
            rates: RateLimiter::default(),
            draining: AtomicBool::new(false),
            drained: Notify::new(),
            uses: Mutex::default(),
            executing: Mutex::default(),
            progress: Notify::new(),
            trouble: Trouble::default(),
            meters,
        };
        Ok(Webhooks { inner: Arc::new(inner) })
    }
}

/// A wrong key shows at start-up, not when somebody wants to copy a URL.
async fn check_keys(store: &dyn Store, keys: &TokenKeys) -> Result<(), BuildError> {
    let mut query = WebhookQuery::default().limit(200);
    loop {
        let page = store.list_webhooks(query.clone()).await?;
        for sealed in page.items.iter().filter_map(|webhook| webhook.sealed_token.as_ref()) {
            keys.check(sealed)?;
        }
        if page.next.is_none() {
            return Ok(());
        }
        query = query.before(page.next);
    }
}

/// Why a service could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Something that has no default was not given.
    #[error("no {0} was given")]
    Missing(&'static str),
    /// A kind's name has not the form of one.
    #[error("a kind cannot be registered")]
    Kind(#[from] InvalidName),
    /// The base URL is not an absolute http or https URL.
    #[error("the base URL must be an absolute http or https URL")]
    BaseUrl,
    /// An allowed origin is not an absolute http or https URL.
    #[error("an allowed origin must be an absolute http or https URL")]
    AllowedOrigin,
    /// The store holds a sealed token that the given keys do not open.
    #[error("the token key is not the one this store's tokens were sealed with")]
    WrongKey(#[from] OpenError),
    /// The store could not be read.
    #[error("the store cannot be read")]
    Store(#[from] StoreError),
}

impl Webhooks {
    /// Starts building a service.
    #[must_use]
    pub fn builder() -> WebhooksBuilder {
        WebhooksBuilder::default()
    }

    /// The management operations, for trusted code: nothing here asks who calls.
    #[must_use]
    pub fn manage(&self) -> Management<'_> {
        Management::new(self)
    }

    /// Starts workers that execute queued runs, on the present tokio runtime, and accepts calls (again).
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use = "the workers stop when this is dropped"]
    pub fn start_workers(&self, options: WorkerOptions) -> Workers {
        self.inner.draining.store(false, Ordering::SeqCst);
        Workers::start(self.clone(), options)
    }

    /// Executes queued runs and sends due notifications until nothing is left that is due, waits for pauses in
    /// between, and returns. For hosts' tests: with tokio's time paused, pauses take no time.
    ///
    /// # Errors
    /// [`StoreError`] when the store fails.
    ///
    /// # Cancel safety
    /// When dropped, runs that execute are given up; they come back when their lease is over.
    pub async fn run_until_idle(&self) -> Result<(), StoreError> {
        crate::service::work::run_until_idle(self).await
    }

    /// Refuses new calls from now on, as at shutdown. Reading goes on.
    pub fn stop_accepting(&self) {
        self.inner.draining.store(true, Ordering::SeqCst);
        self.inner.drained.notify_waiters();
    }

    /// Completes once `signal` has, and lets the service refuse new calls just before: the future that a server's
    /// graceful shutdown takes.
    ///
    /// Streams of events and calls that wait for their run (`Prefer: wait`) end with it. Without that, a server that
    /// lets answers under way end would wait for as long as a browser shows the panel.
    ///
    /// ```no_run
    /// # async fn example(webhooks: webhook_core::Webhooks) {
    /// let interrupted = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    /// let shutdown = webhooks.shutdown_on(interrupted);
    /// // warp::serve(routes).bind(address).await.graceful(shutdown).run().await;
    /// // axum::serve(listener, router).with_graceful_shutdown(shutdown).await?;
    /// # shutdown.await
    /// # }
    /// ```
    ///
    /// # Cancel safety
    /// When dropped before `signal` completes, calls go on being accepted.
    pub fn shutdown_on<S>(&self, signal: S) -> impl Future<Output = ()> + use<S>
    where
        S: Future<Output = ()>,
    {
        let webhooks = self.clone();
        async move {
            signal.await;
            webhooks.stop_accepting();
        }
    }

    /// Waits until new calls are refused; not at all if they are already. Cancel safe.
    pub async fn stopped_accepting(&self) {
        let drained = self.inner.drained.notified();
        tokio::pin!(drained);
        // Registered before the look, so that it is not missed in between.
        drained.as_mut().enable();
        if self.is_accepting() {
            drained.await;
        }
    }

    /// Whether new calls are accepted.
    #[must_use]
    pub fn is_accepting(&self) -> bool {
        !self.inner.draining.load(Ordering::SeqCst)
    }

    /// Whether the store can be written, and how much is in it.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot.
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    pub async fn health(&self) -> Result<StoreHealth, StoreError> {
        self.inner.store.health().await
    }

    /// What stands in the way of the workers of this process. It asks nobody.
    #[must_use]
    pub fn work_health(&self) -> WorkHealth {
        self.inner.trouble.health()
    }

    /// Whether this kind of workflow is registered.
    #[must_use]
    pub fn knows_kind(&self, kind: &WorkflowKind) -> bool {
        self.inner.kinds.contains(kind)
    }

    /// Where callers reach this service.
    #[must_use]
    pub fn base_url(&self) -> &Url {
        &self.inner.base_url
    }

    /// The URLs whose origins may use the management pages: the base URL, then those that were
    /// [allowed](WebhooksBuilder::allow_origin).
    pub fn origins(&self) -> impl Iterator<Item = &Url> {
        std::iter::once(&self.inner.base_url).chain(&self.inner.allowed_origins)
    }

    /// The bounds and times of the service.
    #[must_use]
    pub fn options(&self) -> &ServiceOptions {
        &self.inner.options
    }

    /// The events after `cursor`, for any number of listeners; waits until there is one. `None` answers at once
    /// with the present cursor. See [`Store::events_since`].
    ///
    /// # Errors
    /// [`StoreError`] when events cannot be read.
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    pub async fn events_since(&self, cursor: Option<EventCursor>) -> Result<Events, StoreError> {
        self.inner.store.events_since(cursor).await
    }

    /// Waits until a run has ended, at most for `patience`. Answers the run as it is then, or `None` when there is
    /// no such run. Neither the time-out nor dropping this touches the run.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    pub async fn wait_for_end(&self, run: RunId, patience: Duration) -> Result<Option<Arc<Run>>, StoreError> {
        self.inner.ends.wait(run, patience).await
    }
}

impl Inner {
    pub(crate) fn now(&self) -> SystemTime {
        self.clock.now()
    }

    /// The address of a path below the base URL.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base_url.as_str().trim_end_matches('/'))
    }

    /// Where people see a run, if the host has such a page.
    pub(crate) fn run_url(&self, run: &Run) -> Option<String> {
        self.run_url.as_ref().and_then(|url| url(run))
    }

    /// What serves this channel: the first notifier that does.
    pub(crate) fn notifier(&self, channel: Channel) -> Option<&Arc<dyn Notifier>> {
        self.notifiers.iter().find(|notifier| notifier.channels().contains(&channel))
    }

    pub(crate) fn trigger_url(&self, workflow: &WorkflowKey, token: &Token) -> TriggerUrl {
        let path = self.url(&format!("/api/v1/{workflow}/webhook?token="));
        // With room for all of it, so that growing leaves no copy of the token behind.
        let mut url = zeroize::Zeroizing::new(String::with_capacity(path.len() + token.expose().len()));
        url.push_str(&path);
        url.push_str(token.expose());
        TriggerUrl::new(url)
    }

    /// Notes that a webhook was used; written to the store now and then by the workers' housekeeping.
    pub(crate) fn note_use(&self, webhook: WebhookId, now: SystemTime) {
        self.uses.lock().insert(webhook, now);
    }

    pub(crate) fn last_use(&self, webhook: WebhookId) -> Option<SystemTime> {
        self.uses.lock().get(&webhook).copied()
    }

    /// Writes the noted uses. They stay noted when that fails.
    pub(crate) async fn write_uses(&self) -> Result<(), StoreError> {
        let noted: Vec<_> = self.uses.lock().iter().map(|(id, time)| (*id, *time)).collect();
        if noted.is_empty() {
            return Ok(());
        }
        self.store.record_use(&noted).await?;
        let mut uses = self.uses.lock();
        for (id, time) in noted {
            if uses.get(&id) == Some(&time) {
                uses.remove(&id);
            }
        }
        Ok(())
    }

    /// Tells runs that execute in this process to stop; others learn of it when their lease is renewed.
    pub(crate) fn stop_executing(&self, runs: &[RunId], reason: CancelReason) {
        let executing = self.executing.lock();
        for (_, source) in runs.iter().filter_map(|run| executing.get(run)) {
            source.cancel(StopReason::Cancelled(reason));
        }
    }

    /// Takes note of an execution, and returns what tells it to stop.
    pub(crate) fn begin_executing(&self, (run, fence): (RunId, u64)) -> CancellationSource {
        let source = CancellationSource::new();
        self.executing.lock().insert(run, (fence, source.clone()));
        source
    }

    /// Forgets executions, unless a newer one of the same run has begun in this process.
    pub(crate) fn end_executing(&self, ended: impl Iterator<Item = (RunId, u64)>) {
        let mut executing = self.executing.lock();
        for (run, fence) in ended {
            if executing.get(&run).is_some_and(|(newest, _)| *newest == fence) {
                executing.remove(&run);
            }
        }
    }

    /// The title of a workflow for people, or its key when it is gone.
    pub(crate) async fn title(&self, workflow: &WorkflowKey) -> Result<String, ExecutorError> {
        let described = self.executor.describe(workflow).await?;
        Ok(described.map_or_else(|| workflow.to_string(), |workflow| workflow.title.clone()))
    }
}
