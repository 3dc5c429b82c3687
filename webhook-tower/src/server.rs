//! A server for tower services that withstands slow, silent and too many clients, and that stops in time.
//!
//! It serves an [`ApiService`](crate::ApiService), a router of axum, and a filter of warp by `warp::service`.
//!
//! It speaks HTTP/1.1 without TLS, as behind a reverse proxy.
//!
//! Invalid HTTP is refused before the service sees it. The last answer of such a connection is a problem of
//! the type `about:blank`:
//!
//! - 400: not HTTP, a target without a path, or not exactly one valid `Host`
//! - 414: a target of more than 65,534 bytes
//! - 431: too large or too many headers
//! - 501: a `Transfer-Encoding` other than `chunked`
//! - 505: HTTP/2
//!
//! # When connections run short
//!
//! At most [`ServerOptions::connections`] are open. A further one always gets a place while any other does
//! not need its own:
//!
//! - an idle connection
//! - one that has brought no whole request for 100 ms
//! - one whose client has read nothing of its answer for half a second
//! - one whose body arrives at less than 16 KiB a second (its call is answered 400)
//!
//! Of these, the holder with the most connections gives way first. The holder is the webhook whose valid
//! token was shown, or before that the address.
//! So the callers behind one proxy are limited against others only when connections run short.
//! A connection whose request is being answered is never closed for others.
//!
//! From the last eighth of the connections on, calls that wait for their runs are answered 202 at once, and
//! unwanted bodies are not read.
//! [`webhook_http::RoomSource`] defines the share of the connections that callers have at any time. The rest is left to health checks and management.
//!
//! ```
//! # async fn example(webhooks: webhook_core::Webhooks) -> Result<(), Box<dyn std::error::Error>> {
//! use webhook_http::{AdminAccess, Api};
//! use webhook_tower::{ApiService, server::Server};
//!
//! let service = ApiService::new(Api::new(webhooks.clone(), AdminAccess::Disabled));
//! let server = Server::bind(([127, 0, 0, 1], 8080).into()).await?;
//! let stop = async { /* wait for a signal */ };
//! server.serve(service, stop).await;
//! # Ok(())
//! # }
//! ```

mod activity;
mod bodies;
mod connection;
mod head;
mod meters;
mod options;
mod slots;
mod watched;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tower_service::Service;
use webhook_core::error::BoxError;
use webhook_http::ShutdownSource;

pub use bodies::TimelyBody;
use connection::Shared;
use meters::{Closed, Meters};
pub use options::ServerOptions;
use slots::Slots;

/// Pause after an error that concerns the whole process, such as too many open files.
const PAUSE: Duration = Duration::from_millis(200);
/// Upper bound on connections that wait to be accepted; the system may allow fewer.
const BACKLOG: u32 = 4_096;

/// Error of starting a server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The server cannot listen at the address.
    #[error("cannot listen at {address}")]
    Bind {
        /// Address that was requested.
        address: SocketAddr,
        /// Error of the operating system.
        source: io::Error,
    },
}

/// Result of serving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Served {
    /// Number of connections that were cut off at the deadline of the shutdown.
    pub cut_off: usize,
}

/// A listening server, which starts to serve when it gets its service.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    options: ServerOptions,
}

impl Server {
    /// Listens at an address.
    ///
    /// Fails with [`ServeError::Bind`].
    ///
    /// # Cancel safety
    /// A dropped call leaves no listener.
    pub async fn bind(address: SocketAddr) -> Result<Self, ServeError> {
        listen(address).map(Self::from_listener).map_err(|source| ServeError::Bind { address, source })
    }

    /// Serves at a listener that the host has opened.
    #[must_use]
    pub fn from_listener(listener: TcpListener) -> Self {
        Self { listener, options: ServerOptions::default() }
    }

    /// Sets the bounds.
    #[must_use]
    pub fn with_options(mut self, options: ServerOptions) -> Self {
        self.options = options;
        self
    }

    /// Returns the address of the listener; its port is known even if any free port was requested.
    ///
    /// Fails with the error of the operating system.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown` completes, then stops.
    ///
    /// To stop, it accepts nothing more, closes idle connections at once, lets answers in progress end, and
    /// cuts off the rest at the deadline.
    /// Calls that wait for their run (`Prefer: wait`) are answered when the shutdown begins.
    ///
    /// So clients see a shutdown as refused or closed connections: the listener closes at once, and an answer
    /// in progress is the last of its connection.
    /// Only a connection whose request is being read at that moment gets a 503 `shutting-down`, or a
    /// `/readyz` of 503.
    ///
    /// A load balancer that must be told first has to be told before `shutdown` completes.
    /// Let the service refuse calls ([`Webhooks::stop_accepting`](webhook_core::Webhooks::stop_accepting)),
    /// wait until the balancer has noticed, and then complete `shutdown`.
    ///
    /// Each request has the [`PeerAddress`](webhook_http::PeerAddress), the
    /// [`ShutdownSignal`](webhook_http::ShutdownSignal) and the [`Room`](webhook_http::Room) of its connection in its
    /// extensions. Each connection has a clone of `service`.
    ///
    /// # Cancel safety
    /// When dropped, all connections are cut off.
    pub async fn serve<S, B>(self, service: S, shutdown: impl Future<Output = ()>) -> Served
    where
        S: Service<Request<TimelyBody>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let Self { listener, options } = self;
        let source = ShutdownSource::new();
        let shared = Arc::new(Shared { options, shutdown: source.signal(), meters: Meters::new() });
        let slots = Slots::new(options.connections, shared.meters.open.clone());
        let mut connections = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        loop {
            while let Some(ended) = connections.try_join_next() {
                note(ended);
            }
            let next = async {
                let (stream, peer) = accept(&listener).await;
                (stream, peer, slots.take(peer.ip()).await)
            };
            let (stream, peer, slot) = tokio::select! {
                biased;
                () = &mut shutdown => break,
                next = next => next,
            };
            let serving =
                connection::serve(stream, peer, service.clone(), slot.activity.clone(), shared.clone());
            connections.spawn(async move {
                // Released even after a panic.
                let _slot = slot;
                serving.await;
            });
        }
        drop(listener);
        source.shut_down();
        let ending = async {
            while let Some(ended) = connections.join_next().await {
                note(ended);
            }
        };
        // The number of remaining connections shows whether it took too long.
        let _ = tokio::time::timeout(options.shutdown_deadline, ending).await;
        while let Some(ended) = connections.try_join_next() {
            note(ended);
        }
        let cut_off = connections.len();
        for _ in 0..cut_off {
            shared.meters.closed(Closed::CutOff);
        }
        connections.shutdown().await;
        Served { cut_off }
    }
}

/// Listens with a long backlog: a client that the system turns away tries again only after a second.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts the next connection. An error never ends the server: it concerns one client, or is temporary.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_one_client(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted now");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn is_of_one_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

fn note(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("a panic ended a connection");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_open_files_are_no_fault_of_one_client() {
        assert!(!is_of_one_client(&io::Error::from_raw_os_error(24)));
        assert!(is_of_one_client(&io::ErrorKind::ConnectionAborted.into()));
    }
}
