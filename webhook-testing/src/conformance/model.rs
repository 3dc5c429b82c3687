//! Random operations on the store and on a model of it, which is too simple to be wrong.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::scene::*;
use webhook_core::id::{RunId, WebhookId};
use webhook_core::run::RunState;
use webhook_core::store::{Cancelled, Enqueued, Outcome, Renewal, Renewed, RunQuery, Settled, Store};
use webhook_core::webhook::{OnOverlap, Webhook};

const STEPS: usize = 600;

/// After six hundred random operations, the store equals a simple model.
///
/// The seed is in every message; `WEBHOOK_CONFORMANCE_SEED` repeats it.
pub async fn agrees_with_a_simple_model(store: Arc<dyn Store>) {
    let given = std::env::var("WEBHOOK_CONFORMANCE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = given.unwrap_or_else(rand::random);
    let mut trial = Trial::new(store, seed).await;
    for _ in 0..STEPS {
        trial.step().await;
    }
    trial.compare().await;
}

struct Trial {
    store: Arc<dyn Store>,
    random: StdRng,
    seed: u64,
    webhooks: Vec<Webhook>,
    runs: BTreeMap<RunId, Expected>,
    keys: BTreeMap<(WebhookId, String), (u8, RunId)>,
}

/// Expected state of a run.
#[derive(Debug, Clone, PartialEq)]
struct Expected {
    webhook: WebhookId,
    state: RunState,
    attempt: u32,
    fence: u64,
    asked_to_stop: bool,
}

impl Trial {
    async fn new(store: Arc<dyn Store>, seed: u64) -> Self {
        let webhooks = vec![
            webhook(&*store).await,
            bounded(&*store, 2, OnOverlap::Queue).await,
            bounded(&*store, 1, OnOverlap::Queue).await,
        ];
        let (runs, keys) = (BTreeMap::new(), BTreeMap::new());
        Self { store, random: StdRng::seed_from_u64(seed), seed, webhooks, runs, keys }
    }

    async fn step(&mut self) {
        match self.random.random_range(0..100) {
            0..30 => self.enqueue().await,
            30..55 => self.claim().await,
            55..80 => self.settle().await,
            80..87 => self.cancel().await,
            87..92 => self.renew().await,
            92..98 => self.list().await,
            _ => self.compare().await,
        }
    }

    async fn enqueue(&mut self) {
        let webhook = self.webhooks[self.random.random_range(0..self.webhooks.len())].clone();
        let (key, fingerprint) =
            (format!("key {}", self.random.random_range(0..20)), self.random.random_range(0..2));
        let with_key = self.random.random_bool(0.3);
        let request = if with_key { keyed(&webhook, &key, fingerprint) } else { request(&webhook) };
        let id = request.run.id();
        let known = self.keys.get(&(webhook.id, key.clone())).filter(|_| with_key).copied();
        let answer = self.store.enqueue(request).await.must("enqueue a run");
        match (answer, known) {
            (Enqueued::Created { run, .. }, None) => {
                assert_eq!(run.id(), id, "seed {}: the created run", self.seed);
                let state = RunState::Queued;
                let run = Expected { webhook: webhook.id, state, attempt: 0, fence: 0, asked_to_stop: false };
                self.runs.insert(id, run);
                if with_key {
                    self.keys.insert((webhook.id, key), (fingerprint, id));
                }
            }
            (Enqueued::Replayed(run), Some((known, first))) if known == fingerprint => {
                assert_eq!(run.id(), first, "seed {}: the replayed run", self.seed);
            }
            (Enqueued::KeyMismatch, Some((known, _))) if known != fingerprint => {}
            (answer, known) => panic!("seed {}: a key that stood for {known:?} gave {answer:?}", self.seed),
        }
    }

    async fn claim(&mut self) {
        let limit = self.random.random_range(1..5);
        let claims = claim(&*self.store, limit).await;
        let room: usize = self.webhooks.iter().map(|webhook| self.startable(webhook)).sum();
        assert_eq!(claims.len(), room.min(limit), "seed {}: how many were claimed", self.seed);
        for claim in claims {
            let seed = self.seed;
            let webhook = self.webhooks.iter().find(|webhook| webhook.id == claim.run.webhook_id());
            assert!(
                webhook.is_some_and(|webhook| self.startable(webhook) > 0),
                "seed {seed}: over the bound"
            );
            let run = self.runs.get_mut(&claim.run.id()).must("claim only what was recorded");
            assert_eq!(run.state, RunState::Queued, "seed {seed}: only a queued run may be claimed");
            assert!(claim.run.fence() > run.fence, "seed {seed}: a fence must grow");
            (run.state, run.fence, run.attempt) = (RunState::Running, claim.run.fence(), run.attempt + 1);
        }
    }

    /// Returns the number of queued runs of a webhook that may start now.
    fn startable(&self, webhook: &Webhook) -> usize {
        let count = |state| self.of(webhook.id).filter(|run| run.state == state).count();
        let room = match webhook.settings.concurrency.bound() {
            Some(bound) => (bound as usize).saturating_sub(count(RunState::Running)),
            None => usize::MAX,
        };
        room.min(count(RunState::Queued))
    }

    fn of(&self, webhook: WebhookId) -> impl Iterator<Item = &Expected> {
        self.runs.values().filter(move |run| run.webhook == webhook)
    }

    async fn settle(&mut self) {
        let Some((id, before)) = self.any_live() else { return };
        let outcome = match self.random.random_range(0..4) {
            0 => success(),
            1 => failure(),
            2 => retry(Duration::ZERO),
            _ => Outcome::HandBack,
        };
        let stale = self.random.random_bool(0.2) || before.state != RunState::Running;
        let run = get(&*self.store, id).await;
        let fence = run.fence() + u64::from(stale);
        let settled = settle_with(&*self.store, id, fence, outcome.clone()).await;
        let after = match (&outcome, before.asked_to_stop) {
            _ if stale => before.state,
            (Outcome::Ended { ending, .. }, _) => run.ended(ending.clone(), now()).must("end a run").state(),
            (_, true) => RunState::Cancelled,
            (_, false) => RunState::Queued,
        };
        let applied = matches!(settled, Settled::Applied(_));
        assert_eq!(applied, !stale, "seed {}: settling run {id} with {outcome:?}", self.seed);
        let handed_back = after == RunState::Queued && !stale && outcome == Outcome::HandBack;
        if let Some(expected) = self.runs.get_mut(&id) {
            expected.state = after;
            expected.attempt -= u32::from(handed_back);
        }
    }

    async fn cancel(&mut self) {
        let Some((id, before)) = self.any() else { return };
        let answer = self.store.cancel_run(id, now()).await.must("cancel a run");
        let expected = match before.state {
            RunState::Queued => matches!(answer, Cancelled::Ended(_)),
            RunState::Running => matches!(answer, Cancelled::Requested(_)),
            _ => matches!(answer, Cancelled::TooLate(_)),
        };
        assert!(expected, "seed {}: cancelling {before:?} gave {answer:?}", self.seed);
        if let Some(run) = self.runs.get_mut(&id) {
            match before.state {
                RunState::Queued => run.state = RunState::Cancelled,
                RunState::Running => run.asked_to_stop = true,
                _ => {}
            }
        }
    }

    async fn renew(&mut self) {
        let Some((id, before)) = self.any() else { return };
        let renewal = Renewal::new(id, before.fence, None);
        let renewed = self.store.renew(vec![renewal], LONG).await.must("renew a claim");
        let asked = match renewed[0] {
            Renewed::Held { cancel } => Some(cancel.is_some()),
            Renewed::Lost => None,
            ref other => panic!("seed {}: renewing {before:?} gave {other:?}", self.seed),
        };
        let expected = (before.state == RunState::Running).then_some(before.asked_to_stop);
        assert_eq!(asked, expected, "seed {}: renewing {before:?}", self.seed);
    }

    async fn list(&mut self) {
        let webhook = self.random.random_bool(0.5).then(|| self.webhooks[self.random.random_range(0..3)].id);
        let state = self.random.random_bool(0.5).then(|| RunState::ALL[self.random.random_range(0..7)]);
        let limit = self.random.random_range(1..40);
        let query = RunQuery::default().of_webhook(webhook).in_state(state).limit(limit);
        let matching = self.runs.iter().rev().filter(|(_, run)| {
            webhook.is_none_or(|webhook| webhook == run.webhook)
                && state.is_none_or(|state| state == run.state)
        });
        let expected: Vec<RunId> = matching.map(|(id, _)| *id).collect();
        assert_eq!(list(&*self.store, query.clone()).await, expected, "seed {}: {query:?}", self.seed);
    }

    /// Compares all runs of store and model.
    async fn compare(&self) {
        let mut stored = BTreeMap::new();
        for id in list(&*self.store, RunQuery::default().limit(200)).await {
            let run = get(&*self.store, id).await;
            let expected = Expected {
                webhook: run.webhook_id(),
                state: run.state(),
                attempt: run.attempt(),
                fence: run.fence(),
                asked_to_stop: run.cancel_requested().is_some(),
            };
            stored.insert(id, expected);
        }
        assert_eq!(stored, self.runs, "seed {}: the store and the model", self.seed);
        let count = |state| self.runs.values().filter(|run| run.state == state).count() as u64;
        let health = self.store.health().await.must("say how it is");
        let expected = (count(RunState::Queued), count(RunState::Running));
        assert_eq!((health.queued, health.running), expected, "seed {}: health", self.seed);
    }

    fn any(&mut self) -> Option<(RunId, Expected)> {
        let index = self.random.random_range(0..self.runs.len().max(1));
        self.runs.iter().nth(index).map(|(id, run)| (*id, run.clone()))
    }

    fn any_live(&mut self) -> Option<(RunId, Expected)> {
        let live: Vec<_> = self.runs.iter().filter(|(_, run)| !run.state.is_ended()).collect();
        let index = self.random.random_range(0..live.len().max(1));
        live.get(index).map(|(id, run)| (**id, (*run).clone()))
    }
}
