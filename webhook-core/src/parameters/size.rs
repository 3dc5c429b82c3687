//! Measures the size of a JSON value, without recursion.

use serde_json::Value;

use super::limits::DEEPEST_JSON;

/// Total size of several values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct JsonSize {
    /// Number of values, including arrays and objects.
    pub(super) values: usize,
    /// Total length of all texts and names, in bytes.
    pub(super) text_bytes: usize,
}

/// Error for arrays and objects that are nested too deeply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooDeep;

impl JsonSize {
    /// Adds a value whose arrays and objects are nested at most `depth` levels.
    pub(super) fn add(&mut self, value: &Value, depth: usize) -> Result<(), TooDeep> {
        let mut open = Vec::new();
        let mut next = Some((value, 0));
        while let Some((value, level)) = next {
            self.values += 1;
            match value {
                Value::String(text) => self.text_bytes += text.len(),
                Value::Array(_) | Value::Object(_) if level == depth => return Err(TooDeep),
                Value::Array(items) => open.extend(items.iter().map(|item| (item, level + 1))),
                Value::Object(members) => {
                    self.text_bytes += members.keys().map(String::len).sum::<usize>();
                    open.extend(members.values().map(|member| (member, level + 1)));
                }
                Value::Null | Value::Bool(_) | Value::Number(_) => {}
            }
            next = open.pop();
        }
        Ok(())
    }
}

/// Returns whether a value is flat enough to be stored and read back.
pub(crate) fn can_be_stored(value: &Value) -> bool {
    JsonSize::default().add(value, DEEPEST_JSON).is_ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_texts_and_names_are_counted_and_depth_is_bounded() {
        let mut size = JsonSize::default();
        size.add(&json!({"ab": [1, "cde"], "f": {}}), 2).unwrap();
        assert_eq!(size, JsonSize { values: 5, text_bytes: 6 });
        assert_eq!(size.add(&json!([[[]]]), 2), Err(TooDeep));
        assert_eq!(size.add(&json!([[1]]), 2), Ok(()));
        let nested = |levels| (0..levels).fold(json!(1), |inner, _| json!([inner]));
        assert!(can_be_stored(&nested(DEEPEST_JSON)) && !can_be_stored(&nested(DEEPEST_JSON + 1)));
    }
}
