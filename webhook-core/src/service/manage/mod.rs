//! Management: what people and trusted programs do with webhooks and runs.
//!
//! Nothing here asks who calls; a front end checks that before.

mod deliveries;
mod error;
mod runs;
mod webhooks;
mod workflows;

use super::parts::Parts;

pub use deliveries::{ResentDeliveries, TestedNotification};
pub use error::ManagementError;
pub use runs::StartedRun;
pub use webhooks::CreatedWebhook;

/// The management operations of a service.
///
/// # Cancel safety
/// Operations that only read may be dropped at any time. When one that changes something is dropped, the change
/// may or may not have been made, but never half of it.
#[derive(Clone, Copy)]
pub struct Management<'a> {
    parts: &'a Parts,
}

impl<'a> Management<'a> {
    pub(super) fn new(parts: &'a Parts) -> Self {
        Self { parts }
    }
}

impl std::fmt::Debug for Management<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Management").finish_non_exhaustive()
    }
}
