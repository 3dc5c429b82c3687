//! The only place where a value changes its type. The rules are the table at [`ParameterType`].

use serde_json::{Number, Value};
use time::format_description::well_known::Rfc3339;
use time::{Date, Month, OffsetDateTime};

use super::block::ParameterBlock;
use super::json::read_json;
use super::limits::ParameterLimits;
use super::number_literal::NumberLiteral;
use super::paste::paste_hint;
use super::problem::{ParameterProblem, ProblemCode, excerpt};
use super::types::ParameterType;

/// Upper bound on the choices that a message lists.
const LISTED_CHOICES: usize = 20;

/// Bound below which every whole double is exactly one integer: 2^53.
const EXACT_DOUBLE: f64 = 9_007_199_254_740_992.0;

/// Converts the text of a query or form. `limits` bounds the value of a `json` block.
pub(super) fn from_text(
    block: &ParameterBlock,
    text: &str,
    limits: &ParameterLimits,
) -> Result<Value, ParameterProblem> {
    let converted = match block.parameter_type {
        ParameterType::List => Ok(Value::from(vec![text])),
        ParameterType::Json => {
            read_json(text.as_bytes(), limits).map_err(|error| Some(format!("It was refused: {error}.")))
        }
        ParameterType::Text => Ok(Value::from(text)),
        ParameterType::Integer => integer(text).ok_or(None),
        ParameterType::Number => number(text),
        ParameterType::Boolean => boolean(text).ok_or(None),
        ParameterType::Date => {
            if is_date(text) {
                Ok(Value::from(text))
            } else {
                Err(None)
            }
        }
        ParameterType::Datetime => datetime(text),
        ParameterType::Choice => choice(block, text).ok_or(None),
    };
    converted.map_err(|hint| misfit(block, &excerpt(text), hint.into_iter().chain(paste_hint(text))))
}

/// Converts several texts given under one name, which only a list accepts.
pub(super) fn from_texts(texts: &[&str]) -> Value {
    Value::from(texts.to_vec())
}

/// Converts a value of a JSON body, or a default. The value is not `null`.
pub(super) fn from_json(block: &ParameterBlock, value: &Value) -> Result<Value, ParameterProblem> {
    let converted = match (block.parameter_type, value) {
        (ParameterType::Json, any) => Some(any.clone()),
        (ParameterType::List, Value::Array(_)) => Some(value.clone()),
        // The type is not `json`, so no limit is needed.
        (_, Value::String(text)) => return from_text(block, text, &ParameterLimits::default()),
        (ParameterType::Number, Value::Number(_)) => Some(value.clone()),
        (ParameterType::Integer, Value::Number(number)) => integer_of(number),
        (ParameterType::Boolean, Value::Bool(_)) => Some(value.clone()),
        (ParameterType::Boolean, Value::Number(number)) => match number.as_u64() {
            Some(0) => Some(Value::Bool(false)),
            Some(1) => Some(Value::Bool(true)),
            _ => None,
        },
        (ParameterType::Text, _) => scalar_text(value).map(Value::String),
        (ParameterType::Choice, _) => scalar_text(value).and_then(|text| choice(block, &text)),
        _ => None,
    };
    converted.ok_or_else(|| misfit(block, &shown(value), None))
}

/// Parses `-?(0|[1-9][0-9]*)` within 64 bits.
fn integer(text: &str) -> Option<Value> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_canonical = digits == "0" || !digits.starts_with('0');
    if !is_canonical || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse::<i64>().ok().map(Value::from)
}

fn integer_of(number: &Number) -> Option<Value> {
    if let Some(integer) = number.as_i64() {
        return Some(Value::from(integer));
    }
    let double = number.as_f64()?;
    let is_exact = double.fract() == 0.0 && double.abs() < EXACT_DOUBLE;
    is_exact.then_some(Value::from(double as i64))
}

/// Parses a JSON number. The error is a sentence for a well-formed number that cannot be kept.
fn number(text: &str) -> Result<Value, Option<String>> {
    let literal = NumberLiteral::read(text).ok_or(None)?;
    literal.value().map(Value::Number).map_err(|flaw| Some(flaw.sentence().to_owned()))
}

fn boolean(text: &str) -> Option<Value> {
    if text == "1" || text.eq_ignore_ascii_case("true") {
        Some(Value::Bool(true))
    } else if text == "0" || text.eq_ignore_ascii_case("false") {
        Some(Value::Bool(false))
    } else {
        None
    }
}

/// Returns whether `text` is a day of the Gregorian calendar as `YYYY-MM-DD`, from year 0000 to 9999.
fn is_date(text: &str) -> bool {
    if !has_shape(text, "0000-00-00") {
        return false;
    }
    let part = |range: std::ops::Range<usize>| text[range].parse::<u16>().ok();
    let date = part(0..4).zip(part(5..7)).zip(part(8..10)).and_then(|((year, month), day)| {
        let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
        Date::from_calendar_date(i32::from(year), month, u8::try_from(day).ok()?).ok()
    });
    date.is_some()
}

fn datetime(text: &str) -> Result<Value, Option<String>> {
    if is_datetime(text) {
        return Ok(Value::from(text));
    }
    let plus_restored = text.replace(' ', "+");
    let hint = is_datetime(&plus_restored).then(|| {
        "It has a space where an offset such as +02:00 begins: a + in a URL or form means a space and must be \
         written %2B."
            .to_owned()
    });
    Err(hint)
}

/// Returns whether `text` has the grammar `date-time` of RFC 3339 §5.6.
fn is_datetime(text: &str) -> bool {
    // The parser of `time` takes any byte between date and time; the grammar has only the letter T there.
    let Some((date_and_time, rest)) = text.split_at_checked(19) else { return false };
    if !has_shape(&date_and_time.to_ascii_uppercase(), "0000-00-00T00:00:00") {
        return false;
    }
    let offset = match rest.strip_prefix('.') {
        Some(fraction) => {
            let behind = fraction.trim_start_matches(|digit: char| digit.is_ascii_digit());
            if behind.len() == fraction.len() {
                return false;
            }
            behind
        }
        None => rest,
    };
    let fits = offset.eq_ignore_ascii_case("z") || has_shape(&offset.replace('-', "+"), "+00:00");
    fits && OffsetDateTime::parse(text, &Rfc3339).is_ok()
}

/// Returns whether `text` has a digit where `shape` has `0`, and equals `shape` elsewhere.
fn has_shape(text: &str, shape: &str) -> bool {
    text.len() == shape.len()
        && text.bytes().zip(shape.bytes()).all(|(byte, expected)| match expected {
            b'0' => byte.is_ascii_digit(),
            other => byte == other,
        })
}

fn choice(block: &ParameterBlock, text: &str) -> Option<Value> {
    block.choices.iter().any(|choice| choice == text).then(|| Value::from(text))
}

/// Returns the JSON text of an integer or boolean. Other numbers have several spellings, so they give `None`.
fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::Bool(_) => Some(value.to_string()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(value.to_string()),
        _ => None,
    }
}

fn misfit(block: &ParameterBlock, shown: &str, hints: impl IntoIterator<Item = String>) -> ParameterProblem {
    let code = match block.parameter_type {
        ParameterType::Choice => ProblemCode::NotAChoice,
        _ => ProblemCode::WrongType,
    };
    let mut message = format!(
        "The parameter {} has the type {} and must be {}.",
        excerpt(&block.name),
        block.parameter_type,
        expected(block)
    );
    // A hint repeats parts of the value, so a secret value gets none.
    if !block.secret {
        message.push_str(" Given was ");
        message.push_str(shown);
        message.push('.');
        for hint in hints {
            message.push(' ');
            message.push_str(&hint);
        }
    }
    ParameterProblem::new(&block.name, code, message)
}

fn expected(block: &ParameterBlock) -> String {
    match block.parameter_type {
        ParameterType::Text => {
            "a text; of other JSON values only an integer or a boolean becomes one".to_owned()
        }
        ParameterType::Integer => {
            format!(
                "a whole number from {} to {}, such as 42 or -7, without leading zeros",
                i64::MIN,
                i64::MAX
            )
        }
        ParameterType::Number => "a number as JSON writes it, such as 12.5 or 1e3".to_owned(),
        ParameterType::Boolean => "true, false, 1 or 0".to_owned(),
        ParameterType::Date => "a calendar day as ISO 8601 writes it, such as 2026-01-31".to_owned(),
        ParameterType::Datetime => {
            "a moment with offset as RFC 3339 writes it, such as 2026-01-31T08:00:00Z".to_owned()
        }
        ParameterType::Choice if block.secret => "one of its choices".to_owned(),
        ParameterType::Choice => format!("one of {}", listed_choices(&block.choices)),
        ParameterType::List => "a list: a JSON array, or its name repeated in a query or form".to_owned(),
        ParameterType::Json => "JSON text".to_owned(),
    }
}

fn listed_choices(choices: &[String]) -> String {
    let listed: Vec<_> = choices.iter().take(LISTED_CHOICES).map(|choice| excerpt(choice)).collect();
    match choices.len().saturating_sub(LISTED_CHOICES) {
        0 => listed.join(", "),
        more => format!("{} and {more} more", listed.join(", ")),
    }
}

/// Describes a JSON value as a message may repeat it.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => excerpt(text),
        Value::Array(_) => "a JSON array".to_owned(),
        Value::Object(_) => "a JSON object".to_owned(),
        scalar => format!("the JSON value {scalar}"),
    }
}
