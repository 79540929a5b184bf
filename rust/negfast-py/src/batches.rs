//! Batches, as Python calls them.

use negfast_core::batches::compose::{compose, shape};
use negfast_core::batches::conflicts::Conflicts;
use negfast_core::batches::shape::Shape;
use negfast_core::error::{Error, Result};
use negfast_core::threads::Workers;
use numpy::PyArray1;
use pyo3::prelude::*;

use crate::arrays::Borrowed;
use crate::calls::{Detached, LabelArrays, LabelsIn, column, detached};

/// Classes of rows in CSR form, as `batch_conflicts` returned them.
type ConflictsIn<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>);
/// An array of row numbers or sizes.
type Whole<'py> = Bound<'py, PyArray1<i64>>;

/// Borrowed arrays behind [`Conflicts`].
struct ConflictArrays<'py> {
    indptr: Borrowed<'py, i64>,
    classes: Borrowed<'py, u32>,
}

impl<'py> ConflictArrays<'py> {
    fn new((indptr, classes): &ConflictsIn<'py>) -> PyResult<Self> {
        Ok(Self {
            indptr: Borrowed::new("conflicts", indptr, "int64", 1..=1)?,
            classes: Borrowed::new("conflicts", classes, "uint32", 1..=1)?,
        })
    }

    fn conflicts(&self) -> Result<Conflicts> {
        let rows = self.indptr.slice().len().saturating_sub(1);
        Conflicts::from_parts(self.indptr.slice(), self.classes.slice(), rows)
    }
}

/// Which rows share a key or a group, in CSR form: the classes of each row.
#[pyfunction]
#[pyo3(signature = (n_rows, keys, groups))]
pub(crate) fn batch_conflicts<'py>(
    py: Python<'py>,
    n_rows: usize,
    keys: Option<LabelsIn<'py>>,
    groups: Option<LabelsIn<'py>>,
) -> PyResult<(Whole<'py>, Bound<'py, PyArray1<u32>>)> {
    let arrays = |name: &str, labels: Option<LabelsIn<'py>>| {
        labels.map(|labels| LabelArrays::new(name.to_owned(), &labels)).transpose()
    };
    let inputs = Detached((arrays("keys", keys)?, arrays("groups", groups)?));
    let (starts, classes) = detached(py, None, |_| {
        let (keys, groups) = inputs.get();
        let kinds =
            [keys, groups].into_iter().flatten().map(|labels| labels.labels(n_rows)).collect::<Result<Vec<_>>>()?;
        Ok(Conflicts::new(&kinds, n_rows).into_parts())
    })?;
    Ok((column(py, starts.into_iter().map(|start| start as i64)), PyArray1::from_vec(py, classes)))
}

/// The sizes of all batches of any epoch, step by step and rank by rank.
#[pyfunction]
pub(crate) fn batch_sizes<'py>(
    py: Python<'py>,
    conflicts: ConflictsIn<'py>,
    batch_size: usize,
    n_ranks: usize,
    drop_last: bool,
    seed: u64,
) -> PyResult<Whole<'py>> {
    let inputs = Detached(ConflictArrays::new(&conflicts)?);
    let shape = detached(py, None, |watch| {
        let conflicts = inputs.get().conflicts()?;
        shape(&conflicts, batch_size, n_ranks, drop_last, seed, &mut Workers::new(1, watch))
    })?;
    Ok(column(py, shape.sizes().iter().map(|&size| size as i64)))
}

/// The rows of all batches of an epoch, one batch after the other, and the rows that none has.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "what an epoch depends on")]
pub(crate) fn batch_epoch<'py>(
    py: Python<'py>,
    conflicts: ConflictsIn<'py>,
    sizes: &Bound<'py, PyAny>,
    n_ranks: usize,
    first: &Bound<'py, PyAny>,
    seed: u64,
    epoch: u64,
) -> PyResult<(Whole<'py>, Whole<'py>)> {
    let sizes = Borrowed::<i64>::new("sizes", sizes, "int64", 1..=1)?;
    let first = Borrowed::<i64>::new("first", first, "int64", 1..=1)?;
    let inputs = Detached((ConflictArrays::new(&conflicts)?, sizes, first));
    let epoch = detached(py, None, |watch| {
        let (conflicts, sizes, first) = inputs.get();
        let conflicts = conflicts.conflicts()?;
        let shape = Shape::from_sizes(&conflicts, sizes.slice(), n_ranks)?;
        let first = first_rows(first.slice(), conflicts.len())?;
        compose(&conflicts, &shape, &first, seed, epoch, &mut Workers::new(1, watch))
    })?;
    let rows = |rows: Vec<u32>| column(py, rows.into_iter().map(i64::from));
    Ok((rows(epoch.rows), rows(epoch.left_out)))
}

/// Row numbers in ascending order.
fn first_rows(rows: &[i64], n_rows: usize) -> Result<Vec<u32>> {
    let inside = |&row: &i64| u32::try_from(row).ok().filter(|&row| (row as usize) < n_rows);
    let found = rows.iter().map(inside).collect::<Option<Vec<u32>>>();
    found.filter(|rows| rows.is_sorted_by(|a, b| a < b)).ok_or_else(|| {
        let expected = format!("ascending numbers of the {n_rows} rows");
        Error::invalid("first", expected, "others", "pass what batch_epoch returned")
    })
}
