//! Feeds the fuzzer's bytes to `claims::cloudevents`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oncelog_fuzz::claims::cloudevents(data));
