//! Conditions on a sender's payload, the parameters that are taken from it, and the id of its event.
//!
//! A sender that cannot be taught our names sends what it has. [`Conditions`] say which calls start a run,
//! [`MappingRule`]s take parameters from the call, and [`event_key`] finds the id that the sender repeats with each
//! attempt. All of it is pure: a call goes in as [`CallContent`].
//!
//! ```
//! use std::collections::BTreeMap;
//! use webhook_core::mapping::{CallContent, Condition, Conditions, MappingRule, Selector, Test, overlay};
//! use webhook_core::parameters::{PassThrough, QueryParameters, parse_payload};
//! use webhook_core::raw_call::RawCall;
//!
//! let headers: [(&[u8], &[u8]); 1] = [(b"X-GitHub-Event", b"push")];
//! let raw = RawCall::new("POST", "https://example.com/", &headers, br#"{"ref": "refs/heads/emea"}"#);
//! let payload = parse_payload(Some("application/json"), raw.body, &Default::default(), Default::default())?;
//! let query = QueryParameters::default();
//! let content = CallContent::new(&raw, &query, &payload);
//!
//! let conditions = Conditions::new(vec![Condition::new(Selector::header("x-github-event"), Test::Equals("push".into()))]);
//! assert!(conditions.unmet(&content).is_none());
//! let mapping = [MappingRule::new("region", Selector::body("/ref".parse()?))];
//! let overlay = overlay(&mapping, PassThrough::None, &BTreeMap::new(), &content);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod condition;
mod event_key;
mod form;
mod pattern;
mod rule;
mod selector;

#[cfg(test)]
mod tests;

pub use condition::{Condition, Conditions, Test};
pub use event_key::{EventKey, KeySource, event_key};
pub(crate) use form::{SECRET_HEADERS, read_fixed};
pub use pattern::{InvalidPattern, Pattern};
pub use rule::{MappingRule, overlay, takes_body};
pub use selector::{CallContent, Selector};
