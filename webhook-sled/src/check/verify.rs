//! A check of everything in a store at once.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use webhook_core::store::StoreError;

use crate::check::walk::Walk;
use crate::engine::parts::Parts;
use crate::tree::damage::DamagedRecord;

/// Upper bound on the time for which a change waits for a running check.
const STEP: Duration = Duration::from_millis(20);

/// Result of a check of the whole store.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Number of values that were checked.
    pub checked: u64,
    /// Damaged or missing records, at most 1,000 of them.
    pub damaged: Vec<DamagedRecord>,
    /// Number of damaged records in all.
    pub damaged_count: u64,
}

impl VerifyReport {
    /// Returns true if nothing is damaged or missing.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.damaged_count == 0
    }
}

/// Checks everything, while the store is used.
pub(crate) async fn verify(parts: &Arc<Parts>) -> Result<VerifyReport, StoreError> {
    let mut walk = Walk::new();
    loop {
        let step = move |parts: &Parts| {
            let done = walk.go_on(parts, STEP)?;
            Ok((walk, done))
        };
        let (rest, done) = parts.work_after(parts.checkpoints.newest(), step).await?;
        walk = rest;
        if done == ControlFlow::Break(()) {
            break;
        }
    }
    let damaged = parts.damage().records();
    Ok(VerifyReport { checked: walk.checked, damaged, damaged_count: parts.damage().count() })
}
