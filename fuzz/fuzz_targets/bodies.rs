#![no_main]

#[path = "../fuzzed.rs"]
#[allow(dead_code, reason = "each target calls one of them")]
mod fuzzed;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzed::bodies(data));
