//! Excerpts of runs for lists and events. Long values are cut, so a run takes a few KiB whatever its
//! parameters.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use serde_json::Value;

use super::{ParameterValue, Run, RunParameter, RunParameters};
use crate::masking::MASK;

/// Upper bound on the part of one value that lists and events show, in bytes of its text.
pub const EXCERPT_BYTES: usize = 1_024;
/// Upper bound on the values of all parameters of a run in lists and events, in bytes, without their names.
///
/// If the values are longer together, each gets an equal share.
const ALL_BYTES: usize = 16 * EXCERPT_BYTES;
/// Smallest share of one value, in bytes. With so many parameters, the names take more space anyway.
const LEAST_BYTES: usize = 16;

impl Run {
    /// Returns this run with its long parameter values cut, or itself if there are none.
    #[must_use]
    pub fn excerpt(self: &Arc<Self>) -> Arc<Self> {
        match self.0.parameters.excerpt() {
            Some(parameters) => Arc::new((**self).clone().with_parameters(parameters)),
            None => self.clone(),
        }
    }

    /// Returns the approximate size of this record in memory, in bytes.
    #[must_use]
    pub fn bytes_in_memory(&self) -> usize {
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let artifacts = self
            .0
            .artifacts
            .iter()
            .map(|artifact| size_of_val(artifact) + artifact.name.len() + artifact.content_type.len());
        let caller = &self.0.caller;
        let caller = [&caller.user_agent, &caller.request_id, &caller.token_hint, &caller.content_type]
            .into_iter()
            .chain([&caller.traceparent])
            .map(length);
        let progress = self.0.progress.as_ref().map_or(0, |progress| length(&progress.message));
        size_of_val(self)
            + size_of_val(&*self.0.caller)
            + caller.sum::<usize>()
            + progress
            + length(&self.0.summary)
            + self.0.error.as_ref().map_or(0, |error| error.message.len())
            + artifacts.sum::<usize>()
            + self.0.parameters.bytes()
    }
}

impl RunParameters {
    /// Returns these parameters with long values cut to [`EXCERPT_BYTES`], or to less if there are many.
    /// `None` if all are short.
    ///
    /// A text is cut at a character boundary. Another long value becomes the beginning of its JSON text. A
    /// secret value stays secret.
    #[must_use]
    pub fn excerpt(&self) -> Option<Self> {
        // The whole text is longer than any value in it.
        if self.bytes() <= EXCERPT_BYTES {
            return None;
        }
        let all: BTreeMap<String, RunParameter> = self.iter().collect();
        let lengths: Vec<usize> = all.values().map(|one| length(&one.value)).collect();
        let total: usize = lengths.iter().map(|length| length.min(&EXCERPT_BYTES)).sum();
        let limit =
            if total > ALL_BYTES { (ALL_BYTES / lengths.len()).max(LEAST_BYTES) } else { EXCERPT_BYTES };
        if lengths.iter().all(|length| *length <= limit) {
            return None;
        }
        let cut = |(name, one): (String, RunParameter)| {
            (name, RunParameter { value: shortened(one.value, limit), source: one.source })
        };
        Some(all.into_iter().map(cut).collect::<BTreeMap<_, _>>().into())
    }
}

impl RunParameter {
    /// Returns whether this holds only the beginning of the value.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        matches!(self.value, ParameterValue::Truncated(_))
    }
}

/// Returns the length of a value's text in bytes. Other values than texts count as `usize::MAX` once they are too long.
fn length(value: &ParameterValue) -> usize {
    match value {
        ParameterValue::Plain(Value::String(text)) | ParameterValue::Truncated(text) => text.len(),
        ParameterValue::Plain(value) => match excerpt_json(value, EXCERPT_BYTES) {
            Excerpt::Whole(length) => length,
            Excerpt::Cut(_) => usize::MAX,
        },
        // It is shown as a mask, but takes its own length in memory.
        ParameterValue::Sealed(sealed) => sealed.as_bytes().len(),
    }
}

fn shortened(value: ParameterValue, limit: usize) -> ParameterValue {
    match value {
        ParameterValue::Plain(value) => match excerpt_value(&value, limit) {
            Some(text) => ParameterValue::Truncated(text),
            None => ParameterValue::Plain(value),
        },
        ParameterValue::Truncated(text) => match excerpt_text(&text, limit) {
            Some(text) => ParameterValue::Truncated(text.to_owned()),
            None => ParameterValue::Truncated(text),
        },
        ParameterValue::Sealed(sealed) if sealed.as_bytes().len() > limit => {
            ParameterValue::Plain(Value::from(MASK))
        }
        sealed @ ParameterValue::Sealed(_) => sealed,
    }
}

/// Returns the beginning of a text, cut at a character boundary, if it is longer than `limit` bytes.
#[must_use]
pub fn excerpt_text(text: &str, limit: usize) -> Option<&str> {
    (text.len() > limit).then(|| &text[..text.floor_char_boundary(limit)])
}

/// Returns the beginning of a value's text if that is longer than `limit` bytes: of a text itself, or of
/// another value's JSON text.
///
/// No more than that beginning is written out.
#[must_use]
pub fn excerpt_value(value: &Value, limit: usize) -> Option<String> {
    match value {
        Value::String(text) => excerpt_text(text, limit).map(str::to_owned),
        value => match excerpt_json(value, limit) {
            Excerpt::Whole(_) => None,
            Excerpt::Cut(text) => Some(text),
        },
    }
}

/// Part of a JSON text that fits a limit.
enum Excerpt {
    /// All of it; its length in bytes.
    Whole(usize),
    Cut(String),
}

fn excerpt_json(value: &Value, limit: usize) -> Excerpt {
    let mut text = Limited { text: Vec::new(), limit };
    match serde_json::to_writer(&mut text, value) {
        Ok(()) => Excerpt::Whole(text.text.len()),
        Err(_) => {
            let valid = std::str::from_utf8(&text.text).map_or_else(|error| error.valid_up_to(), str::len);
            text.text.truncate(valid);
            Excerpt::Cut(String::from_utf8(text.text).unwrap_or_default())
        }
    }
}

/// Writer that takes bytes up to a limit and fails beyond, so a long value is not written out to be measured.
struct Limited {
    text: Vec<u8>,
    limit: usize,
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.limit - self.text.len();
        if room == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let taken = &bytes[..bytes.len().min(room)];
        self.text.extend_from_slice(taken);
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::parameters::{EffectiveParameter, EffectiveParameters, Source};
    use crate::token::{TokenKey, TokenKeys};

    fn parameters(values: impl IntoIterator<Item = (String, Value)>) -> RunParameters {
        let given = |(name, value)| (name, EffectiveParameter::new(value, Source::Body));
        let effective: EffectiveParameters = values.into_iter().map(given).collect();
        RunParameters::seal(effective, None, crate::id::RunId::from_bytes([0; 16])).unwrap()
    }

    fn one(value: Value) -> RunParameter {
        let given = parameters([("a".to_owned(), value)]);
        let cut = given.excerpt().unwrap_or(given);
        cut.iter().next().unwrap().1
    }

    #[test]
    fn short_values_stay_as_they_are() {
        for value in [json!("x".repeat(EXCERPT_BYTES)), json!([1, {"a": null}]), json!(7), Value::Null] {
            let shown = one(value.clone());
            assert_eq!((shown.shown(), shown.is_truncated()), (value, false));
        }
    }

    #[test]
    fn long_texts_and_long_json_are_cut_at_a_character() {
        let shown = one(json!("é".repeat(600) + "x"));
        assert_eq!((shown.shown(), shown.is_truncated()), (json!("é".repeat(512)), true));
        let shown = one(json!(["aé".repeat(400), 1]));
        let text = shown.shown().as_str().unwrap().to_owned();
        assert!(text.starts_with("[\"aéaé") && text.len() <= EXCERPT_BYTES && text.len() > EXCERPT_BYTES - 4);
        assert!(shown.is_truncated());
    }

    #[test]
    fn long_secrets_stay_masked_and_are_not_kept() {
        let keys = TokenKeys::new(TokenKey::generate());
        let id = crate::id::RunId::from_bytes([0; 16]);
        let secret = EffectiveParameter::new(json!("s".repeat(5_000)), Source::Body).secret();
        let effective: EffectiveParameters = [("a".to_owned(), secret)].into_iter().collect();
        let sealed = RunParameters::seal(effective, Some(&keys), id).unwrap();
        let cut = sealed.excerpt().unwrap();
        let (_, shown) = cut.iter().next().unwrap();
        assert_eq!((shown.shown(), shown.is_truncated()), (json!("***"), false));
        assert!(!matches!(shown.value, ParameterValue::Sealed(_)));
    }

    #[test]
    fn an_excerpt_cannot_be_executed() {
        let cut = parameters([("a".to_owned(), json!("x".repeat(2_000)))]).excerpt().unwrap();
        assert!(cut.open(None, crate::id::RunId::from_bytes([0; 16])).is_err());
    }

    #[test]
    fn many_values_share_what_a_run_may_show() {
        let given = parameters((0..256).map(|number| (format!("{number:0128}"), json!("x".repeat(4_000)))));
        let cut = given.excerpt().unwrap();
        let shown: usize = cut.iter().map(|(_, one)| one.shown().as_str().unwrap().len()).sum();
        assert!(shown <= ALL_BYTES && shown > ALL_BYTES / 2, "{shown}");
        assert!(cut.bytes() < 96 * 1024, "{}", cut.bytes());
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            ".{0,2000}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 16, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..16).prop_map(Value::from),
                prop::collection::btree_map(".{0,8}", inner, 0..16)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn an_excerpt_is_the_value_or_the_beginning_of_its_text(
            values in prop::collection::btree_map("[a-z]{1,9}", json_value(), 0..40)
        ) {
            let given = parameters(values.clone());
            let cut = given.excerpt().unwrap_or(given.clone());
            let mut shown = 0;
            for (name, one) in cut.iter() {
                let whole = &values[&name];
                if one.is_truncated() {
                    let text = whole.as_str().map_or_else(|| whole.to_string(), str::to_owned);
                    let value = one.shown();
                    let beginning = value.as_str().unwrap();
                    prop_assert!(text.starts_with(beginning) && beginning.len() < text.len());
                    prop_assert!(beginning.len() <= EXCERPT_BYTES);
                } else {
                    prop_assert_eq!(&one.shown(), whole);
                }
                shown += one.shown().as_str().map_or_else(|| whole.to_string().len(), str::len);
            }
            prop_assert!(shown <= ALL_BYTES + values.len() * LEAST_BYTES);
        }
    }
}
