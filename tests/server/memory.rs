//! Bounds the server's memory in the worst cases: large bodies, all at once, half sent, or queued.
//!
//! The full sizes take minutes: `cargo test --release --test server memory -- --ignored`, after
//! `cargo build --release --example server`.

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use reqwest::StatusCode;
use tokio::task::JoinSet;

use crate::server::Server;

const MEBIBYTE: usize = 1 << 20;
/// Upper bound on the server's memory, whatever is sent.
const MOST: usize = 512 * MEBIBYTE;

/// Builds a body close to the limits: nearly 1 MiB, with nearly ten thousand values, as costly in memory as
/// possible.
fn worst_legal_body() -> String {
    let item = format!("{{\"\":\"{}\"}}", "x".repeat(190));
    let body = format!("{{\"a\":[{}]}}", vec![item; 4_900].join(","));
    assert!(body.len() > 950_000 && body.len() < MEBIBYTE);
    body
}

/// Builds a body with far too many values, each of which takes a hundred times its size as a tree.
fn too_many_values() -> String {
    format!("{{\"a\":[{}]}}", vec!["{\"\":0}"; 131_000].join(","))
}

fn text_body() -> String {
    format!("{{\"x\":\"{}\"}}", "0123456789abcdef".repeat(65_000))
}

fn peak_memory(server: &Server) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1_024
}

#[track_caller]
fn is_bounded(server: &Server, what: &str) {
    let peak = peak_memory(server);
    println!("{what}: at most {} MiB", peak / MEBIBYTE);
    assert!(peak < MOST, "{what}: {} MiB", peak / MEBIBYTE);
}

/// Sends a body many times at once, and returns how many were accepted.
///
/// The others were told to try again, or that their body is not allowed.
async fn send_at_once(server: &Server, url: &str, count: usize, body: String) -> usize {
    let mut calls = JoinSet::new();
    for _ in 0..count {
        let request = server.client.post(url).header("content-type", "application/json").body(body.clone());
        calls.spawn(async move { request.send().await.unwrap().status() });
    }
    let answers = calls.join_all().await;
    let refused =
        [StatusCode::SERVICE_UNAVAILABLE, StatusCode::BAD_REQUEST, StatusCode::UNPROCESSABLE_ENTITY];
    assert!(
        answers.iter().all(|status| *status == StatusCode::ACCEPTED || refused.contains(status)),
        "{answers:?}"
    );
    answers.iter().filter(|status| **status == StatusCode::ACCEPTED).count()
}

async fn survive_bodies_at_once(count: usize, arguments: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), arguments);
    let others = server.webhook_of("report", "daily-sales").await;
    let answers_others = async {
        let answer = server.client.post(&others).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
    };
    let (accepted, ()) =
        tokio::join!(send_at_once(&server, server.url(), count, worst_legal_body()), answers_others);
    assert!(accepted >= count.min(10), "{accepted} of {count}");
    assert_eq!(send_at_once(&server, server.url(), count, too_many_values()).await, 0);
    is_bounded(&server, &format!("{count} bodies at once, {arguments:?}"));
    server.kill();
    let server = Server::start(folder.path(), arguments);
    is_bounded(&server, "after the restart");
    server.kill();
}

/// Sends all but the end of many bodies, while the connections stay open.
async fn survive_half_sent_bodies(count: usize) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &["--workers", "0"]);
    let address = ("127.0.0.1", server.port());
    let path = server.url().splitn(4, '/').nth(3).unwrap().to_owned();
    let part = "x".repeat(900_000);
    let mut senders = JoinSet::new();
    for _ in 0..count {
        let (path, part) = (path.clone(), part.clone());
        senders.spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
            let head = format!(
                "POST /{path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n"
            );
            // A body that waits for its turn is not read, and a refused one is cut off.
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(part.as_bytes()));
            stream
        });
    }
    let held = senders.join_all().await;
    let answer =
        server.client.post(server.url()).json(&serde_json::json!({"region": "EMEA"})).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::ACCEPTED, "a small body needs no turn");
    is_bounded(&server, &format!("{count} half-sent bodies"));
    drop(held);
    server.kill();
}

/// Fills the queue with large bodies through this many webhooks, kills the server, and lets another execute
/// all runs.
async fn survive_a_full_queue(folder: &Path, webhooks: usize, each: usize) {
    let server = Server::start(folder, &["--workers", "0"]);
    let mut accepted = 0;
    for _ in 0..webhooks {
        let url = server.webhook_of("report", "daily-sales").await;
        for _ in 0..each {
            let request =
                server.client.post(&url).header("content-type", "application/json").body(text_body());
            let answer = server.send(request).await;
            if answer.status() == StatusCode::SERVICE_UNAVAILABLE {
                assert!(answer.headers().contains_key("retry-after"));
                assert!(answer.text().await.unwrap().contains("queue-full"));
                break;
            }
            assert_eq!(answer.status(), StatusCode::ACCEPTED);
            accepted += 1;
        }
    }
    is_bounded(&server, &format!("{accepted} large bodies waiting"));
    let queued = server.metric("webhook_runs_queued").await.unwrap();
    assert_eq!(queued as usize, accepted);
    server.kill();

    let server = Server::start(folder, &["--workers", "0"]);
    assert_eq!(server.metric("webhook_runs_queued").await.unwrap() as usize, accepted);
    is_bounded(&server, "the same after a restart");
    server.kill();

    let server = Server::start(folder, &[]);
    while server.metric("webhook_runs_queued").await.unwrap() > 0.0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    is_bounded(&server, "the same while they are executed");
    server.stop();
    if each > 16 {
        assert!((250..=260).contains(&accepted), "the queue has 256 MiB: {accepted}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_of_the_worst_bodies_at_once_take_bounded_memory() {
    survive_bodies_at_once(20, &["--workers", "0"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_half_sent_bodies_take_bounded_memory_and_hold_up_no_small_one() {
    survive_half_sent_bodies(100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_of_large_bodies_takes_bounded_memory_also_after_a_restart() {
    survive_a_full_queue(tempfile::tempdir().unwrap().path(), 2, 10).await;
}

#[ignore = "takes a minute; to be run in release"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_of_the_worst_bodies_at_once_take_bounded_memory() {
    survive_bodies_at_once(100, &["--workers", "0"]).await;
    survive_bodies_at_once(100, &[]).await;
}

#[ignore = "takes a minute; to be run in release"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_half_sent_bodies_take_bounded_memory() {
    survive_half_sent_bodies(1_000).await;
}

#[ignore = "takes minutes; to be run in release"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_filled_to_its_bytes_takes_bounded_memory_also_after_a_restart() {
    survive_a_full_queue(tempfile::tempdir().unwrap().path(), 18, 17).await;
}
