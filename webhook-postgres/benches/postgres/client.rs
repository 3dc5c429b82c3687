//! A client that does little besides sending. It runs on one thread, that of its runtime.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::calling::Called;

/// Beginning of the answer to an accepted call.
const ACCEPTED: &[u8] = b"HTTP/1.1 202 ";
const LENGTH: &[u8] = b"content-length: ";

/// Repeats a call over so many connections, which stay open, until the time is over.
pub(crate) async fn load(address: &str, request: Vec<u8>, connections: usize, time: Duration) -> Called {
    let mut streams = Vec::with_capacity(connections);
    for _ in 0..connections {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        streams.push(stream);
    }
    let (request, start) = (Arc::<[u8]>::from(request), Instant::now());
    let callers = streams.into_iter().map(|stream| tokio::spawn(call(stream, request.clone(), start + time)));
    let counts = join_all(callers.collect::<Vec<_>>()).await;
    Called { count: counts.into_iter().map(Result::unwrap).sum(), elapsed: start.elapsed() }
}

/// Returns the number of accepted calls.
async fn call(mut stream: TcpStream, request: Arc<[u8]>, end: Instant) -> u64 {
    let (mut count, mut answer) = (0, Vec::with_capacity(4096));
    while Instant::now() < end {
        stream.write_all(&request).await.unwrap();
        answer.clear();
        while !is_whole(&answer) {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "the server closed the connection");
        }
        assert!(answer.starts_with(ACCEPTED), "{}", String::from_utf8_lossy(&answer));
        count += 1;
    }
    count
}

fn is_whole(answer: &[u8]) -> bool {
    let Some(head) = answer.windows(4).position(|part| part == b"\r\n\r\n") else { return false };
    let length = answer[..head].split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(LENGTH));
    let length = length.map_or(0, |text| std::str::from_utf8(text).unwrap().trim().parse().unwrap());
    answer.len() >= head + 4 + length
}
