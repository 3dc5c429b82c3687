//! Checking everything in a store at once.

use std::ops::ControlFlow;
use std::time::Duration;

use webhook_core::store::StoreError;

use crate::check::walk::Walk;
use crate::engine::shared::Shared;
use crate::store::SledStore;
use crate::tree::damage::DamagedRecord;

/// Longest wait of a change for a check under way.
const STEP: Duration = Duration::from_millis(20);

/// The result of a check of the whole store.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Number of values that were checked.
    pub checked: u64,
    /// The records that are damaged or missing, at most 1,000 of them.
    pub damaged: Vec<DamagedRecord>,
    /// Number of damaged records in all.
    pub damaged_count: u64,
}

impl VerifyReport {
    /// Whether nothing is damaged or missing.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.damaged_count == 0
    }
}

impl SledStore {
    /// Checks everything in the store, which can be used meanwhile. Each record must be readable, indexes and records must
    /// belong together, and no record may be missing or outdated.
    ///
    /// A thread does the same slowly, after the opening and then once a day. The report includes what that thread and reads
    /// found before.
    ///
    /// # Errors
    /// [`StoreError`] when the check cannot go on, such as when the store cannot be read any more.
    pub async fn verify(&self) -> Result<VerifyReport, StoreError> {
        let shared = self.shared();
        let mut walk = Walk::new();
        loop {
            let step = move |shared: &Shared| {
                let done = walk.go_on(shared, STEP)?;
                Ok((walk, done))
            };
            let (rest, done) = shared.work_after(shared.backlog.newest(), step).await?;
            walk = rest;
            if done == ControlFlow::Break(()) {
                break;
            }
        }
        let damaged = shared.damage.records();
        Ok(VerifyReport { checked: walk.checked, damaged, damaged_count: shared.damage.count() })
    }
}
