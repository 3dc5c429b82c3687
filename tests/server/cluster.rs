//! Four servers on one PostgreSQL database, while servers, connections and the database fail.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use webhook_testing::postgres::PrivatePostgres;

use crate::server::Server;

/// Accepted calls after which the test ends, unless `WEBHOOK_CLUSTER_RUNS` has another number.
const RUNS: usize = 1_000;
const CALLERS: usize = 16;
const SERVERS: usize = 4;
const LEASE_S: &str = "3";
/// Upper bound on the wait for an event that must happen.
const PATIENCE: Duration = Duration::from_secs(120);

/// Records breaches of leases: a claim or an interruption of a run whose lease has not ended.
const AUDIT: &str = "
CREATE TABLE webhook.breaches (run uuid, what text);
CREATE FUNCTION webhook.audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state IN (3, 4) AND OLD.lease_until > clock_timestamp() THEN
        INSERT INTO webhook.breaches VALUES (OLD.id, format('fence %s to %s', OLD.fence, NEW.fence));
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER audit BEFORE UPDATE ON webhook.live FOR EACH ROW
WHEN (NEW.fence <> OLD.fence OR NEW.interruptions <> OLD.interruptions) EXECUTE FUNCTION webhook.audit()";

/// A network between the servers and the database.
#[derive(Clone)]
struct Network {
    address: SocketAddr,
    /// Counts the cuts. A cut discards all answers that are under way, and closes every connection.
    cuts: watch::Sender<u32>,
}

impl Network {
    async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let network = Self { address: listener.local_addr().unwrap(), cuts: watch::Sender::new(0) };
        let cuts = network.cuts.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass_on(client, port, cuts.subscribe()));
            }
        });
        network
    }

    fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

/// Passes bytes on in both directions. After a cut, the database still gets what was sent, and its answers are lost.
async fn pass_on(client: TcpStream, port: u16, mut cuts: watch::Receiver<u32>) {
    let Ok(database) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_database, mut to_database) = database.into_split();
    let requests = tokio::spawn(async move {
        let _ = tokio::io::copy(&mut from_client, &mut to_database).await;
        let _ = to_database.shutdown().await;
    });
    let answers = async {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = from_database.read(&mut buffer).await {
            if to_client.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = answers => {}
        _ = cuts.changed() => {
            // Statements that were sent are committed meanwhile.
            let _ = tokio::time::timeout(Duration::from_millis(20), async {
                let mut buffer = vec![0; 16 * 1024];
                while let Ok(1..) = from_database.read(&mut buffer).await {}
            })
            .await;
        }
    }
    requests.abort();
}

/// The servers, callers and what they were answered.
struct Cluster {
    ports: Mutex<[Option<u16>; SERVERS]>,
    /// Ids of accepted runs.
    accepted: Mutex<BTreeSet<String>>,
    /// Number of calls that were answered 503.
    unavailable: AtomicUsize,
    /// Answers that no call may get.
    wrong: Mutex<Vec<String>>,
    is_over: AtomicBool,
}

impl Cluster {
    fn count(&self) -> usize {
        self.accepted.lock().len()
    }

    /// Calls the webhook until the end, at one server after another.
    async fn call(self: Arc<Self>, first: usize, path: String) {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).build().unwrap();
        let mut turn = first;
        while !self.is_over.load(Ordering::Relaxed) {
            turn += 1;
            let Some(port) = self.ports.lock()[turn % SERVERS] else { continue };
            let sent = client.post(format!("http://127.0.0.1:{port}{path}")).send().await;
            // A server that was killed or stopped does not answer.
            let Ok(answer) = sent else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            let (status, body) = (answer.status().as_u16(), answer.text().await.unwrap_or_default());
            let id = serde_json::from_str::<Value>(&body).ok();
            let id = id.as_ref().and_then(|body| body["run_id"].as_str());
            match (status, id) {
                (202, Some(id)) => drop(self.accepted.lock().insert(id.to_owned())),
                (503, _) => {
                    self.unavailable.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                _ => self.wrong.lock().push(format!("{status} {body}")),
            }
        }
    }

    /// Waits until calls are accepted again.
    async fn recovered(&self, what: &str) {
        let from = self.count() + 2 * CALLERS;
        until(&format!("calls are accepted after {what}"), async || self.count() > from).await;
    }

    /// Waits until so many calls are accepted, as long as some are.
    async fn accepted(&self, wanted: usize) {
        while self.count() < wanted {
            self.recovered("all faults").await;
        }
    }

    /// Waits until some call is answered 503.
    async fn refused(&self, what: &str) {
        let from = self.unavailable.load(Ordering::Relaxed);
        let is_refused = async || self.unavailable.load(Ordering::Relaxed) > from;
        until(&format!("a call is answered 503 while {what}"), is_refused).await;
    }
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until nothing is queued or running, as long as runs end.
async fn all_have_ended(database: &PrivatePostgres) {
    let left = || database.psql("SELECT count(*) FROM webhook.live");
    let mut before = left();
    while before != "0" {
        until("more runs have ended", async || left() != before).await;
        before = left();
    }
}

fn start(folder: &Path, number: usize, network: &Network) -> Server {
    let store = format!("postgres://app@{}/postgres", network.address);
    let (key, workflows) = (folder.join("shared.key"), folder.join("workflows"));
    let name = format!("server-{number}");
    let arguments = [
        ["--store", &store],
        ["--token-key", key.to_str().unwrap()],
        ["--workflows", workflows.to_str().unwrap()],
        ["--name", &name],
        ["--lease-s", LEASE_S],
        ["--workers", "8"],
    ];
    Server::start(&folder.join(&name), &arguments.concat())
}

fn signal(server: &Server, signal: Signal) {
    kill_process(Pid::from_raw(server.id().cast_signed()).unwrap(), signal).unwrap();
}

/// nginx with the configuration of the example, and its ports exchanged. It is stopped on drop.
struct Nginx(std::process::Child);

impl Nginx {
    /// Returns `None` where nginx is not installed, and says so.
    fn start(folder: &Path, ports: &[(u16, u16)]) -> Option<Self> {
        let written = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/cluster/nginx.conf");
        let text = std::fs::read_to_string(written).unwrap();
        let exchange = |text: String, (old, new): &(u16, u16)| {
            assert!(text.contains(&format!(":{old}")), "{old}");
            text.replace(&format!(":{old}"), &format!(":{new}"))
        };
        let configuration = folder.join("nginx.conf");
        std::fs::write(&configuration, ports.iter().fold(text, exchange)).unwrap();
        let path = format!("{}:/usr/sbin:/usr/local/sbin", std::env::var("PATH").unwrap_or_default());
        let mut command = std::process::Command::new("nginx");
        command.env("PATH", path).arg("-p").arg(folder).arg("-c").arg(&configuration);
        match command.stdin(std::process::Stdio::null()).spawn() {
            Ok(nginx) => Some(Self(nginx)),
            Err(error) => {
                let message = format!("NOT TESTED: nginx cannot be started: {error} (Debian: nginx-light)");
                assert!(std::env::var_os("WEBHOOK_REQUIRE_POSTGRES").is_none(), "{message}");
                eprintln!("{message}");
                None
            }
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_behind_nginx_goes_on_when_a_server_ends() {
    let Some(database) = PrivatePostgres::start(&["fsync=off"]) else { return };
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("workflows")).unwrap();
    let workflow = "kind = 'task'\nid = 'nothing'\ntitle = 'Nothing'\n[noop]\n";
    std::fs::write(folder.path().join("workflows/nothing.toml"), workflow).unwrap();
    let network = Network::to(database.port()).await;
    let (one, other) = (start(folder.path(), 1, &network), start(folder.path(), 2, &network));
    let listening = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let ports = [(8_080, listening), (8_081, one.port()), (8_082, other.port())];
    let Some(_nginx) = Nginx::start(folder.path(), &ports) else { return };
    let path = path_of(&one.webhook_of("task", "nothing").await);
    let client = reqwest::Client::new();
    let call = async || {
        let sent =
            client.post(format!("http://127.0.0.1:{listening}{path}")).header("prefer", "wait=10").send();
        Some(sent.await.ok()?.status().as_u16())
    };
    // Each call waits for the end of its run, on whichever server that is executed.
    until("nginx passes calls on", async || call().await == Some(200)).await;
    for _ in 0..20 {
        assert_eq!(call().await, Some(200));
    }
    one.stop();
    for _ in 0..20 {
        assert_eq!(call().await, Some(200), "the other server takes all calls");
    }
    let workers = database.psql("SELECT count(DISTINCT claimer) FROM webhook.history");
    assert_eq!(workers, "2", "both servers execute");
    other.stop();
}

/// Returns the path and query of a webhook's URL.
fn path_of(url: &str) -> String {
    let (_, rest) = url.split_once("://").unwrap();
    rest[rest.find('/').unwrap()..].to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_servers_lose_and_double_no_run_whatever_fails() {
    let settings = ["fsync=off", "max_connections=80", "superuser_reserved_connections=3"];
    let Some(mut database) = PrivatePostgres::start(&settings) else { return };
    let wanted =
        std::env::var("WEBHOOK_CLUSTER_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(RUNS);
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("workflows")).unwrap();
    let workflow = |name: &str, action: &str| {
        let text = format!("kind = 'task'\nid = '{name}'\ntitle = '{name}'\n{action}\n");
        std::fs::write(folder.path().join(format!("workflows/{name}.toml")), text).unwrap();
    };
    workflow("nothing", "[noop]");
    workflow("long", "[command]\nprogram = 'sleep'\nargs = ['2']");
    let network = Network::to(database.port()).await;

    let first = start(folder.path(), 0, &network);
    database.psql(AUDIT);
    let mut servers: Vec<Option<Server>> =
        (1..SERVERS).map(|number| Some(start(folder.path(), number, &network))).collect();
    let nothing = path_of(&first.webhook_of("task", "nothing").await);
    let long = path_of(&first.webhook_of("task", "long").await);
    servers.insert(0, Some(first));
    let port = |server: &Option<Server>| server.as_ref().map(Server::port);
    let ports: Vec<_> = servers.iter().map(port).collect();
    let cluster = Arc::new(Cluster {
        ports: Mutex::new(ports.try_into().unwrap()),
        accepted: Mutex::default(),
        unavailable: AtomicUsize::new(0),
        wrong: Mutex::default(),
        is_over: AtomicBool::new(false),
    });
    let mut callers = JoinSet::new();
    for number in 0..CALLERS {
        // One of them starts runs that take long, so that a server that fails always has some.
        let path = if number == 0 { &long } else { &nothing };
        callers.spawn(cluster.clone().call(number, path.clone()));
    }
    cluster.recovered("the start").await;
    let holds =
        |name: &str| format!("SELECT count(*) FROM webhook.live WHERE state = 4 AND claimer = '{name}'");

    // A server is killed, and its runs are executed elsewhere.
    until("a server executes", async || database.psql(&holds("server-1")) != "0").await;
    cluster.ports.lock()[1] = None;
    servers[1].take().unwrap().kill();
    until("its runs are taken over", async || database.psql(&holds("server-1")) == "0").await;
    servers[1] = Some(start(folder.path(), 1, &network));
    cluster.ports.lock()[1] = port(&servers[1]);
    cluster.recovered("a server was killed").await;

    // A server is stopped for longer than a lease, and goes on.
    until("a server executes", async || database.psql(&holds("server-2")) != "0").await;
    signal(servers[2].as_ref().unwrap(), Signal::STOP);
    until("its runs are taken over", async || database.psql(&holds("server-2")) == "0").await;
    signal(servers[2].as_ref().unwrap(), Signal::CONT);
    cluster.recovered("a server was stopped").await;

    for (what, name) in [("a fast restart", "INT"), ("an immediate restart", "QUIT")] {
        database.restart(name);
        cluster.recovered(what).await;
    }

    for _ in 0..3 {
        network.cut();
        cluster.recovered("all connections were cut").await;
    }

    // Others take all connections while the servers have none.
    let config = format!("host=127.0.0.1 port={} user=app dbname=postgres", database.port());
    let mut taken = Vec::new();
    network.cut();
    while let Ok((client, connection)) = tokio_postgres::connect(&config, tokio_postgres::NoTls).await {
        taken.push((client, tokio::spawn(connection)));
    }
    network.cut();
    while let Ok((client, connection)) = tokio_postgres::connect(&config, tokio_postgres::NoTls).await {
        taken.push((client, tokio::spawn(connection)));
    }
    cluster.refused("no connection is free").await;
    drop(taken);
    cluster.recovered("no connection was free").await;

    database.psql("ALTER SYSTEM SET default_transaction_read_only = on");
    database.psql("SELECT pg_reload_conf()");
    cluster.refused("the database is read-only").await;
    database.psql("ALTER SYSTEM RESET default_transaction_read_only");
    database.psql("SELECT pg_reload_conf()");
    cluster.recovered("the database was read-only").await;

    cluster.accepted(wanted).await;
    cluster.is_over.store(true, Ordering::Relaxed);
    callers.join_all().await;
    all_have_ended(&database).await;

    assert_eq!(*cluster.wrong.lock(), Vec::<String>::new());
    let succeeded = database.psql("SELECT id FROM webhook.history WHERE state = 5");
    let succeeded: BTreeSet<&str> = succeeded.lines().collect();
    let accepted = cluster.accepted.lock().clone();
    let lost: Vec<_> = accepted.iter().filter(|id| !succeeded.contains(id.as_str())).collect();
    assert!(lost.is_empty(), "{} of {} accepted runs did not succeed: {lost:?}", lost.len(), accepted.len());
    assert_eq!(database.psql("SELECT * FROM webhook.breaches"), "", "two leases at once");
    let interrupted = database.psql("SELECT count(*) FROM webhook.history WHERE interruptions > 0");
    assert_ne!(interrupted, "0", "no run was interrupted, so nothing was tried");
    let (unavailable, interrupted) = (cluster.unavailable.load(Ordering::Relaxed), interrupted);
    println!("{} calls accepted, {unavailable} answered 503, {interrupted} runs interrupted", accepted.len());
    for server in servers.into_iter().flatten() {
        assert_eq!(
            reqwest::get(format!("http://127.0.0.1:{}/readyz", server.port())).await.unwrap().status(),
            200
        );
        server.stop();
    }
}
