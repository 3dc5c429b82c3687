//! Management: what people and trusted programs do with webhooks and runs.
//!
//! Nothing here asks who calls; a front end checks that before.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::error::Resource;
use crate::executor::{ArtifactContent, ExecutorError, Workflow, WorkflowPage};
use crate::id::{DeliveryId, RunId, WebhookId, WorkflowKey};
use crate::notifier::{DELIVERY_TIMEOUT, DeliverError, Delivery, Notification, guarded};
use crate::parameters::{BodyParameters, ParameterWarning, QueryParameters, recheck};
use crate::run::{Caller, CancelReason, Run};
use crate::service::Webhooks;
use crate::service::intake::{self, TriggerError, Triggered};
use crate::store::{Cancelled, DeliveryQuery, Enqueue, LogPart, Page, RunQuery, StoreError, WebhookQuery};
use crate::token::TriggerUrl;
use crate::token::{OpenError, Token};
use crate::webhook::{Channel, EventKind, SettingCode, SettingProblem, Webhook, WebhookSettings};

/// Test notifications under way at once.
const TESTS_AT_ONCE: usize = 8;
/// Deliveries made due again at once; they share a sync of the store.
const RESENDS_AT_ONCE: usize = 64;
/// For how long test notifications wait for their turn.
const TEST_PATIENCE: Duration = Duration::from_secs(60);

/// The management operations of a service.
///
/// # Cancel safety
/// Operations that only read may be dropped at any time. When one that changes something is dropped, the change
/// may or may not have been made, but never half of it.
#[derive(Debug, Clone, Copy)]
pub struct Management<'a> {
    webhooks: &'a Webhooks,
}

/// A webhook with its URL, as creation and refreshing answer them.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CreatedWebhook {
    /// The webhook.
    pub webhook: Arc<Webhook>,
    /// Its URL with the token. Without a token key this is the only time it can be seen.
    pub url: TriggerUrl,
}

/// A run that was started by hand.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StartedRun {
    /// The run as it is now.
    pub run: Arc<Run>,
    /// Hints for the caller, such as names that look like declared ones.
    pub warnings: Vec<ParameterWarning>,
}

impl<'a> Management<'a> {
    pub(crate) fn new(webhooks: &'a Webhooks) -> Self {
        Self { webhooks }
    }

    /// Creates a webhook for a workflow.
    ///
    /// # Errors
    /// [`ManagementError::Settings`] names an unknown workflow (`workflow`), settings out of their bounds, and channels
    /// without an integration; [`ManagementError::Store`].
    pub async fn create(
        &self,
        workflow: WorkflowKey,
        settings: WebhookSettings,
    ) -> Result<CreatedWebhook, ManagementError> {
        let inner = &self.webhooks.inner;
        let settings = settings.validated().map_err(ManagementError::Settings)?;
        let mut problems = self.integration_problems(&settings);
        let described = match self.webhooks.knows_kind(&workflow.kind) {
            true => inner.executor.describe(&workflow).await?,
            false => None,
        };
        match described {
            None => problems.insert(0, no_such_workflow(&workflow)),
            Some(described) if described.parameters.has_secret() && inner.keys.is_none() => {
                let message = "it has secret parameters, and this server has no token key to seal them with";
                problems.insert(0, SettingProblem::new("workflow", SettingCode::Invalid, message));
            }
            Some(_) => {}
        }
        refuse(problems)?;
        let now = inner.now();
        let token = Token::generate();
        let webhook =
            Webhook::new(WebhookId::generate(now), workflow, settings, &token, inner.keys.as_ref(), now);
        inner.store.create_webhook(webhook.clone()).await?;
        let url = inner.trigger_url(&webhook.workflow, &token);
        Ok(CreatedWebhook { webhook: Arc::new(webhook), url })
    }

    /// One webhook.
    ///
    /// # Errors
    /// [`ManagementError::NotFound`], [`ManagementError::Store`].
    pub async fn get(&self, id: WebhookId) -> Result<Arc<Webhook>, ManagementError> {
        let webhook = self.webhooks.inner.store.get_webhook(id).await?;
        webhook.map(|webhook| self.fresh(webhook)).ok_or(ManagementError::NotFound(Resource::Webhook))
    }

    /// Lists webhooks, newest first.
    ///
    /// # Errors
    /// [`ManagementError::Store`].
    pub async fn list(&self, query: WebhookQuery) -> Result<Page<Arc<Webhook>, WebhookId>, ManagementError> {
        let mut page = self.webhooks.inner.store.list_webhooks(query).await?;
        page.items = page.items.into_iter().map(|webhook| self.fresh(webhook)).collect();
        Ok(page)
    }

    /// Changes settings by a JSON merge patch (RFC 7396). With `expected_revision`, only if nobody changed the
    /// webhook in between.
    ///
    /// # Errors
    /// [`ManagementError::Settings`] with every problem, [`ManagementError::Conflict`] for another revision,
    /// [`ManagementError::NotFound`], [`ManagementError::Store`].
    pub async fn update(
        &self,
        id: WebhookId,
        patch: &Value,
        expected_revision: Option<u64>,
    ) -> Result<Arc<Webhook>, ManagementError> {
        let inner = &self.webhooks.inner;
        self.change(id, expected_revision, |webhook| {
            let settings = webhook.settings.patched(patch).map_err(ManagementError::Settings)?;
            if settings.notifications != webhook.settings.notifications {
                refuse(self.integration_problems(&settings))?;
            }
            Ok(webhook.with_settings(settings, inner.now()))
        })
        .await
    }

    /// Enables or disables a webhook. Runs that were accepted go on.
    ///
    /// # Errors
    /// [`ManagementError::NotFound`], [`ManagementError::Store`].
    pub async fn set_enabled(&self, id: WebhookId, enabled: bool) -> Result<Arc<Webhook>, ManagementError> {
        self.update(id, &serde_json::json!({ "enabled": enabled }), None).await
    }

    /// Gives a webhook a new token. The old URL stops at once; runs that were accepted go on.
    ///
    /// # Errors
    /// [`ManagementError::Conflict`] for another revision, [`ManagementError::NotFound`],
    /// [`ManagementError::Store`].
    pub async fn refresh_token(
        &self,
        id: WebhookId,
        expected_revision: Option<u64>,
    ) -> Result<CreatedWebhook, ManagementError> {
        let inner = &self.webhooks.inner;
        let token = Token::generate();
        let webhook = self
            .change(id, expected_revision, |webhook| {
                Ok(webhook.with_token(&token, inner.keys.as_ref(), inner.now()))
            })
            .await?;
        let url = inner.trigger_url(&webhook.workflow, &token);
        Ok(CreatedWebhook { webhook, url })
    }

    /// The URL of a webhook, for copying.
    ///
    /// # Errors
    /// [`ManagementError::UrlNotRecoverable`] when the token was not sealed with a key at hand,
    /// [`ManagementError::NotFound`], [`ManagementError::Store`].
    pub async fn url(&self, id: WebhookId) -> Result<TriggerUrl, ManagementError> {
        let inner = &self.webhooks.inner;
        let webhook = self.get(id).await?;
        let keys = inner.keys.as_ref().ok_or(ManagementError::UrlNotRecoverable(None))?;
        let opened =
            webhook.open_token(keys).map_err(|error| ManagementError::UrlNotRecoverable(Some(error)))?;
        let token = opened.ok_or(ManagementError::UrlNotRecoverable(None))?;
        Ok(inner.trigger_url(&webhook.workflow, &token))
    }

    /// Deletes a webhook: its URL stops, its queued runs are cancelled, its history stays. Returns the runs that
    /// were cancelled. With `expected_revision`, only if nobody changed the webhook in between.
    ///
    /// # Errors
    /// [`ManagementError::Conflict`] for another revision, [`ManagementError::NotFound`],
    /// [`ManagementError::Store`].
    pub async fn delete(
        &self,
        id: WebhookId,
        expected_revision: Option<u64>,
    ) -> Result<Vec<RunId>, ManagementError> {
        let inner = &self.webhooks.inner;
        match inner.store.delete_webhook(id, expected_revision, inner.now()).await {
            Err(StoreError::Conflict(_)) => Err(ManagementError::Conflict),
            outcome => Ok(outcome?),
        }
    }

    /// Starts a run by hand, also for a disabled webhook, with these values over the parameter blocks' defaults.
    /// They are held to the same limits as those of a call.
    ///
    /// # Errors
    /// [`ManagementError::Trigger`] with the parameters' problems or a full queue, [`ManagementError::NotFound`],
    /// [`ManagementError::Store`].
    pub async fn run(
        &self,
        id: WebhookId,
        parameters: serde_json::Map<String, Value>,
        caller: Caller,
    ) -> Result<StartedRun, ManagementError> {
        let inner = &self.webhooks.inner;
        let webhook = self.get(id).await?;
        let workflow = self.describe_for_run(&webhook.workflow).await?;
        let body = BodyParameters::from_object(parameters);
        let query = QueryParameters::default();
        let merged = self.webhooks.effective(&workflow, &webhook, &query, &body)?;
        self.refuse_while_shutting_down()?;
        accepted(self.webhooks.submit(&webhook, merged, caller, inner.now(), |request| request).await?)
    }

    /// Starts a new run with the workflow and parameters of one that has ended; `retried_from` names that one.
    ///
    /// The values are checked against the present parameter blocks ([`recheck`]): one whose block became secret
    /// meanwhile is sealed.
    ///
    /// # Errors
    /// [`ManagementError::StillLive`] when it has not ended, [`ManagementError::NotFound`] also when its webhook
    /// is gone, [`ManagementError::Trigger`] when the queue is full or values do not fit the present blocks,
    /// [`ManagementError::Secret`] when its secret values cannot be opened.
    pub async fn retry(&self, id: RunId, caller: Caller) -> Result<Arc<Run>, ManagementError> {
        let inner = &self.webhooks.inner;
        let old = self.run_record(id).await?;
        if !old.state.is_ended() {
            return Err(ManagementError::StillLive);
        }
        self.refuse_while_shutting_down()?;
        let webhook = self.get(old.webhook_id).await?;
        let workflow = self.describe_for_run(&webhook.workflow).await?;
        let now = inner.now();
        let new = RunId::generate(now);
        let earlier = old.parameters.open(inner.keys.as_ref(), old.id)?;
        let checked = recheck(&workflow.parameters, earlier).map_err(TriggerError::Parameters)?;
        let parameters =
            crate::run::RunParameters::seal(checked, inner.keys.as_ref(), new).map_err(TriggerError::from)?;
        let attempts = webhook.settings.retries.max_attempts;
        let mut run = Run::new(new, old.workflow.clone(), webhook.id, parameters, attempts, caller, now);
        run.retried_from = Some(old.id);
        Ok(accepted(intake::enqueue(inner, &webhook, Enqueue::new(run)).await?)?.run)
    }

    /// Cancels a run: a queued one ends at once, a running one is told to stop. Answers the run as it is now.
    ///
    /// # Errors
    /// [`ManagementError::AlreadyEnded`], [`ManagementError::NotFound`], [`ManagementError::Store`].
    pub async fn cancel(&self, id: RunId) -> Result<Arc<Run>, ManagementError> {
        let inner = &self.webhooks.inner;
        match inner.store.cancel_run(id, inner.now()).await? {
            Cancelled::Ended(run) => Ok(run),
            Cancelled::Requested(run) => {
                inner.stop_executing(&[id], run.cancel_requested.unwrap_or(CancelReason::Requested));
                Ok(run)
            }
            Cancelled::TooLate(_) => Err(ManagementError::AlreadyEnded),
        }
    }

    /// One run.
    ///
    /// # Errors
    /// [`ManagementError::NotFound`], [`ManagementError::Store`].
    pub async fn run_record(&self, id: RunId) -> Result<Arc<Run>, ManagementError> {
        self.webhooks.inner.store.get_run(id).await?.ok_or(ManagementError::NotFound(Resource::Run))
    }

    /// Lists runs, newest first.
    ///
    /// # Errors
    /// [`ManagementError::Store`].
    pub async fn runs(&self, query: RunQuery) -> Result<Page<Arc<Run>, RunId>, ManagementError> {
        Ok(self.webhooks.inner.store.list_runs(query).await?)
    }

    /// A run's log from a byte offset on.
    ///
    /// # Errors
    /// [`ManagementError::Store`].
    pub async fn log(&self, run: RunId, offset: u64) -> Result<LogPart, ManagementError> {
        Ok(self.webhooks.inner.store.read_log(run, offset).await?)
    }

    /// The content of one of a run's artifacts.
    ///
    /// # Errors
    /// [`ManagementError::NotFound`] when the run has no artifact of this name or its content is gone,
    /// [`ManagementError::Executor`], [`ManagementError::Store`].
    pub async fn artifact(&self, run: &Run, name: &str) -> Result<ArtifactContent, ManagementError> {
        if !run.artifacts.iter().any(|artifact| artifact.name == name) {
            return Err(ManagementError::NotFound(Resource::Artifact));
        }
        let content = self.webhooks.inner.executor.artifact(run.id, name).await?;
        content.ok_or(ManagementError::NotFound(Resource::Artifact))
    }

    /// Lists the deliveries of a run, oldest first.
    ///
    /// # Errors
    /// [`ManagementError::Store`].
    pub async fn deliveries(&self, run: RunId) -> Result<Vec<Delivery>, ManagementError> {
        self.deliveries_of(&[run]).await
    }

    /// Lists the deliveries of several runs in one read: run by run in the given order, each run's oldest first.
    ///
    /// # Errors
    /// [`ManagementError::Store`].
    pub async fn deliveries_of(&self, runs: &[RunId]) -> Result<Vec<Delivery>, ManagementError> {
        Ok(self.webhooks.inner.store.list_deliveries(runs).await?)
    }

    /// Makes a delivery due again now.
    ///
    /// # Errors
    /// [`ManagementError::NotFound`], [`ManagementError::Store`].
    pub async fn resend(&self, delivery: DeliveryId) -> Result<Delivery, ManagementError> {
        let inner = &self.webhooks.inner;
        Ok(inner.store.resend_delivery(delivery, inner.now()).await?)
    }

    /// Lists deliveries of all runs, newest first. A page may hold fewer than were asked for although more follow.
    ///
    /// # Errors
    /// [`ManagementError::Store`].
    pub async fn find_deliveries(
        &self,
        query: DeliveryQuery,
    ) -> Result<Page<Delivery, DeliveryId>, ManagementError> {
        Ok(self.webhooks.inner.store.find_deliveries(query).await?)
    }

    /// Makes one page of deliveries due again now, or only counts them in a dry run.
    ///
    /// # Errors
    /// [`ManagementError::Store`]; some may be due again then, and the call can be repeated.
    pub async fn resend_deliveries(
        &self,
        query: DeliveryQuery,
        dry_run: bool,
    ) -> Result<ResentDeliveries, ManagementError> {
        let inner = &self.webhooks.inner;
        let page = inner.store.find_deliveries(query).await?;
        let mut resent = ResentDeliveries { matched: page.items.len(), done: 0, next: page.next };
        if dry_run {
            return Ok(resent);
        }
        let now = inner.now();
        let resending = page.items.into_iter().map(|delivery| inner.store.resend_delivery(delivery.id, now));
        let mut resending = futures_util::stream::iter(resending).buffer_unordered(RESENDS_AT_ONCE);
        while let Some(outcome) = resending.next().await {
            match outcome {
                Ok(_) => resent.done += 1,
                // Its run was pruned meanwhile.
                Err(StoreError::NotFound(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(resent)
    }

    /// Sends a made-up notification to everyone a webhook's settings name, without the outbox and without a link, eight
    /// at a time: mail servers take few connections from one client. Returns whom it reached and whom not; recipients
    /// whose turn has not come within a minute are not tried.
    ///
    /// # Errors
    /// [`ManagementError::NotFound`], [`ManagementError::Executor`], [`ManagementError::Store`].
    pub async fn test_notifications(
        &self,
        id: WebhookId,
    ) -> Result<Vec<TestedNotification>, ManagementError> {
        let inner = &self.webhooks.inner;
        let webhook = self.get(id).await?;
        let title = format!("Test: {}", inner.title(&webhook.workflow).await?);
        let now = inner.now();
        let (workflow, parameters) = (webhook.workflow.clone(), crate::run::RunParameters::default());
        let caller = Caller::default();
        let mut run = Run::new(RunId::generate(now), workflow, webhook.id, parameters, 1, caller, now);
        run.state = crate::run::RunState::Succeeded;
        run.summary = Some("This is a test message; nothing was executed.".to_owned());
        let run = Arc::new(run);
        let notify = |(channel, recipient, _): (Channel, &str, &[EventKind])| {
            let (id, event) = (DeliveryId::generate(now), EventKind::Success);
            Notification::new(id, channel, recipient, event, title.clone(), run.clone())
        };
        let targets = webhook.settings.notifications.targets();
        let (slots, last_turn) = (Semaphore::new(TESTS_AT_ONCE), Instant::now() + TEST_PATIENCE);
        let testing = targets.map(async |target| {
            let notification = notify(target);
            match tokio::time::timeout_at(last_turn, slots.acquire()).await {
                Ok(_slot) => self.test(notification).await,
                Err(_) => {
                    let outcome = Err(DeliverError::retryable("it was not tried: others took too long"));
                    TestedNotification { notification, outcome }
                }
            }
        });
        Ok(futures_util::future::join_all(testing).await)
    }

    async fn test(&self, notification: Notification) -> TestedNotification {
        let outcome = match self.webhooks.inner.notifier(notification.channel) {
            Some(notifier) => {
                guarded("the notifier", DELIVERY_TIMEOUT, notifier.deliver(&notification)).await
            }
            None => Err(DeliverError::permanent("no integration serves this channel")),
        };
        TestedNotification { notification, outcome }
    }

    /// Lists workflows as the executor does.
    ///
    /// # Errors
    /// [`ManagementError::Executor`].
    pub async fn workflows(&self, cursor: Option<String>) -> Result<WorkflowPage, ManagementError> {
        Ok(self.webhooks.inner.executor.list(cursor).await?)
    }

    /// Returns one workflow.
    ///
    /// # Errors
    /// [`ManagementError::NotFound`], also for a kind that is not registered; [`ManagementError::Executor`].
    pub async fn workflow(&self, key: &WorkflowKey) -> Result<Arc<Workflow>, ManagementError> {
        let missing = ManagementError::NotFound(Resource::Workflow);
        if !self.webhooks.knows_kind(&key.kind) {
            return Err(missing);
        }
        self.webhooks.inner.executor.describe(key).await?.ok_or(missing)
    }

    async fn change(
        &self,
        id: WebhookId,
        expected_revision: Option<u64>,
        next: impl Fn(&Webhook) -> Result<Webhook, ManagementError>,
    ) -> Result<Arc<Webhook>, ManagementError> {
        loop {
            let present = self.get(id).await?;
            if expected_revision.is_some_and(|expected| expected != present.revision) {
                return Err(ManagementError::Conflict);
            }
            let changed = next(&present)?;
            match self.webhooks.inner.store.update_webhook(changed.clone(), present.revision).await {
                Ok(()) => return Ok(Arc::new(changed)),
                // Somebody was faster; without an expected revision the change is made on top of theirs.
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// A webhook with its last use, of which the store hears some seconds later.
    fn fresh(&self, webhook: Arc<Webhook>) -> Arc<Webhook> {
        match self.webhooks.inner.last_use(webhook.id) {
            Some(used) if Some(used) > webhook.last_used_at => {
                Arc::new(Webhook { last_used_at: Some(used), ..(*webhook).clone() })
            }
            _ => webhook,
        }
    }

    async fn describe_for_run(&self, workflow: &WorkflowKey) -> Result<Arc<Workflow>, ManagementError> {
        let described = self.webhooks.inner.executor.describe(workflow).await?;
        Ok(intake::check_available(described)?)
    }

    fn refuse_while_shutting_down(&self) -> Result<(), TriggerError> {
        if self.webhooks.is_accepting() { Ok(()) } else { Err(TriggerError::ShuttingDown) }
    }

    fn integration_problems(&self, settings: &WebhookSettings) -> Vec<SettingProblem> {
        let mut problems: Vec<SettingProblem> = Vec::new();
        for (index, (channel, recipient, _)) in settings.notifications.targets().enumerate() {
            let name = channel.as_str();
            let problem = match self.webhooks.inner.notifier(channel) {
                None => {
                    let message = format!("this server has no integration for {name}");
                    SettingProblem::new(
                        format!("notifications.{name}"),
                        SettingCode::IntegrationMissing,
                        message,
                    )
                }
                Some(notifier) => match notifier.check(channel, recipient) {
                    Ok(()) => continue,
                    Err(message) => {
                        // Addresses come first, so that they are counted as the settings list them.
                        let field = match channel {
                            Channel::Email => format!("notifications.email.recipients[{index}]"),
                            Channel::Slack => "notifications.slack.channel".to_owned(),
                        };
                        SettingProblem::new(field, SettingCode::Invalid, format!("{recipient:?}: {message}"))
                    }
                },
            };
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
        problems
    }
}

/// The result of resending deliveries.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResentDeliveries {
    /// Number of deliveries that matched the query.
    pub matched: usize,
    /// Number of deliveries that are due again.
    pub done: usize,
    /// Where to go on; `None` when there are no more.
    pub next: Option<DeliveryId>,
}

/// How a test notification went.
#[derive(Debug)]
#[non_exhaustive]
pub struct TestedNotification {
    /// What was sent to whom.
    pub notification: Notification,
    /// Whether it arrived.
    pub outcome: Result<(), DeliverError>,
}

fn no_such_workflow(workflow: &WorkflowKey) -> SettingProblem {
    SettingProblem::new("workflow", SettingCode::Unknown, format!("there is no workflow {workflow}"))
}

fn refuse(problems: Vec<SettingProblem>) -> Result<(), ManagementError> {
    if problems.is_empty() { Ok(()) } else { Err(ManagementError::Settings(problems)) }
}

fn accepted(triggered: Triggered) -> Result<StartedRun, ManagementError> {
    match triggered {
        Triggered::Accepted { run, warnings, .. } => Ok(StartedRun { run, warnings }),
        Triggered::DryRun { .. } => Err(ManagementError::NotFound(Resource::Run)),
    }
}

/// Why a management operation was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManagementError {
    /// There is no such thing.
    #[error("there is no such {0}")]
    NotFound(Resource),
    /// The webhook has another revision than was expected.
    #[error("the webhook was changed in between; read it again")]
    Conflict,
    /// Settings cannot be as asked; these are all the problems.
    #[error("{} of the settings cannot be used", .0.len())]
    Settings(Vec<SettingProblem>),
    /// The URL cannot be shown again.
    #[error(
        "the URL was shown when it was made and cannot be shown again; refresh the token to get a new one"
    )]
    UrlNotRecoverable(#[source] Option<OpenError>),
    /// The run has not ended.
    #[error("the run has not ended yet")]
    StillLive,
    /// The run has ended.
    #[error("the run has already ended")]
    AlreadyEnded,
    /// A run could not be started.
    #[error(transparent)]
    Trigger(TriggerError),
    /// A secret value cannot be opened.
    #[error("a secret value of the run cannot be opened")]
    Secret(#[from] OpenError),
    /// The executor cannot answer.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    /// The store failed.
    #[error("the store failed")]
    Store(#[source] StoreError),
}

impl From<TriggerError> for ManagementError {
    fn from(error: TriggerError) -> Self {
        match error {
            TriggerError::Store(error) => error.into(),
            error => Self::Trigger(error),
        }
    }
}

impl From<StoreError> for ManagementError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound(what) => Self::NotFound(what),
            error => Self::Store(error),
        }
    }
}

impl fmt::Display for TestedNotification {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}: ", self.notification.channel.as_str(), self.notification.recipient)?;
        match &self.outcome {
            Ok(()) => formatter.write_str("delivered"),
            Err(error) => write!(formatter, "{error}"),
        }
    }
}
