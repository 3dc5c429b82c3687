//! The URL of a webhook.

use std::fmt;

use zeroize::Zeroizing;

/// A webhook's URL with its secret token. `Debug` hides it, and its memory is wiped on drop.
#[derive(Clone)]
pub struct TriggerUrl(Zeroizing<String>);

impl TriggerUrl {
    pub(crate) fn new(url: Zeroizing<String>) -> Self {
        Self(url)
    }

    /// The URL. Whoever calls this takes care that it is not logged.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for TriggerUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TriggerUrl(***)")
    }
}
