//! Notifications of runs.

use schemars::JsonSchema;
use serde::Serialize;
use webhook_core::id::{DeliveryId, RunId, WorkflowKey};
use webhook_core::manage::TestedNotification;
use webhook_core::notifier::{Delivery, DeliveryState};
use webhook_core::run::EXCERPT_BYTES;
use webhook_core::webhook::{Channel, EventKind};

use crate::contract::wire::value::{Detail, Timestamp, Truncated};

/// A notification to one recipient.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Delivery")]
pub(crate) struct DeliveryView<'a> {
    id: DeliveryId,
    run_id: RunId,
    /// Workflow of its run, in lists of notifications.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "WorkflowKey")]
    workflow: Option<&'a WorkflowKey>,
    channel: Channel,
    recipient: &'a str,
    event: EventKind,
    state: DeliveryState,
    attempts: u32,
    last_error: Option<&'a str>,
    /// Time of the next attempt.
    next_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Truncated::is_whole")]
    pub(super) truncated: Truncated,
}

impl<'a> DeliveryView<'a> {
    pub(crate) fn new(delivery: &'a Delivery, detail: Detail) -> Self {
        let last_error = delivery.last_error.as_deref().map(|error| detail.of_text(error));
        Self {
            id: delivery.id,
            run_id: delivery.run,
            workflow: None,
            channel: delivery.channel,
            recipient: &delivery.recipient,
            event: delivery.event,
            state: delivery.state,
            attempts: delivery.attempts,
            last_error: last_error.map(|(text, _)| text),
            next_at: delivery.next_at.map(Timestamp),
            truncated: Truncated(last_error.is_some_and(|(_, cut)| cut)),
        }
    }

    /// Adds the workflow of its run.
    pub(crate) fn of_workflow(mut self, workflow: Option<&'a WorkflowKey>) -> Self {
        self.workflow = workflow;
        self
    }
}

/// Channels of notifications: those of this crate, and further ones of the host.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Channels {
    items: Vec<ChannelView>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct ChannelView {
    channel: Channel,
    /// True if the server has an integration for it.
    available: bool,
}

impl Channels {
    /// Shows the channels that settings have and those that the host `serves`.
    pub(crate) fn new(serves: &[Channel]) -> Self {
        let mut items: Vec<ChannelView> = Vec::new();
        for channel in [Channel::EMAIL, Channel::SLACK] {
            items.push(ChannelView { available: serves.contains(&channel), channel });
        }
        for channel in serves {
            if !items.iter().any(|item| item.channel == *channel) {
                items.push(ChannelView { channel: *channel, available: true });
            }
        }
        Self { items }
    }
}

/// Result of sending many notifications again.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ResentDeliveries {
    pub(crate) done: usize,
    pub(crate) matched: usize,
    pub(crate) next_cursor: Option<DeliveryId>,
}

/// Results of test notifications.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Tested")]
pub(crate) struct TestedNotifications<'a> {
    items: Vec<TestedView<'a>>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct TestedView<'a> {
    channel: Channel,
    delivered: bool,
    error: Option<String>,
    recipient: &'a str,
}

impl<'a> TestedNotifications<'a> {
    pub(crate) fn new(tested: &'a [TestedNotification]) -> Self {
        let view = |tested: &'a TestedNotification| TestedView {
            channel: tested.notification.channel,
            delivered: tested.outcome.is_ok(),
            error: tested.outcome.as_ref().err().map(|error| shortened(error.to_string())),
            recipient: &tested.notification.recipient,
        };
        Self { items: tested.iter().map(view).collect() }
    }
}

/// Cuts the other side's text to a readable length.
fn shortened(mut text: String) -> String {
    if text.len() > EXCERPT_BYTES {
        text.truncate(text.floor_char_boundary(EXCERPT_BYTES));
        text.push('…');
    }
    text
}
