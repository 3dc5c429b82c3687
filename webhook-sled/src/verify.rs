//! Checking everything in a store at once.

use std::ops::ControlFlow;
use std::time::Duration;

use webhook_core::store::StoreError;

use crate::check::Walk;
use crate::damage::DamagedRecord;
use crate::shared::Shared;
use crate::store::SledStore;

/// For how long changes wait at once while a check is under way.
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
    /// Checks everything in the store: that each record can be read, that indexes and records belong together, and that
    /// no record is missing or older than it was. The store can be used meanwhile.
    ///
    /// The same is done slowly in the background after the store was opened, and once a day from then on. What is found
    /// there or when something is read counts too.
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
