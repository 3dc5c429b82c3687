//! A client that does little besides sending, so that the server is what is measured.
//!
//! It runs on one thread, that of its runtime.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Text before a run id.
const RUN: &[u8] = b"\"run_id\":\"";
/// The length of a run id.
const ID_BYTES: usize = 36;
/// The status of a full queue.
const UNAVAILABLE: u16 = 503;

/// The calls to make, and their bounds.
#[derive(Debug, Clone)]
pub(crate) struct Plan<'a> {
    /// The server, as `host:port`.
    pub(crate) address: &'a str,
    /// The bytes of each call.
    pub(crate) request: Vec<u8>,
    /// The status of an answer that is right.
    pub(crate) status: u16,
    pub(crate) connections: usize,
    /// Upper bound on the time.
    pub(crate) time: Duration,
    /// Upper bound on the number of calls.
    pub(crate) calls: u64,
}

/// The outcome of calls.
#[derive(Debug, Default)]
pub(crate) struct Load {
    /// The time that each took that was not refused, in no order.
    pub(crate) latencies: Vec<Duration>,
    /// The runs that were acknowledged.
    pub(crate) runs: Vec<[u8; ID_BYTES]>,
    /// The number of calls answered with 503.
    pub(crate) refused: u64,
    /// The time from the first call to the last answer.
    pub(crate) elapsed: Duration,
}

impl Load {
    pub(crate) fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// The times within which these shares of the calls, in percent, were answered.
    pub(crate) fn percentiles<const N: usize>(&self, percents: [usize; N]) -> [Duration; N] {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        percents.map(|percent| sorted.get(sorted.len() * percent / 100).copied().unwrap_or_default())
    }
}

/// Opens the connections, then calls over all of them.
pub(crate) async fn load(plan: Plan<'_>) -> Load {
    let mut streams = Vec::with_capacity(plan.connections);
    for _ in 0..plan.connections {
        let stream = TcpStream::connect(plan.address).await.expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        streams.push(stream);
    }
    let request: Arc<[u8]> = plan.request.into();
    let budget = Arc::new(AtomicU64::new(plan.calls));
    let started = Instant::now();
    let callers: Vec<_> = streams
        .into_iter()
        .map(|stream| {
            let caller = Caller { stream, buffer: Vec::with_capacity(4096), status: plan.status };
            tokio::spawn(caller.call(request.clone(), budget.clone(), started + plan.time))
        })
        .collect();
    let ended = join_all(callers).await;
    let mut all = Load { elapsed: started.elapsed(), ..Load::default() };
    for own in ended {
        let own = own.expect("a caller");
        all.latencies.extend(own.latencies);
        all.runs.extend(own.runs);
        all.refused += own.refused;
    }
    all
}

/// A connection with room for its answers.
struct Caller {
    stream: TcpStream,
    buffer: Vec<u8>,
    status: u16,
}

impl Caller {
    async fn call(mut self, request: Arc<[u8]>, budget: Arc<AtomicU64>, end: Instant) -> Load {
        let mut load = Load::default();
        while Instant::now() < end && take_one(&budget) {
            let sent = Instant::now();
            self.stream.write_all(&request).await.expect("a request is sent");
            let answer = self.answer().await;
            if answer.status == UNAVAILABLE {
                load.refused += 1;
                continue;
            }
            assert_eq!(answer.status, self.status, "{}", String::from_utf8_lossy(&self.buffer));
            load.latencies.push(sent.elapsed());
            load.runs.extend(run_id(&self.buffer[answer.body..]));
        }
        load
    }

    /// Reads one answer with its body.
    async fn answer(&mut self) -> Answer {
        self.buffer.clear();
        loop {
            let read = self.stream.read_buf(&mut self.buffer).await.expect("an answer");
            assert!(read > 0, "the server closed the connection");
            if let Some(answer) = Answer::of(&self.buffer) {
                return answer;
            }
        }
    }
}

fn take_one(budget: &AtomicU64) -> bool {
    budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}

/// The head of an answer.
struct Answer {
    status: u16,
    /// Where the body begins.
    body: usize,
}

impl Answer {
    /// Reads an answer if all of it is there.
    fn of(bytes: &[u8]) -> Option<Self> {
        let head = bytes.windows(4).position(|part| part == b"\r\n\r\n")?;
        let body = head + 4;
        let length = bytes[..head].split(|byte| *byte == b'\n').find_map(content_length).unwrap_or(0);
        let status = std::str::from_utf8(bytes.get(9..12)?).ok()?.parse().ok()?;
        (bytes.len() >= body + length).then_some(Self { status, body })
    }
}

fn run_id(body: &[u8]) -> Option<[u8; ID_BYTES]> {
    let place = body.windows(RUN.len()).position(|part| part == RUN)?;
    body[place + RUN.len()..].first_chunk().copied()
}

fn content_length(line: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    let (name, value) = line.split_at_checked(NAME.len())?;
    let is_it = name.eq_ignore_ascii_case(NAME);
    is_it.then(|| std::str::from_utf8(value).ok()?.trim().parse().ok()).flatten()
}
