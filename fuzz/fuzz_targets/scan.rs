//! The scanner and the template against the general parser: where they are sure, they must be right.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| loadgen::endpoint::fuzzing::check_scan(bytes));
