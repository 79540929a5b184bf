//! Files and fingerprints.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use numpy::PyArray1;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors, View};
use xxhash_rust::xxh3::xxh3_128;

use crate::arrays::Borrowed;
use crate::errors::{state_error, value_error};

/// A 128-bit XXH3 hash of bytes, as 32 hexadecimal digits. Not cryptographic.
#[pyfunction]
pub(crate) fn fingerprint(py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<String> {
    let data = Borrowed::<u8>::new("data", data, "uint8", 1..=1)?;
    let bytes = data.slice();
    Ok(format!("{:032x}", py.detach(|| xxh3_128(bytes))))
}

/// Element types that negfast saves, by their numpy names.
const DTYPES: [(&str, Dtype); 4] =
    [("float32", Dtype::F32), ("int64", Dtype::I64), ("uint8", Dtype::U8), ("float64", Dtype::F64)];

struct Tensor<'a> {
    dtype: Dtype,
    shape: Vec<usize>,
    data: &'a [u8],
}

impl View for &Tensor<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.data)
    }

    fn data_len(&self) -> usize {
        self.data.len()
    }
}

/// Writes tensors, given as `(name, dtype, shape, bytes)`, and a string to a safetensors file: to a temporary name
/// in the same folder first, so that a file of this name is always whole.
#[pyfunction]
pub(crate) fn write_tensors(
    py: Python<'_>,
    path: PathBuf,
    tensors: Vec<(String, String, Vec<usize>, Bound<'_, PyAny>)>,
    metadata: String,
) -> PyResult<()> {
    let mut borrowed = Vec::with_capacity(tensors.len());
    for (name, dtype, shape, data) in &tensors {
        let known = DTYPES.iter().find(|(known, _)| known == dtype);
        let &(_, dtype) =
            known.ok_or_else(|| value_error(name, "of a dtype that can be saved", dtype, "convert it"))?;
        borrowed.push((name, dtype, shape.clone(), Borrowed::<u8>::new(name, data, "uint8", 1..=1)?));
    }
    let views: Vec<_> = borrowed
        .iter()
        .map(|(name, dtype, shape, data)| (*name, Tensor { dtype: *dtype, shape: shape.clone(), data: data.slice() }))
        .collect();
    // One entry, so that the order of a hash map cannot change the bytes of the file.
    let metadata = HashMap::from([("negfast".to_owned(), metadata)]);
    let views: Vec<_> = views.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    py.detach(|| {
        let bytes = safetensors::serialize(views, Some(metadata)).map_err(|error| state_error(error.to_string()))?;
        replace(&path, &bytes).map_err(|error| os_error(&error, &path))
    })
}

/// Writes a file under another name, then gives it this one; a failure leaves nothing behind.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}-{}.part", std::process::id(), WRITTEN.fetch_add(1, Ordering::Relaxed)));
    let temporary = path.with_file_name(name);
    let written = std::fs::write(&temporary, bytes).and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        // Whatever stopped the writing is what the caller has to hear of.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

/// The `OSError` of the error's kind, with the name of the file.
fn os_error(error: &std::io::Error, path: &Path) -> PyErr {
    PyOSError::new_err((error.raw_os_error(), error.to_string(), path.display().to_string()))
}

type TensorsOut<'py> = Vec<(String, &'static str, Vec<usize>, Bound<'py, PyArray1<u8>>)>;

/// Reads what `write_tensors` wrote: the tensors as `(name, dtype, shape, bytes)`, and the string.
#[pyfunction]
pub(crate) fn read_tensors(py: Python<'_>, path: PathBuf) -> PyResult<(TensorsOut<'_>, String)> {
    let bytes = py.detach(|| std::fs::read(&path)).map_err(|error| os_error(&error, &path))?;
    let corrupt = |why: String| state_error(format!("{} is no file that negfast saved: {why}", path.display()));
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| corrupt(error.to_string()))?;
    let metadata = header.metadata().as_ref().and_then(|entries| entries.get("negfast")).cloned();
    let metadata = metadata.ok_or_else(|| corrupt("its metadata has no entry \"negfast\"".into()))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| corrupt(error.to_string()))?;
    let mut out = Vec::new();
    for (name, view) in tensors.tensors() {
        let known = DTYPES.iter().find(|(_, dtype)| *dtype == view.dtype());
        let &(dtype, _) = known.ok_or_else(|| corrupt(format!("tensor {name:?} is {:?}", view.dtype())))?;
        out.push((name, dtype, view.shape().to_vec(), PyArray1::from_slice(py, view.data())));
    }
    Ok((out, metadata))
}
