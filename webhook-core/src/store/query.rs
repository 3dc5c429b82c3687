//! Asking for lists, and the pages that answer.

use crate::id::{DeliveryId, RunId, WebhookId, WorkflowKey};
use crate::notifier::{Delivery, DeliveryState};
use crate::run::{Run, RunState};
use crate::webhook::Channel;

/// Some items of a list, and the id of the last one where more may follow.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page<T, C> {
    /// The items, newest first.
    pub items: Vec<T>,
    /// The cursor of the next page: list what is older than it. `None` at the end.
    pub next: Option<C>,
}

impl<T, C> Page<T, C> {
    /// A page, with the cursor of the next where there is one.
    #[must_use]
    pub fn new(items: Vec<T>, next: Option<C>) -> Self {
        Self { items, next }
    }

    /// Cuts `items`, of which one more than `limit` may have been read, to a page.
    #[must_use]
    pub fn cut(mut items: Vec<T>, limit: usize, id: impl Fn(&T) -> C) -> Self {
        let more = items.len() > limit;
        items.truncate(limit);
        let next = if more { items.last().map(id) } else { None };
        Self { items, next }
    }
}

/// Which webhooks to list.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WebhookQuery {
    /// Only those of this workflow.
    pub workflow: Option<WorkflowKey>,
    /// Only those older than this one.
    pub before: Option<WebhookId>,
    /// At most this many.
    pub limit: usize,
}

impl Default for WebhookQuery {
    fn default() -> Self {
        Self { workflow: None, before: None, limit: 50 }
    }
}

impl WebhookQuery {
    /// Only those of this workflow.
    #[must_use]
    pub fn of_workflow(mut self, workflow: WorkflowKey) -> Self {
        self.workflow = Some(workflow);
        self
    }

    /// Only those older than this one.
    #[must_use]
    pub fn before(mut self, before: Option<WebhookId>) -> Self {
        self.before = before;
        self
    }

    /// At most this many.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }
}

/// Which runs to list.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RunQuery {
    /// Only those of this workflow.
    pub workflow: Option<WorkflowKey>,
    /// Only those of this webhook.
    pub webhook: Option<WebhookId>,
    /// Only those in this state.
    pub state: Option<RunState>,
    /// Only those older than this one.
    pub before: Option<RunId>,
    /// At most this many.
    pub limit: usize,
}

impl Default for RunQuery {
    fn default() -> Self {
        Self { workflow: None, webhook: None, state: None, before: None, limit: 50 }
    }
}

impl RunQuery {
    /// Only those of this workflow.
    #[must_use]
    pub fn of_workflow(mut self, workflow: Option<WorkflowKey>) -> Self {
        self.workflow = workflow;
        self
    }

    /// Only those of this webhook.
    #[must_use]
    pub fn of_webhook(mut self, webhook: Option<WebhookId>) -> Self {
        self.webhook = webhook;
        self
    }

    /// Only those in this state.
    #[must_use]
    pub fn in_state(mut self, state: Option<RunState>) -> Self {
        self.state = state;
        self
    }

    /// Only those older than this one.
    #[must_use]
    pub fn before(mut self, before: Option<RunId>) -> Self {
        self.before = before;
        self
    }

    /// At most this many.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Whether a run is one of those asked for, its place in the list aside.
    #[must_use]
    pub fn matches(&self, run: &Run) -> bool {
        self.workflow.as_ref().is_none_or(|wanted| *wanted == run.workflow)
            && self.webhook.is_none_or(|wanted| wanted == run.webhook_id)
            && self.state.is_none_or(|wanted| wanted == run.state)
    }
}

/// A filter and a page of deliveries to list.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct DeliveryQuery {
    /// Only those in this state.
    pub state: Option<DeliveryState>,
    /// Only those through this channel.
    pub channel: Option<Channel>,
    /// Only those older than this one.
    pub before: Option<DeliveryId>,
    /// At most this many.
    pub limit: usize,
}

impl Default for DeliveryQuery {
    fn default() -> Self {
        Self { state: None, channel: None, before: None, limit: 50 }
    }
}

impl DeliveryQuery {
    /// Only those in this state.
    #[must_use]
    pub fn in_state(mut self, state: Option<DeliveryState>) -> Self {
        self.state = state;
        self
    }

    /// Only those through this channel.
    #[must_use]
    pub fn through(mut self, channel: Option<Channel>) -> Self {
        self.channel = channel;
        self
    }

    /// Only those older than this one.
    #[must_use]
    pub fn before(mut self, before: Option<DeliveryId>) -> Self {
        self.before = before;
        self
    }

    /// At most this many.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Whether a delivery is one of those asked for, its place in the list aside.
    #[must_use]
    pub fn matches(&self, delivery: &Delivery) -> bool {
        self.state.is_none_or(|wanted| wanted == delivery.state)
            && self.channel.is_none_or(|wanted| wanted == delivery.channel)
    }
}
