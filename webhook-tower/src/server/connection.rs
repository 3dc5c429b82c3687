//! One connection: served until it ends, or until its deadline.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::{BodyExt, Either};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tower_service::Service;
use webhook_core::error::BoxError;
use webhook_http::{Api, PeerAddress, ResponseBody, ShutdownSignal};

use super::activity::{Activity, MakeRoom};
use super::bodies::{AnsweringBody, TimelyBody};
use super::head::refusal;
use super::meters::{Closed, Meters};
use super::options::ServerOptions;
use super::watched::Watched;

/// Upper bound on the memory for the head of a request, and so on its length.
const HEAD_BYTES: usize = 64 * 1024;
/// Upper bound on the time for sending a last answer.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// State shared by all connections.
pub(super) struct Shared {
    pub(super) options: ServerOptions,
    pub(super) shutdown: ShutdownSignal,
    pub(super) meters: Meters,
}

pub(super) async fn serve<S, B>(
    stream: TcpStream,
    peer: SocketAddr,
    service: S,
    activity: Activity,
    shared: Arc<Shared>,
) where
    S: Service<Request<TimelyBody>, Response = Response<B>, Error = Infallible> + Clone,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection cannot be set up");
        return;
    }
    let io = TokioIo::new(Watched::new(stream, activity.clone()));
    let (own, server) = (activity.clone(), shared.clone());
    let answer = service_fn(move |mut request: Request<Incoming>| {
        let answering = own.begin();
        let extensions = request.extensions_mut();
        extensions.insert(PeerAddress(peer.ip()));
        extensions.insert(server.shutdown.clone());
        extensions.insert(own.room().clone());
        let (allowed, activity) = (server.options.body_deadline, own.clone());
        let request = request.map(|body| TimelyBody::new(body, allowed, activity));
        let service = service.clone();
        async move {
            let answer = match refusal(&request) {
                Some((status, detail)) => last_answer(status, detail, request.headers()).map(Either::Left),
                None => answered(service, request).await?.map(Either::Right),
            };
            Ok::<_, Infallible>(answer.map(|body| AnsweringBody::new(body, answering)))
        }
    });
    let mut connection =
        http1::Builder::new().header_read_timeout(None).max_buf_size(HEAD_BYTES).serve_connection(io, answer);
    let mut stopping = None;
    loop {
        tokio::select! {
            biased;
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended");
                    let (stream, status) = connection.into_parts().io.into_inner().into_parts();
                    let is_http2 = status.is_none() && error.is_parse() && !activity.is_answering();
                    if let Some(status) = status.or(is_http2.then_some(StatusCode::HTTP_VERSION_NOT_SUPPORTED)) {
                        shared.meters.closed(Closed::Unreadable);
                        let _ = timeout(LAST_WORDS, say(stream, status)).await;
                    }
                }
                return;
            }
            () = overdue(&activity, &shared.options, stopping) => {
                tracing::debug!("a connection did nothing for too long");
                shared.meters.closed(Closed::Overdue);
                return;
            }
            () = activity.asked() => match activity.make_room() {
                MakeRoom::Close => {
                    tracing::debug!("a connection makes room for others");
                    shared.meters.closed(Closed::MadeRoom);
                    return;
                }
                MakeRoom::GiveUpBody => {
                    tracing::debug!("a body that comes slowly makes room for others");
                    shared.meters.closed(Closed::MadeRoom);
                }
                MakeRoom::GoOn => {}
            },
            () = shared.shutdown.shutting_down(), if stopping.is_none() => {
                stopping = Some(Instant::now());
                std::pin::Pin::new(&mut connection).graceful_shutdown();
            }
        }
    }
}

/// Calls a service once it is ready.
async fn answered<S, R>(mut service: S, request: R) -> Result<S::Response, S::Error>
where
    S: Service<R>,
{
    poll_fn(|context| service.poll_ready(context)).await?;
    service.call(request).await
}

/// Returns an answer that ends its connection, since the following bytes cannot be trusted.
fn last_answer(status: StatusCode, detail: &str, headers: &HeaderMap) -> Response<ResponseBody> {
    let mut answer = Api::refuse(status, detail, headers);
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// Answers bytes that hyper could not parse as a request.
async fn say(mut stream: impl AsyncWrite + Unpin, status: StatusCode) -> std::io::Result<()> {
    let detail = match status {
        StatusCode::URI_TOO_LONG => "the request target is too long",
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => "the header fields are too large or too many",
        StatusCode::HTTP_VERSION_NOT_SUPPORTED => "HTTP/1.1 is spoken here",
        _ => "this is no HTTP/1.1 request",
    };
    let (parts, body) = last_answer(status, detail, &HeaderMap::new()).into_parts();
    let reason = status.canonical_reason().unwrap_or_default();
    let mut text = format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).into_bytes();
    for (name, value) in &parts.headers {
        text.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    text.extend(b"\r\n");
    if let Ok(body) = body.collect().await {
        text.extend(body.to_bytes());
    }
    stream.write_all(&text).await?;
    stream.shutdown().await
}

/// Waits until the connection has exceeded its deadline.
///
/// The state changes only while the connection's task is polled, and then the deadline is read again.
async fn overdue(activity: &Activity, options: &ServerOptions, stopping: Option<Instant>) {
    let mut timer = pin!(sleep_until(Instant::now()));
    poll_fn(|context| match activity.deadline(options, stopping) {
        None => Poll::Pending,
        Some(deadline) => {
            if timer.deadline() != deadline {
                timer.as_mut().reset(deadline);
            }
            timer.as_mut().poll(context)
        }
    })
    .await;
}
