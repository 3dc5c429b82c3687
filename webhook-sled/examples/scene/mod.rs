//! Fixtures for the measurements of this store.

// Each example uses a part of this.
#![allow(dead_code, reason = "each example uses a part of it")]

use std::time::{Duration, SystemTime};

use webhook_core::id::{RunId, WebhookId};
use webhook_core::parameters::{EffectiveParameter, EffectiveParameters, Source};
use webhook_core::run::{Caller, Ending, Run, RunParameters};
use webhook_core::store::{Claim, ClaimRequest, Enqueue, Outcome, Settlement, Store, StoreError};
use webhook_core::token::Token;
use webhook_core::webhook::{Webhook, WebhookSettings};
use webhook_sled::SledStore;

/// Lease of a run.
const LEASE: Duration = Duration::from_secs(600);

/// Creates the webhook that is called.
pub(crate) async fn create_webhook(store: &SledStore) -> Result<Webhook, Box<dyn std::error::Error>> {
    let now = SystemTime::now();
    let (id, workflow) = (WebhookId::generate(now), "report/sales".parse()?);
    let webhook = Webhook::new(id, workflow, WebhookSettings::default(), &Token::generate(), None, now);
    store.create_webhook(webhook.clone()).await?;
    Ok(webhook)
}

/// Builds a call with two parameters.
pub(crate) fn request(webhook: &Webhook) -> Enqueue {
    request_of(webhook, "EMEA")
}

/// Builds a call with two parameters, one of which is this text.
pub(crate) fn request_of(webhook: &Webhook, text: &str) -> Enqueue {
    request_at(webhook, text, SystemTime::now())
}

/// Builds such a call at this time.
pub(crate) fn request_at(webhook: &Webhook, text: &str, now: SystemTime) -> Enqueue {
    let id = RunId::generate(now);
    let region = EffectiveParameter::new(text, Source::Query);
    let date = EffectiveParameter::new("2026-01-31", Source::Body);
    let effective: EffectiveParameters =
        [("region".to_owned(), region), ("date".to_owned(), date)].into_iter().collect();
    let parameters = RunParameters::seal(effective, None, id).unwrap_or_default();
    Enqueue::new(Run::new(id, webhook.workflow.clone(), webhook.id, parameters, 1, Caller::default(), now))
}

/// Claims at most `limit` runs, settles them as succeeded, and returns their number.
pub(crate) async fn execute(store: &SledStore, limit: usize) -> Result<usize, StoreError> {
    execute_with_log(store, limit, "").await
}

/// Executes runs in the same way, each with this log.
pub(crate) async fn execute_with_log(
    store: &SledStore,
    limit: usize,
    log: &str,
) -> Result<usize, StoreError> {
    let now = SystemTime::now();
    let claims = store.claim(ClaimRequest::new(limit, LEASE, now)).await?;
    let settlement = |claim: &Claim| {
        let ending = Ending::Succeeded { summary: Some("42 rows".to_owned()), artifacts: Vec::new() };
        let outcome = Outcome::Ended { ending, deliveries: Vec::new() };
        Settlement::new(claim.run.id(), claim.run.fence(), outcome, now)
    };
    if !log.is_empty() {
        let append = |claim: &Claim| {
            let (store, run) = (store.clone(), claim.run.clone());
            let log = log.to_owned();
            tokio::spawn(async move { store.append_log(run.id(), run.fence(), log).await })
        };
        for appended in claims.iter().map(append).collect::<Vec<_>>() {
            appended.await.map_err(|error| StoreError::unavailable_because("a task ended", error))??;
        }
    }
    if !claims.is_empty() {
        store.settle(claims.iter().map(settlement).collect()).await?;
    }
    Ok(claims.len())
}

/// Returns the peak of this process's resident memory, as the system reports it.
pub(crate) fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("?").trim().to_owned()
}
