//! A store for inbound webhook triggers that many machines share, on PostgreSQL 13 or newer.
//!
//! ```no_run
//! use webhook_postgres::PostgresStore;
//! # async fn open() -> Result<(), Box<dyn std::error::Error>> {
//! let store = PostgresStore::open("postgres://app@db.example.com/app".parse()?).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Every promise of [`webhook_core::store`] holds across all processes that open the same schema. The database's clock
//! decides leases and due times; times that are shown come from the callers.
//!
//! # The path of a call
//!
//! ```text
//! enqueue ─┐            one statement for all that wait           ┌─ answers
//! enqueue ─┼─ group ──▶ enqueue_1(arrays) ── commit, one flush ──▶┤
//! enqueue ─┘            rows of `live`, one NOTIFY                └─▶ every process: claim_1 (SKIP LOCKED) ─▶ settle_1:
//!                                                                     rows move from `live` to `history`
//! ```
//!
//! A call that comes alone is one round trip. Calls that come while a statement is under way share the next one, so
//! groups grow with the load.
//!
//! # Poolers
//!
//! No statement has a name on its connection and no setting outlives its transaction, so PgBouncer may pool by
//! transaction. `LISTEN` needs a connection of its own and does not work there: `listen=db.example.com:5432` names the
//! address of the database itself for that one connection. With `listen=off` work is looked for four times a second
//! instead, and events cannot be read.
//!
//! # Roles
//!
//! The role that opens the store first, or first after an upgrade, needs `CREATE` on the database. Afterwards a role
//! does that has `USAGE` on the schema, `SELECT, INSERT, UPDATE, DELETE` on its tables and `EXECUTE` on its functions.

mod backlog;
mod database;
mod deliveries;
mod endpoint;
mod enqueue;
mod failure;
mod group;
mod listener;
mod migrations;
mod options;
mod reading;
mod record;
mod ring;
mod store;
mod telling;
mod tls;
mod waiting;
mod webhooks;
mod working;

pub use endpoint::InvalidOptions;
pub use options::PostgresOptions;
pub use store::PostgresStore;
pub use tokio_postgres;
