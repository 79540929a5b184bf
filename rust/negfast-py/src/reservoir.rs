//! Reservoirs, as Python calls them.

use std::sync::{Mutex, MutexGuard, TryLockError};

use negfast_core::error::Result;
use negfast_core::reservoir::{Aged, Equal, Ids, Jumps, Keyed, Parts, Reservoir, Skip, State, Threshold, Weights};
use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::Borrowed;
use crate::calls::{Detached, detached};
use crate::errors::{from_core, value_error};

/// Ids as they cross: an array, or `(start, step, len)` of a range.
#[derive(FromPyObject)]
pub(crate) enum IdsIn<'py> {
    Range((i64, i64, u64)),
    Listed(Bound<'py, PyAny>),
}

/// Ids, borrowed.
enum IdArray<'py> {
    Range(i64, i64, u64),
    Listed(Borrowed<'py, i64>),
}

impl<'py> IdArray<'py> {
    fn new(ids: IdsIn<'py>) -> PyResult<Self> {
        Ok(match ids {
            IdsIn::Range((start, step, len)) => Self::Range(start, step, len),
            IdsIn::Listed(ids) => Self::Listed(Borrowed::new("ids", &ids, "int64", 1..=1)?),
        })
    }

    fn ids(&self) -> Result<Ids<'_>> {
        match self {
            &Self::Range(start, step, len) => Ids::range("ids", start, step, len),
            Self::Listed(ids) => Ids::listed("ids", ids.slice()),
        }
    }
}

/// A reservoir of any method, for one call at a time.
#[pyclass(frozen, module = "negfast._negfast")]
pub(crate) struct ReservoirCore(Mutex<Reservoir>);

#[pymethods]
impl ReservoirCore {
    #[staticmethod]
    fn empty(method: &str, capacity: usize, seed: u64) -> PyResult<Self> {
        let made = match method {
            "keyed" => Keyed::new(capacity, seed).map(Reservoir::Keyed),
            "skip" => Skip::new(capacity, seed).map(Reservoir::Skip),
            "aged" => Aged::new(capacity, seed).map(Reservoir::Aged),
            _ => return Err(value_error("method", "'keyed', 'skip' or 'aged'", method, "choose one")),
        };
        Self::wrap(made)
    }

    #[staticmethod]
    #[expect(clippy::too_many_arguments, reason = "one per field of the state")]
    fn keyed(
        capacity: usize,
        seed: u64,
        seen: u64,
        ids: &Bound<'_, PyAny>,
        keys: &Bound<'_, PyAny>,
        threshold: f64,
        threshold_id: i64,
        heaviest: f64,
    ) -> PyResult<Self> {
        let ids = Borrowed::new("ids", ids, "int64", 1..=1)?;
        let keys = Borrowed::new("keys", keys, "float64", 1..=1)?;
        let threshold = Threshold { key: threshold, id: threshold_id };
        let parts = Parts { ids: ids.slice().into(), keys: keys.slice().into(), threshold, heaviest };
        Self::wrap(Keyed::from_parts(capacity, seed, seen, &parts).map(Reservoir::Keyed))
    }

    #[staticmethod]
    fn skip(
        capacity: usize,
        seed: u64,
        seen: u64,
        taken: u64,
        ids: &Bound<'_, PyAny>,
        log_largest: f64,
        wait: u64,
    ) -> PyResult<Self> {
        let ids = Borrowed::<i64>::new("ids", ids, "int64", 1..=1)?;
        let state = State::Equal(Equal { slots: ids.slice().to_vec(), log_largest, wait });
        Self::wrap(Skip::from_parts(capacity, seed, seen, taken, state).map(Reservoir::Skip))
    }

    #[staticmethod]
    #[expect(clippy::too_many_arguments, reason = "one per field of the state")]
    fn skip_weighted(
        capacity: usize,
        seed: u64,
        seen: u64,
        taken: u64,
        ids: &Bound<'_, PyAny>,
        keys: &Bound<'_, PyAny>,
        left: f64,
        ones: u64,
    ) -> PyResult<Self> {
        let ids = Borrowed::new("ids", ids, "int64", 1..=1)?;
        let keys = Borrowed::new("keys", keys, "float64", 1..=1)?;
        let made = Jumps::from_parts(ids.slice(), keys.slice(), left, ones)
            .and_then(|jumps| Skip::from_parts(capacity, seed, seen, taken, State::Weighted(jumps)));
        Self::wrap(made.map(Reservoir::Skip))
    }

    #[staticmethod]
    fn aged(
        capacity: usize,
        seed: u64,
        seen: u64,
        ids: &Bound<'_, PyAny>,
        numbers: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let ids = Borrowed::new("ids", ids, "int64", 1..=1)?;
        let numbers = Borrowed::new("numbers", numbers, "int64", 1..=1)?;
        Self::wrap(Aged::from_parts(capacity, seed, seen, ids.slice(), numbers.slice()).map(Reservoir::Aged))
    }

    /// All fields that the function of the method's name takes after capacity and seed.
    fn state<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let out = PyDict::new(py);
        let held = self.lock()?;
        out.set_item("seen", held.seen())?;
        match &*held {
            Reservoir::Keyed(keyed) => {
                let parts = keyed.parts();
                out.set_item("ids", PyArray1::from_slice(py, &parts.ids))?;
                out.set_item("keys", PyArray1::from_slice(py, &parts.keys))?;
                out.set_item("threshold", parts.threshold.key)?;
                out.set_item("threshold_id", parts.threshold.id)?;
                out.set_item("heaviest", parts.heaviest)?;
            }
            Reservoir::Skip(skip) => {
                out.set_item("taken", skip.taken())?;
                match skip.state() {
                    State::Equal(equal) => {
                        out.set_item("ids", PyArray1::from_slice(py, &equal.slots))?;
                        out.set_item("log_largest", equal.log_largest)?;
                        out.set_item("wait", equal.wait)?;
                    }
                    State::Weighted(jumps) => {
                        let (ids, keys, left, ones) = jumps.parts();
                        out.set_item("ids", PyArray1::from_vec(py, ids))?;
                        out.set_item("keys", PyArray1::from_vec(py, keys))?;
                        out.set_item("left", left)?;
                        out.set_item("ones", ones)?;
                    }
                }
            }
            Reservoir::Aged(aged) => {
                let (ids, numbers) = aged.parts();
                out.set_item("ids", PyArray1::from_vec(py, ids))?;
                out.set_item("numbers", PyArray1::from_vec(py, numbers))?;
            }
        }
        Ok(out)
    }

    #[pyo3(signature = (ids, weights))]
    fn add<'py>(&self, py: Python<'py>, ids: IdsIn<'py>, weights: Option<Bound<'py, PyAny>>) -> PyResult<()> {
        let weights = weights.map(|weights| Borrowed::<f64>::new("weights", &weights, "float64", 1..=1)).transpose()?;
        let inputs = Detached((IdArray::new(ids)?, weights));
        let mut held = self.lock()?;
        let reservoir = &mut *held;
        detached(py, None, |watch| {
            let (ids, weights) = inputs.get();
            let ids = ids.ids()?;
            let weights = weights.as_ref().map(|w| Weights::new("weights", w.slice(), ids)).transpose()?;
            reservoir.add(ids, weights, watch)
        })
    }

    fn merge(&self, py: Python<'_>, other: &Bound<'_, Self>) -> PyResult<()> {
        let mut held = self.lock()?;
        if std::ptr::eq(self, other.get()) {
            let copy = held.clone();
            return held.merge(&copy).map_err(|error| from_core(&error));
        }
        let others = other.get().lock()?;
        let (reservoir, others) = (&mut *held, &*others);
        detached(py, None, |_| reservoir.merge(others))
    }

    fn ids<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<i64>>> {
        let held = self.lock()?;
        let reservoir = &*held;
        Ok(PyArray1::from_vec(py, py.detach(|| reservoir.ids())))
    }

    fn probabilities<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<f64>>> {
        let held = self.lock()?;
        let probabilities = held.probabilities().map_err(|error| from_core(&error))?;
        Ok(PyArray1::from_vec(py, probabilities))
    }

    fn seen(&self) -> PyResult<u64> {
        Ok(self.lock()?.seen())
    }

    fn __len__(&self) -> PyResult<usize> {
        Ok(self.lock()?.len())
    }
}

impl ReservoirCore {
    fn wrap(made: Result<Reservoir>) -> PyResult<Self> {
        made.map(|reservoir| Self(Mutex::new(reservoir))).map_err(|error| from_core(&error))
    }

    /// The reservoir, unless another call has it. Waiting for that would hang where a signal handler calls.
    fn lock(&self) -> PyResult<MutexGuard<'_, Reservoir>> {
        match self.0.try_lock() {
            Ok(held) => Ok(held),
            // A call that panicked changed nothing that the next one could not read.
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => Err(value_error(
                "the reservoir",
                "free",
                "one that another call is using",
                "let calls of several threads wait for each other",
            )),
        }
    }
}
