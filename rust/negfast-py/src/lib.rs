//! The compiled module of negfast.
//!
//! Every function extracts its arguments, detaches from the interpreter, calls the core and wraps what it returns.
//! Arrays are checked and borrowed in [`arrays`], errors become exceptions in [`errors`], and [`monitor`] is what
//! lets a long call show progress and answer Ctrl-C.

#![expect(clippy::needless_pass_by_value, reason = "arguments that Python passes are extracted as owned values")]

mod arrays;
mod bank;
mod batches;
mod calls;
mod errors;
mod monitor;
mod reservoir;
mod settings;
mod signs;
mod state;
mod tiered;
mod tuples;

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
fn _negfast(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    errors::add_classes(module)?;
    module.add_function(wrap_pyfunction!(calls::mine, module)?)?;
    module.add_function(wrap_pyfunction!(calls::refresh, module)?)?;
    module.add_function(wrap_pyfunction!(calls::select, module)?)?;
    module.add_function(wrap_pyfunction!(calls::topk, module)?)?;
    module.add_function(wrap_pyfunction!(calls::near_duplicates, module)?)?;
    module.add_function(wrap_pyfunction!(calls::plan, module)?)?;
    module.add_function(wrap_pyfunction!(calls::search_depth, module)?)?;
    module.add_function(wrap_pyfunction!(signs::sign_centre, module)?)?;
    module.add_function(wrap_pyfunction!(signs::sign_encode, module)?)?;
    module.add_function(wrap_pyfunction!(signs::sign_hamming, module)?)?;
    module.add_function(wrap_pyfunction!(signs::sign_candidates, module)?)?;
    module.add_class::<tiered::DrawIdentity>()?;
    module.add_class::<tiered::DrawAllotment>()?;
    module.add_function(wrap_pyfunction!(tiered::tiered_draw, module)?)?;
    module.add_function(wrap_pyfunction!(tiered::pair_scores, module)?)?;
    module.add_function(wrap_pyfunction!(tiered::uniform_rows, module)?)?;
    module.add_function(wrap_pyfunction!(tiered::shuffled_rows, module)?)?;
    module.add_function(wrap_pyfunction!(batches::batch_communities, module)?)?;
    module.add_function(wrap_pyfunction!(batches::batch_conflicts, module)?)?;
    module.add_function(wrap_pyfunction!(batches::batch_sizes, module)?)?;
    module.add_function(wrap_pyfunction!(batches::batch_epoch, module)?)?;
    module.add_class::<reservoir::ReservoirCore>()?;
    module.add_class::<bank::BankPlaces>()?;
    module.add_class::<bank::BankShelf>()?;
    module.add_function(wrap_pyfunction!(tuples::index_tuples, module)?)?;
    module.add_function(wrap_pyfunction!(calls::measured_recall, module)?)?;
    module.add_function(wrap_pyfunction!(calls::simd_level, module)?)?;
    module.add_function(wrap_pyfunction!(calls::available_threads, module)?)?;
    module.add_function(wrap_pyfunction!(state::fingerprint, module)?)?;
    module.add_function(wrap_pyfunction!(state::safetensors_layout, module)?)?;
    module.add_function(wrap_pyfunction!(state::write_tensors, module)?)?;
    module.add_function(wrap_pyfunction!(state::read_tensors, module)?)?;
    Ok(())
}
