//! A server for warp filters that holds out against slow, silent and too many clients, and that stops in time.
//!
//! It speaks HTTP/1.1 without TLS, as behind a reverse proxy.
//!
//! What cannot be read as a request is answered by hyper itself, before any filter sees it: 400 for what is not
//! HTTP, 414 for a request target of more than 65,534 bytes, 431 for too large or too many headers. These answers
//! have no body, so no problem document, and none of the common headers, and the connection is closed after them.
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

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use warp::{Filter, Rejection, Reply};
use webhook_http::ShutdownSource;

use connection::Shared;

/// How long to wait after an error that concerns the whole process, such as too many open files.
const PAUSE: Duration = Duration::from_millis(200);

/// The bounds of a server.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct ServerOptions {
    /// How long the head of a request may take, from its first byte, or from the opening of the connection. 10 s.
    pub header_deadline: Duration,
    /// How long a body may take once it is read. 30 s.
    pub body_deadline: Duration,
    /// How long a connection may stay open between two requests. 60 s.
    pub idle_deadline: Duration,
    /// How long a client may take no byte of an answer. 60 s.
    pub write_deadline: Duration,
    /// How many connections are open at once; more wait to be accepted, and idle ones are closed for them. 1,024.
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
        self.connections = connections.clamp(1, Semaphore::MAX_PERMITS);
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
        let listener = TcpListener::bind(address).await;
        listener.map(Self::from_listener).map_err(|source| ServeError::Bind { address, source })
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
        let slots = Slots::new(options.connections);
        let shared = Arc::new(Shared { options, shutdown: source.signal(), crowded: slots.crowded() });
        let mut connections = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        loop {
            while let Some(ended) = connections.try_join_next() {
                note(ended);
            }
            let next = async {
                let slot = slots.take().await;
                (accept(&listener).await, slot)
            };
            let ((stream, peer), slot) = tokio::select! {
                biased;
                () = &mut shutdown => break,
                next = next => next,
            };
            let serving = connection::serve(stream, peer, service.clone(), shared.clone());
            connections.spawn(async move {
                serving.await;
                drop(slot);
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
        let cut_off = connections.len();
        connections.shutdown().await;
        Served { cut_off }
    }
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

/// The places for connections. When all are taken, connections that do nothing are told to make room, until
/// an eighth of the places is free again.
struct Slots {
    free: Arc<Semaphore>,
    enough: usize,
    crowded: watch::Sender<bool>,
}

impl Slots {
    fn new(connections: usize) -> Self {
        let free = Arc::new(Semaphore::new(connections));
        Self { free, enough: (connections / 8).max(1), crowded: watch::Sender::new(false) }
    }

    fn crowded(&self) -> watch::Receiver<bool> {
        self.crowded.subscribe()
    }

    async fn take(&self) -> Option<OwnedSemaphorePermit> {
        let free = self.free.available_permits();
        let crowded = free == 0 || *self.crowded.borrow() && free < self.enough;
        self.crowded.send_if_modified(|present| std::mem::replace(present, crowded) != crowded);
        // The semaphore is never closed, so there is always a permit in the end.
        self.free.clone().acquire_owned().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn crowding_is_told_when_the_last_slot_is_gone_and_ends_with_some_slack() {
        let slots = Slots::new(16);
        let crowded = slots.crowded();
        let mut taken = Vec::new();
        for _ in 0..16 {
            taken.push(slots.take().await);
        }
        assert!(!*crowded.borrow());
        assert!(tokio::time::timeout(Duration::from_millis(1), slots.take()).await.is_err());
        assert!(*crowded.borrow());
        taken.truncate(15);
        taken.push(slots.take().await);
        assert!(*crowded.borrow());
        taken.truncate(14);
        taken.push(slots.take().await);
        assert!(!*crowded.borrow());
    }

    #[test]
    fn too_many_open_files_are_no_fault_of_one_client() {
        assert!(!is_of_one_client(&io::Error::from_raw_os_error(24)));
        assert!(is_of_one_client(&io::ErrorKind::ConnectionAborted.into()));
    }
}
