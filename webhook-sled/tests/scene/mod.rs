//! Fixtures for the tests of this store.

#![allow(dead_code, unreachable_pub, reason = "each file of tests is a crate that uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use std::{fs, io};

use serde_json::json;
use webhook_core::clock::{Clock, SystemClock};
use webhook_core::id::{DeliveryId, RunId, WebhookId};
use webhook_core::notifier::{Delivery, DeliveryOutcome};
use webhook_core::parameters::{EffectiveParameter, EffectiveParameters, Source};
use webhook_core::run::{Caller, Ending, Run, RunParameters};
use webhook_core::store::{
    Claim, ClaimRequest, DeliveryClaimRequest, DeliverySettlement, Enqueue, Enqueued, Idempotency, Outcome,
    Settled, Settlement, Store, StoreError,
};
use webhook_core::token::Token;
use webhook_core::webhook::{Channel, EventKind, Webhook, WebhookSettings};
use webhook_sled::testing::{Disk, WrapDisk};
use webhook_sled::{OpenError, SledOptions, SledStore};

pub const LEASE: Duration = Duration::from_secs(300);

pub fn now() -> SystemTime {
    SystemClock.now()
}

/// Returns options with a small reserve, so tests do not depend on the free space of this disk.
pub fn options() -> SledOptions {
    SledStore::options().with_reserve_bytes(1 << 20).with_cache_bytes(4 << 20)
}

pub fn open(path: &Path) -> SledStore {
    options().open(path).unwrap()
}

pub async fn webhook(store: &SledStore) -> Webhook {
    webhook_with(store, WebhookSettings::default()).await
}

/// Creates a webhook with a retention of `days` days.
pub async fn webhook_kept_for(store: &SledStore, days: u32) -> Webhook {
    let mut settings = WebhookSettings::default();
    settings.retention_days = Some(days);
    webhook_with(store, settings).await
}

async fn webhook_with(store: &SledStore, settings: WebhookSettings) -> Webhook {
    let (id, workflow) = (WebhookId::generate(now()), "report/sales".parse().unwrap());
    let webhook = Webhook::new(id, workflow, settings, &Token::generate(), None, now());
    store.create_webhook(webhook.clone()).await.unwrap();
    webhook
}

pub fn request(webhook: &Webhook, text: &str) -> Enqueue {
    let id = RunId::generate(now());
    let value = EffectiveParameter::new(json!(text), Source::Body);
    let effective: EffectiveParameters = [("text".to_owned(), value)].into_iter().collect();
    let parameters = RunParameters::seal(effective, None, id).unwrap();
    let workflow = webhook.workflow.clone();
    Enqueue::new(Run::new(id, workflow, webhook.id, parameters, 1, Caller::default(), now()))
}

pub fn keyed(webhook: &Webhook, key: &str) -> Enqueue {
    let idempotency = Idempotency::new(key, [1; 32], Duration::from_secs(3_600));
    request(webhook, key).with_idempotency(Some(idempotency))
}

pub async fn enqueue(store: &SledStore, request: Enqueue) -> Result<Arc<Run>, StoreError> {
    match store.enqueue(request).await? {
        Enqueued::Created { run, .. } | Enqueued::Replayed(run) => Ok(run),
        other => panic!("{other:?}"),
    }
}

pub async fn claim(store: &SledStore, limit: usize) -> Vec<Claim> {
    store.claim(ClaimRequest::new(limit, LEASE, now())).await.unwrap()
}

pub async fn succeed(store: &SledStore, run: &Run, deliveries: Vec<Delivery>) -> Arc<Run> {
    let ending = Ending::Succeeded { summary: Some("done".to_owned()), artifacts: Vec::new() };
    let settlement = Settlement::new(run.id(), run.fence(), Outcome::Ended { ending, deliveries }, now());
    match store.settle(vec![settlement]).await.unwrap().remove(0) {
        Settled::Applied(run) => run,
        other => panic!("{other:?}"),
    }
}

/// Claims up to nine due deliveries.
pub async fn claim_deliveries(store: &SledStore) -> Vec<Delivery> {
    store.claim_deliveries(DeliveryClaimRequest::new(9, LEASE)).await.unwrap()
}

/// Records the outcome of one try of a delivery, given as it was claimed.
pub async fn settle_delivery(
    store: &SledStore,
    claimed: &Delivery,
    outcome: DeliveryOutcome,
) -> Result<(), StoreError> {
    store.settle_deliveries(vec![DeliverySettlement::new(claimed, outcome)]).await
}

pub fn delivery(run: RunId) -> Delivery {
    let id = DeliveryId::generate(now());
    Delivery::new(id, run, Channel::EMAIL, "a@example.com", EventKind::Success, now())
}

/// Script of a disk.
#[derive(Default)]
pub struct Faults {
    pub syncs: AtomicU64,
    /// Number of writes of the journal.
    pub writes: AtomicU64,
    /// Number of syncs that were begun.
    pub begun: AtomicU64,
    pub sync_fails: AtomicBool,
    pub sync_panics: AtomicBool,
    /// Number of syncs after which they fail; 0 is never.
    pub sync_fails_after: AtomicU64,
    /// Syncs block while this is set.
    pub sync_hangs: AtomicBool,
    /// The disk reports no free space.
    pub no_room: AtomicBool,
    /// Writes of the journal fail because the disk is full.
    pub writes_fail: AtomicBool,
    /// Writes of the database fail because the disk is full.
    pub applying_fails: AtomicBool,
    /// Syncs fail because the disk is full, which is reported later than by writes.
    pub sync_is_full: AtomicBool,
}

pub struct FaultyDisk {
    inner: Box<dyn Disk>,
    faults: Arc<Faults>,
}

impl FaultyDisk {
    fn syncing(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.faults.begun.fetch_add(1, Ordering::SeqCst);
        while self.faults.sync_hangs.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        assert!(!self.faults.sync_panics.load(Ordering::SeqCst), "as it is told");
        let last = self.faults.sync_fails_after.load(Ordering::SeqCst);
        let is_over = last > 0 && self.faults.syncs.load(Ordering::SeqCst) >= last;
        if is_over || self.faults.sync_fails.load(Ordering::SeqCst) {
            return Err(io::Error::from_raw_os_error(5));
        }
        if self.faults.sync_is_full.load(Ordering::SeqCst) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        sync()?;
        self.faults.syncs.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

impl Disk for FaultyDisk {
    fn sync(&self, file: &fs::File, path: &Path) -> io::Result<()> {
        // The superblock is synced in the background, now and then.
        let is_superblock = path.file_name().is_some_and(|name| name == "webhook-store");
        if is_superblock { self.inner.sync(file, path) } else { self.syncing(|| self.inner.sync(file, path)) }
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.inner.sync_folder(folder)
    }

    fn free_bytes(&self, folder: &Path) -> io::Result<u64> {
        if self.faults.no_room.load(Ordering::SeqCst) { Ok(0) } else { self.inner.free_bytes(folder) }
    }

    fn before_apply(&self) -> io::Result<()> {
        if self.faults.applying_fails.load(Ordering::SeqCst) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        self.inner.before_apply()
    }

    fn before_write(&self) -> io::Result<()> {
        if self.faults.writes_fail.load(Ordering::SeqCst) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        self.faults.writes.fetch_add(1, Ordering::SeqCst);
        self.inner.before_write()
    }
}

pub fn open_faulty(path: &Path, options: SledOptions) -> Result<(SledStore, Arc<Faults>), OpenError> {
    let faults = Arc::new(Faults::default());
    let shared = faults.clone();
    let wrap: WrapDisk = Box::new(move |inner| Box::new(FaultyDisk { inner, faults: shared }));
    let store = webhook_sled::testing::open_with_disk(path, options, wrap)?;
    // Syncs of the opening do not count.
    faults.syncs.store(0, Ordering::SeqCst);
    Ok((store, faults))
}

impl Faults {
    /// Waits for a sync that begins after this call.
    pub fn next_sync(&self) -> impl Future<Output = ()> {
        let before = self.begun.load(Ordering::SeqCst);
        async move {
            while self.begun.load(Ordering::SeqCst) == before {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Copies a folder with its content.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
