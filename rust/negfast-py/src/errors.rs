//! The exception classes, and the one mapping from errors of the core to them.

use negfast_core::error::Error;
use pyo3::exceptions::{PyException, PyImportError, PyIndexError, PyKeyboardInterrupt, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};

static BASE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static VALUE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static INDEX: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static STATE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static EXTRA: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// Makes the classes. Each but the first has two bases, its kind and `NegfastError`, so that callers can catch
/// either; that takes a call of `type`.
pub(crate) fn add_classes(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let base = class(
        module,
        &BASE,
        "NegfastError",
        "Base of every error that negfast raises.",
        &[py.get_type::<PyException>()],
    )?;
    let kinds = [
        (&TYPE, "InvalidTypeError", "An argument has a wrong type or dtype.", py.get_type::<PyTypeError>()),
        (&VALUE, "InvalidValueError", "An argument has a wrong shape, layout or value.", py.get_type::<PyValueError>()),
        (&INDEX, "RowIndexError", "A row number lies outside of the corpus.", py.get_type::<PyIndexError>()),
        (&STATE, "StateError", "Saved state is corrupt or of another version.", py.get_type::<PyValueError>()),
        (
            &EXTRA,
            "MissingExtraError",
            "A feature needs a package that is not installed.",
            py.get_type::<PyImportError>(),
        ),
    ];
    for (slot, name, doc, kind) in kinds {
        class(module, slot, name, doc, &[base.clone(), kind])?;
    }
    Ok(())
}

fn class<'py>(
    module: &Bound<'py, PyModule>,
    slot: &PyOnceLock<Py<PyType>>,
    name: &str,
    doc: &str,
    bases: &[Bound<'py, PyType>],
) -> PyResult<Bound<'py, PyType>> {
    let py = module.py();
    let body = PyDict::new(py);
    body.set_item("__module__", "negfast.errors")?;
    body.set_item("__doc__", doc)?;
    let made = py.get_type::<PyType>().call1((name, PyTuple::new(py, bases)?, body))?.cast_into::<PyType>()?;
    let class = slot.get_or_init(py, || made.unbind()).bind(py).clone();
    module.add(name, &class)?;
    Ok(class)
}

fn raise(slot: &PyOnceLock<Py<PyType>>, message: String) -> PyErr {
    Python::attach(|py| match slot.get(py) {
        Some(class) => PyErr::from_type(class.bind(py).clone(), message),
        // Not reached: the module makes its classes before its functions.
        None => PyValueError::new_err(message),
    })
}

/// A wrong type or dtype.
pub(crate) fn type_error(argument: &str, expected: &str, got: &str, remedy: &str) -> PyErr {
    raise(&TYPE, format!("{argument} must be {expected}, got {got}; {remedy}"))
}

/// A wrong shape, layout or value.
pub(crate) fn value_error(argument: &str, expected: &str, got: &str, remedy: &str) -> PyErr {
    raise(&VALUE, format!("{argument} must be {expected}, got {got}; {remedy}"))
}

/// Saved state that cannot be read.
pub(crate) fn state_error(message: String) -> PyErr {
    raise(&STATE, message)
}

/// The exception for an error of the core.
pub(crate) fn from_core(error: &Error) -> PyErr {
    let message = error.to_string();
    match error {
        Error::Invalid { .. } | Error::NonFinite { .. } => raise(&VALUE, message),
        Error::Index { .. } => raise(&INDEX, message),
        Error::Corrupt { .. } => raise(&STATE, message),
        Error::Cancelled => PyKeyboardInterrupt::new_err(()),
    }
}
