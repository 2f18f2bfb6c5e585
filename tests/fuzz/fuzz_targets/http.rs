#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (sori_hostile::target("http").check)(data));
