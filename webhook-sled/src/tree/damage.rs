//! Damaged records of the database: set aside, logged once, and counted.

use std::collections::BTreeMap;
use std::fmt;

use metrics::{counter, describe_counter, describe_gauge, gauge};
use parking_lot::Mutex;
use webhook_core::store::StoreError;

use crate::format::keys;

/// Upper bound on the damaged records kept by name. Further ones are only counted.
const MOST_NAMED: usize = 1_000;

/// Kind of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum RecordKind {
    /// Record of a webhook.
    Webhook,
    /// A run that has not ended.
    LiveRun,
    /// A run that has ended.
    EndedRun,
    /// An entry by which ended runs are listed.
    Index,
    /// An idempotency key.
    IdempotencyKey,
    /// A notification to one recipient.
    Delivery,
    /// A part of a run's log.
    Log,
    /// A part of a record that is too large for one value.
    Part,
    /// A record that the store keeps for itself.
    Other,
}

impl RecordKind {
    /// The kind of the record under a key.
    pub(crate) fn of(key: &[u8]) -> Self {
        match key.first().copied() {
            Some(keys::WEBHOOK | keys::LAST_USE) => Self::Webhook,
            Some(keys::LIVE | keys::CLAIMS) => Self::LiveRun,
            Some(keys::ENDED) => Self::EndedRun,
            Some(keys::BY_WORKFLOW | keys::BY_WEBHOOK) => Self::Index,
            Some(keys::IDEMPOTENCY | keys::EXPIRY | keys::KEPT) => Self::IdempotencyKey,
            Some(keys::DELIVERY | keys::DELIVERY_RUN | keys::PENDING) => Self::Delivery,
            Some(keys::LOG) => Self::Log,
            Some(keys::TAIL | keys::PARAMETERS) => Self::Part,
            _ => Self::Other,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::LiveRun => "live run",
            Self::EndedRun => "ended run",
            Self::Index => "index of ended runs",
            Self::IdempotencyKey => "idempotency key",
            Self::Delivery => "delivery",
            Self::Log => "log",
            Self::Part => "part of a large record",
            Self::Other => "record",
        }
    }
}

impl fmt::Display for RecordKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A record that is damaged or missing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DamagedRecord {
    /// Kind of the record.
    pub kind: RecordKind,
    /// Its key in the database, in hexadecimal. Empty when the fault concerns a whole kind.
    pub key: String,
    /// Fault, in one line.
    pub reason: String,
}

impl fmt::Display for DamagedRecord {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, key, reason } = self;
        if key.is_empty() {
            write!(formatter, "{kind}: {reason}")
        } else {
            write!(formatter, "{kind} {key}: {reason}")
        }
    }
}

/// The known damaged records.
#[derive(Debug, Default)]
pub(crate) struct Damage(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    records: BTreeMap<(RecordKind, Vec<u8>), String>,
    unnamed: u64,
}

impl Damage {
    pub(crate) fn new() -> Self {
        describe_counter!(
            "webhook_store_damaged_total",
            "Records that were found damaged or missing, by kind"
        );
        describe_gauge!("webhook_store_damaged", "Records that are known to be damaged or missing");
        gauge!("webhook_store_damaged").set(0);
        Self::default()
    }

    /// Notes a damaged record, and logs it when it is new.
    pub(crate) fn note(&self, kind: RecordKind, key: &[u8], error: &StoreError) {
        // sled's own words tell only its authors more.
        let cause = std::error::Error::source(error).filter(|cause| !cause.is::<sled::Error>());
        let reason = cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
        self.note_because(kind, key, reason);
    }

    pub(crate) fn note_because(&self, kind: RecordKind, key: &[u8], reason: impl Into<String>) {
        let reason = reason.into().lines().next().unwrap_or_default().to_owned();
        let mut known = self.0.lock();
        if known.records.contains_key(&(kind, key.to_vec())) {
            return;
        }
        counter!("webhook_store_damaged_total", "kind" => kind.name()).increment(1);
        if known.records.len() >= MOST_NAMED {
            known.unnamed += 1;
        } else {
            tracing::error!(kind = kind.name(), key = hex(key), reason, "a record is damaged and set aside");
            known.records.insert((kind, key.to_vec()), reason);
        }
        gauge!("webhook_store_damaged").set(known.records.len() as f64 + known.unnamed as f64);
    }

    /// Returns the content of a record, or `None` if it is damaged and set aside.
    pub(crate) fn set_aside<T>(
        &self,
        key: &[u8],
        read: Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        match read {
            Ok(content) => Ok(Some(content)),
            Err(error @ StoreError::Corrupt { .. }) => {
                self.note(RecordKind::of(key), key, &error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) fn count(&self) -> u64 {
        let known = self.0.lock();
        known.records.len() as u64 + known.unnamed
    }

    pub(crate) fn records(&self) -> Vec<DamagedRecord> {
        let known = self.0.lock();
        let record = |((kind, key), reason): (&(RecordKind, Vec<u8>), &String)| DamagedRecord {
            kind: *kind,
            // A key of one byte stands for a whole kind.
            key: if key.len() > 1 { hex(key) } else { String::new() },
            reason: reason.clone(),
        };
        known.records.iter().map(record).collect()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
