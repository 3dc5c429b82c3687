//! Settings that look into a call, with the payloads that real senders send.

mod conditions;
mod keys;
mod parameters;
mod settings;

use serde_json::Value;

use super::*;
use crate::parameters::{ParameterLimits, parse_payload, parse_query};
use crate::raw_call::RawCall;

const PUSH: &str = r#"{"ref":"refs/heads/emea","commits":[{"id":"c1"},{"id":"c2"}],"forced":false,"size":2,
    "repository":{"full_name":"acme/sales-data","id":98765},"head_commit":null}"#;

/// A call as a test describes it.
#[derive(Debug, Clone, Default)]
struct Sent {
    query: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    content_type: Option<&'static str>,
    body: Vec<u8>,
}

impl Sent {
    fn json(body: &str) -> Self {
        Self { body: body.as_bytes().to_vec(), ..Self::default() }
    }

    fn form(body: &str) -> Self {
        Self { content_type: Some("application/x-www-form-urlencoded"), ..Self::json(body) }
    }

    fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    fn query(mut self, query: &'static str) -> Self {
        self.query = query;
        self
    }

    fn read<R>(&self, look: impl FnOnce(&CallContent<'_>) -> R) -> R {
        let headers: Vec<(&[u8], &[u8])> =
            self.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        let raw = RawCall::new("POST", "https://a.example/w", &headers, &self.body);
        let payload =
            parse_payload(self.content_type, &self.body, &ParameterLimits::default(), Default::default())
                .unwrap();
        let query = parse_query(self.query).unwrap().parameters;
        look(&CallContent::new(&raw, &query, &payload))
    }
}

fn from_json<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}
