//! Names and ids: workflow kinds and ids, and the UUIDv7 ids of webhooks, runs and deliveries.

mod name;
mod record;
mod sequence;

pub use name::{WorkflowId, WorkflowKey, WorkflowKind};
pub use record::{CallId, DeliveryId, RunId, SecretId, WebhookId};
