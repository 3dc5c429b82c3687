//! Reads a multipart form with the boundary X.
#![no_main]

use libfuzzer_sys::fuzz_target;
use webhook_core::parameters::{ParameterLimits, PayloadForms, Pointer, parse_payload};

fuzz_target!(|body: &[u8]| {
    let limits = ParameterLimits::default();
    let forms = PayloadForms::default().with_multipart();
    let Ok(payload) = parse_payload(Some("multipart/form-data; boundary=X"), body, &limits, forms) else {
        return;
    };
    let whole: Pointer = "".parse().expect("a pointer");
    if let Some(fields) = payload.find(&whole) {
        // No field holds more than was sent.
        let fields = fields.as_object().expect("a form is an object");
        let names: usize = fields.keys().map(String::len).sum();
        assert!(names <= body.len());
    }
    assert!(payload.file_problems().count() <= body.len());
});
