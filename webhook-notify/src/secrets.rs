//! Secrets that must not come back in an error: a server may repeat what it was sent.

use std::fmt;

use webhook_core::run::MASK;
use zeroize::Zeroizing;

/// Shorter texts are left alone: masking every `a` would make an error unreadable and hide nothing.
const SHORTEST: usize = 4;

/// Texts that are masked in every error.
#[derive(Clone, Default)]
pub(crate) struct Secrets(Vec<Zeroizing<String>>);

impl Secrets {
    pub(crate) fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let mut secrets: Vec<_> = secrets.into_iter().map(Zeroizing::new).collect();
        secrets.retain(|secret| secret.chars().count() >= SHORTEST);
        // Longer ones first, so that one that holds another is masked as a whole.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self(secrets)
    }

    pub(crate) fn mask(&self, text: String) -> String {
        self.0.iter().fold(text, |text, secret| text.replace(secret.as_str(), MASK))
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secrets(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_secret_is_masked_first_and_nothing_is_shown() {
        let secrets = Secrets::new(["pass".to_owned(), "password".to_owned(), "a".to_owned()]);
        assert_eq!(secrets.mask("no password, a pass".to_owned()), "no ***, a ***");
        assert_eq!(format!("{secrets:?}"), "Secrets(***)");
    }
}
