//! Headers of safetensors files: whatever a file holds, a layout stays inside of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use negfast_core::tensors::{Layout, PREFIX, header_length};

fuzz_target!(|data: &[u8]| {
    let Some((prefix, rest)) = data.split_first_chunk::<PREFIX>() else { return };
    let Ok(length) = header_length(*prefix, data.len() as u64) else { return };
    let Ok(layout) = Layout::new(&rest[..length], data.len() as u64) else { return };
    let mut from = (PREFIX + length) as u64;
    for tensor in &layout.tensors {
        assert_eq!(tensor.offset, from, "tensors follow each other");
        from += tensor.bytes;
    }
    assert_eq!(from, data.len() as u64, "and fill the file");
});
