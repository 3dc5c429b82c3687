//! Operations of webhooks.

use std::time::SystemTime;

use webhook_core::backend::LiveCancel;
use webhook_core::clock::to_milliseconds;
use webhook_core::id::{RunId, WebhookId};
use webhook_core::run::CancelReason;
use webhook_core::store::StoreError;
use webhook_core::webhook::Webhook;

use crate::engine::group::Level;
use crate::format::keys;
use crate::format::value::{encode, encode_number};
use crate::writer::memory::ClosingWebhook;
use crate::writer::reply::{Decided, Decision, Reply, acknowledge, send};
use crate::writer::state::Writer;

/// Runs that are cancelled in one step, so other operations need not wait for long.
const CANCELLED_AT_ONCE: usize = 64;

impl Writer {
    pub(crate) fn create_webhook(&mut self, webhook: Webhook) -> Decided<()> {
        self.parts.webhooks().check_new(&webhook)?;
        self.put_webhook(webhook)?;
        Decision::synced(())
    }

    pub(crate) fn update_webhook(&mut self, webhook: Webhook, expected: u64) -> Decided<()> {
        let webhook = self.parts.webhooks().updated(webhook, expected)?;
        let (id, bound) = (webhook.id, webhook.settings.concurrency.bound());
        self.put_webhook(webhook)?;
        self.parts.runs().live.set_bound(id, bound);
        // A wider bound lets waiting runs begin.
        self.change.group.wakes_runs = true;
        Decision::synced(())
    }

    /// Deletes a webhook. The caller is told once all its queued runs are cancelled, which takes several groups.
    pub(crate) fn delete_webhook(
        &mut self,
        id: WebhookId,
        expected: Option<u64>,
        now: SystemTime,
        reply: Reply<Vec<RunId>>,
    ) {
        let key = keys::by_id(keys::WEBHOOK, id.as_bytes());
        let checked = self.parts.webhooks().check_removal(id, expected);
        let tails = match checked.and_then(|()| self.catch_up()).and_then(|()| self.stored_tails(&key)) {
            Ok(tails) => tails,
            Err(error) => return send(reply, Err(error)),
        };
        self.parts.webhooks_mut().remove(id);
        self.parts.calls.forget(id);
        self.change.remove(&key);
        for number in 0..tails {
            self.change.remove(keys::tail(&key, number));
        }
        self.change.remove(&keys::by_id(keys::LAST_USE, id.as_bytes()));
        let queued = self.parts.runs().live.close_webhook(id);
        let cancelled = Vec::with_capacity(queued.len());
        self.closing.push_back(ClosingWebhook { queued: queued.into(), now, cancelled, reply: Some(reply) });
    }

    /// Cancels queued runs whose webhook was deleted before the store was closed.
    pub(crate) fn cancel_orphans(&mut self, orphans: Vec<RunId>) {
        if !orphans.is_empty() {
            let now = SystemTime::now();
            self.closing.push_back(ClosingWebhook {
                queued: orphans.into(),
                now,
                cancelled: Vec::new(),
                reply: None,
            });
        }
    }

    /// Cancels some of the queued runs of a deleted webhook. After the last of them, its caller is told.
    ///
    /// The webhook is already removed and its queue closed, so none of these runs is claimed meanwhile. After a crash, the
    /// next start finds runs without a webhook, and cancels them.
    pub(crate) fn cancel_some(&mut self) {
        let Some(mut closing) = self.closing.pop_front() else { return };
        let count = closing.queued.len().min(CANCELLED_AT_ONCE);
        let some: Vec<RunId> = closing.queued.drain(..count).collect();
        let done = self.parts.condition.check().and_then(|()| self.cancel_queued(&some, &mut closing));
        match (done, closing.reply) {
            (Err(error), Some(reply)) => send(reply, Err(error)),
            (Ok(()), Some(reply)) if closing.queued.is_empty() => {
                self.change.group.when(Level::Synced, acknowledge(reply, closing.cancelled));
            }
            (Ok(()), reply) if !closing.queued.is_empty() => {
                self.closing.push_front(ClosingWebhook { reply, ..closing });
            }
            (Ok(()) | Err(_), _) => {}
        }
    }

    fn cancel_queued(&mut self, some: &[RunId], closing: &mut ClosingWebhook) -> Result<(), StoreError> {
        let missing: Vec<RunId> = {
            let runs = self.parts.runs();
            some.iter()
                .copied()
                .filter(|id| runs.live.is_live(*id) && runs.live.record(*id).is_none())
                .collect()
        };
        if !missing.is_empty() {
            self.load(&missing)?;
        }
        for id in some {
            let cancelled = {
                let mut runs = self.parts.runs();
                let cancelled = runs.live.cancel(*id, CancelReason::WebhookDeleted, closing.now);
                // Those that were cancelled in the meantime are not live.
                let Some(LiveCancel::Ended(run)) = cancelled else { continue };
                runs.ending.insert(run.id(), run.clone());
                run
            };
            if let Err(error) = self.end_run(cancelled) {
                self.fail(&error);
            }
            closing.cancelled.push(*id);
        }
        Ok(())
    }

    /// Refuses the callers who deleted webhooks before the database was opened again.
    pub(crate) fn refuse_closing(&mut self) {
        for closing in self.closing.drain(..) {
            if let Some(reply) = closing.reply {
                send(reply, Err(StoreError::unavailable("the store was opened again meanwhile")));
            }
        }
    }

    pub(crate) fn record_use(&mut self, uses: &[(WebhookId, SystemTime)]) -> Decided<()> {
        for (id, at) in uses {
            if self.parts.webhooks_mut().record_use(*id, *at) {
                let at = u64::try_from(to_milliseconds(*at)).unwrap_or(0);
                let key = keys::by_id(keys::LAST_USE, id.as_bytes());
                self.change.insert(&key, encode_number(at).as_slice());
            }
        }
        Decision::flushed(())
    }

    fn put_webhook(&mut self, webhook: Webhook) -> Result<(), StoreError> {
        let key = keys::by_id(keys::WEBHOOK, webhook.id.as_bytes());
        self.catch_up()?;
        let (record, tails) = (encode(&webhook)?, self.stored_tails(&key)?);
        self.change.insert_record(&key, record, tails);
        self.parts.webhooks_mut().put(webhook);
        Ok(())
    }
}
