//! Addresses below the base URL. None of them holds a token.

use std::fmt::Display;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use webhook_core::Webhooks;
use webhook_core::id::{RunId, SecretId, WebhookId};
use webhook_core::notifier::Delivery;
use webhook_core::run::{Artifact, Run};

use crate::contract::operations::Operation;
use crate::contract::wire::run::{CallerRun, ManagedRun};
use crate::contract::wire::value::Detail;

/// Characters that a segment of a path holds as they are (RFC 3986 section 2.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Bytes that most paths fit into.
const PATH_BYTES: usize = 128;

/// Makes addresses from the paths of operations.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Links<'a>(&'a Webhooks);

impl<'a> Links<'a> {
    pub(crate) fn new(webhooks: &'a Webhooks) -> Self {
        Self(webhooks)
    }

    /// Returns the address at which callers read a run.
    pub(crate) fn status(self, run: &Run) -> String {
        self.to(Operation::ReadOwnRun, &[&run.workflow().kind, &run.workflow().id, &run.id()])
    }

    /// Returns the address at which a run is managed.
    pub(crate) fn run(self, run: RunId) -> String {
        self.to(Operation::ReadRun, &[&run])
    }

    /// Returns the address at which a webhook is managed.
    pub(crate) fn webhook(self, webhook: WebhookId) -> String {
        self.to(Operation::ReadWebhook, &[&webhook])
    }

    /// Returns the address at which a secret of a webhook's sender is removed.
    pub(crate) fn secret(self, webhook: WebhookId, secret: SecretId) -> String {
        self.to(Operation::RemoveSecret, &[&webhook, &secret])
    }

    /// Shows a whole run to its callers.
    pub(crate) fn caller_run(self, run: &Run) -> CallerRun<'_> {
        CallerRun::new(run, |artifact| {
            let name = utf8_percent_encode(&artifact.name, SEGMENT);
            self.to(Operation::ReadOwnArtifact, &[&run.workflow().kind, &run.workflow().id, &run.id(), &name])
        })
    }

    /// Shows a run to people who manage it.
    pub(crate) fn managed_run<'r>(
        self,
        run: &'r Run,
        deliveries: impl IntoIterator<Item = &'r Delivery>,
        detail: Detail,
    ) -> ManagedRun<'r> {
        let address = |artifact: &Artifact| {
            self.to(Operation::ReadArtifact, &[&run.id(), &utf8_percent_encode(&artifact.name, SEGMENT)])
        };
        ManagedRun::new(run, deliveries, address, detail)
    }

    fn to(self, operation: Operation, values: &[&dyn Display]) -> String {
        let base = self.0.base_url().as_str().trim_end_matches('/');
        let mut url = String::with_capacity(base.len() + PATH_BYTES);
        url.push_str(base);
        operation.template().write(values, &mut url);
        url
    }
}
