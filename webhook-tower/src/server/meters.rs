//! Metrics of connections.

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

/// Reason for which the server ended a connection.
#[derive(Debug, Clone, Copy)]
pub(super) enum Closed {
    /// It exceeded its deadline.
    Overdue,
    /// Others needed its place.
    MadeRoom,
    /// Its bytes are not a request.
    Unreadable,
    /// The shutdown reached its deadline.
    CutOff,
}

/// Counters of one server.
pub(super) struct Meters {
    pub(super) open: Gauge,
    overdue: Counter,
    made_room: Counter,
    unreadable: Counter,
    cut_off: Counter,
}

impl Meters {
    pub(super) fn new() -> Self {
        describe_gauge!("webhook_connections_open", "Connections that are open");
        describe_counter!("webhook_connections_closed_total", "Connections that the server ended, by why");
        let closed = |reason: &'static str| counter!("webhook_connections_closed_total", "reason" => reason);
        Self {
            open: gauge!("webhook_connections_open"),
            overdue: closed("overdue"),
            made_room: closed("made_room"),
            unreadable: closed("unreadable"),
            cut_off: closed("cut_off"),
        }
    }

    pub(super) fn closed(&self, closed: Closed) {
        match closed {
            Closed::Overdue => &self.overdue,
            Closed::MadeRoom => &self.made_room,
            Closed::Unreadable => &self.unreadable,
            Closed::CutOff => &self.cut_off,
        }
        .increment(1);
    }
}
