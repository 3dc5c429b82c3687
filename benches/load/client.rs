//! A client that does little besides sending, so that the server is what is measured.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What a load gave.
pub(crate) struct Load {
    /// How long each call took, sorted.
    pub(crate) latencies: Vec<Duration>,
    /// The runs that were answered with 202.
    pub(crate) runs: Vec<String>,
    /// How long it went on.
    pub(crate) elapsed: Duration,
}

/// Calls `url` over this many connections for this long.
pub(crate) async fn load(url: &str, connections: usize, time: Duration) -> Load {
    let (address, path) = url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).expect("a URL");
    let request = format!("POST /{path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\n\r\n");
    let started = Instant::now();
    let callers = (0..connections)
        .map(|_| tokio::spawn(call_until(address.to_owned(), request.clone(), started + time)));
    let (mut latencies, mut runs) = (Vec::new(), Vec::new());
    for caller in callers.collect::<Vec<_>>() {
        let (own_latencies, own_runs) = caller.await.expect("a caller");
        latencies.extend(own_latencies);
        runs.extend(own_runs);
    }
    latencies.sort_unstable();
    Load { latencies, runs, elapsed: started.elapsed() }
}

async fn call_until(address: String, request: String, end: Instant) -> (Vec<Duration>, Vec<String>) {
    let mut stream = TcpStream::connect(&address).await.expect("a connection");
    stream.set_nodelay(true).expect("no delay");
    let (mut latencies, mut runs) = (Vec::new(), Vec::new());
    let mut buffer = Vec::with_capacity(4096);
    while Instant::now() < end {
        let sent = Instant::now();
        stream.write_all(request.as_bytes()).await.expect("a request is sent");
        let answer = read_answer(&mut stream, &mut buffer).await;
        latencies.push(sent.elapsed());
        assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
        if let Some((_, rest)) = answer.split_once("\"run_id\":\"") {
            runs.push(rest.chars().take(36).collect());
        }
    }
    (latencies, runs)
}

/// Reads one answer with its body, whose length is given.
async fn read_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> String {
    buffer.clear();
    loop {
        let read = stream.read_buf(buffer).await.expect("an answer");
        assert!(read > 0, "the connection was closed");
        let text = std::str::from_utf8(buffer).expect("text");
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
        });
        if body.len() >= length.unwrap_or(0) {
            return text.to_owned();
        }
    }
}
