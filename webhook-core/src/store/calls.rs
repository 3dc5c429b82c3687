//! The optional part of a store that keeps what is known of calls.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{CallQuery, Page, StoreError};
use crate::calls::{CallRecord, LoggedCall};
use crate::id::{CallId, WebhookId};
use crate::webhook::RateLimit;

/// Optional part of a [`Store`](super::Store): the rates of webhooks, and the call log.
///
/// A store with it returns it from [`Store::calls`](super::Store::calls). Then
/// [`Store::delete_webhook`](super::Store::delete_webhook) removes the calls of the webhook, and
/// [`Store::prune`](super::Store::prune) removes expired contents.
/// A store that several processes share needs it, so that they count the calls of a webhook together and show the same log.
///
/// The [contract](super::Store#contract) of the store holds here as well.
#[async_trait::async_trait]
pub trait CallStore: Send + Sync {
    /// Takes one call from the rate of a webhook. Returns `None` if it is allowed, or else the pause until the next one
    /// is.
    ///
    /// The rate is a token bucket of `limit.burst` calls, which gains `limit.per_minute` calls in a minute. All
    /// processes that share the store take from one bucket. A refused call takes nothing.
    /// Need not be durable when it returns. An unknown webhook is no error.
    async fn take_call(&self, webhook: WebhookId, limit: RateLimit) -> Result<Option<Duration>, StoreError>;

    /// Adds calls to the call log.
    ///
    /// - Of each webhook, the newest [`CALLS_KEPT`](crate::calls::CALLS_KEPT) calls are kept, and of all webhooks together
    ///   about [`CALL_LOG_BYTES`](crate::calls::CALL_LOG_BYTES). The oldest go first. Both bounds hold after a restart, too.
    /// - Calls of an unknown webhook are ignored. Those of a deleted one go with it.
    /// - A call that is in the log already is not added again.
    /// - The content of a call is kept until it expires or its call goes: of each webhook, the newest
    ///   [`CONTENT_BYTES`](crate::calls::CONTENT_BYTES), and of all about
    ///   [`ALL_CONTENT_BYTES`](crate::calls::ALL_CONTENT_BYTES).
    /// - The added calls of each webhook are one [event](crate::events::Change::Calls).
    ///
    /// Need not be durable when it returns: it waits for no sync. A store that is closed in order loses nothing.
    async fn append_calls(&self, calls: Vec<LoggedCall>) -> Result<(), StoreError>;

    /// Lists the calls of a webhook, newest first by their ids. An unknown webhook has none.
    ///
    /// Stable under concurrent writes, as [`Store::list_runs`](super::Store::list_runs), as far as calls are kept.
    async fn list_calls(&self, query: CallQuery) -> Result<Page<Arc<CallRecord>, CallId>, StoreError>;

    /// Returns a call of a webhook, with its content if that is kept at `now`. `None` if there is no such call.
    async fn get_call(
        &self,
        webhook: WebhookId,
        call: CallId,
        now: SystemTime,
    ) -> Result<Option<LoggedCall>, StoreError>;
}
