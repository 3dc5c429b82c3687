//! Calls that were answered: gathered in memory, and written to the store together, shortly after.
//!
//! A call that is logged takes one lock and waits for nothing. A reader of the log writes what has gathered.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::calls::{CALLS_KEPT, CallFacts, CallRecord, LoggedCall, RefusedCalls};
use crate::executor::Executor;
use crate::id::{WebhookId, WorkflowKey};
use crate::store::{CallStore, StoreError};

/// Upper bound on the bytes of the calls that gather.
const GATHERED_BYTES: usize = 8 << 20;
/// Upper bound on the workflows that are looked up at a time, because calls without a valid token named them.
const NAMED_WORKFLOWS: usize = 64;

/// Calls that the store does not have yet, and counts of the refused ones that belong to no webhook.
#[derive(Debug, Default)]
pub(super) struct Calls {
    gathered: Mutex<Gathered>,
    refused: Mutex<Refused>,
    /// Set while a task is going to write.
    is_scheduled: AtomicBool,
    /// Held while calls are written, so a reader sees those that another task writes.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Gathered {
    /// The newest calls of each webhook, oldest first.
    webhooks: HashMap<WebhookId, VecDeque<LoggedCall>>,
    bytes: usize,
}

impl Gathered {
    fn push(&mut self, webhook: WebhookId, call: LoggedCall) {
        self.bytes += call.bytes_in_memory();
        let calls = self.webhooks.entry(webhook).or_default();
        calls.push_back(call);
        if self.bytes > GATHERED_BYTES {
            // Contents make room before any call is forgotten.
            for call in calls.iter_mut().filter(|call| call.content.is_some()) {
                self.bytes -= call.bytes_in_memory();
                call.content = None;
                self.bytes += call.bytes_in_memory();
                if self.bytes <= GATHERED_BYTES {
                    break;
                }
            }
        }
        while calls.len() > CALLS_KEPT || self.bytes > GATHERED_BYTES {
            let Some(oldest) = calls.pop_front() else { break };
            self.bytes -= oldest.bytes_in_memory();
        }
    }

    /// Takes back older calls, as far as there is room.
    fn take_back(&mut self, older: Vec<LoggedCall>) {
        for call in older.into_iter().rev() {
            let bytes = call.bytes_in_memory();
            let calls = self.webhooks.entry(call.record.webhook_id).or_default();
            if calls.len() < CALLS_KEPT && self.bytes + bytes <= GATHERED_BYTES {
                calls.push_front(call);
                self.bytes += bytes;
            }
        }
    }
}

/// Calls without a valid token, by workflow.
///
/// A caller may name any workflow, so a name is kept only once the executor knows it. That is asked later: the time of an
/// answer must not tell whether a workflow exists.
#[derive(Debug, Default)]
struct Refused {
    known: HashMap<WorkflowKey, RefusedCalls>,
    named: HashMap<WorkflowKey, RefusedCalls>,
}

impl Calls {
    /// Keeps the record of a call until it is written.
    pub(super) fn log(&self, webhook: WebhookId, facts: &CallFacts<'_>, now: SystemTime) {
        let record = Arc::new(CallRecord::new(webhook, facts, now));
        let call = LoggedCall::new(record).with_content(facts.content.clone());
        self.gathered.lock().push(webhook, call);
    }

    /// Counts a call without a valid token.
    pub(super) fn refuse(&self, workflow: &WorkflowKey, now: SystemTime) {
        let Refused { known, named } = &mut *self.refused.lock();
        if let Some(refused) = known.get_mut(workflow).or_else(|| named.get_mut(workflow)) {
            refused.add(1, now);
        } else if named.len() < NAMED_WORKFLOWS {
            let refused = named.entry(workflow.clone()).or_insert_with(|| RefusedCalls::new(now));
            refused.add(1, now);
        }
    }

    /// Returns the number of calls of a workflow without a valid token. The workflow must be one of the executor's.
    pub(super) fn refused(&self, workflow: &WorkflowKey) -> Option<RefusedCalls> {
        let refused = self.refused.lock();
        refused.known.get(workflow).or_else(|| refused.named.get(workflow)).copied()
    }

    /// Writes the gathered calls. They are kept if that fails, or if this is dropped.
    pub(super) async fn write_to(&self, store: &dyn CallStore) -> Result<(), StoreError> {
        let _writing = self.writing.lock().await;
        let mut batch = Batch { calls: self, taken: self.take() };
        if !batch.taken.is_empty() {
            store.append_calls(batch.taken.clone()).await?;
            batch.taken.clear();
        }
        Ok(())
    }

    fn take(&self) -> Vec<LoggedCall> {
        let gathered = std::mem::take(&mut *self.gathered.lock());
        let mut calls: Vec<_> = gathered.webhooks.into_values().flatten().collect();
        calls.sort_unstable_by_key(|call| call.record.id);
        calls
    }

    /// Keeps the counts of those named workflows that exist, and forgets the others.
    pub(super) async fn look_up(&self, executor: &dyn Executor) {
        let named: Vec<_> = self.refused.lock().named.keys().cloned().collect();
        for workflow in named {
            // An executor that fails now may know it later.
            let Ok(described) = executor.describe(&workflow).await else { continue };
            let Refused { known, named } = &mut *self.refused.lock();
            if let Some(counted) = named.remove(&workflow)
                && described.is_some()
            {
                let refused = known.entry(workflow).or_insert_with(|| RefusedCalls::new(counted.last_at));
                refused.add(counted.unauthorized, counted.last_at);
            }
        }
    }
}

/// Calls on their way to the store.
struct Batch<'a> {
    calls: &'a Calls,
    taken: Vec<LoggedCall>,
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        let taken = std::mem::take(&mut self.taken);
        if !taken.is_empty() {
            self.calls.gathered.lock().take_back(taken);
        }
    }
}

/// Mark of the task that is going to write. It vanishes with the task, also when its runtime ends.
pub(super) struct Scheduled(Arc<Calls>);

impl Scheduled {
    /// Returns the mark, or `None` while another task has it.
    pub(super) fn take(calls: &Arc<Calls>) -> Option<Self> {
        let is_free =
            !calls.is_scheduled.load(Ordering::SeqCst) && !calls.is_scheduled.swap(true, Ordering::SeqCst);
        is_free.then(|| Self(calls.clone()))
    }
}

impl Drop for Scheduled {
    fn drop(&mut self) {
        self.0.is_scheduled.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::calls::{CallOutcome, KeptContent};
    use crate::executor::{FnExecutor, RunOutput, Workflow};
    use crate::memory::MemoryStore;
    use crate::parameters::ParameterBlocks;
    use crate::store::{CallQuery, Store};
    use crate::token::{Token, TokenKey, TokenKeys};
    use crate::webhook::{Webhook, WebhookSettings};

    fn facts(detail: &str) -> CallFacts<'_> {
        let mut facts = CallFacts::new("POST", 202, CallOutcome::Accepted);
        facts.detail = Some(detail.into());
        facts
    }

    async fn recorded(store: &dyn Store) -> WebhookId {
        let id = WebhookId::generate(UNIX_EPOCH);
        let (workflow, settings) = ("report/a".parse().unwrap(), WebhookSettings::default());
        let webhook = Webhook::new(id, workflow, settings, &Token::generate(), None, UNIX_EPOCH);
        store.create_webhook(webhook).await.unwrap();
        id
    }

    #[tokio::test]
    async fn what_gathers_is_bounded_for_each_webhook_and_in_bytes() {
        let (calls, store) = (Calls::default(), MemoryStore::new());
        let busy = recorded(&store).await;
        for number in 0..CALLS_KEPT + 50 {
            calls.log(busy, &facts(&number.to_string()), UNIX_EPOCH);
        }
        assert_eq!(calls.gathered.lock().webhooks[&busy].len(), CALLS_KEPT);
        let detail = "x".repeat(512);
        for number in 0..30_000 {
            let webhook = WebhookId::from_bytes(u128::to_be_bytes(number / 150));
            calls.log(webhook, &facts(&detail), UNIX_EPOCH);
        }
        let held = |gathered: &Gathered| {
            gathered.webhooks.values().flatten().map(LoggedCall::bytes_in_memory).sum::<usize>()
        };
        {
            let gathered = calls.gathered.lock();
            assert_eq!(held(&gathered), gathered.bytes);
            assert!(gathered.bytes <= GATHERED_BYTES);
        }
        calls.write_to(&store).await.unwrap();
        let newest = store.list_calls(CallQuery::new(busy).limit(1)).await.unwrap().items.remove(0);
        assert_eq!(newest.detail.as_deref(), Some((CALLS_KEPT + 49).to_string().as_str()));
        let gathered = calls.gathered.lock();
        assert_eq!((held(&gathered), gathered.bytes), (0, 0));
    }

    #[test]
    fn contents_that_gather_make_room_before_any_call_is_forgotten() {
        let (calls, keys) = (Calls::default(), TokenKeys::new(TokenKey::generate()));
        let webhook = WebhookId::generate(UNIX_EPOCH);
        let sealed = keys.seal(&vec![0; GATHERED_BYTES / 8], b"call");
        for _ in 0..20 {
            let mut facts = facts("");
            facts.content = Some(Arc::new(KeptContent::new(sealed.clone(), UNIX_EPOCH)));
            calls.log(webhook, &facts, UNIX_EPOCH);
        }
        assert!(calls.gathered.lock().bytes <= GATHERED_BYTES);
        let taken = calls.take();
        let kept: Vec<_> = taken.iter().map(|call| call.content.is_some()).collect();
        assert_eq!((kept.len(), &kept[13..]), (20, &[true; 7][..]), "the newest contents stay");
        assert!(kept[..13].iter().all(|is_kept| !is_kept));
    }

    #[test]
    fn what_could_not_be_written_is_kept_in_its_order() {
        let calls = Calls::default();
        let webhook = WebhookId::generate(UNIX_EPOCH);
        for number in 0..3 {
            calls.log(webhook, &facts(&number.to_string()), UNIX_EPOCH);
        }
        let batch = Batch { calls: &calls, taken: calls.take() };
        calls.log(webhook, &facts("3"), UNIX_EPOCH);
        drop(batch);
        let details: Vec<_> = calls.take().iter().map(|call| call.record.detail.clone().unwrap()).collect();
        assert_eq!(details, ["0", "1", "2", "3"]);
    }

    #[tokio::test]
    async fn refused_calls_count_for_workflows_that_exist_however_many_names_are_guessed() {
        let calls = Calls::default();
        let (real, guess) = ("report/real".parse().unwrap(), |n: usize| format!("report/guess-{n}"));
        let workflow = Workflow::new("report/real".parse().unwrap(), "Real", ParameterBlocks::default());
        let executor = FnExecutor::new([workflow], async |_| Ok(RunOutput::new()));
        let later = UNIX_EPOCH + Duration::from_secs(9);
        calls.refuse(&real, UNIX_EPOCH);
        for number in 0..1_000 {
            calls.refuse(&guess(number).parse().unwrap(), later);
        }
        assert_eq!(calls.refused.lock().named.len(), NAMED_WORKFLOWS);
        calls.look_up(&executor).await;
        for number in 0..NAMED_WORKFLOWS {
            calls.refuse(&guess(number).parse().unwrap(), later);
        }
        calls.refuse(&real, later);
        let refused = calls.refused(&real).unwrap();
        assert_eq!((refused.unauthorized, refused.last_at), (2, later));
        calls.look_up(&executor).await;
        {
            let refused = calls.refused.lock();
            assert_eq!((refused.named.len(), refused.known.len()), (0, 1));
        }
        assert_eq!(calls.refused(&real), Some(refused));
    }
}
