//! The header of a safetensors file: what the file holds and where, known before a tensor is read.
//!
//! Files come from anywhere. Nothing in a header is believed until it agrees with the size of the file, so that a caller
//! may map, read or allocate what a [`Layout`] says.

use std::collections::HashMap;

use safetensors::tensor::{Dtype, Metadata};

use crate::error::{Error, Result};

/// Bytes before the header, which hold its length.
pub const PREFIX: usize = 8;
/// The longest header that the format allows.
const MOST_HEADER: u64 = 100_000_000;

/// Element types by their names in numpy and its extensions.
const DTYPES: [(Dtype, &str); 22] = [
    (Dtype::BOOL, "bool"),
    (Dtype::U8, "uint8"),
    (Dtype::I8, "int8"),
    (Dtype::U16, "uint16"),
    (Dtype::I16, "int16"),
    (Dtype::U32, "uint32"),
    (Dtype::I32, "int32"),
    (Dtype::U64, "uint64"),
    (Dtype::I64, "int64"),
    (Dtype::F16, "float16"),
    (Dtype::BF16, "bfloat16"),
    (Dtype::F32, "float32"),
    (Dtype::F64, "float64"),
    (Dtype::C64, "complex64"),
    (Dtype::F8_E5M2, "float8_e5m2"),
    (Dtype::F8_E5M2FNUZ, "float8_e5m2fnuz"),
    (Dtype::F8_E4M3, "float8_e4m3fn"),
    (Dtype::F8_E4M3FNUZ, "float8_e4m3fnuz"),
    (Dtype::F8_E8M0, "float8_e8m0fnu"),
    (Dtype::F6_E2M3, "float6_e2m3fn"),
    (Dtype::F6_E3M2, "float6_e3m2fn"),
    (Dtype::F4, "float4_e2m1fn"),
];

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: &'static str,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Where in the file its bytes start.
    pub offset: u64,
    /// How many they are.
    pub bytes: u64,
}

/// What a file holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// The tensors, in the order of their bytes.
    pub tensors: Vec<Tensor>,
    /// What is said beside them.
    pub metadata: HashMap<String, String>,
}

/// The length of the header of a file of `file` bytes that starts with `prefix`.
///
/// # Errors
/// [`Error::Corrupt`] if the file cannot hold it, or no file may.
pub fn header_length(prefix: [u8; PREFIX], file: u64) -> Result<usize> {
    let length = u64::from_le_bytes(prefix);
    if length > MOST_HEADER {
        return Err(corrupt(format!("its header would take {length} bytes, more than the {MOST_HEADER} allowed")));
    }
    if length.saturating_add(PREFIX as u64) > file {
        return Err(corrupt(format!("its header would take {length} bytes, and the file has {file}")));
    }
    Ok(length as usize)
}

impl Layout {
    /// Reads the header of a file of `file` bytes.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it is no header, or does not describe every byte of the file once.
    pub fn new(header: &[u8], file: u64) -> Result<Self> {
        let known: Metadata =
            serde_json::from_slice(header).map_err(|error| corrupt(format!("its header cannot be read: {error}")))?;
        let start = (PREFIX + header.len()) as u64;
        let needed = start.saturating_add(known.data_len() as u64);
        if needed != file {
            return Err(corrupt(format!("its header speaks of {needed} bytes, and the file has {file}")));
        }
        let mut tensors = Vec::new();
        for name in known.offset_keys() {
            let Some(info) = known.info(&name) else { continue };
            let named = DTYPES.iter().find(|(dtype, _)| *dtype == info.dtype);
            let &(_, dtype) = named.ok_or_else(|| corrupt(format!("tensor {name:?} is of type {:?}", info.dtype)))?;
            if !holdable(&info.shape) {
                return Err(corrupt(format!(
                    "tensor {name:?} has the shape {:?}, which no array can have",
                    info.shape
                )));
            }
            let (from, to) = info.data_offsets;
            let (offset, bytes) = (start + from as u64, (to - from) as u64);
            tensors.push(Tensor { name, dtype, shape: info.shape.clone(), offset, bytes });
        }
        Ok(Self { tensors, metadata: known.metadata().clone().unwrap_or_default() })
    }
}

/// Whether an array can have this shape: an empty one must not be large in its other dimensions either.
fn holdable(shape: &[usize]) -> bool {
    const WIDEST_ELEMENT: usize = 8;
    let product = shape.iter().filter(|&&n| n > 0).try_fold(WIDEST_ELEMENT, |product, &n| product.checked_mul(n));
    product.is_some_and(|bytes| isize::try_from(bytes).is_ok())
}

fn corrupt(why: String) -> Error {
    Error::Corrupt { why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(header: &str, data: u64) -> Result<Layout> {
        Layout::new(header.as_bytes(), PREFIX as u64 + header.len() as u64 + data)
    }

    fn refusal(header: &str, data: u64) -> String {
        layout(header, data).expect_err("a refusal").to_string()
    }

    #[test]
    fn tensors_come_in_the_order_of_their_bytes() {
        let header = r#"{"__metadata__": {"a": "b"},
            "z": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
            "y": {"dtype": "BF16", "shape": [], "data_offsets": [24, 26]},
            "x": {"dtype": "I64", "shape": [0, 7], "data_offsets": [26, 26]}}"#;
        let layout = layout(header, 26).expect("a legal file");
        let start = (PREFIX + header.len()) as u64;
        let found: Vec<_> =
            layout.tensors.iter().map(|t| (&t.name[..], t.dtype, &t.shape[..], t.offset - start, t.bytes)).collect();
        let expected = [
            ("z", "float32", &[2, 3][..], 0, 24),
            ("y", "bfloat16", &[][..], 24, 2),
            ("x", "int64", &[0, 7][..], 26, 0),
        ];
        assert_eq!(found, expected);
        assert_eq!(layout.metadata["a"], "b");
    }

    #[test]
    fn headers_that_the_file_belies_are_refused() {
        let one = |rest: &str| format!(r#"{{"t": {{"dtype": "F32", {rest}}}}}"#);
        let huge = one(r#""shape": [4611686018427387904], "data_offsets": [0, 18446744073709551608]"#);
        let empty = one(r#""shape": [0, 9223372036854775807], "data_offsets": [0, 0]"#);
        assert!(refusal(&one(r#""shape": [2], "data_offsets": [0, 8]"#), 7).contains("and the file has"));
        assert!(refusal(&one(r#""shape": [2], "data_offsets": [0, 8]"#), 9).contains("and the file has"));
        assert!(refusal(&one(r#""shape": [3], "data_offsets": [0, 8]"#), 8).contains("cannot be read"));
        assert!(refusal(&one(r#""shape": [2], "data_offsets": [4, 12]"#), 12).contains("cannot be read"));
        assert!(refusal(&huge, 16).contains("cannot be read"));
        assert!(refusal(&empty, 0).contains("no array can have"));
        assert!(refusal(r#"{"t": {"dtype": "F7", "shape": [], "data_offsets": [0, 1]}}"#, 1).contains("F7"));
        for header in ["", "{", "[]", "7", "null", &"[".repeat(100_000), "\u{0}"] {
            assert!(layout(header, 0).is_err(), "{header:.20}");
        }
        assert_eq!(layout("{}", 0), Ok(Layout::default()));
    }

    #[test]
    fn lengths_of_headers_are_bounded() {
        assert_eq!(header_length(2u64.to_le_bytes(), 10), Ok(2));
        assert!(header_length(3u64.to_le_bytes(), 10).is_err());
        assert!(header_length(u64::MAX.to_le_bytes(), 10).is_err());
        assert!(header_length(MOST_HEADER.to_le_bytes(), u64::MAX).is_ok());
        assert!(header_length((MOST_HEADER + 1).to_le_bytes(), u64::MAX).is_err());
    }
}
