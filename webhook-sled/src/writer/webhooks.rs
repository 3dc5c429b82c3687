//! Changes of webhooks.

use std::time::SystemTime;

use webhook_core::clock::to_milliseconds;
use webhook_core::id::{RunId, WebhookId};
use webhook_core::store::StoreError;
use webhook_core::webhook::Webhook;

use super::Writer;
use crate::commit::{Level, acknowledge};
use crate::error::store_error;
use crate::keys;
use crate::operation::Reply;
use crate::record::{encode, encode_number, tail_count};

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

    pub(super) fn delete_webhook(&mut self, id: WebhookId, now: SystemTime, reply: Reply<Vec<RunId>>) {
        let key = keys::by_id(keys::WEBHOOK, id.as_bytes());
        let tails = match self.catch_up().and_then(|()| self.stored_tails(&key)) {
            Ok(tails) => tails,
            Err(error) => return drop(reply.send(Err(error))),
        };
        if self.shared.webhooks_mut().remove(id).is_none() {
            return drop(reply.send(Err(StoreError::NotFound("webhook"))));
        }
        self.change.remove(&key);
        (0..tails).for_each(|number| self.change.remove(keys::tail(&key, number)));
        self.change.remove(&keys::by_id(keys::LAST_USE, id.as_bytes()));
        let cancelled = {
            let mut runs = self.shared.runs();
            let cancelled = runs.live.close_webhook(id, now);
            runs.ending.extend(cancelled.iter().map(|run| (run.id, run.clone())));
            cancelled
        };
        let ids = cancelled.iter().map(|run| run.id).collect();
        if let Err(error) = cancelled.into_iter().try_for_each(|run| self.end_run(run)) {
            self.fail(&error);
        }
        self.change.group.when(Level::Synced, acknowledge(reply, ids));
    }

    pub(super) fn record_use(&mut self, uses: &[(WebhookId, SystemTime)], reply: Reply<()>) {
        for (id, at) in uses {
            if self.shared.webhooks_mut().record_use(*id, *at) {
                let at = u64::try_from(to_milliseconds(*at)).unwrap_or(0);
                let key = keys::by_id(keys::LAST_USE, id.as_bytes());
                self.change.insert(&key, encode_number(at).as_slice());
            }
        }
        self.change.group.when(Level::None, acknowledge(reply, ()));
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
