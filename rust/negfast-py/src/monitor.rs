//! What happens on the calling thread while a call runs.

use negfast_core::error::Error;
use negfast_core::threads::Monitor;
use pyo3::prelude::*;

use crate::errors::from_core;

/// Looks for signals, and tells a Python callable how far the call is.
#[derive(Debug)]
pub(crate) struct Watch {
    progress: Option<Py<PyAny>>,
    raised: Option<PyErr>,
}

impl Watch {
    /// A watch that calls `progress(done, total)` if that is given.
    pub(crate) fn new(progress: Option<Py<PyAny>>) -> Self {
        Self { progress, raised: None }
    }

    /// The exception for `error`: what a signal handler or the callable raised, if that ended the call.
    pub(crate) fn exception(self, error: &Error) -> PyErr {
        self.raised.unwrap_or_else(|| from_core(error))
    }
}

impl Monitor for Watch {
    fn turn(&mut self, done: u64, total: u64) -> bool {
        let heard = Python::attach(|py| {
            py.check_signals()?;
            self.progress.as_ref().map_or(Ok(()), |progress| progress.call1(py, (done, total)).map(drop))
        });
        heard.map_err(|error| self.raised = Some(error)).is_ok()
    }
}
