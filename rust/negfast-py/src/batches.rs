//! Batches, as Python calls them.

use std::ops::Range;

use negfast_core::batches::communities::communities;
use negfast_core::batches::compose::{compose, shape};
use negfast_core::batches::conflicts::Conflicts;
use negfast_core::batches::graph::Neighbours;
use negfast_core::batches::pour::Together;
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

/// Mined lists, as they cross.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct MinedIn<'py> {
    anchors: Bound<'py, PyAny>,
    indices: Bound<'py, PyAny>,
    scores: Bound<'py, PyAny>,
    positive_scores: Bound<'py, PyAny>,
    margin: f64,
    range_min: usize,
    range_max: usize,
}

/// Borrowed arrays behind [`Neighbours`].
struct MinedArrays<'py> {
    anchors: Borrowed<'py, i64>,
    indices: Borrowed<'py, i64>,
    scores: Borrowed<'py, f32>,
    positive_scores: Borrowed<'py, f32>,
    margin: f64,
    window: Range<usize>,
}

impl<'py> MinedArrays<'py> {
    fn new(mined: &MinedIn<'py>) -> PyResult<Self> {
        Ok(Self {
            anchors: Borrowed::new("mined.anchors", &mined.anchors, "int64", 1..=1)?,
            indices: Borrowed::new("mined.indices", &mined.indices, "int64", 2..=2)?,
            scores: Borrowed::new("mined.scores", &mined.scores, "float32", 2..=2)?,
            positive_scores: Borrowed::new("mined.positive_scores", &mined.positive_scores, "float32", 1..=1)?,
            margin: mined.margin,
            window: mined.range_min..mined.range_max,
        })
    }

    fn neighbours(&self, rows: usize) -> Result<Neighbours<'_>> {
        let lists = (self.indices.slice(), self.scores.slice(), self.indices.shape()[1]);
        let (anchors, positives) = (self.anchors.slice(), self.positive_scores.slice());
        Neighbours::new(lists, anchors, positives, self.margin, self.window.clone(), rows)
    }
}

/// The community of each row, and the weight within communities and in all.
#[pyfunction]
pub(crate) fn batch_communities<'py>(
    py: Python<'py>,
    conflicts: ConflictsIn<'py>,
    mined: MinedIn<'py>,
    most: usize,
    n_threads: usize,
) -> PyResult<(Whole<'py>, (f64, f64))> {
    let inputs = Detached((ConflictArrays::new(&conflicts)?, MinedArrays::new(&mined)?));
    let found = detached(py, None, |watch| {
        let (conflicts, mined) = inputs.get();
        let (conflicts, mut workers) = (conflicts.conflicts()?, Workers::new(n_threads, watch));
        communities(&mined.neighbours(conflicts.len())?, &conflicts, most, &mut workers)
    })?;
    Ok((column(py, found.of.into_iter().map(i64::from)), (found.within, found.all)))
}

/// The sizes of all batches of any epoch, step by step and rank by rank, and how many steps are full.
#[pyfunction]
pub(crate) fn batch_sizes<'py>(
    py: Python<'py>,
    conflicts: ConflictsIn<'py>,
    batch_size: usize,
    n_ranks: usize,
    drop_last: bool,
    seed: u64,
) -> PyResult<(Whole<'py>, usize)> {
    let inputs = Detached(ConflictArrays::new(&conflicts)?);
    let shape = detached(py, None, |watch| {
        let conflicts = inputs.get().conflicts()?;
        shape(&conflicts, batch_size, n_ranks, drop_last, seed, &mut Workers::new(1, watch))
    })?;
    Ok((column(py, shape.sizes().iter().map(|&size| size as i64)), shape.full_steps()))
}

/// The rows of all batches of an epoch, one batch after the other, and the rows that none has.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "what an epoch depends on")]
pub(crate) fn batch_epoch<'py>(
    py: Python<'py>,
    conflicts: ConflictsIn<'py>,
    sizes: (Bound<'py, PyAny>, usize),
    n_ranks: usize,
    first: &Bound<'py, PyAny>,
    together: Option<(Bound<'py, PyAny>, f64)>,
    seed: u64,
    epoch: u64,
) -> PyResult<(Whole<'py>, Whole<'py>)> {
    let (sizes, full) = sizes;
    let sizes = Borrowed::<i64>::new("sizes", &sizes, "int64", 1..=1)?;
    let first = Borrowed::<i64>::new("first", first, "int64", 1..=1)?;
    let community = together.as_ref().map(|(community, _)| Borrowed::<i64>::new("together", community, "int64", 1..=1));
    let random_share = together.as_ref().map_or(0.0, |&(_, random_share)| random_share);
    let inputs = Detached((ConflictArrays::new(&conflicts)?, sizes, first, community.transpose()?));
    let epoch = detached(py, None, |watch| {
        let (conflicts, sizes, first, community) = inputs.get();
        let conflicts = conflicts.conflicts()?;
        let shape = Shape::from_sizes(&conflicts, sizes.slice(), n_ranks, full)?;
        let first = first_rows(first.slice(), conflicts.len())?;
        let community =
            community.as_ref().map(|numbers| community_numbers(numbers.slice(), conflicts.len())).transpose()?;
        let together = community.as_ref().map(|community| Together { community, random_share });
        compose(&conflicts, &shape, &first, together.as_ref(), (seed, epoch), &mut Workers::new(1, watch))
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

/// One number for each row, none larger than so many rows can need.
fn community_numbers(numbers: &[i64], n_rows: usize) -> Result<Vec<u32>> {
    let below = |&number: &i64| u32::try_from(number).ok().filter(|&number| (number as usize) < n_rows);
    let found = numbers.iter().map(below).collect::<Option<Vec<u32>>>();
    found.filter(|found| found.len() == n_rows).ok_or_else(|| {
        let expected = format!("one number below {n_rows} for each row");
        Error::invalid("together", expected, "others", "pass what batch_communities returned")
    })
}
