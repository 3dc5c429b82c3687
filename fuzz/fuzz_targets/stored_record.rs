//! Reads values of the database. The first byte selects the kind of key, as in the table of keys of
//! webhook-sled.
#![no_main]

use libfuzzer_sys::fuzz_target;
use webhook_sled::fuzzing::check_value;

fuzz_target!(|bytes: &[u8]| {
    if let Some((kind, value)) = bytes.split_first() {
        check_value(*kind, value);
    }
});
