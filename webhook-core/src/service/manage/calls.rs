//! Calls at webhooks: how they were answered, and runs from them again.

use std::sync::Arc;

use super::Management;
use super::error::{ManagementError, NotReplayable};
use super::runs::StartedRun;
use crate::calls::{CallOutcome, CallRecord, LoggedCall, RefusedCalls};
use crate::error::Resource;
use crate::id::{CallId, WebhookId, WorkflowKey};
use crate::run::Caller;
use crate::service::intake::{self, KeptCall};
use crate::store::{CallQuery, Page};

impl Management<'_> {
    /// Lists the newest calls of a webhook, newest first: accepted, refused, ignored ones, dry runs and handshakes.
    pub async fn list_calls(
        &self,
        query: CallQuery,
    ) -> Result<Page<Arc<CallRecord>, CallId>, ManagementError> {
        self.get_webhook(query.webhook).await?;
        self.parts.write_calls().await?;
        Ok(self.parts.call_store().list_calls(query).await?)
    }

    /// Returns the number of calls of a workflow that this process refused because they had no valid token. `None` if there
    /// were none. They belong to no webhook, so no call log has them.
    #[must_use]
    pub fn get_refused_calls(&self, workflow: &WorkflowKey) -> Option<RefusedCalls> {
        self.parts.calls.refused(workflow)
    }

    /// Starts a run from an accepted call again, with the present mapping, parameters and other settings, also for a
    /// disabled webhook. It has no idempotency key.
    ///
    /// The call was verified and met the conditions when it came, so neither is tested again. Parameters of an earlier
    /// mapping have no influence, since the content of the call is what is kept.
    ///
    /// # Errors
    /// - [`ManagementError::NotFound`] also when the webhook has no such call
    /// - [`ManagementError::NotReplayable`] when it started no run, and when its content is not kept or cannot be opened
    /// - [`ManagementError::Trigger`] for a body that the present settings cannot read, problems of the parameters, or a full
    ///   queue
    pub async fn replay_call(
        &self,
        id: WebhookId,
        call: CallId,
        caller: Caller,
    ) -> Result<StartedRun, ManagementError> {
        let parts = self.parts;
        let webhook = self.get_webhook(id).await?;
        parts.write_calls().await?;
        let now = parts.now();
        let logged = parts.call_store().get_call(id, call, now).await?;
        let LoggedCall { record, content, .. } = logged.ok_or(ManagementError::NotFound(Resource::Call))?;
        let run = record.run_id.filter(|_| record.outcome == CallOutcome::Accepted);
        let run = run.ok_or(NotReplayable::NotAccepted)?;
        let gone =
            if record.replayable_until.is_some() { NotReplayable::Expired } else { NotReplayable::NotKept };
        let content = content.ok_or(gone)?;
        let keys = parts.keys.as_ref().ok_or(NotReplayable::NoTokenKey)?;
        let content = KeptCall::open(&content.sealed, id, run, keys).map_err(NotReplayable::Sealed)?;
        let workflow = intake::available_workflow(parts, &webhook).await?;
        let (query, content) = content.read(&webhook, parts.options.limits).await?;
        let merged = intake::effective(parts, &workflow, &webhook, &query, &content.body, &content.overlay)?;
        self.refuse_while_shutting_down()?;
        let accepted = intake::submit(parts, &webhook, merged, caller, now, |request| request).await?;
        Ok(StartedRun { run: accepted.run, warnings: accepted.warnings })
    }
}
