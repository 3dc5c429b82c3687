//! References: other ways to insert rows into the same database, into a table with the columns and indexes of `live`.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{Receiver, channel};
use tokio::sync::{Mutex, oneshot};
use webhook_postgres::tokio_postgres::{self, Client, NoTls};
use webhook_testing::postgres::PrivatePostgres;

use crate::calling::{Called, call_for};

/// Connections of the bare loop.
const CONNECTIONS: usize = 2;
/// Upper bound on the rows of one statement of the bare loop.
const GROUP: usize = 256;
/// Bytes of a run's facts, and of its parameters.
const FIXED: usize = 150;
const PARAMETERS: usize = 45;
/// The webhook of all rows.
const WEBHOOK: &str = "00000000-0000-7000-8000-000000000001";

pub(crate) fn make_table(server: &PrivatePostgres) {
    server.psql("CREATE SCHEMA reference; CREATE TABLE reference.live (LIKE webhook.live INCLUDING ALL)");
}

pub(crate) fn empty_table(server: &PrivatePostgres) {
    server.psql("TRUNCATE reference.live");
}

/// Returns pgbench's rows per second, with one row in each transaction.
pub(crate) fn pgbench(server: &PrivatePostgres, clients: usize, time: Duration) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("insert.sql");
    let bytes = |count: usize| "\\x".to_owned() + &"7b".repeat(count);
    let (fixed, parameters) = (bytes(FIXED), bytes(PARAMETERS));
    let insert = format!(
        "INSERT INTO reference.live (id, webhook, workflow, bytes, state, fixed, parameters) \
         VALUES (gen_random_uuid(), '{WEBHOOK}', 'report/bench', {PARAMETERS}, 0, '{fixed}', '{parameters}');\n"
    );
    std::fs::write(&script, insert).unwrap();
    let output = Command::new(server.programs().join("pgbench"))
        .args(["-n", "-M", "prepared", "-j", "2", "-h", "127.0.0.1", "-U", "app"])
        .args(["-p", &server.port().to_string(), "-c", &clients.to_string()])
        .args(["-T", &time.as_secs().max(1).to_string(), "-f"])
        .arg(&script)
        .arg("postgres")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let tps = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    tps.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// A row on its way, and who waits for its commit.
struct Row {
    id: uuid::Uuid,
    committed: oneshot::Sender<()>,
}

/// Inserts the rows of so many callers in groups.
pub(crate) async fn bare_loop(server: &PrivatePostgres, callers: usize, time: Duration) -> Called {
    let (rows, queue) = channel(callers);
    let queue = Arc::new(Mutex::new(queue));
    for _ in 0..CONNECTIONS {
        let (client, connection) = tokio_postgres::connect(&server.url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        tokio::spawn(insert_groups(client, queue.clone()));
    }
    call_for(callers, time, move || {
        let rows = rows.clone();
        async move {
            let (committed, is_committed) = oneshot::channel();
            let id = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
            rows.send(Row { id, committed }).await.unwrap();
            is_committed.await.unwrap();
        }
    })
    .await
}

async fn insert_groups(client: Client, queue: Arc<Mutex<Receiver<Row>>>) {
    let insert = format!(
        "WITH added AS (INSERT INTO reference.live (id, webhook, workflow, bytes, state, fixed, parameters) \
         SELECT u.id, '{WEBHOOK}', 'report/bench', {PARAMETERS}, 0, u.fixed, u.parameters \
         FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS u (id, fixed, parameters)) \
         SELECT pg_notify('reference', '')"
    );
    let insert = client.prepare(&insert).await.unwrap();
    let (fixed, parameters) = ([b'{'; FIXED], [b'{'; PARAMETERS]);
    let mut group = Vec::new();
    while queue.lock().await.recv_many(&mut group, GROUP).await > 0 {
        let (ids, waiting): (Vec<_>, Vec<_>) = group.drain(..).map(|row| (row.id, row.committed)).unzip();
        let (fixed, parameters) = (vec![fixed.as_slice(); ids.len()], vec![parameters.as_slice(); ids.len()]);
        client.query(&insert, &[&ids, &fixed, &parameters]).await.unwrap();
        for committed in waiting {
            committed.send(()).unwrap();
        }
    }
}
