//! A server for warp filters that holds out against slow, silent and too many clients, and that stops in time.
//!
//! It speaks HTTP/1.1 without TLS, as behind a reverse proxy.
//!
//! What is no proper HTTP is refused before any filter sees it, with a problem of the type `about:blank` as the last
//! answer of its connection: 400 for what is not HTTP, has a target without a path or not exactly one proper `Host`,
//! 414 for a target of more than 65,534 bytes, 431 for too large or too many headers, 501 for a `Transfer-Encoding`
//! other than `chunked`, and 505 for HTTP/2.
//!
//! # When connections run short
//!
//! At most [`ServerOptions::connections`] are open. A further one always gets a place while any other does not need
//! its own: an idle one, one that has brought no whole request for 100 ms, one whose client takes nothing of its
//! answer for half a second, or a body that comes at less than 16 KiB a second (its call is answered 400). Of these,
//! the webhook, or before a right token was shown the address, that holds most of them gives way first. So the
//! callers behind one proxy are limited against others only when connections run short. A connection whose request
//! is being answered is never closed for others.
//!
//! From the last eighth of the connections on, calls that wait for their runs are answered 202 at once, and nothing
//! is read of bodies that nobody wants. [`webhook_http::RoomSource`] says which share callers have of the
//! connections at any time; the rest is left to health checks and management.
//!
//! ```no_run
//! # async fn example(webhooks: webhook_core::Webhooks) -> Result<(), Box<dyn std::error::Error>> {
//! use webhook_warp::server::Server;
//!
//! let server = Server::bind(([127, 0, 0, 1], 8080).into()).await?;
//! let stop = async { /* wait for a signal */ };
//! server.serve(webhook_warp::routes(&webhooks), stop).await;
//! # Ok(())
//! # }
//! ```

mod activity;
mod bodies;
mod connection;
mod head;
mod meters;
mod slots;
mod watched;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinError, JoinSet};
use warp::{Filter, Rejection, Reply};
use webhook_http::ShutdownSource;

use connection::Shared;
use meters::{Closed, Meters};
use slots::Slots;

/// How long to wait after an error that concerns the whole process, such as too many open files.
const PAUSE: Duration = Duration::from_millis(200);
/// How many connections may wait to be accepted; the system may allow fewer.
const BACKLOG: u32 = 4_096;

/// The bounds of a server.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct ServerOptions {
    /// How long the head of a request may take, from its first byte, or from the opening of the connection. 10 s.
    pub header_deadline: Duration,
    /// How long a body may take once it is read. 30 s. The contract's own routes have a deadline besides:
    /// [`Api::with_body_deadline`](webhook_http::Api::with_body_deadline).
    pub body_deadline: Duration,
    /// How long a connection may stay open between two requests. 60 s.
    pub idle_deadline: Duration,
    /// How long a client may take no byte of an answer. 60 s.
    pub write_deadline: Duration,
    /// Upper bound on open connections. Beyond it, those that need theirs least make room. 1,024.
    pub connections: usize,
    /// How long answers under way get at shutdown before they are cut off. 30 s.
    pub shutdown_deadline: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            header_deadline: Duration::from_secs(10),
            body_deadline: Duration::from_secs(30),
            idle_deadline: Duration::from_secs(60),
            write_deadline: Duration::from_secs(60),
            connections: 1_024,
            shutdown_deadline: Duration::from_secs(30),
        }
    }
}

impl ServerOptions {
    /// Sets how long the head of a request may take.
    #[must_use]
    pub fn with_header_deadline(mut self, deadline: Duration) -> Self {
        self.header_deadline = deadline;
        self
    }

    /// Sets how long a body may take.
    #[must_use]
    pub fn with_body_deadline(mut self, deadline: Duration) -> Self {
        self.body_deadline = deadline;
        self
    }

    /// Sets how long a connection may stay open between two requests.
    #[must_use]
    pub fn with_idle_deadline(mut self, deadline: Duration) -> Self {
        self.idle_deadline = deadline;
        self
    }

    /// Sets how long a client may take no byte of an answer.
    #[must_use]
    pub fn with_write_deadline(mut self, deadline: Duration) -> Self {
        self.write_deadline = deadline;
        self
    }

    /// Sets how many connections are open at once, at least 1.
    #[must_use]
    pub fn with_connections(mut self, connections: usize) -> Self {
        self.connections = connections.max(1);
        self
    }

    /// Sets how long answers under way get at shutdown.
    #[must_use]
    pub fn with_shutdown_deadline(mut self, deadline: Duration) -> Self {
        self.shutdown_deadline = deadline;
        self
    }
}

/// Why a server cannot serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address cannot be listened at.
    #[error("cannot listen at {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// How serving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Served {
    /// How many connections were cut off at the deadline of the shutdown.
    pub cut_off: usize,
}

/// A server that listens already and serves once it is told what.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    options: ServerOptions,
}

impl Server {
    /// Listens at an address.
    ///
    /// # Errors
    /// [`ServeError::Bind`].
    ///
    /// # Cancel safety
    /// When dropped, nothing is listened at.
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

    /// Where it listens; the port is known even if any free one was asked for.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown` is over: then it accepts nothing more, closes idle connections at once, lets answers
    /// under way end, and cuts off what is left at the deadline. Calls that wait for their run (`Prefer: wait`) are
    /// answered when the shutdown begins.
    ///
    /// So draining shows as connections that are refused or closed: the listener is gone at once, and an answer
    /// under way is the last of its connection. A `/readyz` of 503 or a 503 `shutting-down` is
    /// seen only on a connection whose request is being read at that moment. A load balancer that must be told first
    /// has to be told before `shutdown` is over: let the service refuse calls
    /// ([`Webhooks::stop_accepting`](webhook_core::Webhooks::stop_accepting)), wait for as long as the balancer takes
    /// to notice, and then end `shutdown`.
    ///
    /// What `filter` rejects is answered by warp's default replies.
    ///
    /// # Cancel safety
    /// When dropped, all connections are cut off.
    pub async fn serve<F, R>(self, filter: F, shutdown: impl Future<Output = ()>) -> Served
    where
        F: Filter<Extract = (R,)> + Send + Sync + 'static,
        F::Error: Into<Rejection>,
        R: Reply + Send + 'static,
    {
        let Self { listener, options } = self;
        let service = warp::service(filter.boxed());
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
                // Free again also after a panic.
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
        // Whether it took too long shows in how many are left.
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

/// Listens with room for a rush: whom the system turns away for want of it tries again only after a second.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The next connection. Errors never end a server: one client's do not concern it, and others pass.
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
