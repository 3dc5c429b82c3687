//! The failure that keeps the store from being written, if there is one.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use webhook_core::store::StoreError;

use crate::error::{comes_of_full_disk, is_full};
use crate::panics::catch;

/// True if the store can be written.
pub(crate) struct Condition {
    /// True if `failure` is set, for the check of each operation. Written with `failure` locked.
    failed: AtomicBool,
    failure: Mutex<Option<Failure>>,
    /// Wakes the writer, which looks whether it can recover.
    wake: Box<dyn Fn() + Send + Sync>,
}

/// Severity of a failure, the mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    /// A write found no room. The database is opened again once there is some.
    Full,
    /// A sync found no room. As above, and all that was to be synced is written again: any part of it may be missing from the
    /// disk.
    FullAtSync,
    /// A thread of the store panicked.
    Panicked,
    /// The disk failed. From then on the system may show content that never reached the disk, so only a restart helps.
    Damaged,
}

/// A failure that keeps the store from being written.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) reason: String,
    pub(crate) severity: Severity,
}

impl Failure {
    /// Lets sled write, and turns its error or panic into a failure.
    pub(crate) fn of_writing<T>(write: impl FnOnce() -> sled::Result<T>) -> Result<T, Self> {
        match catch(write) {
            Ok(Ok(written)) => Ok(written),
            Ok(Err(error)) => {
                let is_full = matches!(&error, sled::Error::Io(error) if is_full(error));
                let severity = if is_full { Severity::Full } else { Severity::Damaged };
                Err(Self { reason: format!("the database cannot be written: {error}"), severity })
            }
            Err(panic) => {
                let reason = format!("the database cannot be written: {panic}");
                Err(Self { reason, severity: Severity::Panicked })
            }
        }
    }

    /// The failure for a read. sled writes while it reads, and refuses all reads after a write that found no room.
    pub(crate) fn of_reading(error: &StoreError) -> Self {
        let severity = if comes_of_full_disk(error) { Severity::Full } else { Severity::Damaged };
        Self { reason: format!("the database cannot be read: {error}"), severity }
    }

    /// The failure for a sync: what is on the disk is unknown, and a second sync would not tell.
    pub(crate) fn of_sync(reason: &str, error: &std::io::Error) -> Self {
        if is_full(error) {
            return Self { reason: format!("{reason}: {error}"), severity: Severity::FullAtSync };
        }
        let reason = format!("{reason}: {error}; restart to continue with the data on disk");
        Self { reason, severity: Severity::Damaged }
    }

    /// Returns true if the database can be opened again in this process.
    pub(crate) fn is_recoverable(&self) -> bool {
        self.severity <= Severity::FullAtSync
    }

    pub(crate) fn error(&self) -> StoreError {
        StoreError::unavailable(self.reason.clone())
    }
}

impl Condition {
    /// A store that can be written. `wake` is called after each failure.
    pub(crate) fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self { failed: AtomicBool::new(false), failure: Mutex::default(), wake: Box::new(wake) }
    }

    pub(crate) fn check(&self) -> Result<(), StoreError> {
        self.failure().map_or(Ok(()), |failure| Err(failure.error()))
    }

    pub(crate) fn failure(&self) -> Option<Failure> {
        if self.failed.load(Ordering::Acquire) { self.failure.lock().clone() } else { None }
    }

    /// Notes a failure; the worst one stays.
    pub(crate) fn fail(&self, failure: Failure) -> Failure {
        let mut present = self.failure.lock();
        let worst = match present.take() {
            Some(present) if present.severity >= failure.severity => present,
            _ => {
                tracing::error!(reason = failure.reason, "the store cannot be written any more");
                failure
            }
        };
        *present = Some(worst.clone());
        self.failed.store(true, Ordering::Release);
        drop(present);
        (self.wake)();
        worst
    }

    /// Forgets the failure after a recovery. Returns whether it could be forgotten: a worse one may have come meanwhile.
    pub(crate) fn recover(&self) -> bool {
        let mut present = self.failure.lock();
        if present.as_ref().is_some_and(|failure| !failure.is_recoverable()) {
            return false;
        }
        *present = None;
        self.failed.store(false, Ordering::Release);
        tracing::info!("the store can be written again");
        true
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::error::store_error;

    #[test]
    fn a_read_that_failed_for_want_of_room_can_be_recovered_from() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let failed = |error| Failure::of_reading(&store_error(sled::Error::Io(error)));
        assert_eq!(failed(full()).severity, Severity::Full);
        let wrapped =
            StoreError::unavailable_because("the record", io::Error::other(store_error(full().into())));
        assert_eq!(Failure::of_reading(&wrapped).severity, Severity::Full);
        assert_eq!(failed(io::ErrorKind::InvalidData.into()).severity, Severity::Damaged);
        assert_eq!(Failure::of_reading(&StoreError::unavailable("closed")).severity, Severity::Damaged);
    }

    #[test]
    fn the_worst_of_several_failures_decides_whether_the_store_can_recover() {
        let failure = |severity| Failure { reason: format!("{severity:?}"), severity };
        let condition = Condition::new(|| {});
        condition.fail(failure(Severity::Full));
        assert_eq!(condition.fail(failure(Severity::FullAtSync)).severity, Severity::FullAtSync);
        assert_eq!(condition.fail(failure(Severity::Full)).severity, Severity::FullAtSync);
        assert!(condition.failure().unwrap().is_recoverable() && condition.recover());
        assert!(condition.check().is_ok());
        condition.fail(failure(Severity::Full));
        condition.fail(failure(Severity::Damaged));
        condition.fail(failure(Severity::Panicked));
        assert!(!condition.recover() && condition.check().unwrap_err().to_string().contains("Damaged"));
    }
}
