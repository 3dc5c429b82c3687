//! Builds the service.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::Notify;
use url::Url;

use super::Webhooks;
use super::accepting::Accepting;
use super::calls::Calls;
use super::executing::Executing;
use super::limiter::FailureLimiter;
use super::meters::Meters;
use super::options::ServiceOptions;
use super::parts::{Parts, RunUrl};
use super::process_calls::ProcessCalls;
use super::trouble::Trouble;
use super::uses::Uses;
use super::waiters::Waiters;
use crate::clock::{Clock, SystemClock};
use crate::error::{InvalidName, chain};
use crate::executor::Executor;
use crate::id::WorkflowKind;
use crate::network::Networks;
use crate::notifier::Notifier;
use crate::run::Run;
use crate::store::{Store, StoreError, WebhookQuery};
use crate::token::{TokenKey, TokenKeys, UnsealError};

/// Kinds that every service knows.
const DEFAULT_KINDS: [&str; 2] = ["report", "notebook"];

impl Webhooks {
    /// Returns a builder of a service.
    #[must_use]
    pub fn builder() -> WebhooksBuilder {
        WebhooksBuilder::default()
    }
}

/// Builds a [`Webhooks`] service. A store and an executor are required; everything else has defaults.
///
/// Store, executor, notifiers and clock may be shared: an `Arc` of one, also of `dyn Store` and so on, is one.
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
    trusted_proxies: Networks,
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
    /// Sets the store of webhooks and runs.
    #[must_use]
    pub fn store(mut self, store: impl Store) -> Self {
        self.store = Some(Arc::new(store));
        self
    }

    /// Sets the executor of the workflows. [`Executors`](crate::executor::Executors) combines several.
    #[must_use]
    pub fn executor(mut self, executor: impl Executor) -> Self {
        self.executor = Some(Arc::new(executor));
        self
    }

    /// Adds a notifier. Of several notifiers for a channel, the first is used.
    #[must_use]
    pub fn notifier(mut self, notifier: impl Notifier) -> Self {
        self.notifiers.push(Arc::new(notifier));
        self
    }

    /// Sets the key that seals secret parameter values, and tokens so that URLs can be copied later.
    #[must_use]
    pub fn token_key(mut self, key: TokenKey) -> Self {
        self.key = Some(key);
        self
    }

    /// Adds a former key, which still opens what it sealed. May be called several times.
    #[must_use]
    pub fn opening_key(mut self, key: TokenKey) -> Self {
        self.opening_keys.push(key);
        self
    }

    /// Starts although the store holds tokens that no given key opens, as after the loss of a key.
    ///
    /// Their webhooks keep working, and their URLs can be copied again once their tokens are refreshed.
    #[must_use]
    pub fn forget_unknown_keys(mut self) -> Self {
        self.forget_unknown_keys = true;
        self
    }

    /// Sets the URL under which callers reach this service; its path is kept. Default:
    /// `http://localhost:8080`.
    #[must_use]
    pub fn base_url(mut self, url: Url) -> Self {
        self.base_url = Some(url);
        self
    }

    /// Adds an origin of the management pages, besides that of the base URL. May be called several times.
    ///
    /// The management paths accept requests of its pages and for its host. Only scheme, host and port count.
    #[must_use]
    pub fn allow_origin(mut self, url: Url) -> Self {
        self.allowed_origins.push(url);
        self
    }

    /// Sets the networks of the proxies in front of this service. Default: none.
    ///
    /// Where the connection comes from one of them, the address of the client is read from `Forwarded` (RFC 7239), or
    /// from `X-Forwarded-For`. Everything that shows or limits an address uses the result. Where the proxy leaves the client
    /// unknown, a call is from no allowed network.
    #[must_use]
    pub fn trusted_proxies(mut self, proxies: Networks) -> Self {
        self.trusted_proxies = proxies;
        self
    }

    /// Sets the URL at which people see a run, to which notifications link. Without it they have no link.
    ///
    /// If the panel is mounted, `panel_run_url` of webhook-axum, webhook-warp or webhook-panel returns the URL.
    #[must_use]
    pub fn run_url(mut self, url: impl Fn(&Run) -> Option<String> + Send + Sync + 'static) -> Self {
        self.run_url = Some(Arc::new(url));
        self
    }

    /// Adds a kind of workflow besides `report` and `notebook`. May be called several times.
    ///
    /// The kind is the first part of a workflow's key, such as `billing` of `billing/invoices`. Paths with other kinds
    /// belong to the host.
    #[must_use]
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.kinds.push(kind.into());
        self
    }

    /// Sets the source of the time of day. Default: the machine's clock.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// Sets the bounds and times of the service.
    #[must_use]
    pub fn options(mut self, options: ServiceOptions) -> Self {
        self.options = options;
        self
    }

    /// Builds the service, after checking that the given keys open the store's sealed tokens and secrets of senders.
    ///
    /// Fails with a [`BuildError`] that names the missing or invalid part.
    ///
    /// # Cancel safety
    /// A dropped call may have sealed secrets of senders again, which changes nothing for their webhooks.
    pub async fn build(self) -> Result<Webhooks, BuildError> {
        let store = self.store.ok_or(BuildError::Missing(RequiredPart::Store))?;
        let executor = self.executor.ok_or(BuildError::Missing(RequiredPart::Executor))?;
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
        let clock = self.clock.unwrap_or_else(|| Arc::new(SystemClock));
        if let Some(keys) = &keys {
            prepare_sealed(&*store, keys, self.forget_unknown_keys, clock.now()).await?;
        }
        let channels = self.notifiers.iter().flat_map(|notifier| notifier.channels().to_vec());
        let meters = Meters::new(channels);
        let parts = Parts {
            waiters: Arc::new(Waiters::new(store.clone())),
            store,
            executor,
            notifiers: self.notifiers,
            keys,
            base_url,
            allowed_origins: self.allowed_origins,
            trusted_proxies: self.trusted_proxies,
            run_url: self.run_url,
            kinds,
            clock,
            options: self.options,
            failures: FailureLimiter::default(),
            accepting: Accepting::default(),
            uses: Uses::default(),
            calls: Arc::new(Calls::default()),
            process_calls: ProcessCalls::default(),
            executing: Executing::default(),
            ensuring: tokio::sync::Mutex::default(),
            progress: Notify::new(),
            trouble: Trouble::default(),
            meters,
        };
        Ok(Webhooks { parts: Arc::new(parts) })
    }
}

/// Checks the keys, so that a wrong key shows at start-up, and not when a URL is to be copied or a call is refused. Then
/// seals the secrets of senders with the sealing key, so that a former key is no longer needed for them.
async fn prepare_sealed(
    store: &dyn Store,
    keys: &TokenKeys,
    forget_unknown_keys: bool,
    now: SystemTime,
) -> Result<(), BuildError> {
    let mut query = WebhookQuery::default().limit(200);
    loop {
        let page = store.list_webhooks(query.clone()).await?;
        for webhook in &page.items {
            if let Some(sealed) = webhook.sealed_token.as_ref().filter(|_| !forget_unknown_keys) {
                keys.check(sealed)?;
            }
            match webhook.resealed(keys, now) {
                Ok(None) => {}
                Ok(Some(resealed)) => match store.update_webhook(resealed, webhook.revision).await {
                    // Another process has changed it, and seals it when it starts.
                    Err(StoreError::Conflict(_) | StoreError::NotFound(_)) | Ok(()) => {}
                    Err(error) => return Err(error.into()),
                },
                Err(error) if forget_unknown_keys => {
                    tracing::warn!(webhook = %webhook.id, error = chain(&error), "a sender's secret cannot be opened");
                }
                Err(error) => return Err(error.into()),
            }
        }
        if page.next.is_none() {
            return Ok(());
        }
        query = query.before(page.next);
    }
}

/// Part of a service that a host must give, since it has no default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequiredPart {
    /// The store, given by [`WebhooksBuilder::store`].
    Store,
    /// The executor, given by [`WebhooksBuilder::executor`].
    Executor,
}

impl std::fmt::Display for RequiredPart {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Store => "store",
            Self::Executor => "executor",
        })
    }
}

/// Error of building a service.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A part without a default was not given.
    #[error("no {0} was given")]
    Missing(RequiredPart),
    /// The name of a kind has an invalid form.
    #[error("a kind cannot be registered")]
    Kind(#[from] InvalidName),
    /// The base URL is not an absolute http or https URL.
    #[error("the base URL must be an absolute http or https URL")]
    BaseUrl,
    /// An allowed origin is not an absolute http or https URL.
    #[error("an allowed origin must be an absolute http or https URL")]
    AllowedOrigin,
    /// The store holds a sealed token or secret that the given keys do not open.
    #[error("the token key is not the one this store's tokens were sealed with")]
    WrongKey(#[from] UnsealError),
    /// The store could not be read.
    #[error("the store cannot be read")]
    Store(#[from] StoreError),
}
