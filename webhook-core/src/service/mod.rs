//! The service: what a host builds once and hands to its front ends.
//!
//! ```text
//!              Webhooks            the top layer: what hosts and front ends call
//!            ┌─────┼─────┐
//!         manage   │    work       management · claiming, executing and notifying
//!            └──▶ intake │         from a call to a durable run
//!                  │     │
//!                  ▼     ▼
//!                  Parts           store, executor, notifiers, and what this process knows besides
//! ```
//!
//! Each layer takes `&Parts` and imports only those below it.

mod accepting;
mod builder;
mod call_writing;
mod calls;
mod executing;
pub mod intake;
mod limiter;
pub mod manage;
mod meters;
mod options;
mod parts;
mod process_calls;
mod trouble;
mod uses;
mod waiters;
pub mod work;

use std::sync::Arc;
use std::time::Duration;

use url::Url;
use zeroize::Zeroizing;

use crate::calls::CallFacts;
use crate::events::{EventCursor, Events};
use crate::id::{RunId, WebhookId, WorkflowKey, WorkflowKind};
use crate::network::Networks;
use crate::run::Run;
use crate::store::{StoreError, StoreHealth};
use crate::webhook::Webhook;

pub use builder::{BuildError, RequiredPart, WebhooksBuilder};
use intake::{AdmittedCall, AuthenticatedCall, TriggerCall, TriggerError, Triggered};
use manage::Management;
pub use options::ServiceOptions;
use parts::Parts;
pub use trouble::WorkHealth;
use work::{WorkerOptions, Workers};

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
/// let created = webhooks.manage().create_webhook("report/sales".parse()?, WebhookSettings::default()).await?;
/// assert!(created.url.expose().starts_with("https://app.example.com/api/v1/report/sales/webhook?token=whk_"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Webhooks {
    parts: Arc<Parts>,
}

impl std::fmt::Debug for Webhooks {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let base_url = self.parts.base_url.as_str();
        formatter.debug_struct("Webhooks").field("base_url", &base_url).finish_non_exhaustive()
    }
}

/// Handling calls. See [`intake`].
impl Webhooks {
    /// Finds the webhook of a call's token.
    ///
    /// # Errors
    /// - [`TriggerError::Unauthorized`] for a missing token, an unknown one, and one of another workflow
    ///   alike
    /// - [`TriggerError::TooManyFailures`] when too many of these came from one address
    /// - [`TriggerError::TwoTokens`], [`TriggerError::MalformedQuery`], [`TriggerError::QueryTooLong`],
    ///   [`TriggerError::Store`]
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    pub async fn authenticate(&self, call: TriggerCall) -> Result<AuthenticatedCall, TriggerError> {
        let authenticated = intake::authenticate(&self.parts, call).await;
        if matches!(authenticated, Err(TriggerError::Unauthorized | TriggerError::TooManyFailures { .. })) {
            // Later: whether the named workflow exists.
            call_writing::schedule(&self.parts);
        }
        authenticated
    }

    /// Checks the rules that need no body: allowed networks, enabled, GET allowed, no preview, rate limit. A
    /// handshake that its sender does not sign is recognized here.
    ///
    /// A front end adds the [head](AuthenticatedCall::with_head) of the call before, where it is
    /// [needed](AuthenticatedCall::needs_head).
    ///
    /// Fails with [`TriggerError::ShuttingDown`], [`TriggerError::AddressNotAllowed`], [`TriggerError::Disabled`],
    /// [`TriggerError::MethodNotAllowed`], [`TriggerError::GetNotAllowed`], [`TriggerError::PreviewRefused`], [`TriggerError::RateLimited`],
    /// [`TriggerError::SignatureInvalid`] or [`TriggerError::Store`].
    pub async fn admit(&self, call: AuthenticatedCall) -> Result<AdmittedCall, TriggerError> {
        intake::admit(&self.parts, call).await
    }

    /// Finds the webhook of the token by which a caller wants to read a run. Its settings are not checked.
    ///
    /// Fails like [`find_run`](Self::find_run).
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    pub async fn find_webhook(&self, call: &TriggerCall) -> Result<Arc<Webhook>, TriggerError> {
        intake::find_webhook(&self.parts, call).await
    }

    /// Returns the run that a caller reads with its webhook's token; `None` if that webhook has no such run.
    ///
    /// Fails like [`authenticate`](Self::authenticate).
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    pub async fn find_run(&self, call: TriggerCall, run: RunId) -> Result<Option<Arc<Run>>, TriggerError> {
        intake::find_run(&self.parts, call, run).await
    }

    /// Checks the rest of a call and enqueues its run. Only for POST is `body` read.
    ///
    /// Reading a body and describing a workflow may take a while. So the store checks token and `enabled`
    /// again, in the atomic step that records the run. A token refreshed or a webhook disabled in the
    /// meantime starts nothing.
    ///
    /// Fails with any [`TriggerError`]. Nothing is recorded then.
    ///
    /// # Cancel safety
    /// When dropped, the run may or may not have been enqueued; with an idempotency key the call can be repeated.
    pub async fn trigger(&self, call: AdmittedCall, body: &[u8]) -> Result<Triggered, TriggerError> {
        intake::trigger(&self.parts, call, body).await
    }

    /// Adds a call to the call log of its webhook, whatever its outcome. A front end calls it once for each call whose
    /// webhook it knows, when it has decided on the answer.
    ///
    /// Neither waits nor writes: what is logged is written within a second, on the current tokio runtime.
    pub fn log_call(&self, webhook: WebhookId, facts: &CallFacts<'_>) {
        self.parts.calls.log(webhook, facts, self.parts.now());
        call_writing::schedule(&self.parts);
    }

    /// Writes the calls that were logged to the store, as a server does before it ends. [`Workers::shutdown`] includes it.
    ///
    /// Fails with [`StoreError`] when the store cannot be written. The calls are kept then.
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    pub async fn write_call_log(&self) -> Result<(), StoreError> {
        self.parts.write_calls().await
    }
}

impl Webhooks {
    /// Returns the management operations, for trusted code: they authenticate no caller.
    #[must_use]
    pub fn manage(&self) -> Management<'_> {
        Management::new(&self.parts)
    }

    /// Starts workers that execute queued runs on the current tokio runtime, and accepts calls (again).
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use = "the workers stop when this is dropped"]
    pub fn start_workers(&self, options: WorkerOptions) -> Workers {
        self.parts.accepting.start();
        Workers::start(self.parts.clone(), options)
    }

    /// Executes queued runs and sends due notifications until nothing is left, then removes expired runs.
    ///
    /// For hosts' tests. It waits for pauses between attempts. These take no time where tokio's time is paused:
    /// `#[tokio::test(start_paused = true)]`, with tokio's feature `test-util`.
    ///
    /// ```
    /// use webhook_core::{FnExecutor, MemoryStore, RunOutput, RunState, WebhookSettings, Webhooks, Workflow};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let sales = Workflow::new("report/sales".parse()?, "Sales", Default::default());
    /// let executor = FnExecutor::new([sales], async |_| Ok(RunOutput::new()));
    /// let webhooks = Webhooks::builder().store(MemoryStore::new()).executor(executor).build().await?;
    /// let manage = webhooks.manage();
    /// let webhook = manage.create_webhook("report/sales".parse()?, WebhookSettings::default()).await?.webhook;
    /// let started = manage.start_run(webhook.id, Default::default(), Default::default()).await?;
    ///
    /// webhooks.run_until_idle().await?;
    /// assert_eq!(manage.get_run(started.run.id()).await?.state(), RunState::Succeeded);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A test that acts while a run executes, such as one that cancels it, starts workers instead:
    /// `start_workers(WorkerOptions::default().with_threads(false))`.
    ///
    /// Fails with [`StoreError`] when the store fails.
    ///
    /// # Cancel safety
    /// When dropped, running runs are given up; they are due again when their lease expires.
    pub async fn run_until_idle(&self) -> Result<(), StoreError> {
        work::run_until_idle(&self.parts).await
    }

    /// Refuses new calls, records the last uses and calls of webhooks, which takes at most a second, and closes the store. The
    /// last call of a host, after the [shutdown](Workers::shutdown) of its workers and the end of its servers.
    ///
    /// Every service on this store loses it. What the store does is at [`Store::close`](crate::store::Store::close).
    ///
    /// # Cancel safety
    /// When dropped, the store may not be closed.
    pub async fn close(&self) {
        self.stop_accepting();
        work::record_last(&self.parts, work::LAST_WRITES).await;
        self.parts.store.close().await;
    }

    /// Refuses new calls from now on, as at shutdown. Reads continue.
    pub fn stop_accepting(&self) {
        self.parts.accepting.stop();
    }

    /// Returns the future for a server's graceful shutdown: it completes after `signal`, and makes the
    /// service refuse new calls just before.
    ///
    /// Streams of events and calls that wait for their run (`Prefer: wait`) end with it. Otherwise a server
    /// that lets answers in progress end would wait for every browser that shows the panel.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use webhook_core::{FnExecutor, MemoryStore, RunOutput, Webhooks};
    /// # let executor = FnExecutor::new([], async |_| Ok(RunOutput::new()));
    /// # let webhooks = Webhooks::builder().store(MemoryStore::new()).executor(executor).build().await?;
    /// let (stop, stopped) = tokio::sync::oneshot::channel::<()>(); // in a host: Ctrl-C or SIGTERM
    /// let shutdown = webhooks.shutdown_on(async { stopped.await.unwrap_or_default() });
    /// // warp::serve(routes).bind(address).await.graceful(shutdown).run().await;
    /// // axum::serve(listener, router).with_graceful_shutdown(shutdown).await?;
    /// # drop(stop);
    /// # shutdown.await;
    /// # assert!(!webhooks.is_accepting());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    /// When dropped before `signal` completes, calls continue to be accepted.
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

    /// Waits until new calls are refused; returns at once if they already are. Cancel safe.
    pub async fn stopped_accepting(&self) {
        self.parts.accepting.stopped().await;
    }

    /// Returns whether new calls are accepted.
    #[must_use]
    pub fn is_accepting(&self) -> bool {
        self.parts.accepting.is_accepting()
    }

    /// Returns the number of records in the store, or an error if the store cannot be written.
    ///
    /// Fails with [`StoreError`] when the store cannot be written.
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    pub async fn health(&self) -> Result<StoreHealth, StoreError> {
        self.parts.store.health().await
    }

    /// Returns what the workers of this process cannot complete. It does not call the store.
    #[must_use]
    pub fn work_health(&self) -> WorkHealth {
        self.parts.trouble.health()
    }

    /// Returns whether this kind of workflow is registered.
    #[must_use]
    pub fn knows_kind(&self, kind: &WorkflowKind) -> bool {
        self.parts.knows_kind(kind)
    }

    /// Returns the registered kinds of workflows, in the order of their names.
    pub fn kinds(&self) -> impl Iterator<Item = &WorkflowKind> + Clone {
        self.parts.kinds.iter()
    }

    /// Returns the URL under which callers reach this service.
    #[must_use]
    pub fn base_url(&self) -> &Url {
        &self.parts.base_url
    }

    /// Returns the URL of a call with this query, as it was entered at its sender: below the base URL, whatever host the
    /// request names.
    #[must_use]
    pub fn called_url(&self, workflow: &WorkflowKey, query: &str) -> Zeroizing<String> {
        self.parts.called_url(workflow, query)
    }

    /// Returns the URLs whose origins may use the management pages: the base URL, then the
    /// [allowed](WebhooksBuilder::allow_origin) ones.
    pub fn origins(&self) -> impl Iterator<Item = &Url> {
        std::iter::once(&self.parts.base_url).chain(&self.parts.allowed_origins)
    }

    /// Returns the networks of the proxies whose word on the address of a client counts.
    #[must_use]
    pub fn trusted_proxies(&self) -> &Networks {
        &self.parts.trusted_proxies
    }

    /// Returns the bounds and times of the service.
    #[must_use]
    pub fn options(&self) -> &ServiceOptions {
        &self.parts.options
    }

    /// Returns the events after `cursor`, once there is at least one, for any number of listeners.
    ///
    /// `None` returns the current cursor at once. See
    /// [`Store::events_since`](crate::store::Store::events_since).
    ///
    /// Fails with [`StoreError`] when events cannot be read.
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    pub async fn events_since(&self, cursor: Option<EventCursor>) -> Result<Events, StoreError> {
        self.parts.store.events_since(cursor).await
    }

    /// Waits until a run has ended, for at most `patience`. Returns the run as it is then, or `None` if there
    /// is no such run.
    ///
    /// Neither the time-out nor dropping this affects the run.
    ///
    /// Fails with [`StoreError`] when the store cannot be read.
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    pub async fn wait_for_end(&self, run: RunId, patience: Duration) -> Result<Option<Arc<Run>>, StoreError> {
        self.parts.waiters.wait(run, patience).await
    }
}
