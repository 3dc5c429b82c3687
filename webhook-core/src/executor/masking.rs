//! Keeping secret parameter values out of what an executor says: log, progress, summary and errors.

use serde_json::Value;

use crate::parameters::EffectiveParameters;
use crate::run::MASK;

/// Shorter texts are left alone: masking every `7` would make a log unreadable and hide nothing.
const SHORTEST: usize = 4;

/// The texts of one run's secret values. `Debug` hides them.
///
/// Whatever is cut is masked before: a secret that straddles the cut would show its first part.
#[derive(Default)]
pub(crate) struct Mask(Vec<String>);

impl Mask {
    /// Masks the secret values among `parameters`: as they are, as JSON, and line by line.
    pub(crate) fn new(parameters: &EffectiveParameters) -> Self {
        let mut texts: Vec<String> = Vec::new();
        for (_, parameter) in parameters.iter().filter(|(_, parameter)| parameter.secret) {
            add_texts(&parameter.value, &mut texts);
        }
        texts.retain(|text| text.chars().count() >= SHORTEST);
        // Longer ones first, so that one that holds another is masked as a whole.
        texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
        texts.dedup();
        Self(texts)
    }

    /// The text with every secret value in it replaced.
    pub(crate) fn text(&self, text: String) -> String {
        self.0.iter().fold(text, |text, secret| {
            if text.contains(secret.as_str()) { text.replace(secret.as_str(), MASK) } else { text }
        })
    }
}

impl std::fmt::Debug for Mask {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Mask(***)")
    }
}

fn add_texts(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::String(text) => {
            texts.extend(text.lines().map(str::to_owned));
            texts.push(text.clone());
            // As a part of JSON, quotes and escapes stand in it.
            let json = value.to_string();
            texts.push(json[1..json.len() - 1].to_owned());
        }
        Value::Array(items) => items.iter().for_each(|item| add_texts(item, texts)),
        Value::Object(members) => members.values().for_each(|item| add_texts(item, texts)),
        Value::Number(number) => texts.push(number.to_string()),
        Value::Bool(_) | Value::Null => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::parameters::{EffectiveParameter, Source};

    fn mask(value: Value) -> Mask {
        let mut parameters = EffectiveParameters::new();
        parameters.insert("secret", EffectiveParameter::new(value, Source::Body).secret());
        parameters.insert("open", EffectiveParameter::new("visible", Source::Body));
        Mask::new(&parameters)
    }

    #[test]
    fn secret_values_are_masked_in_every_form_they_may_take() {
        let mask_of_text = mask(json!("pass\"word\nline two"));
        for text in ["{\"a\":\"pass\\\"word\\nline two\"}", "line two", "pass\"word", "pass\"word\nline two"]
        {
            let shown = mask_of_text.text(text.to_owned());
            assert!(!shown.contains("word") && !shown.contains("two"), "{shown}");
        }
        assert_eq!(mask(json!(987_654_321)).text("pin 987654321.".to_owned()), "pin ***.");
        assert_eq!(mask(json!({"key": ["hunter22"]})).text("hunter22!".to_owned()), "***!");
    }

    #[test]
    fn what_is_not_secret_or_very_short_stays() {
        assert_eq!(mask(json!("abc")).text("abc visible".to_owned()), "abc visible");
    }
}
