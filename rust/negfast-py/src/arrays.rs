//! The one place that looks into arrays: dtype, dimensions, layout, borrow.
//!
//! A borrow keeps Rust code from writing, not Python code on another thread while this one is detached. The core
//! reads each index once and checks what it reads, so such a race can spoil a result but not memory.

use half::f16;
use half::slice::HalfBitsSliceExt;
use negfast_core::error::Result;
use negfast_core::rows::{Data, Rows};
use numpy::{
    Element, PyArray, PyArrayDescrMethods, PyArrayMethods, PyReadonlyArray, PyUntypedArray, PyUntypedArrayMethods,
    dtype,
};
use pyo3::prelude::*;

use crate::errors::{type_error, value_error};

/// A borrowed numpy array of any number of dimensions, contiguous and in native byte order.
pub(crate) struct Borrowed<'py, T: Element>(PyReadonlyArray<'py, T, numpy::IxDyn>);

impl<'py, T: Element> Borrowed<'py, T> {
    /// Borrows `array` if it holds `T` and has one of the allowed numbers of dimensions.
    pub(crate) fn new(
        argument: &str,
        array: &Bound<'py, PyAny>,
        expected: &str,
        dimensions: std::ops::RangeInclusive<usize>,
    ) -> PyResult<Self> {
        let untyped = untyped(argument, array, expected)?;
        let held = untyped.dtype();
        if held.byteorder() == swapped_order() {
            let remedy = "use array.astype(array.dtype.newbyteorder('='))";
            return Err(value_error(argument, "in native byte order", &describe(untyped), remedy));
        }
        if !held.is_equiv_to(&dtype::<T>(array.py())) {
            let remedy = format!("convert it, for example {argument}.astype({expected:?})");
            return Err(type_error(argument, &format!("an array of dtype {expected}"), &describe(untyped), &remedy));
        }
        if !dimensions.contains(&untyped.ndim()) {
            let wanted = if dimensions.start() == dimensions.end() {
                format!("{}-dimensional", dimensions.start())
            } else {
                format!("{}- to {}-dimensional", dimensions.start(), dimensions.end())
            };
            return Err(value_error(argument, &wanted, &describe(untyped), "reshape it"));
        }
        let usable = untyped.is_c_contiguous() && untyped.is_aligned();
        let typed = array.cast::<PyArray<T, numpy::IxDyn>>().ok().filter(|_| usable);
        let Some(typed) = typed else {
            let remedy = format!("use numpy.ascontiguousarray({argument})");
            return Err(value_error(argument, "C-contiguous and aligned", &describe(untyped), &remedy));
        };
        let borrowed = typed.try_readonly().map_err(|_| {
            value_error(argument, "free for reading", "an array that is being written", "wait for the other call")
        })?;
        Ok(Self(borrowed))
    }

    pub(crate) fn shape(&self) -> &[usize] {
        self.0.shape()
    }

    /// All elements, row by row.
    pub(crate) fn slice(&self) -> &[T] {
        // `new` refused everything that is not one contiguous run.
        self.0.as_slice().unwrap_or_default()
    }
}

/// Rows of embeddings, borrowed.
pub(crate) enum Matrix<'py> {
    F32(Borrowed<'py, f32>),
    F16(Borrowed<'py, f16>),
    Bf16(Borrowed<'py, u16>),
}

impl<'py> Matrix<'py> {
    /// Borrows float32, float16, or bfloat16 that crosses as its bits in uint16.
    pub(crate) fn new(argument: &str, array: &Bound<'py, PyAny>) -> PyResult<Self> {
        const EXPECTED: &str = "float32";
        let held = untyped(argument, array, EXPECTED)?.dtype();
        let py = array.py();
        if held.is_equiv_to(&dtype::<f16>(py)) {
            Borrowed::new(argument, array, EXPECTED, 2..=2).map(Self::F16)
        } else if held.is_equiv_to(&dtype::<u16>(py)) {
            Borrowed::new(argument, array, EXPECTED, 2..=2).map(Self::Bf16)
        } else {
            Borrowed::new(argument, array, EXPECTED, 2..=2).map(Self::F32)
        }
    }

    /// The rows as the core reads them.
    pub(crate) fn rows(&self, argument: &str) -> Result<Rows<'_>> {
        let (data, shape) = match self {
            Self::F32(array) => (Data::F32(array.slice()), array.shape()),
            Self::F16(array) => (Data::F16(array.slice()), array.shape()),
            Self::Bf16(array) => (Data::Bf16(array.slice().reinterpret_cast()), array.shape()),
        };
        Rows::new(argument, data, shape[0], shape[1])
    }
}

fn untyped<'a, 'py>(
    argument: &str,
    array: &'a Bound<'py, PyAny>,
    expected: &str,
) -> PyResult<&'a Bound<'py, PyUntypedArray>> {
    array.cast::<PyUntypedArray>().map_err(|_| {
        let got = array.get_type().name().map_or_else(|_| "something else".to_owned(), |name| name.to_string());
        type_error(argument, &format!("a numpy array of dtype {expected}"), &got, "use numpy.asarray")
    })
}

fn describe(array: &Bound<'_, PyUntypedArray>) -> String {
    let shape: Vec<_> = array.shape().iter().map(ToString::to_string).collect();
    let comma = if shape.len() == 1 { "," } else { "" };
    let layout = if array.is_c_contiguous() { "" } else { ", not C-contiguous" };
    format!("{} ({}{comma}){layout}", array.dtype(), shape.join(", "))
}

/// The character that numpy gives the byte order this machine does not have.
fn swapped_order() -> u8 {
    if cfg!(target_endian = "little") { b'>' } else { b'<' }
}
