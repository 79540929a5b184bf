//! Memory banks, as Python calls them.

use std::sync::{Mutex, PoisonError};

use negfast_core::bank::{Asked, Excluded, Places, Policy, Shelf, hardest};
use negfast_core::error::Result;
use negfast_core::kernel::Level;
use negfast_core::score::Matrix as Measured;
use negfast_core::threads::Workers;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::{Borrowed, Matrix};
use crate::calls::{Detached, column, detached, table};
use crate::errors::{from_core, value_error};
use crate::settings::metric;

/// Which slots of a bank hold what. The caller lets calls wait for each other.
#[pyclass(frozen)]
pub(crate) struct BankPlaces(Mutex<Places>);

fn policy(name: &str) -> PyResult<Policy> {
    Policy::named(name).ok_or_else(|| value_error("policy", "'fifo', 'reservoir' or 'aged'", name, "choose one"))
}

#[pymethods]
impl BankPlaces {
    #[new]
    fn new(name: &str, capacity: usize, seed: u64) -> PyResult<Self> {
        let places = Places::new(policy(name)?, capacity, seed).map_err(|error| from_core(&error))?;
        Ok(Self(Mutex::new(places)))
    }

    #[staticmethod]
    fn restore(
        py: Python<'_>,
        name: &str,
        seed: u64,
        seen: u64,
        ids: &Bound<'_, PyAny>,
        chosen: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let policy = policy(name)?;
        let ids = Borrowed::<i64>::new("ids", ids, "int64", 1..=1)?;
        let chosen = Borrowed::<i64>::new("chosen", chosen, "int64", 1..=1)?;
        let inputs = Detached((ids, chosen));
        let places = detached(py, None, |_| {
            let (ids, chosen) = inputs.get();
            Places::from_parts(policy, seed, seen, ids.slice(), chosen.slice())
        })?;
        Ok(Self(Mutex::new(places)))
    }

    fn place<'py>(&self, py: Python<'py>, ids: &Bound<'py, PyAny>, mixes: bool) -> PyResult<Bound<'py, PyDict>> {
        let inputs = Detached(Borrowed::<i64>::new("ids", ids, "int64", 1..=1)?);
        let places = &self.0;
        let placed = detached(py, None, |_| {
            places.lock().unwrap_or_else(PoisonError::into_inner).place(inputs.get().slice(), mixes)
        })?;
        let out = PyDict::new(py);
        out.set_item("slots", column(py, placed.writes.iter().map(|write| i64::from(write.slot))))?;
        out.set_item("rows", column(py, placed.writes.iter().map(|write| i64::from(write.row))))?;
        out.set_item("rounds", column(py, placed.writes.iter().map(|write| i64::from(write.round))))?;
        out.set_item("mixes", column(py, placed.writes.iter().map(|write| write.mixes)))?;
        out.set_item("last_slots", column(py, placed.last.iter().map(|&(slot, _, _)| i64::from(slot))))?;
        out.set_item("last_rows", column(py, placed.last.iter().map(|&(_, row, _)| i64::from(row))))?;
        out.set_item("chosen", column(py, placed.last.iter().map(|&(_, _, chosen)| chosen)))?;
        Ok(out)
    }

    fn __len__(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// Codes of the rows of a bank. The caller lets calls wait for each other.
#[pyclass(frozen)]
pub(crate) struct BankShelf(Mutex<Shelf>);

#[pymethods]
impl BankShelf {
    #[new]
    fn new(metric: &str, slots: usize, dim: usize) -> PyResult<Self> {
        let shelf = Shelf::new(self::metric(metric)?, slots, dim).map_err(|error| from_core(&error))?;
        Ok(Self(Mutex::new(shelf)))
    }

    /// Codes the rows in these slots, which ascend.
    fn write<'py>(
        &self,
        py: Python<'py>,
        rows: &Bound<'py, PyAny>,
        slots: &Bound<'py, PyAny>,
        n_threads: usize,
    ) -> PyResult<()> {
        let inputs = Detached((Matrix::new("rows", rows)?, Borrowed::<i64>::new("slots", slots, "int64", 1..=1)?));
        let shelf = &self.0;
        detached(py, None, |watch| {
            let (rows, slots) = inputs.get();
            let slots: Vec<u32> = slots.slice().iter().map(|&slot| u32::try_from(slot).unwrap_or(u32::MAX)).collect();
            let mut workers = Workers::new(n_threads, watch);
            let mut shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
            shelf.write(&rows.rows("rows")?, &slots, Level::chosen()?, &mut workers)
        })
    }

    /// Slots and scores of the hardest rows.
    #[expect(clippy::too_many_arguments, reason = "one per thing that a look-up depends on")]
    fn hardest<'py>(
        &self,
        py: Python<'py>,
        rows: &Bound<'py, PyAny>,
        numbers: &Bound<'py, PyAny>,
        anchors: &Bound<'py, PyAny>,
        k: usize,
        excluded: Vec<(String, Bound<'py, PyAny>, Bound<'py, PyAny>)>,
        max_scores: Option<Bound<'py, PyAny>>,
        n_threads: usize,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let rows = Matrix::new("rows of the bank", rows)?;
        let numbers = Borrowed::<i64>::new("numbers", numbers, "int64", 1..=1)?;
        let anchors = Matrix::new("anchors", anchors)?;
        let excluded: Vec<_> = excluded
            .iter()
            .map(|(name, labels, refused)| {
                let labels = Borrowed::<i64>::new(name, labels, "int64", 1..=1)?;
                Ok((name, labels, Borrowed::<i64>::new(name, refused, "int64", 2..=2)?))
            })
            .collect::<PyResult<_>>()?;
        let max_scores =
            max_scores.map(|scores| Borrowed::<f64>::new("max_score", &scores, "float64", 1..=1)).transpose()?;
        let inputs = Detached((rows, numbers, anchors, excluded, max_scores));
        let shelf = &self.0;
        let (n, found) = detached(py, None, |watch| {
            let (rows, numbers, anchors, excluded, max_scores) = inputs.get();
            let level = Level::chosen()?;
            let mut workers = Workers::new(n_threads, watch);
            let anchors = Measured::measure("anchors", anchors.rows("anchors")?, level, &mut workers)?;
            let excluded: Vec<_> = excluded
                .iter()
                .map(|(name, labels, refused)| Excluded::new(name, labels.slice(), refused.slice(), anchors.len()))
                .collect::<Result<_>>()?;
            let asked = Asked {
                rows: rows.rows("rows of the bank")?,
                shelf: &shelf.lock().unwrap_or_else(PoisonError::into_inner),
                numbers: numbers.slice(),
                anchors: &anchors,
                k,
                excluded: &excluded,
                max_scores: max_scores.as_ref().map(Borrowed::slice),
                level,
            };
            Ok((anchors.len(), hardest(&asked, &mut workers)?))
        })?;
        Ok((table(py, found.slots, n, k)?, table(py, found.scores, n, k)?))
    }
}
