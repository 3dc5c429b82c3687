//! Queries for lists, and the pages they return.

use crate::id::{CallId, DeliveryId, RunId, WebhookId, WorkflowKey};
use crate::notifier::{Delivery, DeliveryState};
use crate::run::{Run, RunState};
use crate::webhook::Channel;

/// Page of a list, with the cursor of the next page.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page<T, C> {
    /// Items of this page, newest first.
    pub items: Vec<T>,
    /// Id of the last item, if more may follow: the next page lists what is older. `None` at the end.
    pub next: Option<C>,
}

impl<T, C> Page<T, C> {
    /// Combines items with the cursor of the next page.
    #[must_use]
    pub fn new(items: Vec<T>, next: Option<C>) -> Self {
        Self { items, next }
    }

    /// Cuts `items` to a page of `limit`. The caller reads one item more than `limit` to find out whether
    /// more follow.
    #[must_use]
    pub fn cut(mut items: Vec<T>, limit: usize, id: impl Fn(&T) -> C) -> Self {
        let more = items.len() > limit;
        items.truncate(limit);
        let next = if more { items.last().map(id) } else { None };
        Self { items, next }
    }
}

/// Filter and position for a list of webhooks. Default: the newest 50.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WebhookQuery {
    /// Restricts the list to webhooks of this workflow.
    pub workflow: Option<WorkflowKey>,
    /// Restricts the list to webhooks older than this one.
    pub before: Option<WebhookId>,
    /// Upper bound on the items of the page. Default: 50.
    pub limit: usize,
}

impl Default for WebhookQuery {
    fn default() -> Self {
        Self { workflow: None, before: None, limit: 50 }
    }
}

impl WebhookQuery {
    /// Restricts the list to webhooks of this workflow.
    #[must_use]
    pub fn of_workflow(mut self, workflow: WorkflowKey) -> Self {
        self.workflow = Some(workflow);
        self
    }

    /// Restricts the list to webhooks older than this one.
    #[must_use]
    pub fn before(mut self, before: Option<WebhookId>) -> Self {
        self.before = before;
        self
    }

    /// Sets the upper bound on the items of the page.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }
}

/// Filter and position for a list of runs. Default: the newest 50.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RunQuery {
    /// Restricts the list to runs of this workflow.
    pub workflow: Option<WorkflowKey>,
    /// Restricts the list to runs of this webhook.
    pub webhook: Option<WebhookId>,
    /// Restricts the list to runs in this state.
    pub state: Option<RunState>,
    /// Restricts the list to runs older than this one.
    pub before: Option<RunId>,
    /// Upper bound on the items of the page. Default: 50.
    pub limit: usize,
}

impl Default for RunQuery {
    fn default() -> Self {
        Self { workflow: None, webhook: None, state: None, before: None, limit: 50 }
    }
}

impl RunQuery {
    /// Restricts the list to runs of this workflow.
    #[must_use]
    pub fn of_workflow(mut self, workflow: Option<WorkflowKey>) -> Self {
        self.workflow = workflow;
        self
    }

    /// Restricts the list to runs of this webhook.
    #[must_use]
    pub fn of_webhook(mut self, webhook: Option<WebhookId>) -> Self {
        self.webhook = webhook;
        self
    }

    /// Restricts the list to runs in this state.
    #[must_use]
    pub fn in_state(mut self, state: Option<RunState>) -> Self {
        self.state = state;
        self
    }

    /// Restricts the list to runs older than this one.
    #[must_use]
    pub fn before(mut self, before: Option<RunId>) -> Self {
        self.before = before;
        self
    }

    /// Sets the upper bound on the items of the page.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Returns whether a run passes the filter. The position (`before`, `limit`) is not checked.
    #[must_use]
    pub fn matches(&self, run: &Run) -> bool {
        self.workflow.as_ref().is_none_or(|wanted| wanted == run.workflow())
            && self.webhook.is_none_or(|wanted| wanted == run.webhook_id())
            && self.state.is_none_or(|wanted| wanted == run.state())
    }
}

/// Webhook and position for a list of its calls.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct CallQuery {
    /// The webhook whose calls are listed.
    pub webhook: WebhookId,
    /// Restricts the list to calls older than this one.
    pub before: Option<CallId>,
    /// Upper bound on the items of the page. Default: 50.
    pub limit: usize,
}

impl CallQuery {
    /// Requests the newest 50 calls of a webhook.
    #[must_use]
    pub fn new(webhook: WebhookId) -> Self {
        Self { webhook, before: None, limit: 50 }
    }

    /// Restricts the list to calls older than this one.
    #[must_use]
    pub fn before(mut self, before: Option<CallId>) -> Self {
        self.before = before;
        self
    }

    /// Sets the upper bound on the items of the page.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }
}

/// Filter and position for a list of deliveries. Default: the newest 50.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct DeliveryQuery {
    /// Restricts the list to deliveries in this state.
    pub state: Option<DeliveryState>,
    /// Restricts the list to deliveries through this channel.
    pub channel: Option<Channel>,
    /// Restricts the list to deliveries older than this one.
    pub before: Option<DeliveryId>,
    /// Upper bound on the items of the page. Default: 50.
    pub limit: usize,
}

impl Default for DeliveryQuery {
    fn default() -> Self {
        Self { state: None, channel: None, before: None, limit: 50 }
    }
}

impl DeliveryQuery {
    /// Restricts the list to deliveries in this state.
    #[must_use]
    pub fn in_state(mut self, state: Option<DeliveryState>) -> Self {
        self.state = state;
        self
    }

    /// Restricts the list to deliveries through this channel.
    #[must_use]
    pub fn through(mut self, channel: Option<Channel>) -> Self {
        self.channel = channel;
        self
    }

    /// Restricts the list to deliveries older than this one.
    #[must_use]
    pub fn before(mut self, before: Option<DeliveryId>) -> Self {
        self.before = before;
        self
    }

    /// Sets the upper bound on the items of the page.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Returns whether a delivery passes the filter. The position (`before`, `limit`) is not checked.
    #[must_use]
    pub fn matches(&self, delivery: &Delivery) -> bool {
        self.state.is_none_or(|wanted| wanted == delivery.state)
            && self.channel.is_none_or(|wanted| wanted == delivery.channel)
    }
}
