//! Any ONNX file is imported or refused: no panic, no memory beyond what its size explains.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sori_quantize::Onnx;

fuzz_target!(|data: &[u8]| {
    let _ = Onnx::from_bytes(data);
});
