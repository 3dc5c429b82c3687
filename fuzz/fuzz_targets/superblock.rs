//! Reads superblocks, and damages one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use webhook_sled::fuzzing::check_superblock;

fuzz_target!(|bytes: &[u8]| check_superblock(bytes));
