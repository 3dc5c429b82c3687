//! Starts, repeats, cancels and reads runs.

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
    /// Warnings for the caller, such as names that look like declared ones.
    pub warnings: Vec<ParameterWarning>,
}

impl Management<'_> {
    /// Starts a run by hand, with these values over the defaults of the parameter blocks, even for a disabled
    /// webhook.
    ///
    /// The values have the same limits as those of a call, and parameters that are fixed for the webhook stay so.
    ///
    /// Fails with [`ManagementError::Trigger`] for problems of the parameters or a full queue.
    pub async fn start_run(
        &self,
        id: WebhookId,
        parameters: serde_json::Map<String, Value>,
        caller: Caller,
    ) -> Result<StartedRun, ManagementError> {
        let parts = self.parts;
        let webhook = self.get_webhook(id).await?;
        let workflow = intake::available_workflow(parts, &webhook).await?;
        let body = BodyParameters::from_object(parameters);
        let query = QueryParameters::default();
        let overlay = webhook.settings.sender.fixed_alone();
        let merged = intake::effective(parts, &workflow, &webhook, &query, &body, &overlay)?;
        self.refuse_while_shutting_down()?;
        let accepted =
            intake::submit(parts, &webhook, merged, caller, parts.now(), |request| request).await?;
        Ok(StartedRun { run: accepted.run, warnings: accepted.warnings })
    }

    /// Starts a new run with the workflow and parameters of an ended run, which `retried_from` names.
    ///
    /// The values are checked against the current parameter blocks ([`recheck`]). A value whose block has
    /// become secret is sealed.
    ///
    /// # Errors
    /// - [`ManagementError::StillLive`] when the run has not ended
    /// - [`ManagementError::NotFound`] also when its webhook was deleted
    /// - [`ManagementError::Trigger`] when the queue is full or values do not fit the current blocks
    /// - [`ManagementError::Secret`] when its secret values cannot be opened
    pub async fn retry_run(&self, id: RunId, caller: Caller) -> Result<Arc<Run>, ManagementError> {
        let parts = self.parts;
        let old = self.get_run(id).await?;
        if !old.state().is_ended() {
            return Err(ManagementError::StillLive);
        }
        self.refuse_while_shutting_down()?;
        let webhook = self.get_webhook(old.webhook_id()).await?;
        let workflow = intake::available_workflow(parts, &webhook).await?;
        let now = parts.now();
        let new = RunId::generate(now);
        let earlier = old.parameters().open(parts.keys.as_ref(), old.id())?;
        let checked = recheck(&workflow.parameters, earlier).map_err(TriggerError::Parameters)?;
        let parameters =
            RunParameters::seal(checked, parts.keys.as_ref(), new).map_err(TriggerError::from)?;
        let attempts = webhook.settings.retries.max_attempts;
        let run = Run::new(new, old.workflow().clone(), webhook.id, parameters, attempts, caller, now);
        Ok(intake::enqueue(parts, &webhook, Enqueue::new(run.with_retried_from(old.id()))).await?.run)
    }

    /// Cancels a run and returns it: a queued run ends at once, a running one is told to stop.
    ///
    /// Fails with [`ManagementError::AlreadyEnded`].
    pub async fn cancel_run(&self, id: RunId) -> Result<Arc<Run>, ManagementError> {
        let parts = self.parts;
        match parts.store.cancel_run(id, parts.now()).await? {
            Cancelled::Ended(run) => Ok(run),
            Cancelled::Requested(run) => {
                parts.executing.cancel(&[id], run.cancel_requested().unwrap_or(CancelReason::Requested));
                Ok(run)
            }
            Cancelled::TooLate(_) => Err(ManagementError::AlreadyEnded),
        }
    }

    /// Returns a run.
    pub async fn get_run(&self, id: RunId) -> Result<Arc<Run>, ManagementError> {
        self.parts.store.get_run(id).await?.ok_or(ManagementError::NotFound(Resource::Run))
    }

    /// Lists runs, newest first.
    pub async fn list_runs(&self, query: RunQuery) -> Result<Page<Arc<Run>, RunId>, ManagementError> {
        Ok(self.parts.store.list_runs(query).await?)
    }

    /// Reads a run's log from a byte offset on.
    pub async fn read_log(&self, run: RunId, offset: u64) -> Result<LogPart, ManagementError> {
        Ok(self.parts.store.read_log(run, offset).await?)
    }

    /// Returns the content of one of a run's artifacts.
    ///
    /// Fails with [`ManagementError::NotFound`] also when the content is gone, and with
    /// [`ManagementError::Executor`].
    pub async fn get_artifact(&self, run: &Run, name: &str) -> Result<ArtifactContent, ManagementError> {
        if !run.artifacts().iter().any(|artifact| artifact.name == name) {
            return Err(ManagementError::NotFound(Resource::Artifact));
        }
        let content = self.parts.executor.artifact(run.id(), name).await?;
        content.ok_or(ManagementError::NotFound(Resource::Artifact))
    }

    pub(super) fn refuse_while_shutting_down(&self) -> Result<(), TriggerError> {
        if self.parts.accepting.is_accepting() { Ok(()) } else { Err(TriggerError::ShuttingDown) }
    }
}
