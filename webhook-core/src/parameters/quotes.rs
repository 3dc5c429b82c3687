//! Detects JSON that is sent as a form, and JSON that a shell took the quotes from.

use super::json::without_byte_order_mark;
use super::query::decoded_text;

/// Advice about quotes, appended to another sentence.
pub(super) const QUOTES_HINT: &str = "; the shell has taken the double quotes away or left its own in: Windows' \
     cmd.exe knows no single quotes, so write -d \"{\\\"region\\\": \\\"EMEA\\\"}\" there, or put the body into a file \
     and send it with --data-binary @FILE";

/// Returns whether a body begins like a JSON object, array or string. No form written by a program does,
/// since it would escape these characters.
pub(super) fn begins_like_json(body: &[u8]) -> bool {
    matches!(start(body), [b'{' | b'[' | b'"', ..])
}

/// Returns whether a whole form is one percent-encoded JSON object or array, as `curl --data-urlencode` sends
/// it.
pub(super) fn is_encoded_json(form: &[u8]) -> bool {
    let name = form.trim_ascii().strip_suffix(b"=").unwrap_or(form.trim_ascii());
    if !name.starts_with(b"%") || name.iter().any(|byte| b"&=".contains(byte)) {
        return false;
    }
    let Some(text) = decoded_text(name) else { return false };
    serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok() && begins_like_json(text.as_bytes())
}

/// Returns whether a body begins with a shell's quotes, or with an object whose first name has no quotes.
pub(super) fn has_shell_quotes(body: &[u8]) -> bool {
    let text = start(body);
    let unescaped = text.trim_ascii_start();
    let unescaped = unescaped.strip_prefix(b"\\").unwrap_or(unescaped);
    let quotes: [&[u8]; 5] =
        [b"'", "\u{2018}".as_bytes(), "\u{2019}".as_bytes(), "\u{201c}".as_bytes(), "\u{201d}".as_bytes()];
    let is_bare_name = |rest: &[u8]| {
        let name = rest.trim_ascii_start();
        let length =
            name.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(byte)).count();
        length > 0 && name[length..].trim_ascii_start().starts_with(b":")
    };
    quotes.iter().any(|quote| unescaped.starts_with(quote))
        || text.strip_prefix(b"{").is_some_and(is_bare_name)
}

/// Returns whether a body begins like a Python dictionary: an object whose first name is in single quotes.
pub(super) fn has_single_quotes(body: &[u8]) -> bool {
    start(body).strip_prefix(b"{").is_some_and(|rest| rest.trim_ascii_start().starts_with(b"'"))
}

/// Returns whether a body begins with a name and an equals sign, like a form.
pub(super) fn is_like_form(body: &[u8]) -> bool {
    let text = start(body);
    let is_of_name = |byte: &&u8| byte.is_ascii_alphanumeric() || b"_-.%+[]".contains(byte);
    let length = text.iter().take_while(is_of_name).count();
    length > 0 && text[length..].starts_with(b"=")
}

fn start(body: &[u8]) -> &[u8] {
    without_byte_order_mark(body).trim_ascii_start()
}
