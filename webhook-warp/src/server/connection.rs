//! One connection: it is served until it ends, or until it has done nothing for too long.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tower_service::Service;
use warp::reply::Response as WarpResponse;
use webhook_http::ShutdownSignal;

use super::ServerOptions;
use super::activity::{Activity, Watched};
use super::bodies::{AnsweringBody, TimelyBody};
use crate::PeerAddress;

/// The most memory that the head of a request gets, which bounds its length.
const HEAD_BYTES: usize = 64 * 1024;

/// What all connections share.
pub(super) struct Shared {
    pub(super) options: ServerOptions,
    pub(super) shutdown: ShutdownSignal,
    /// Whether other connections wait for one to end.
    pub(super) crowded: watch::Receiver<bool>,
}

pub(super) async fn serve<S>(stream: TcpStream, peer: SocketAddr, service: S, shared: Arc<Shared>)
where
    S: Service<Request<TimelyBody>, Response = WarpResponse, Error = Infallible> + Clone,
{
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection cannot be set up");
        return;
    }
    let activity = Activity::new();
    let io = TokioIo::new(Watched::new(stream, activity.clone()));
    let answer = service_fn(|mut request: Request<Incoming>| {
        let answering = activity.begin();
        request.extensions_mut().insert(PeerAddress(peer.ip()));
        request.extensions_mut().insert(shared.shutdown.clone());
        let request = request.map(|body| TimelyBody::new(body, shared.options.body_deadline));
        let answer = service.clone().call(request);
        async move {
            answer.await.map(|answer: Response<_>| answer.map(|body| AnsweringBody::new(body, answering)))
        }
    });
    let connection =
        http1::Builder::new().header_read_timeout(None).max_buf_size(HEAD_BYTES).serve_connection(io, answer);
    let mut connection = pin!(connection);
    let mut crowded = shared.crowded.clone();
    let mut hurried = crowded.borrow_and_update().then(Instant::now);
    let mut is_shutting_down = false;
    loop {
        tokio::select! {
            biased;
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended");
                }
                return;
            }
            () = overdue(&activity, &shared.options, hurried) => {
                tracing::debug!("a connection did nothing for too long");
                return;
            }
            () = shared.shutdown.shutting_down(), if !is_shutting_down => {
                is_shutting_down = true;
                hurried = Some(Instant::now());
                connection.as_mut().graceful_shutdown();
            }
            Ok(()) = crowded.changed(), if !is_shutting_down => {
                hurried = crowded.borrow_and_update().then(Instant::now);
            }
        }
    }
}

/// Waits until the connection has gone on for too long. What it does changes only while its task is polled, and
/// then the deadline is looked at again.
async fn overdue(activity: &Activity, options: &ServerOptions, hurried: Option<Instant>) {
    let mut timer = pin!(sleep_until(Instant::now()));
    poll_fn(|context| match activity.deadline(options, hurried) {
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
