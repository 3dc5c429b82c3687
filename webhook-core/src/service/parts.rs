//! Parts shared by all layers of the service: those of the host, and the knowledge of this process besides
//! the store.
//!
//! This is a leaf. Intake, management and workers take `&Parts`; [`Webhooks`](crate::Webhooks) owns them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::Notify;
use url::Url;
use zeroize::Zeroizing;

use super::accepting::Accepting;
use super::calls::Calls;
use super::executing::Executing;
use super::limiter::FailureLimiter;
use super::meters::Meters;
use super::options::ServiceOptions;
use super::process_calls::ProcessCalls;
use super::trouble::Trouble;
use super::uses::Uses;
use super::waiters::Waiters;
use crate::clock::Clock;
use crate::executor::{Executor, ExecutorError};
use crate::id::{WorkflowKey, WorkflowKind};
use crate::network::Networks;
use crate::notifier::Notifier;
use crate::run::Run;
use crate::store::{CallStore, Store, StoreError};
use crate::token::{Token, TokenKeys, TriggerUrl};
use crate::webhook::Channel;

/// Returns the address at which people see a run.
pub(super) type RunUrl = Arc<dyn Fn(&Run) -> Option<String> + Send + Sync>;

pub(super) struct Parts {
    pub(super) store: Arc<dyn Store>,
    pub(super) executor: Arc<dyn Executor>,
    pub(super) notifiers: Vec<Arc<dyn Notifier>>,
    pub(super) keys: Option<TokenKeys>,
    pub(super) base_url: Url,
    /// Origins of the management pages besides that of the base URL.
    pub(super) allowed_origins: Vec<Url>,
    pub(super) trusted_proxies: Networks,
    pub(super) run_url: Option<RunUrl>,
    /// Registered kinds of workflows.
    pub(super) kinds: BTreeSet<WorkflowKind>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) options: ServiceOptions,
    pub(super) failures: FailureLimiter,
    pub(super) accepting: Accepting,
    pub(super) uses: Uses,
    pub(super) calls: Arc<Calls>,
    /// Rates and call log, if the store keeps neither.
    pub(super) process_calls: ProcessCalls,
    pub(super) executing: Executing,
    pub(super) waiters: Arc<Waiters>,
    /// Held while a webhook is looked for and created if there is none.
    pub(super) ensuring: tokio::sync::Mutex<()>,
    /// Signalled when workers have recorded something.
    pub(super) progress: Notify,
    pub(super) trouble: Trouble,
    pub(super) meters: Meters,
}

impl Parts {
    pub(super) fn now(&self) -> SystemTime {
        self.clock.now()
    }

    pub(super) fn knows_kind(&self, kind: &WorkflowKind) -> bool {
        self.kinds.contains(kind)
    }

    /// Returns the address at which people see a run, if the host has such a page.
    pub(super) fn run_url(&self, run: &Run) -> Option<String> {
        self.run_url.as_ref().and_then(|url| url(run))
    }

    /// Returns the channels that some notifier serves. Several notifiers may serve one channel.
    pub(super) fn channels(&self) -> impl Iterator<Item = Channel> {
        self.notifiers.iter().flat_map(|notifier| notifier.channels().to_vec())
    }

    /// Returns the first notifier that serves this channel.
    pub(super) fn notifier(&self, channel: Channel) -> Option<&Arc<dyn Notifier>> {
        self.notifiers.iter().find(|notifier| notifier.channels().contains(&channel))
    }

    /// Returns the URL of a call with this query, token included, as it was entered at the sender.
    pub(super) fn called_url(&self, workflow: &WorkflowKey, query: &str) -> Zeroizing<String> {
        let base = self.base_url.as_str().trim_end_matches('/');
        let path = format!("{base}/api/v1/{workflow}/webhook");
        // With room for all of it, so that growing leaves no copy of the token behind.
        let mut url = Zeroizing::new(String::with_capacity(path.len() + 1 + query.len()));
        url.push_str(&path);
        if !query.is_empty() {
            url.push('?');
            url.push_str(query);
        }
        url
    }

    /// Returns the URL that triggers a workflow with this token.
    pub(super) fn trigger_url(&self, workflow: &WorkflowKey, token: &Token) -> TriggerUrl {
        TriggerUrl::new(self.called_url(workflow, &Zeroizing::new(format!("token={}", token.expose()))))
    }

    /// Returns the title of a workflow, or its key if the workflow is gone.
    pub(super) async fn title(&self, workflow: &WorkflowKey) -> Result<String, ExecutorError> {
        let described = self.executor.describe(workflow).await?;
        Ok(described.map_or_else(|| workflow.to_string(), |workflow| workflow.title.clone()))
    }

    /// Returns where rates and calls are kept: in the store, or in the memory of this process.
    pub(super) fn call_store(&self) -> &dyn CallStore {
        self.store.calls().unwrap_or(&self.process_calls)
    }

    /// Records when webhooks were last used.
    pub(super) async fn write_uses(&self) -> Result<(), StoreError> {
        self.uses.write_to(&*self.store).await
    }

    /// Writes the calls that gathered to the call log.
    pub(super) async fn write_calls(&self) -> Result<(), StoreError> {
        self.calls.write_to(self.call_store()).await
    }
}
