//! Tests of the server under slow, silent and too many clients.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use webhook_testing::Step;

use crate::front;
use crate::front::server::{ServeError, Served, Server, ServerOptions};
use crate::support::{World, content, raw, read_all};

/// Upper bound on the time of one step, which only a defect exceeds.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
pub(super) const SHORT: Duration = Duration::from_millis(300);

pub(super) async fn world(options: ServerOptions) -> World {
    World::start_with(|builder| builder, options, true).await
}

/// Returns the time until the other side closes.
pub(super) async fn closed_after(stream: &mut TcpStream) -> Duration {
    let started = Instant::now();
    tokio::time::timeout(PATIENCE, read_all(stream)).await.expect("the connection stays open");
    started.elapsed()
}

/// Reads one answer with a declared length, and leaves the connection open.
pub(super) async fn one_answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if body.len() == length.parse::<usize>().unwrap() {
                return text;
            }
        }
        let read = stream.read_buf(&mut answer).await.unwrap();
        assert!(read > 0, "closed after {text:?}");
    }
}

pub(super) const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n";

/// Checks that an answer is a problem without a type of its own, has this status, and ends its connection.
fn assert_refused(answer: &str, status: u16) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    for line in ["connection: close", "content-type: application/problem+json", "cache-control: no-store"] {
        assert!(head.lines().any(|own| own == line), "{line} is not in {head}");
    }
    assert!(head.contains("x-request-id: "), "{head}");
    let problem: Value = serde_json::from_str(body).unwrap();
    assert_eq!((&problem["type"], &problem["status"]), (&json!("about:blank"), &json!(status)), "{problem}");
    assert!(problem["title"].is_string() && problem["detail"].is_string());
}

#[tokio::test]
async fn what_is_no_proper_http_is_refused_with_a_problem() {
    let world = world(ServerOptions::default()).await;
    let long = format!("GET /healthz?{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(70_000));
    let many = format!("GET /healthz HTTP/1.1\r\nhost: a\r\n{}\r\n", "x-a: 1\r\n".repeat(200));
    for (request, status) in [
        (&long[..], 414),
        (&many, 431),
        ("garbage\r\n\r\n", 400),
        ("GET /healthz?a b HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("GET /healthz HTTP/1.2\r\nhost: a\r\n\r\n", 400),
        ("GET /healthz HTTP/1.1\r\n\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nhost: a b/@\r\n\r\n", 400),
        ("GET x:80 HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("CONNECT x:80 HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("POST /healthz HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ] {
        let answer = tokio::time::timeout(PATIENCE, raw(world.address, &[request.as_bytes()])).await;
        let answer = answer.unwrap_or_else(|_| panic!("no end of the answer to {request:.50}"));
        assert_refused(&answer, status);
    }
}

#[tokio::test]
async fn what_is_no_proper_http_is_refused_after_proper_requests_too() {
    let world = world(ServerOptions::default()).await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(HEALTH).await.unwrap();
    assert!(one_answer(&mut stream).await.starts_with("HTTP/1.1 200 "));
    stream.write_all(b"garbage\r\n\r\n").await.unwrap();
    assert_refused(&read_all(&mut stream).await, 400);
    // In one piece, so that the faulty request is there before the first answer.
    let both = [HEALTH, b"GET x:80 HTTP/1.1\r\nhost: a\r\n\r\n", b"garbage\r\n\r\n"].concat();
    let answers = raw(world.address, &[&both]).await;
    let second = answers.rfind("HTTP/1.1 ").unwrap();
    assert!(second > 0 && answers.starts_with("HTTP/1.1 200 "), "{answers}");
    assert_refused(&answers[second..], 400);
}

#[tokio::test]
async fn an_address_in_use_is_an_error_that_names_it() {
    let first = Server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = first.local_address().unwrap();
    let error = Server::bind(address).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen at {address}"));
    let ServeError::Bind { source, .. } = error else { panic!("{error}") };
    assert_eq!(source.kind(), std::io::ErrorKind::AddrInUse);
}

#[tokio::test]
async fn a_silent_client_is_closed_at_the_header_deadline() {
    let world = world(ServerOptions::default().with_header_deadline(SHORT)).await;
    let mut silent = TcpStream::connect(world.address).await.unwrap();
    assert!(closed_after(&mut silent).await >= SHORT);
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_closed_at_the_header_deadline() {
    let world = world(ServerOptions::default().with_header_deadline(SHORT)).await;
    let (mut reading, mut writing) = TcpStream::connect(world.address).await.unwrap().into_split();
    let dripping = tokio::spawn(async move {
        for byte in HEALTH.iter().cycle().take_while(|byte| **byte != b'\r').cycle() {
            if writing.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, reading.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the connection stays open");
    assert_eq!(answer, b"");
    dripping.abort();
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_is_answered_and_closed() {
    let world = world(ServerOptions::default().with_body_deadline(SHORT)).await;
    let hook = world.hook(json!({})).await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let head = format!(
        "POST /api/v1/report/sales/webhook?token={} HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n{{",
        hook.token()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = tokio::time::timeout(PATIENCE, read_all(&mut stream)).await.expect("stays open");
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains(":malformed-body\""), "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert_eq!(world.runs().await, 0);
}

#[tokio::test]
async fn an_endless_chunked_body_is_answered_and_closed() {
    let world = world(ServerOptions::default()).await;
    let hook = world.hook(json!({})).await;
    let (mut reading, mut writing) = TcpStream::connect(world.address).await.unwrap().into_split();
    let head = format!(
        "POST /api/v1/report/sales/webhook?token={} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n",
        hook.token()
    );
    writing.write_all(head.as_bytes()).await.unwrap();
    let chunk = [b"10000\r\n".as_slice(), &vec![b' '; 65_536], b"\r\n"].concat();
    let sending = tokio::spawn(async move {
        let mut sent = 0_usize;
        while writing.write_all(&chunk).await.is_ok() {
            sent += chunk.len();
        }
        sent
    });
    let mut answer = Vec::new();
    // The system answers bytes that arrive too late by a reset, which may come before the answer was read.
    let read = tokio::time::timeout(PATIENCE, reading.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the connection stays open");
    let sent = tokio::time::timeout(PATIENCE, sending).await.expect("the body goes on for ever").unwrap();
    assert!(sent < 64 * 1024 * 1024, "{sent}");
}

#[tokio::test]
async fn an_idle_connection_is_closed_at_its_own_deadline_and_serves_until_then() {
    let options = ServerOptions::default().with_idle_deadline(3 * SHORT).with_header_deadline(SHORT);
    let world = world(options).await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    for _ in 0..2 {
        stream.write_all(HEALTH).await.unwrap();
        assert!(one_answer(&mut stream).await.starts_with("HTTP/1.1 200 "));
        tokio::time::sleep(SHORT + SHORT / 2).await;
    }
    assert!(closed_after(&mut stream).await >= SHORT);
}

#[tokio::test]
async fn a_client_that_takes_no_answer_is_closed() {
    let world = world(ServerOptions::default().with_write_deadline(SHORT)).await;
    let hook = world.hook(json!({})).await;
    let large = Step::Artifact {
        name: "large".into(),
        content_type: "application/octet-stream".into(),
        bytes: vec![b'x'; 64 * 1024 * 1024],
    };
    world.executor.script_next([large]);
    let call = world.post(&hook.url).header("prefer", "wait=20");
    let run = content(call.send().await.unwrap(), 200).await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let request = format!(
        "GET /api/v1/report/sales/runs/{}/artifacts/large HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\n\r\n",
        run["run_id"].as_str().unwrap(),
        hook.token()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    tokio::time::sleep(4 * SHORT).await;
    let mut taken = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut taken)).await;
    assert!(read.is_ok(), "the connection stays open");
    assert!(taken.len() < 64 * 1024 * 1024, "{}", taken.len());
}

#[tokio::test]
async fn connections_beyond_the_cap_wait_and_idle_ones_make_room() {
    let world = world(ServerOptions::default().with_connections(4)).await;
    let mut idle = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(HEALTH).await.unwrap();
        one_answer(&mut stream).await;
        idle.push(stream);
    }
    let silent: Vec<_> = connect_many(world.address, 20).await;
    let started = Instant::now();
    let url = format!("{}/healthz", world.base);
    assert_eq!(world.get(&url).send().await.unwrap().status(), 200);
    // Without making room, the idle connections would stay for a minute and the silent ones for ten seconds.
    assert!(started.elapsed() < Duration::from_secs(9), "{:?}", started.elapsed());
    drop((idle, silent));
}

async fn connect_many(address: std::net::SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for _ in 0..count {
        streams.push(TcpStream::connect(address).await.unwrap());
    }
    streams
}

#[tokio::test]
async fn a_busy_connection_is_never_closed_for_others() {
    let options = ServerOptions::default().with_connections(1);
    let server = Server::bind(([127, 0, 0, 1], 0).into()).await.unwrap().with_options(options);
    let address = server.local_address().unwrap();
    let (reached, mut arrived) = tokio::sync::mpsc::channel::<()>(1);
    let release = std::sync::Arc::new(tokio::sync::Notify::new());
    let released = release.clone();
    let slow = front::own(Some("slow"), move || {
        let (reached, released) = (reached.clone(), released.clone());
        async move {
            reached.send(()).await.unwrap();
            released.notified().await;
            b"done".to_vec()
        }
    });
    let routes = front::joined(slow, front::own(None, async || b"other".to_vec()));
    tokio::spawn(front::serve(server, routes, std::future::pending()));
    let mut busy = TcpStream::connect(address).await.unwrap();
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    arrived.recv().await.unwrap();
    let mut other = TcpStream::connect(address).await.unwrap();
    other.write_all(HEALTH).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(1_500), other.readable()).await;
    assert!(early.is_err(), "the other is served, or closed");
    release.notify_one();
    assert!(read_all(&mut busy).await.ends_with("done"));
    assert!(one_answer(&mut other).await.ends_with("other"));
}

/// Size of an answer that no socket's buffers hold.
pub(super) const LARGE: usize = 24 * 1024 * 1024;

/// Serves an answer that fills all buffers, and returns a connection that has requested it.
pub(super) async fn large_answer(
    options: ServerOptions,
) -> (TcpStream, tokio::sync::oneshot::Sender<()>, tokio::task::JoinHandle<Served>) {
    let server = Server::bind(([127, 0, 0, 1], 0).into()).await.unwrap().with_options(options);
    let address = server.local_address().unwrap();
    let large = front::own(None, async || vec![b'x'; LARGE]);
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let served = tokio::spawn(front::serve(server, large, async move {
        let _ = stopped.await;
    }));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(HEALTH).await.unwrap();
    stream.readable().await.unwrap();
    (stream, stop, served)
}

/// Reads for a while, steadily and slower than possible, then the rest; returns the number of bytes.
pub(super) async fn read_slowly(stream: &mut TcpStream, pauses: usize, pause: Duration) -> usize {
    let mut piece = vec![0; 256 * 1024];
    let mut total = 0;
    for _ in 0..pauses {
        total += stream.read(&mut piece).await.unwrap();
        tokio::time::sleep(pause).await;
    }
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    total + rest.len()
}

#[tokio::test]
async fn an_answer_that_is_read_slowly_is_no_idle_connection() {
    let options = ServerOptions::default().with_idle_deadline(SHORT);
    let (mut stream, stop, served) = large_answer(options).await;
    let total = read_slowly(&mut stream, 20, SHORT / 6).await;
    assert!(total > LARGE, "{total}");
    drop(stop);
    assert_eq!(served.await.unwrap().cut_off, 0);
}

#[tokio::test]
async fn a_panic_ends_one_connection_and_not_the_server() {
    let server = Server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = server.local_address().unwrap();
    let panics = front::own(Some("panic"), async || -> Vec<u8> { panic!("told to") });
    let routes = front::joined(panics, front::own(None, async || b"fine".to_vec()));
    tokio::spawn(front::serve(server, routes, std::future::pending()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /panic HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert_eq!(read_all(&mut stream).await, "");
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(HEALTH).await.unwrap();
    assert!(one_answer(&mut stream).await.ends_with("fine"));
}
