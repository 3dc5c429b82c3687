//! Management: operations of people and trusted programs on webhooks and runs.
//!
//! They authenticate no caller; a front end does that before.

mod calls;
mod deliveries;
mod ensure;
mod error;
mod runs;
mod senders;
mod webhooks;
mod workflows;

use super::parts::Parts;

pub use deliveries::{ResentDeliveries, TestedNotification};
pub use ensure::EnsuredWebhook;
pub use error::{ManagementError, NotReplayable};
pub use runs::StartedRun;
pub use senders::{AddedSecret, CallPreview, PreviewProblem, SampleCall};
pub use webhooks::CreatedWebhook;

/// Management operations of a service.
///
/// # Errors
/// Every operation may fail with [`ManagementError::Store`], and with [`ManagementError::NotFound`] if it
/// names a record that does not exist. The operations list further errors only.
///
/// # Cancel safety
/// Operations that only read may be dropped at any time. When an operation that changes something is dropped,
/// the change may or may not have been made, but never half of it.
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
