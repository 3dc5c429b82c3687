//! Stores that one process opens, and their parts.
//!
//! [`RecordStore`] is a whole store around [`Records`] of your own, which only read and write.
//! [`MemoryStore`](crate::memory::MemoryStore) is one.
//!
//! # Parts
//!
//! A store that keeps less in memory, such as webhook-sled's `SledStore`, takes the parts instead.
//! They decide and index. The store around them locks them, persists what they return, and wakes workers. None does I/O.
//! All but [`EventLog`], which has a lock of its own, are plain data.
//!
//! | part | what it holds |
//! |---|---|
//! | [`LiveRuns`] | the queued and running runs, and every decision about them |
//! | [`WebhookIndex`] | the webhooks, by id and by token digest |
//! | [`DueIndex`] | the pending deliveries, by due time |
//! | [`KeyHolder`] | an idempotency key, as a record of the store's own |
//! | [`CallRates`] | the rates of the calls of webhooks |
//! | [`EventLog`] | the newest events |
//! | [`CallLog`] | the newest calls of each webhook |
//! | [`RunLog`] | the newest lines of a run's log |
//! | [`wait_for_work`] | waiting for a claim to be worthwhile |
//!
//! # Live runs
//!
//! Claims, leases, fences, concurrency, overlap rules and due times are the same in every store of this kind, so
//! [`LiveRuns`] decides all of them. An operation goes like this:
//!
//! ```text
//!  lock ── LiveRuns decides and changes ── persist the records that it returned ── durable? ── commit the new runs
//!                    │                                                               │
//!                    └─ a record is missing: read it, provide it, ask again          └─ no: forget the new runs
//! ```
//!
//! A new run cannot be claimed before it is [committed](LiveRuns::commit).

pub(crate) mod buckets;
mod call_contents;
mod call_log;
pub(crate) mod call_table;
mod due_index;
mod event_log;
mod idempotency_index;
mod live;
mod records;
mod run_log;
mod wait;
mod webhook_index;

pub use buckets::CallRates;
pub use call_log::CallLog;
pub use due_index::{ClaimedDelivery, DueIndex};
pub use event_log::EventLog;
pub use idempotency_index::{KeyHolder, KeyMeaning};
pub use live::outcome::{Admission, ClaimedRuns, LiveCancel, NotAdmitted};
pub use live::runs::{ListedRun, LiveRuns};
pub use records::{KeyRecord, LiveRecords, RecordChange, RecordStore, Records};
pub use run_log::RunLog;
pub use wait::wait_for_work;
pub use webhook_index::WebhookIndex;
