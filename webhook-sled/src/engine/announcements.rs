//! Events, and signals that more runs or deliveries can be claimed.

use tokio::sync::Notify;
use webhook_core::backend::EventLog;

pub(crate) struct Announcements {
    pub(crate) events: EventLog,
    /// More runs may be claimed.
    pub(crate) runs_changed: Notify,
    /// More deliveries may be claimed.
    pub(crate) deliveries_changed: Notify,
}

impl Announcements {
    pub(crate) fn new() -> Self {
        Self { events: EventLog::new(), runs_changed: Notify::new(), deliveries_changed: Notify::new() }
    }
}
