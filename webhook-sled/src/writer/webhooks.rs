//! Changes of webhooks.

use std::collections::VecDeque;
use std::time::SystemTime;

use webhook_core::clock::to_milliseconds;
use webhook_core::id::{RunId, WebhookId};
use webhook_core::live::LiveCancel;
use webhook_core::run::CancelReason;
use webhook_core::store::StoreError;
use webhook_core::webhook::Webhook;

use super::Writer;
use crate::engine::group::{Level, acknowledge};
use crate::error::store_error;
use crate::format::keys;
use crate::format::value::{encode, encode_number, tail_count};
use crate::writer::operation::Reply;

/// How many runs are cancelled in one step, so that others need not wait for long.
const CANCELLED_AT_ONCE: usize = 64;

/// A deleted webhook whose queued runs are being cancelled.
pub(super) struct Closing {
    queued: VecDeque<RunId>,
    now: SystemTime,
    cancelled: Vec<RunId>,
    /// Where its deletion is answered, unless it was deleted before the store was opened.
    reply: Option<Reply<Vec<RunId>>>,
}

impl Writer {
    pub(super) fn create_webhook(&mut self, webhook: Webhook, reply: Reply<()>) {
        let checked = self.shared.webhooks().check_new(&webhook);
        match checked.and_then(|()| self.put_webhook(webhook)) {
            Ok(()) => self.change.group.when(Level::Synced, acknowledge(reply, ())),
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    pub(super) fn update_webhook(&mut self, webhook: Webhook, expected: u64, reply: Reply<()>) {
        let updated = self.shared.webhooks().updated(webhook, expected);
        let put = updated.and_then(|webhook| {
            let (id, bound) = (webhook.id, webhook.settings.concurrency.bound());
            self.put_webhook(webhook)?;
            self.shared.runs().live.set_bound(id, bound);
            Ok(())
        });
        match put {
            Ok(()) => {
                let shared = self.shared.clone();
                let acknowledge = acknowledge(reply, ());
                self.change.group.when(
                    Level::Synced,
                    Box::new(move |outcome| {
                        // A wider bound lets waiting runs begin.
                        shared.runs_changed.notify_waiters();
                        acknowledge(outcome);
                    }),
                );
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    pub(super) fn delete_webhook(
        &mut self,
        id: WebhookId,
        expected: Option<u64>,
        now: SystemTime,
        reply: Reply<Vec<RunId>>,
    ) {
        let key = keys::by_id(keys::WEBHOOK, id.as_bytes());
        let checked = self.shared.webhooks().check_removal(id, expected);
        let tails = match checked.and_then(|()| self.catch_up()).and_then(|()| self.stored_tails(&key)) {
            Ok(tails) => tails,
            Err(error) => return drop(reply.send(Err(error))),
        };
        self.shared.webhooks_mut().remove(id);
        self.change.remove(&key);
        (0..tails).for_each(|number| self.change.remove(keys::tail(&key, number)));
        self.change.remove(&keys::by_id(keys::LAST_USE, id.as_bytes()));
        let queued = self.shared.runs().live.close_webhook(id);
        let cancelled = Vec::with_capacity(queued.len());
        self.closing.push_back(Closing { queued: queued.into(), now, cancelled, reply: Some(reply) });
    }

    /// Cancels queued runs whose webhook was deleted before the store was closed.
    pub(super) fn cancel_orphans(&mut self, orphans: Vec<RunId>) {
        if !orphans.is_empty() {
            let now = SystemTime::now();
            self.closing.push_back(Closing {
                queued: orphans.into(),
                now,
                cancelled: Vec::new(),
                reply: None,
            });
        }
    }

    /// Cancels some of the queued runs of a deleted webhook, and answers who deleted it after the last of them.
    ///
    /// The webhook is gone already and its queue closed, so that none of them is claimed meanwhile; a start that finds
    /// runs without their webhook goes on with them.
    pub(super) fn cancel_some(&mut self) {
        let Some(mut closing) = self.closing.pop_front() else { return };
        let count = closing.queued.len().min(CANCELLED_AT_ONCE);
        let some: Vec<RunId> = closing.queued.drain(..count).collect();
        let done = self.shared.condition.check().and_then(|()| self.cancel_queued(&some, &mut closing));
        match (done, closing.reply) {
            (Err(error), Some(reply)) => drop(reply.send(Err(error))),
            (Ok(()), Some(reply)) if closing.queued.is_empty() => {
                self.change.group.when(Level::Synced, acknowledge(reply, closing.cancelled));
            }
            (Ok(()), reply) if !closing.queued.is_empty() => {
                self.closing.push_front(Closing { reply, ..closing });
            }
            (Ok(()) | Err(_), _) => {}
        }
    }

    fn cancel_queued(&mut self, some: &[RunId], closing: &mut Closing) -> Result<(), StoreError> {
        let missing: Vec<RunId> = {
            let runs = self.shared.runs();
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
                let mut runs = self.shared.runs();
                let cancelled = runs.live.cancel(*id, CancelReason::WebhookDeleted, closing.now);
                // Those that were cancelled in the meantime are not live.
                let Some(LiveCancel::Ended(run)) = cancelled else { continue };
                runs.ending.insert(run.id, run.clone());
                run
            };
            if let Err(error) = self.end_run(cancelled) {
                self.fail(&error);
            }
            closing.cancelled.push(*id);
        }
        Ok(())
    }

    /// Answers those who deleted webhooks before the database was opened anew.
    pub(super) fn refuse_closing(&mut self) {
        for closing in self.closing.drain(..) {
            if let Some(reply) = closing.reply {
                // Whoever no longer waits for the answer does not miss it.
                let _ = reply.send(Err(StoreError::unavailable("the store was opened again meanwhile")));
            }
        }
    }

    pub(super) fn record_use(&mut self, uses: &[(WebhookId, SystemTime)], reply: Reply<()>) {
        for (id, at) in uses {
            if self.shared.webhooks_mut().record_use(*id, *at) {
                let at = u64::try_from(to_milliseconds(*at)).unwrap_or(0);
                let key = keys::by_id(keys::LAST_USE, id.as_bytes());
                self.change.insert(&key, encode_number(at).as_slice());
            }
        }
        self.change.group.when(Level::Flushed, acknowledge(reply, ()));
    }

    fn put_webhook(&mut self, webhook: Webhook) -> Result<(), StoreError> {
        let key = keys::by_id(keys::WEBHOOK, webhook.id.as_bytes());
        self.catch_up()?;
        let (record, tails) = (encode(&webhook)?, self.stored_tails(&key)?);
        self.change.insert_record(&key, record, tails);
        self.shared.webhooks_mut().put(webhook);
        Ok(())
    }

    /// How many further values the record under this key has in the database. Some may have been written since
    /// in the present batch; what is left over of them belongs to no record and does no harm.
    pub(super) fn stored_tails(&self, key: &[u8]) -> Result<u16, StoreError> {
        let head = self.shared.with_tree(|tree| tree.get(key).map_err(store_error))?;
        head.map_or(Ok(0), |head| tail_count(&head))
    }
}
