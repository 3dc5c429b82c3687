//! Tests of the server while a few callers try to take all of its connections. Health checks and other
//! webhooks are answered within a second.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::front::server::ServerOptions;
use crate::support::{Hook, World, content, raw, read_all};

const CONNECTIONS: usize = 64;
/// Number of attacking connections, several times the number of places.
const ATTACKERS: usize = 160;

/// Starts a server with few connections and no workers, so waiting for a run never succeeds.
async fn world() -> World {
    World::start_with(|builder| builder, ServerOptions::default().with_connections(CONNECTIONS), false).await
}

fn post(hook: &Hook, more: &str) -> Vec<u8> {
    let path = &hook.url[hook.url.find("/api/").unwrap()..];
    format!("POST {path} HTTP/1.1\r\nhost: a\r\n{more}\r\n").into_bytes()
}

/// Clients that send these bytes, keep the connection until the server closes it, and connect again.
struct Attack {
    clients: JoinSet<()>,
    ended: Arc<AtomicUsize>,
}

impl Attack {
    fn begin(address: SocketAddr, clients: usize, request: Vec<u8>) -> Self {
        let (mut set, ended) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
        for _ in 0..clients {
            let (request, ended) = (request.clone(), ended.clone());
            set.spawn(async move {
                loop {
                    if let Ok(mut stream) = TcpStream::connect(address).await {
                        let _ = stream.write_all(&request).await;
                        read_all(&mut stream).await;
                    }
                    ended.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self { clients: set, ended }
    }

    /// Waits until the server is full of them: some had to leave for others.
    async fn is_felt(&self) {
        while self.ended.load(Ordering::Relaxed) < CONNECTIONS {
            assert!(!self.clients.is_empty());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Checks health and calls another webhook, and fails unless each takes less than a second. A busy machine
/// may take one attempt longer.
async fn assert_served(world: &World, other: &Hook) {
    let mut longest = Duration::MAX;
    for _ in 0..3 {
        longest = longest.min(probe(world, other).await);
    }
    assert!(longest < Duration::from_secs(1), "{longest:?}");
}

/// Checks health and calls another webhook, each on a new connection, and returns the longest duration.
async fn probe(world: &World, other: &Hook) -> Duration {
    let mut longest = Duration::ZERO;
    let health = b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".to_vec();
    let call = post(other, "connection: close\r\n");
    for (request, status) in [(&health, 200), (&call, 202), (&health, 200), (&call, 202)] {
        let started = Instant::now();
        let answer = tokio::time::timeout(Duration::from_secs(20), raw(world.address, &[request])).await;
        let answer = answer.expect("no answer at all");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer:?}");
        longest = longest.max(started.elapsed());
    }
    longest
}

async fn others_are_answered_under(request: impl FnOnce(&Hook) -> Vec<u8>) {
    let world = world().await;
    let (hook, other) = (world.hook(json!({})).await, world.hook(json!({})).await);
    let attack = Attack::begin(world.address, ATTACKERS, request(&hook));
    attack.is_felt().await;
    assert_served(&world, &other).await;
}

#[tokio::test]
async fn callers_that_wait_for_their_runs_keep_nobody_waiting() {
    others_are_answered_under(|hook| post(hook, "prefer: wait=60\r\n")).await;
}

#[tokio::test]
async fn silent_clients_keep_nobody_waiting() {
    others_are_answered_under(|_| Vec::new()).await;
}

#[tokio::test]
async fn slow_bodies_keep_nobody_waiting() {
    others_are_answered_under(|hook| post(hook, "content-length: 1000000\r\n")).await;
}

#[tokio::test]
async fn wrong_tokens_with_bodies_that_never_come_keep_nobody_waiting() {
    let request =
        b"POST /api/v1/report/sales/webhook?token=whk_no HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n";
    others_are_answered_under(|_| request.to_vec()).await;
}

#[tokio::test]
async fn clients_that_do_not_read_keep_nobody_waiting() {
    let world = world().await;
    let other = world.hook(json!({})).await;
    let asked = b"GET /api/v1/openapi.json HTTP/1.1\r\nhost: a\r\n\r\n".repeat(150);
    let mut clients = JoinSet::new();
    for _ in 0..CONNECTIONS + 8 {
        let asked = asked.clone();
        let address = world.address;
        clients.spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // The server does not read all of it, since it waits until its answers are read.
            let _ = tokio::time::timeout(Duration::from_secs(2), stream.write_all(&asked)).await;
            stream
        });
    }
    let streams = clients.join_all().await;
    assert_served(&world, &other).await;
    drop(streams);
}

#[tokio::test]
async fn one_webhook_waits_on_a_share_of_the_connections_and_the_rest_is_answered_at_once() {
    let world = world().await;
    let hook = world.hook(json!({})).await;
    let mut calls = JoinSet::new();
    for _ in 0..CONNECTIONS / 2 {
        let call = world.post(&hook.url).header("prefer", "wait=60");
        calls.spawn(async move { content(call.send().await.unwrap(), 202).await });
    }
    for _ in 0..CONNECTIONS / 4 {
        assert_eq!(calls.join_next().await.unwrap().unwrap()["state"], "queued");
    }
    let further = tokio::time::timeout(Duration::from_millis(300), calls.join_next()).await;
    assert!(further.is_err(), "a quarter of the connections may wait");
}

#[tokio::test]
async fn a_body_that_makes_room_is_answered_400() {
    let world = world().await;
    let hook = world.hook(json!({})).await;
    let mut slow = TcpStream::connect(world.address).await.unwrap();
    slow.write_all(&post(&hook, "content-length: 10\r\n")).await.unwrap();
    let request = post(&hook, "content-length: 10\r\n");
    let attack = Attack::begin(world.address, ATTACKERS, request);
    let answer = tokio::time::timeout(Duration::from_secs(20), read_all(&mut slow)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains(":malformed-body\""), "{answer:?}");
    drop(attack);
}

#[tokio::test]
async fn a_refusal_for_too_many_wrong_tokens_does_not_wait_for_a_body() {
    let world = World::start_idle().await;
    let wrong = format!("{}/api/v1/report/sales/webhook?token=whk_no", world.base);
    for _ in 0..60 {
        assert_eq!(world.post(&wrong).send().await.unwrap().status(), 401);
    }
    let request =
        b"POST /api/v1/report/sales/webhook?token=whk_no HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n";
    let started = Instant::now();
    let answer = raw(world.address, &[request]).await;
    assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("connection: close\r\n"), "{answer}");
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
}
