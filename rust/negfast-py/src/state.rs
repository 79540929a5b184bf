//! Files and fingerprints.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use negfast_core::error::Error;
use negfast_core::tensors::{Layout, PREFIX, Tensor, header_length};
use numpy::PyArray1;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use safetensors::tensor::{Dtype, View};
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
const DTYPES: [(&str, Dtype); 7] = [
    ("float32", Dtype::F32),
    ("int64", Dtype::I64),
    ("uint8", Dtype::U8),
    ("float64", Dtype::F64),
    ("float16", Dtype::F16),
    ("uint16", Dtype::U16),
    ("uint32", Dtype::U32),
];

struct Saved<'a> {
    dtype: Dtype,
    shape: Vec<usize>,
    data: &'a [u8],
}

impl View for &Saved<'_> {
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
        .map(|(name, dtype, shape, data)| (*name, Saved { dtype: *dtype, shape: shape.clone(), data: data.slice() }))
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
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // A device or a pipe is written to: it must not be replaced by a file.
    if std::fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        return std::fs::write(path, bytes);
    }
    let (mut file, temporary) = beside(path)?;
    // Only what has reached the disk is worth a name.
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    drop(file);
    let written = written.and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        // Whatever stopped the writing is what the caller has to hear of.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

/// A new file in the folder of `path`.
fn beside(path: &Path) -> io::Result<(File, PathBuf)> {
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    loop {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}-{}.part", std::process::id(), WRITTEN.fetch_add(1, Ordering::Relaxed)));
        let temporary = path.with_file_name(name);
        match File::create_new(&temporary) {
            // Left there by a process of the same number, in another container or before.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(|file| (file, temporary)),
        }
    }
}

/// The `OSError` of the error's kind, with the name of the file.
fn os_error(error: &io::Error, path: &Path) -> PyErr {
    let (text, path) = (error.to_string(), path.display().to_string());
    match error.raw_os_error() {
        // Python puts the number in front.
        Some(number) => {
            let text = text.split(" (os error").next().unwrap_or_default().to_owned();
            PyOSError::new_err((number, text, path))
        }
        None => PyOSError::new_err(format!("{path}: {text}")),
    }
}

/// A file that is being read, with what its header says.
struct Opened {
    file: File,
    layout: Layout,
}

/// What is wrong with a file: it cannot be read, or holds something else.
enum Trouble {
    Reading(io::Error),
    Content(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Reading(error)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Content(error.to_string())
    }
}

impl Trouble {
    /// The exception; `kind` is what the file should be.
    fn exception(self, path: &Path, kind: &str) -> PyErr {
        match self {
            Self::Reading(error) => os_error(&error, path),
            Self::Content(why) => state_error(format!("{} is no {kind}: {why}", path.display())),
        }
    }
}

impl Opened {
    fn new(path: &Path) -> Result<Self, Trouble> {
        let found = std::fs::metadata(path)?;
        if !found.is_file() && !found.is_dir() {
            // Opening a pipe could wait for ever.
            return Err(Trouble::Content("it is a device or a pipe".into()));
        }
        let mut file = File::open(path)?;
        let bytes = file.metadata()?.len();
        let mut prefix = [0; PREFIX];
        if found.is_file() && bytes < PREFIX as u64 {
            return Err(Trouble::Content(format!("it has {bytes} bytes, less than the length of a header takes")));
        }
        file.read_exact(&mut prefix)?;
        let header = read(&mut file, header_length(prefix, bytes)?)?;
        Ok(Self { file, layout: Layout::new(&header, bytes)? })
    }
}

/// The next `length` bytes.
fn read(file: &mut File, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length).map_err(|_| io::ErrorKind::OutOfMemory)?;
    bytes.resize(length, 0);
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// What a safetensors file holds: `(name, dtype, shape, offset, n_bytes)` of each tensor, in the order of their bytes.
/// Only the header is read.
#[pyfunction]
pub(crate) fn safetensors_layout(py: Python<'_>, path: PathBuf) -> PyResult<Vec<LayoutOut>> {
    let opened = py.detach(|| Opened::new(&path)).map_err(|trouble| trouble.exception(&path, "safetensors file"))?;
    Ok(opened.layout.tensors.into_iter().map(|t| (t.name, t.dtype, t.shape, t.offset, t.bytes)).collect())
}

type LayoutOut = (String, &'static str, Vec<usize>, u64, u64);
type TensorsOut<'py> = Vec<(String, &'static str, Vec<usize>, Bound<'py, PyArray1<u8>>)>;

/// Reads what `write_tensors` wrote: the tensors as `(name, dtype, shape, bytes)`, and the string.
#[pyfunction]
pub(crate) fn read_tensors(py: Python<'_>, path: PathBuf) -> PyResult<(TensorsOut<'_>, String)> {
    let exception = |trouble: Trouble| trouble.exception(&path, "file that negfast saved");
    let Opened { mut file, layout } = py.detach(|| Opened::new(&path)).map_err(exception)?;
    let text = layout.metadata.get("negfast").cloned();
    let text = text.ok_or_else(|| exception(Trouble::Content("its metadata has no entry \"negfast\"".into())))?;
    let mut out = Vec::new();
    for Tensor { name, dtype, shape, bytes, .. } in layout.tensors {
        if !DTYPES.iter().any(|(known, _)| *known == dtype) {
            return Err(exception(Trouble::Content(format!("tensor {name:?} is {dtype}"))));
        }
        // Tensors follow one another without gaps.
        let data = py.detach(|| read(&mut file, bytes as usize)).map_err(|error| exception(error.into()))?;
        out.push((name, dtype, shape, PyArray1::from_slice(py, &data)));
    }
    Ok((out, text))
}
