//! Reads journals, and damages one.
//!
//! The byte `d` is followed by four numbers and the damage, in seven bytes each. The numbers are:
//!
//! - the number of changes
//! - the number of changes in the second file
//! - the last change in the database
//! - the last acknowledged change
//!
//! Any other byte is followed by the two files.
#![no_main]

use libfuzzer_sys::fuzz_target;
use webhook_sled::fuzzing::{JournalAct, JournalDamage, check_journal, check_journal_bytes};

fuzz_target!(|bytes: &[u8]| {
    match bytes {
        [b'd', changes, in_second, last, acknowledged, damages @ ..] => {
            let damages = damages.as_chunks().0.iter().take(16).map(damage);
            check_journal(*changes % 40, *in_second, *last, *acknowledged, &damages.collect::<Vec<_>>());
        }
        [_, files @ ..] => check_journal_bytes(files),
        [] => {}
    }
});

fn damage(bytes: &[u8; 7]) -> JournalDamage {
    let [file, high, low, act, count, from_high, from_low] = *bytes;
    let act = match act % 4 {
        0 => JournalAct::Flip(count),
        1 => JournalAct::Cut,
        2 => JournalAct::Zero(count),
        _ => JournalAct::Copy(count, u16::from_be_bytes([from_high, from_low])),
    };
    JournalDamage { file, at: u16::from_be_bytes([high, low]), act }
}
