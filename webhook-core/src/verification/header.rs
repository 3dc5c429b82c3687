//! The headers that verification looks at.

use super::outcome::Refusal;
use crate::raw_call::RawCall;

/// Returns the value of a header that must be sent once.
pub(super) fn required_header<'a>(call: &RawCall<'a>, name: &str) -> Result<&'a [u8], Refusal> {
    match call.single_header(name) {
        Ok(Some(value)) => Ok(value),
        Ok(None) => Err(Refusal::header_missing(name)),
        Err(_) => Err(Refusal::HeaderRepeated { header: name.to_owned() }),
    }
}
