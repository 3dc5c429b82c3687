//! The schema and its versions.

use deadpool_postgres::Object;

use crate::database::Database;
use crate::failure::Failure;
use crate::record::{at, int, text};

/// One version of the schema.
#[derive(Debug, Clone)]
pub(crate) struct Migration {
    /// Counts from 1.
    pub(crate) version: u32,
    /// The oldest version of the software, by the newest migration it knows, that works with this one in place.
    pub(crate) works_with: u32,
    /// Statements, in which `@S@` is the schema and `@C@` its channel. `@SALT@` is the number that its locks are made
    /// of, and `@ALL@` the key under which all webhooks are counted.
    pub(crate) statements: &'static [&'static str],
}

/// Every version, oldest first.
pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        works_with: 1,
        statements: &[
            include_str!("../migrations/0001_tables.sql"),
            include_str!("../migrations/0001_functions.sql"),
        ],
    },
    Migration { version: 2, works_with: 1, statements: &[include_str!("../migrations/0002_lists.sql")] },
    Migration { version: 3, works_with: 1, statements: &[include_str!("../migrations/0003_events.sql")] },
];

/// The least version of PostgreSQL, as `server_version_num` counts.
const LEAST_SERVER: i32 = 130_000;

/// Brings the schema to the newest of these versions, unless it is there or beyond.
///
/// Migrations are serialized between processes by an advisory lock, each version in a transaction of its own.
pub(crate) async fn migrate(database: &Database, migrations: &[Migration]) -> Result<(), Failure> {
    let mut client = database.client().await?;
    check_server(&client).await?;
    let known = migrations.last().map_or(0, |migration| migration.version);
    for migration in migrations {
        let transaction = client.transaction().await?;
        let lock = format!("SELECT pg_advisory_xact_lock({})", salt(database.schema()) ^ 1 << 62);
        transaction.batch_execute(&lock).await?;
        let sql = "SELECT 1::integer FROM pg_tables WHERE schemaname = $1 AND tablename = 'migrations'";
        let there = transaction.query_typed(sql, &[text(&database.schema().to_owned())]).await?;
        if there.is_empty() {
            let create = "CREATE SCHEMA IF NOT EXISTS @S@;
                CREATE TABLE @S@.migrations (version integer PRIMARY KEY, works_with integer NOT NULL,
                    at timestamptz NOT NULL DEFAULT now())";
            transaction.batch_execute(&database.sql(create)).await?;
        }
        let sql = "SELECT coalesce(max(version), 0), coalesce(max(works_with), 0) FROM @S@.migrations";
        let rows = transaction.query_typed(&database.sql(sql), &[]).await?;
        let row = rows.first().ok_or_else(|| Failure::Corrupt("no version of the schema".to_owned()))?;
        let (found, works_with): (i32, i32) = (at(row, 0)?, at(row, 1)?);
        let (found, works_with) = (found.unsigned_abs(), works_with.unsigned_abs());
        if works_with > known {
            return Err(Failure::Newer { found, known });
        }
        if found >= migration.version {
            continue;
        }
        for statements in migration.statements {
            transaction.batch_execute(&filled(statements, database.schema())).await?;
        }
        let insert = database.sql("INSERT INTO @S@.migrations (version, works_with) VALUES ($1, $2)");
        let numbers = (migration.version.cast_signed(), migration.works_with.cast_signed());
        transaction.query_typed(&insert, &[int(&numbers.0), int(&numbers.1)]).await?;
        transaction.commit().await?;
    }
    Ok(())
}

async fn check_server(client: &Object) -> Result<(), Failure> {
    let sql = "SELECT current_setting('server_version_num')::integer, current_setting('server_encoding')";
    let rows = client.query_typed(sql, &[]).await?;
    let row = rows.first().ok_or_else(|| Failure::Corrupt("no version of PostgreSQL".to_owned()))?;
    let (version, encoding): (i32, String) = (at(row, 0)?, at(row, 1)?);
    if version < LEAST_SERVER {
        return Err(Failure::Corrupt(format!("PostgreSQL 13 or newer is needed, and this is {version}")));
    }
    if encoding != "UTF8" {
        return Err(Failure::Corrupt(format!("the database's encoding must be UTF8, and it is {encoding}")));
    }
    Ok(())
}

fn filled(statements: &str, schema: &str) -> String {
    statements
        .replace("@S@", schema)
        .replace("@C@", &format!("'{schema}'"))
        .replace("@SALT@", &format!("{}::bigint", salt(schema)))
        .replace("@ALL@", "'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid")
}

/// A number for the locks of one schema, so that two stores in one database do not wait for each other.
fn salt(schema: &str) -> i64 {
    // FNV-1a: stable over versions, which the hasher of std does not promise.
    let hash = schema.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    (hash >> 2).cast_signed()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use futures_util::StreamExt;
    use tokio_postgres::AsyncMessage;
    use webhook_core::id::{RunId, WebhookId};
    use webhook_core::run::{Caller, Run, RunParameters};
    use webhook_core::store::{Enqueue, Store, StoreError};
    use webhook_core::token::Token;
    use webhook_core::webhook::Webhook;
    use webhook_testing::conformance;
    use webhook_testing::postgres::PrivatePostgres;

    use super::*;
    use crate::options::PostgresOptions;
    use crate::store::PostgresStore;

    /// The newest version that there is.
    const NEWEST: u32 = MIGRATIONS[MIGRATIONS.len() - 1].version;
    /// An additive version, as a later release may have it.
    const ADDITIVE: Migration = Migration {
        version: NEWEST + 1,
        works_with: 1,
        statements: &[
            "ALTER TABLE @S@.live ADD COLUMN note text; ALTER TABLE @S@.history ADD COLUMN note text",
            "CREATE FUNCTION @S@.health_2() RETURNS bigint LANGUAGE sql AS $$ SELECT count(*) FROM @S@.live $$",
        ],
    };
    /// A version beside which no older server works.
    const BREAKING: Migration = Migration {
        version: NEWEST + 2,
        works_with: NEWEST + 2,
        statements: &["ALTER TABLE @S@.live RENAME note TO remark"],
    };

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_older_server_works_beside_a_newer_one_until_a_version_ends_that() {
        let Some(server) = PrivatePostgres::start(&["fsync=off"]) else { return };
        let options: PostgresOptions = server.url().parse().unwrap();
        let older = Arc::new(PostgresStore::open(options.clone()).await.unwrap());
        let newer = Database::new(&options).unwrap();
        migrate(&newer, &[MIGRATIONS, &[ADDITIVE]].concat()).await.unwrap();
        // The server that runs goes on, and so does one that starts.
        conformance::agrees_with_a_simple_model(older).await;
        let older = PostgresStore::open(options.clone()).await.unwrap();
        migrate(&newer, &[MIGRATIONS, &[ADDITIVE, BREAKING]].concat()).await.unwrap();
        let refused = PostgresStore::open(options).await;
        let Err(StoreError::NewerFormat { found, known }) = refused else { panic!("{refused:?}") };
        assert_eq!((found, known), (NEWEST + 2, NEWEST));
        older.health().await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_database_of_the_first_version_is_upgraded_with_its_runs() {
        let Some(server) = PrivatePostgres::start(&["fsync=off"]) else { return };
        let options: PostgresOptions = server.url().parse().unwrap();
        migrate(&Database::new(&options).unwrap(), &MIGRATIONS[..1]).await.unwrap();
        let (webhook, run) =
            ("'01990000-0000-7000-8000-000000000001'", "01990000-0000-7000-8000-000000000002");
        server.psql(&format!(
            "INSERT INTO webhook.history (id, webhook, fence, finished_ms, attempt, interruptions, state, workflow, fixed)
             VALUES ('{run}', {webhook}, 1, 1, 1, 0, 5, 'report/sales',
                 convert_to('{{\"queued_ms\":1,\"due_ms\":1,\"max_attempts\":1,\"caller\":{{}}}}', 'UTF8'))"
        ));
        let store = PostgresStore::open(options).await.unwrap();
        let listed = store.list_runs(Default::default()).await.unwrap();
        assert_eq!(listed.items.len(), 1);
        assert_eq!(server.psql("SELECT max(version) FROM webhook.migrations"), NEWEST.to_string());
    }

    /// A server of the first version takes its token as it is, and lines from the second on.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_server_of_the_first_version_is_told_of_events_as_before() {
        let Some(server) = PrivatePostgres::start(&["fsync=off"]) else { return };
        let options: PostgresOptions = server.url().parse().unwrap();
        let store = PostgresStore::open(options.clone()).await.unwrap();
        let database = Database::new(&options).unwrap();
        let (client, mut messages) = database.connect().await.unwrap();
        let (told, mut payloads) = tokio::sync::mpsc::unbounded_channel();
        let reading = tokio::spawn(async move {
            while let Some(Ok(message)) = messages.next().await {
                if let AsyncMessage::Notification(notification) = message {
                    let _ = told.send(notification.payload().to_owned());
                }
            }
        });
        client.batch_execute("LISTEN webhook").await.unwrap();
        let register = "SELECT @S@.read_events_1(gen_random_uuid(), 'older', 60, true, 'token')";
        database.query(register, &[]).await.unwrap();
        let now = SystemTime::now();
        let (id, workflow) = (WebhookId::generate(now), "report/sales".parse().unwrap());
        let webhook = Webhook::new(id, workflow, Default::default(), &Token::generate(), None, now);
        store.create_webhook(webhook.clone()).await.unwrap();
        let (id, parameters) = (RunId::generate(now), RunParameters::default());
        let run = Run::new(id, webhook.workflow, webhook.id, parameters, 1, Caller::default(), now);
        store.enqueue(Enqueue::new(run)).await.unwrap();
        let mut received: Vec<String> = Vec::new();
        while !received.last().is_some_and(|payload| payload.starts_with('e')) {
            received.push(payloads.recv().await.unwrap());
        }
        assert!(received.contains(&"ytoken".to_owned()), "{received:?}");
        let event = received.last().unwrap().lines().nth(1).unwrap();
        assert!(event.starts_with(&format!("s\t{id}\t0\t")), "{event}");
        reading.abort();
    }
}
