//! The data of events.

use serde::Serialize;
use webhook_core::events::Event;
use webhook_core::id::{RunId, WebhookId, WorkflowKey};
use webhook_core::run::Progress;

use crate::contract::wire::run::ProgressView;
use crate::contract::wire::value::{Detail, Truncated};

/// The data of a `progress` or `log` event.
#[derive(Serialize)]
pub(crate) struct EventView<'a> {
    run_id: Option<RunId>,
    workflow: &'a WorkflowKey,
    webhook_id: WebhookId,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<ProgressView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lines: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Truncated::is_whole")]
    truncated: Truncated,
}

impl<'a> EventView<'a> {
    fn new(event: &'a Event) -> Self {
        let (workflow, webhook_id) = (&event.workflow, event.webhook_id);
        let truncated = Truncated(false);
        Self { run_id: event.run, workflow, webhook_id, progress: None, lines: None, truncated }
    }

    pub(crate) fn progress(event: &'a Event, progress: &'a Progress) -> Self {
        let progress = ProgressView::new(progress, Detail::Excerpt);
        Self { truncated: progress.truncated, progress: Some(progress), ..Self::new(event) }
    }

    pub(crate) fn log(event: &'a Event, text: &'a str, truncated: bool) -> Self {
        Self { lines: Some(text.lines().collect()), truncated: Truncated(truncated), ..Self::new(event) }
    }
}
