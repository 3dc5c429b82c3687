//! Reads a multipart form. The first line of an input is the media type, and the rest the form.
#![no_main]

use libfuzzer_sys::fuzz_target;
use webhook_core::parameters::{ParameterLimits, PayloadForms, Pointer, parse_payload};

fuzz_target!(|input: &[u8]| {
    let limits = ParameterLimits::default();
    let forms = PayloadForms::default().with_multipart();
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let Ok(content_type) = std::str::from_utf8(&input[..end]) else { return };
    let body = input.get(end + 1..).unwrap_or_default();
    let Ok(payload) = parse_payload(Some(content_type), body, &limits, forms) else { return };
    let whole: Pointer = "".parse().expect("a pointer");
    if let Some(fields) = payload.find(&whole).as_ref().and_then(|fields| fields.as_object()) {
        // No field holds more than was sent.
        let names: usize = fields.keys().map(String::len).sum();
        assert!(names <= body.len());
    }
    assert!(payload.file_problems().count() <= body.len());
});
