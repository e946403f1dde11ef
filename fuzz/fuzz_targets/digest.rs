//! Feeds the fuzzer's bytes to `claims::digest`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oncelog_fuzz::claims::digest(data));
