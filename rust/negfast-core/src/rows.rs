//! A borrowed matrix: row-major, contiguous, tagged with its element type.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::error::{Error, Result};

/// The elements of a matrix, borrowed from whoever owns them.
#[derive(Debug, Clone, Copy)]
pub enum Data<'a> {
    /// IEEE single precision.
    F32(&'a [f32]),
    /// IEEE half precision.
    F16(&'a [f16]),
    /// Brain floating point.
    Bf16(&'a [bf16]),
}

impl Data<'_> {
    fn len(self) -> usize {
        match self {
            Self::F32(x) => x.len(),
            Self::F16(x) => x.len(),
            Self::Bf16(x) => x.len(),
        }
    }
}

/// A matrix of `rows` × `dim` elements, read in place.
///
/// Half-precision rows are widened to `f32` where they are used; widening is exact, so every result is a function
/// of the stored numbers alone.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    data: Data<'a>,
    rows: usize,
    dim: usize,
}

impl<'a> Rows<'a> {
    /// Wraps `data` as a matrix; `argument` names it in errors.
    ///
    /// # Errors
    /// If the number of elements is not `rows * dim`, `dim` is 0, or there are more rows than a `u32` can name.
    pub fn new(argument: &str, data: Data<'a>, rows: usize, dim: usize) -> Result<Self> {
        if dim == 0 {
            return Err(Error::invalid(
                argument,
                "of shape (n_rows, dim) with dim >= 1",
                format!("({rows}, {dim})"),
                "give each row at least one element",
            ));
        }
        if rows > u32::MAX as usize - 1 {
            return Err(Error::invalid(
                argument,
                "of at most 4294967294 rows",
                rows.to_string(),
                "split it into parts",
            ));
        }
        if rows.checked_mul(dim) != Some(data.len()) {
            return Err(Error::invalid(
                argument,
                format!("{rows} x {dim} elements"),
                data.len().to_string(),
                "pass a whole matrix",
            ));
        }
        Ok(Self { data, rows, dim })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Elements in a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Whether `other` is the same memory, read in the same way.
    pub fn is_same(&self, other: &Self) -> bool {
        let (rows, dim) = (self.rows == other.rows, self.dim == other.dim);
        let data = match (self.data, other.data) {
            (Data::F32(a), Data::F32(b)) => std::ptr::eq(a, b),
            (Data::F16(a), Data::F16(b)) => std::ptr::eq(a, b),
            (Data::Bf16(a), Data::Bf16(b)) => std::ptr::eq(a, b),
            _ => false,
        };
        rows && dim && data
    }

    /// Row `i` as `f32`: borrowed where it is stored so, else widened into `scratch` (of length `dim`).
    ///
    /// # Panics
    /// If `i` is not a row, or `scratch` is shorter than a row that needs widening.
    pub fn row<'s>(&'s self, i: usize, scratch: &'s mut [f32]) -> &'s [f32] {
        let span = i * self.dim..(i + 1) * self.dim;
        match self.data {
            Data::F32(x) => &x[span],
            Data::F16(x) => {
                x[span].convert_to_f32_slice(&mut scratch[..self.dim]);
                &scratch[..self.dim]
            }
            Data::Bf16(x) => {
                x[span].convert_to_f32_slice(&mut scratch[..self.dim]);
                &scratch[..self.dim]
            }
        }
    }

    /// Asks for the beginning of row `i` to be brought near, where the machine can be asked, which fetches what follows by
    /// itself: rows that are scored lie scattered over the corpus, and waiting for memory takes longer than scoring.
    pub fn fetch(&self, i: usize) {
        #[cfg(target_arch = "x86_64")]
        if let Data::F32(x) = self.data {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            const LINE: usize = 16;
            for line in x[i * self.dim..(i + 1) * self.dim].chunks(LINE).take(32) {
                // SAFETY: a prefetch changes nothing, and the address is that of a borrowed element.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = i;
    }

    /// Row `i`, if rows are stored as `f32`.
    pub fn plain_row(&self, i: usize) -> Option<&'a [f32]> {
        match self.data {
            Data::F32(x) => Some(&x[i * self.dim..(i + 1) * self.dim]),
            _ => None,
        }
    }
}
