//! Signatures, as Python calls them.

use negfast_core::codes::signs::{FACTORS, Ranking, SignCoder, Signatures};
use negfast_core::error::Result;
use negfast_core::kernel::Level;
use negfast_core::score::Matrix as Measured;
use negfast_core::threads::Workers;
use numpy::PyArray1;
use pyo3::prelude::*;

use crate::arrays::{Borrowed, Matrix};
use crate::calls::{Detached, detached, table};
use crate::errors::from_core;
use crate::settings::metric;

/// What makes signatures: plain values and the centre.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct CoderIn<'py> {
    dim: usize,
    n_bits: usize,
    metric: String,
    seed: u64,
    centre: Bound<'py, PyAny>,
}

impl CoderIn<'_> {
    fn into_core(self) -> PyResult<SignCoder> {
        let (metric, centre) = (metric(&self.metric)?, Borrowed::<f32>::new("centre", &self.centre, "float32", 1..=1)?);
        let coder = SignCoder::new(self.dim, self.n_bits, self.seed, metric);
        coder.and_then(|coder| coder.with_centre(centre.slice())).map_err(|error| from_core(&error))
    }
}

/// Signatures and perhaps their factors, borrowed.
struct SignatureArrays<'py> {
    argument: &'static str,
    words: Borrowed<'py, u64>,
    factors: Option<Borrowed<'py, f32>>,
}

impl<'py> SignatureArrays<'py> {
    fn new(argument: &'static str, words: &Bound<'py, PyAny>, factors: Option<&Bound<'py, PyAny>>) -> PyResult<Self> {
        let factors = factors.map(|factors| Borrowed::new("factors", factors, "float32", 2..=2)).transpose()?;
        Ok(Self { argument, words: Borrowed::new(argument, words, "uint64", 2..=2)?, factors })
    }

    fn signatures(&self, coder: &SignCoder) -> Result<Signatures<'_>> {
        let shape = self.words.shape();
        let signatures = coder.signatures(self.argument, self.words.slice(), shape[0], shape[1])?;
        match &self.factors {
            None => Ok(signatures),
            Some(factors) => signatures.with_factors("factors", factors.slice(), factors.shape()),
        }
    }
}

/// The mean of rows, around which their signatures are made.
#[pyfunction]
pub(crate) fn sign_centre<'py>(
    py: Python<'py>,
    rows: &Bound<'py, PyAny>,
    coder: CoderIn<'py>,
    n_threads: usize,
) -> PyResult<Bound<'py, PyArray1<f32>>> {
    let (inputs, coder) = (Detached(Matrix::new("rows", rows)?), coder.into_core()?);
    let centre = detached(py, None, |watch| {
        let mut workers = Workers::new(n_threads, watch);
        let rows = Measured::measure("rows", inputs.get().rows("rows")?, Level::chosen()?, &mut workers)?;
        Ok(coder.fit("rows", &rows, &mut workers)?.centre().to_vec())
    })?;
    Ok(PyArray1::from_vec(py, centre))
}

/// The signatures of rows, and their factors.
#[pyfunction]
#[pyo3(signature = (rows, coder, n_threads, progress))]
pub(crate) fn sign_encode<'py>(
    py: Python<'py>,
    rows: &Bound<'py, PyAny>,
    coder: CoderIn<'py>,
    n_threads: usize,
    progress: Option<Py<PyAny>>,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let (inputs, coder) = (Detached(Matrix::new("rows", rows)?), coder.into_core()?);
    let width = coder.words();
    let (words, factors, n) = detached(py, progress, |watch| {
        let (level, mut workers) = (Level::chosen()?, Workers::new(n_threads, watch));
        let rows = Measured::measure("rows", inputs.get().rows("rows")?, level, &mut workers)?;
        let mut words = negfast_core::topk::table("n_bits", rows.len(), coder.words(), 0u64)?;
        let mut factors = negfast_core::topk::table("rows", rows.len(), FACTORS, 0.0f32)?;
        coder.encode("rows", &rows, &mut words, &mut factors, level, &mut workers)?;
        Ok((words, factors, rows.len()))
    })?;
    Ok((table(py, words, n, width)?, table(py, factors, n, FACTORS)?))
}

/// Numbers of differing bits, of every signature with every other.
#[pyfunction]
pub(crate) fn sign_hamming<'py>(
    py: Python<'py>,
    a: &Bound<'py, PyAny>,
    b: &Bound<'py, PyAny>,
    coder: CoderIn<'py>,
    n_threads: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let inputs = Detached((SignatureArrays::new("a", a, None)?, SignatureArrays::new("b", b, None)?));
    let coder = coder.into_core()?;
    let (bits, n_a, n_b) = detached(py, None, |watch| {
        let (a, b) = (inputs.get().0.signatures(&coder)?, inputs.get().1.signatures(&coder)?);
        let mut workers = Workers::new(n_threads, watch);
        let bits = negfast_core::codes::signs::hamming(&a, &b, Level::chosen()?, &mut workers)?;
        Ok((bits, a.len(), b.len()))
    })?;
    table(py, bits, n_a, n_b)
}

/// The rows that rank best for each query, by their signatures.
#[pyfunction]
#[pyo3(signature = (queries, signatures, factors, k, symmetric, coder, n_threads, progress))]
#[expect(clippy::too_many_arguments, reason = "one per argument of the public method")]
pub(crate) fn sign_candidates<'py>(
    py: Python<'py>,
    queries: &Bound<'py, PyAny>,
    signatures: &Bound<'py, PyAny>,
    factors: Option<Bound<'py, PyAny>>,
    k: usize,
    symmetric: bool,
    coder: CoderIn<'py>,
    n_threads: usize,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let arrays = SignatureArrays::new("signatures", signatures, factors.as_ref())?;
    let (inputs, coder) = (Detached((Matrix::new("queries", queries)?, arrays)), coder.into_core()?);
    let ranking = if symmetric { Ranking::Hamming } else { Ranking::Estimate };
    let (indices, n) = detached(py, progress, |watch| {
        let (queries, arrays) = inputs.get();
        let (level, mut workers) = (Level::chosen()?, Workers::new(n_threads, watch));
        let signatures = arrays.signatures(&coder)?;
        let queries = Measured::measure("queries", queries.rows("queries")?, level, &mut workers)?;
        let found =
            negfast_core::codes::signs::candidates(&coder, &queries, &signatures, k, ranking, level, &mut workers)?;
        Ok((found, queries.len()))
    })?;
    table(py, indices, n, k)
}
