//! What callers ask the writer to do.

use std::time::SystemTime;

use tokio::sync::oneshot;
use tokio::time::Instant;
use webhook_core::id::{DeliveryId, RunId, WebhookId};
use webhook_core::notifier::Delivery;
use webhook_core::store::{
    Cancelled, Claim, ClaimRequest, DeliverySettlement, Enqueue, Enqueued, Settled, Settlement, StoreError,
};
use webhook_core::webhook::Webhook;

use crate::format::value::Encoded;
use crate::reader::prune::{ExpiredKey, Removal};

/// Where the answer goes.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// One change. Instants come from the caller, whose runtime may have a clock of its own.
pub(crate) enum Operation {
    CreateWebhook(Box<Webhook>, Reply<()>),
    UpdateWebhook(Box<Webhook>, u64, Reply<()>),
    DeleteWebhook(WebhookId, Option<u64>, SystemTime, Reply<Vec<RunId>>),
    RecordUse(Vec<(WebhookId, SystemTime)>, Reply<()>),
    /// With the run's record, so that the writer need not make it.
    Enqueue(Box<Enqueue>, Encoded, Instant, Reply<Enqueued>),
    Claim(ClaimRequest, Instant, Reply<Vec<Claim>>),
    Settle(Vec<Settlement>, Instant, Reply<Vec<Settled>>),
    Cancel(RunId, SystemTime, Reply<Cancelled>),
    AppendLog(RunId, u64, String, Reply<()>),
    SettleDeliveries(Vec<DeliverySettlement>, Instant, Reply<()>),
    ResendDelivery(DeliveryId, SystemTime, Instant, Reply<Delivery>),
    Prune(Vec<Removal>, Vec<ExpiredKey>, Reply<Vec<RunId>>),
}

impl Operation {
    /// Answers that nothing was done.
    pub(crate) fn refuse(self, error: StoreError) {
        // Whoever no longer waits for the answer does not miss it.
        match self {
            Self::CreateWebhook(_, reply) | Self::UpdateWebhook(_, _, reply) => drop(reply.send(Err(error))),
            Self::DeleteWebhook(_, _, _, reply) => drop(reply.send(Err(error))),
            Self::RecordUse(_, reply) | Self::AppendLog(_, _, _, reply) => drop(reply.send(Err(error))),
            Self::Enqueue(_, _, _, reply) => drop(reply.send(Err(error))),
            Self::Claim(_, _, reply) => drop(reply.send(Err(error))),
            Self::Settle(_, _, reply) => drop(reply.send(Err(error))),
            Self::Cancel(_, _, reply) => drop(reply.send(Err(error))),
            Self::SettleDeliveries(_, _, reply) => drop(reply.send(Err(error))),
            Self::ResendDelivery(_, _, _, reply) => drop(reply.send(Err(error))),
            Self::Prune(_, _, reply) => drop(reply.send(Err(error))),
        }
    }
}
