//! Parses a body and merges it with blocks of every type. Its first line is the media type; an empty one
//! means none.
#![no_main]

mod blocks;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use webhook_core::parameters::{parse_body, read_json};

fuzz_target!(|bytes: &[u8]| {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return };
    let (Ok(media_type), body) = (str::from_utf8(&bytes[..end]), &bytes[end + 1..]) else { return };
    let media_type = Some(media_type).filter(|text| !text.is_empty());
    for limits in blocks::limits() {
        if let Ok(strict) = read_json(body, &limits) {
            let read: Value = serde_json::from_slice(body).expect("the strict reader takes only JSON");
            assert_eq!(strict, read, "the strict reader reads what others read");
        }
        let Ok(parsed) = parse_body(media_type, body, &limits) else { continue };
        blocks::merge_and_check(&Default::default(), &parsed, &limits);
    }
});
