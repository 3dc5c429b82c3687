//! Bounds of a server.

use std::time::Duration;

/// Bounds of a server.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct ServerOptions {
    /// Upper bound on the time for the head of a request, from its first byte or from the opening of the
    /// connection. Default: 10 s.
    pub header_deadline: Duration,
    /// Upper bound on the time for a body, from its first read. Default: 30 s.
    ///
    /// The contract's own routes also have
    /// [`Api::with_body_deadline`](webhook_http::Api::with_body_deadline).
    pub body_deadline: Duration,
    /// Upper bound on the time between two requests of a connection. Default: 60 s.
    pub idle_deadline: Duration,
    /// Upper bound on the time in which a client reads no byte of an answer. Default: 60 s.
    pub write_deadline: Duration,
    /// Upper bound on open connections. Beyond it, those that need theirs least are closed. Default: 1,024.
    pub connections: usize,
    /// Time for answers in progress at shutdown, before they are cut off. Default: 30 s.
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
    /// Sets the upper bound on the time for the head of a request.
    #[must_use]
    pub fn with_header_deadline(mut self, deadline: Duration) -> Self {
        self.header_deadline = deadline;
        self
    }

    /// Sets the upper bound on the time for a body.
    #[must_use]
    pub fn with_body_deadline(mut self, deadline: Duration) -> Self {
        self.body_deadline = deadline;
        self
    }

    /// Sets the upper bound on the time between two requests of a connection.
    #[must_use]
    pub fn with_idle_deadline(mut self, deadline: Duration) -> Self {
        self.idle_deadline = deadline;
        self
    }

    /// Sets the upper bound on the time in which a client reads no byte of an answer.
    #[must_use]
    pub fn with_write_deadline(mut self, deadline: Duration) -> Self {
        self.write_deadline = deadline;
        self
    }

    /// Sets the upper bound on open connections, at least 1.
    #[must_use]
    pub fn with_connections(mut self, connections: usize) -> Self {
        self.connections = connections.max(1);
        self
    }

    /// Sets the time for answers in progress at shutdown.
    #[must_use]
    pub fn with_shutdown_deadline(mut self, deadline: Duration) -> Self {
        self.shutdown_deadline = deadline;
        self
    }
}
