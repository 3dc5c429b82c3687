//! Masks tokens in the parameters that are kept of a call.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::token::mask_tokens;

/// Replaces every token in a value by `whk_***`, in texts and member names, at any depth.
pub(super) fn mask_value(value: &mut Value) {
    match value {
        Value::String(text) => mask_text(text),
        Value::Array(items) => {
            for item in items {
                mask_value(item);
            }
        }
        Value::Object(members) => {
            for member in members.values_mut() {
                mask_value(member);
            }
            if members.keys().any(|name| matches!(mask_tokens(name), Cow::Owned(_))) {
                let mut masked = Map::new();
                for (name, member) in std::mem::take(members) {
                    let name = free_name(name, |taken| masked.contains_key(taken));
                    masked.insert(name, member);
                }
                *members = masked;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Masks tokens in a name. If the masked name is taken, asterisks are added until it is unique.
pub(super) fn free_name(name: String, is_taken: impl Fn(&str) -> bool) -> String {
    let mut masked = match mask_tokens(&name) {
        Cow::Borrowed(_) => return name,
        Cow::Owned(masked) => masked,
    };
    while is_taken(&masked) {
        masked.push('*');
    }
    masked
}

fn mask_text(text: &mut String) {
    if let Cow::Owned(masked) = mask_tokens(text) {
        *text = masked;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::token::Token;

    fn masked(mut value: Value) -> Value {
        mask_value(&mut value);
        value
    }

    #[test]
    fn tokens_are_masked_in_texts_and_names_at_any_depth_and_no_member_is_lost() {
        let (token, other) = (Token::generate(), Token::generate());
        let (token, other) = (token.expose(), other.expose());
        let url = format!("https://a.example/webhook?token={token}");
        let value =
            json!({"a": [{"config": {"url": url, "active": true}}], token: 1, other: {"x": other}, "n": 5});
        let names = json!({"whk_***": 1, "whk_****": {"x": "whk_***"}});
        let masked = masked(value);
        assert_eq!(
            masked["a"],
            json!([{"config": {"url": "https://a.example/webhook?token=whk_***", "active": true}}])
        );
        assert_eq!(masked["n"], 5);
        assert_eq!(masked.as_object().unwrap().len(), 4);
        for name in names.as_object().unwrap().keys() {
            assert!(masked.get(name).is_some(), "{name}");
        }
        assert!(!masked.to_string().contains(&token[10..40]) && !masked.to_string().contains(&other[10..40]));
    }

    proptest! {
        #[test]
        fn masking_again_changes_nothing(texts in prop::collection::vec("[a%\\\\]{0,2}", 1..4)) {
            let token = Token::generate();
            let value = json!({"list": texts.iter().map(|text| format!("{text}{}", token.expose())).collect::<Vec<_>>(),
                token.expose(): token.expose()});
            let once = masked(value);
            prop_assert!(!once.to_string().contains(token.expose()));
            prop_assert_eq!(masked(once.clone()), once);
        }
    }
}
