//! Runs: starting, repeating, cancelling and reading them.

use std::sync::Arc;

use serde_json::Value;

use super::Management;
use super::error::ManagementError;
use crate::error::Resource;
use crate::executor::ArtifactContent;
use crate::id::{RunId, WebhookId};
use crate::parameters::{BodyParameters, ParameterWarning, QueryParameters, recheck};
use crate::run::{Caller, CancelReason, Run, RunParameters};
use crate::service::intake::{self, TriggerError};
use crate::store::{Cancelled, Enqueue, LogPart, Page, RunQuery};

/// A run that was started by hand.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StartedRun {
    /// The run as it is now.
    pub run: Arc<Run>,
    /// Hints for the caller, such as names that look like declared ones.
    pub warnings: Vec<ParameterWarning>,
}

impl Management<'_> {
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
        let parts = self.parts;
        let webhook = self.get(id).await?;
        let workflow = intake::available_workflow(parts, &webhook).await?;
        let body = BodyParameters::from_object(parameters);
        let query = QueryParameters::default();
        let merged = intake::effective(parts, &workflow, &webhook, &query, &body)?;
        self.refuse_while_shutting_down()?;
        let accepted =
            intake::submit(parts, &webhook, merged, caller, parts.now(), |request| request).await?;
        Ok(StartedRun { run: accepted.run, warnings: accepted.warnings })
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
        let parts = self.parts;
        let old = self.run_record(id).await?;
        if !old.state.is_ended() {
            return Err(ManagementError::StillLive);
        }
        self.refuse_while_shutting_down()?;
        let webhook = self.get(old.webhook_id).await?;
        let workflow = intake::available_workflow(parts, &webhook).await?;
        let now = parts.now();
        let new = RunId::generate(now);
        let earlier = old.parameters.open(parts.keys.as_ref(), old.id)?;
        let checked = recheck(&workflow.parameters, earlier).map_err(TriggerError::Parameters)?;
        let parameters =
            RunParameters::seal(checked, parts.keys.as_ref(), new).map_err(TriggerError::from)?;
        let attempts = webhook.settings.retries.max_attempts;
        let mut run = Run::new(new, old.workflow.clone(), webhook.id, parameters, attempts, caller, now);
        run.retried_from = Some(old.id);
        Ok(intake::enqueue(parts, &webhook, Enqueue::new(run)).await?.run)
    }

    /// Cancels a run: a queued one ends at once, a running one is told to stop. Answers the run as it is now.
    ///
    /// # Errors
    /// [`ManagementError::AlreadyEnded`], [`ManagementError::NotFound`], [`ManagementError::Store`].
    pub async fn cancel(&self, id: RunId) -> Result<Arc<Run>, ManagementError> {
        let parts = self.parts;
        match parts.store.cancel_run(id, parts.now()).await? {
            Cancelled::Ended(run) => Ok(run),
            Cancelled::Requested(run) => {
                parts.executing.cancel(&[id], run.cancel_requested.unwrap_or(CancelReason::Requested));
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
        self.parts.store.get_run(id).await?.ok_or(ManagementError::NotFound(Resource::Run))
    }

    /// Lists runs, newest first.
    ///
    /// # Errors
    /// [`ManagementError::Store`].
    pub async fn runs(&self, query: RunQuery) -> Result<Page<Arc<Run>, RunId>, ManagementError> {
        Ok(self.parts.store.list_runs(query).await?)
    }

    /// A run's log from a byte offset on.
    ///
    /// # Errors
    /// [`ManagementError::Store`].
    pub async fn log(&self, run: RunId, offset: u64) -> Result<LogPart, ManagementError> {
        Ok(self.parts.store.read_log(run, offset).await?)
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
        let content = self.parts.executor.artifact(run.id, name).await?;
        content.ok_or(ManagementError::NotFound(Resource::Artifact))
    }

    fn refuse_while_shutting_down(&self) -> Result<(), TriggerError> {
        if self.parts.accepting.is_accepting() { Ok(()) } else { Err(TriggerError::ShuttingDown) }
    }
}
