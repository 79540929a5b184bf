//! Index tuples, as Python calls them.

use negfast_core::kernel::Level;
use negfast_core::rules::{Known, Rules};
use negfast_core::score::{Matrix as Measured, Scorer};
use negfast_core::threads::Workers;
use negfast_core::tuples::{Asked, Band, Closeness, Positives, Shape, tuples};
use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::Matrix;
use crate::calls::{Detached, LabelPair, ListArrays, ListsIn, PairIn, detached};
use crate::errors::value_error;
use crate::settings::metric;

/// What to choose, validated in Python.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct TuplesIn {
    metric: String,
    power: Option<f64>,
    band: (Option<f32>, Option<f32>),
    positives: String,
    pairs: bool,
    num_negatives: Option<usize>,
    /// `relative_margin`, `absolute_margin`, `max_score`, `min_score`, `duplicate_of_positive`.
    rules: [Option<f64>; 5],
    exclude_self: bool,
}

#[pyfunction]
pub(crate) fn index_tuples<'py>(
    py: Python<'py>,
    rows: &Bound<'py, PyAny>,
    others: &Bound<'py, PyAny>,
    positives: ListsIn<'py>,
    labels: (Option<PairIn<'py>>, Option<PairIn<'py>>),
    settings: TuplesIn,
    n_threads: usize,
) -> PyResult<Bound<'py, PyDict>> {
    let (rows, others) = (Matrix::new("embeddings", rows)?, Matrix::new("ref_emb", others)?);
    let positives = ListArrays::new("labels", &positives)?;
    let pair = |name, labels: &Option<PairIn<'py>>| labels.as_ref().map(|pair| LabelPair::new(name, pair)).transpose();
    let labels = (pair("keys", &labels.0)?, pair("groups", &labels.1)?);
    let metric = metric(&settings.metric)?;
    let used = match settings.positives.as_str() {
        "all" => Positives::All,
        "hardest" => Positives::Hardest,
        "easiest" => Positives::Easiest,
        other => return Err(value_error("positives", "'all', 'hardest' or 'easiest'", other, "choose one")),
    };
    let [relative_margin, absolute_margin, max_score, min_score, duplicate_of_positive] = settings.rules;
    let rules = Rules {
        relative_margin,
        absolute_margin,
        max_score,
        min_score,
        duplicate_of_positive,
        exclude_self: settings.exclude_self,
        ..Rules::default()
    };
    let inputs = Detached((rows, others, positives, labels));
    let found = detached(py, None, |watch| {
        let (rows, others, positives, (keys, groups)) = inputs.get();
        let (level, mut workers) = (Level::chosen()?, Workers::new(n_threads, watch));
        let queries = Measured::measure("embeddings", rows.rows("embeddings")?, level, &mut workers)?;
        let corpus = Measured::measure("ref_emb", others.rows("ref_emb")?, level, &mut workers)?;
        let scorer = Scorer::new(&queries, &corpus, metric, level)?;
        let (n, m) = (queries.len(), corpus.len());
        let known = Known {
            positives: positives.lists(n, m)?,
            keys: keys.as_ref().map(|pair| pair.labels(n, m)).transpose()?,
            groups: groups.as_ref().map(|pair| pair.labels(n, m)).transpose()?,
            ..Known::default()
        };
        let asked = Asked {
            scorer: &scorer,
            known: &known,
            rules: &rules,
            closeness: settings.power.map_or(Closeness::Score, Closeness::Distance),
            band: Band { above: settings.band.0, up_to: settings.band.1 },
            positives: used,
            shape: if settings.pairs { Shape::Pairs } else { Shape::Triplets },
            most: settings.num_negatives,
        };
        tuples(&asked, &mut workers)
    })?;
    let out = PyDict::new(py);
    out.set_item("anchors", PyArray1::from_vec(py, found.anchors))?;
    out.set_item("positives", PyArray1::from_vec(py, found.positives))?;
    out.set_item("counts", PyArray1::from_vec(py, found.counts))?;
    out.set_item("negatives", PyArray1::from_vec(py, found.negatives))?;
    out.set_item("all", (found.all.triplets, found.all.positives, found.all.negatives))?;
    Ok(out)
}
