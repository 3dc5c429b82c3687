//! PgBouncer in transaction mode between the store and the database.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]
#![allow(clippy::print_stderr, reason = "a test says why it is skipped")]

mod scene;

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use webhook_core::run::CancelReason;
use webhook_core::store::{CancelNotice, Store, StoreError};
use webhook_postgres::{PostgresOptions, PostgresStore};
use webhook_testing::conformance::{self, InTurns, StoreHandles};

struct Pooler {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Pooler {
    /// Starts PgBouncer, with fewer connections to the database than the stores have to it.
    fn start(database: u16) -> Option<Self> {
        let program = Path::new("/usr/sbin/pgbouncer");
        if !program.exists() {
            let message = "NOT TESTED: there is no PgBouncer in /usr/sbin (Debian: pgbouncer)";
            assert!(std::env::var_os("WEBHOOK_REQUIRE_POSTGRES").is_none(), "{message}");
            eprintln!("{message}");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let place = folder.path().display();
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={database}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             auth_type = trust\nauth_file = {place}/users\npool_mode = transaction\ndefault_pool_size = 4\n\
             unix_socket_dir =\n"
        );
        std::fs::write(folder.path().join("pgbouncer.ini"), settings).unwrap();
        std::fs::write(folder.path().join("users"), "\"app\" \"\"\n").unwrap();
        // It refuses to run as root, and root's folders are private.
        let mut command = if rustix::process::geteuid().is_root() {
            let given = Command::new("chown").args(["-R", "postgres"]).arg(folder.path()).status().unwrap();
            assert!(given.success());
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        let command =
            command.arg(folder.path().join("pgbouncer.ini")).stdin(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().unwrap();
        let start = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(30), "PgBouncer does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(Self { process, port, _folder: folder })
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A schema behind the pooler.
struct Pooled {
    port: u16,
    schema: String,
    /// Value of the parameter `listen`.
    listen: String,
}

impl Pooled {
    fn options(&self) -> PostgresOptions {
        let Self { port, schema, listen } = self;
        let url = format!("postgres://app@127.0.0.1:{port}/postgres?schema={schema}&listen={listen}");
        url.parse().unwrap()
    }
}

#[async_trait::async_trait]
impl StoreHandles for Pooled {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(PostgresStore::open(self.options()).await.unwrap())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_but_events_works_through_a_pooler_that_shares_connections_between_transactions() {
    let Some(database) = scene::server() else { return };
    let Some(pooler) = Pooler::start(database.port()) else { return };
    let store = async || {
        let pooled = Pooled { port: pooler.port, schema: scene::schema(), listen: "off".to_owned() };
        Arc::new(InTurns::open(&pooled).await) as Arc<dyn Store>
    };
    conformance::agrees_with_a_simple_model(store().await).await;
    conformance::each_run_goes_to_one_claimer(store().await).await;
    conformance::claimers_at_once_keep_to_the_bound(store().await).await;
    conformance::enqueue_is_idempotent_under_one_key(store().await).await;
    conformance::each_delivery_goes_to_one_claimer(store().await).await;
    conformance::the_newest_lines_of_a_long_log_are_kept(store().await).await;
    conformance::listing_is_stable_under_concurrent_writers(store().await).await;
    conformance::nothing_of_a_pruned_run_is_left(store().await).await;
    conformance::a_new_run_wakes_who_waits(store().await).await;
    conformance::a_rate_is_one_for_all_calls_of_a_webhook(store().await).await;
    let refused = store().await.events_since(None).await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wake_ups_cancellations_and_events_come_from_the_address_of_the_database() {
    let Some(database) = scene::server() else { return };
    let Some(pooler) = Pooler::start(database.port()) else { return };
    let store = async || {
        let listen = format!("127.0.0.1:{}", database.port());
        let pooled = Pooled { port: pooler.port, schema: scene::schema(), listen };
        Arc::new(InTurns::open(&pooled).await) as Arc<dyn Store>
    };
    conformance::a_new_run_wakes_who_waits(store().await).await;
    conformance::every_change_of_state_is_an_event(store().await).await;
    conformance::progress_and_log_lines_are_events(store().await).await;
    conformance::events_go_on_after_a_cursor(store().await).await;
    conformance::every_reader_gets_the_same_events(store().await).await;

    let listen = format!("127.0.0.1:{}", database.port());
    let pooled = Pooled { port: pooler.port, schema: scene::schema(), listen };
    let (one, other) = (pooled.open().await, pooled.open().await);
    let run = scene::running(&*one).await;
    other.cancel_run(run, SystemTime::now()).await.unwrap();
    let notices = tokio::time::timeout(Duration::from_secs(10), one.wait_for_cancellations()).await;
    assert_eq!(notices.unwrap(), [CancelNotice::new(run, CancelReason::Requested)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_of_another_database_is_not_listened_at() {
    let Some(database) = scene::server() else { return };
    let Some(pooler) = Pooler::start(database.port()) else { return };
    database.psql("CREATE DATABASE elsewhere");
    let listen = format!("127.0.0.1:{}/elsewhere", database.port());
    let pooled = Pooled { port: pooler.port, schema: scene::schema(), listen };
    // Bounds the wait for a connection that listens.
    let options = pooled.options().with_timeout(Duration::from_secs(2));
    let store = Arc::new(PostgresStore::open(options).await.unwrap());
    let refused = store.events_since(None).await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
    conformance::a_new_run_wakes_who_waits(store).await;
}
