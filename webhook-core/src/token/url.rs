//! The URL of a webhook.

use std::fmt;

use zeroize::Zeroizing;

/// URL of a webhook with its secret token. `Debug` hides it, and its memory is wiped on drop.
#[derive(Clone)]
pub struct TriggerUrl(Zeroizing<String>);

impl TriggerUrl {
    pub(crate) fn new(url: Zeroizing<String>) -> Self {
        Self(url)
    }

    /// Returns the URL. The caller must not log it.
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
