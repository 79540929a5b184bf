//! Tiered draws, as Python calls them.

use negfast_core::error::{Error, Result};
use negfast_core::score::Scratch;
use negfast_core::threads::Workers;
use negfast_core::tiered::allotment::Allotment;
use negfast_core::tiered::identity::Identity;
use negfast_core::tiered::{Draw, Edges, Proposals, SHARES, Settings, draw, uniform};
use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::{Borrowed, Matrix};
use crate::calls::{Detached, LabelPair, ListArrays, ListsIn, PairIn, detached, table, with_scorer};
use crate::errors::from_core;
use crate::settings::metric;

/// What draws know of rows and anchors.
#[pyclass(frozen)]
pub(crate) struct DrawIdentity(Identity);

#[pymethods]
impl DrawIdentity {
    #[new]
    #[pyo3(signature = (n_rows, duplicates, positives, labels))]
    fn new<'py>(
        py: Python<'py>,
        n_rows: usize,
        duplicates: Option<Bound<'py, PyAny>>,
        positives: ListsIn<'py>,
        labels: Vec<(String, PairIn<'py>)>,
    ) -> PyResult<Self> {
        let duplicates =
            duplicates.map(|labels| Borrowed::<i64>::new("duplicates", &labels, "int64", 1..=1)).transpose()?;
        let anchors = positives.0.len()?.saturating_sub(1);
        let positives = ListArrays::new("positives", &positives)?;
        let pairs: Vec<_> =
            labels.iter().map(|(argument, pair)| LabelPair::new(argument, pair)).collect::<PyResult<_>>()?;
        let inputs = Detached((duplicates, positives, pairs));
        let identity = detached(py, None, |_| {
            let (duplicates, positives, pairs) = inputs.get();
            let positives = positives.lists(anchors, n_rows)?;
            let labels: Vec<_> = pairs.iter().map(|pair| pair.labels(anchors, n_rows)).collect::<Result<_>>()?;
            Identity::new(n_rows, duplicates.as_ref().map(Borrowed::slice), &positives, &labels)
        })?;
        Ok(Self(identity))
    }
}

/// Which anchors may draw which of the rows that they list, in one epoch.
#[pyclass(frozen)]
pub(crate) struct DrawAllotment(Allotment);

#[pymethods]
impl DrawAllotment {
    #[new]
    #[pyo3(signature = (identity, lists, most, seed, epoch))]
    fn new<'py>(
        py: Python<'py>,
        identity: &DrawIdentity,
        lists: Vec<ProposalsIn<'py>>,
        most: u32,
        seed: u64,
        epoch: u64,
    ) -> PyResult<Self> {
        let inputs = Detached(arrays(&lists)?);
        let allotment = detached(py, None, |_| {
            let lists: Vec<_> = inputs.get().iter().map(ProposalArrays::proposals).collect();
            Allotment::new(&identity.0, &lists, most, (seed, epoch))
        })?;
        Ok(Self(allotment))
    }
}

/// What a source proposes: its name, ids, scores, scores of positives, logs of inclusion probabilities.
type ProposalsIn<'py> =
    (String, Bound<'py, PyAny>, Option<Bound<'py, PyAny>>, Option<Bound<'py, PyAny>>, Option<Bound<'py, PyAny>>);

struct ProposalArrays<'py> {
    name: String,
    ids: Borrowed<'py, i64>,
    scores: Option<Borrowed<'py, f32>>,
    positive_scores: Option<Borrowed<'py, f32>>,
    log_inclusion: Option<Borrowed<'py, f32>>,
}

fn arrays<'py>(proposals: &[ProposalsIn<'py>]) -> PyResult<Vec<ProposalArrays<'py>>> {
    let optional = |name, array: &Option<Bound<'py, PyAny>>, dimensions| {
        array.as_ref().map(|array| Borrowed::<f32>::new(name, array, "float32", dimensions)).transpose()
    };
    let each = |(name, ids, scores, positive_scores, log_inclusion): &ProposalsIn<'py>| {
        Ok(ProposalArrays {
            name: name.clone(),
            ids: Borrowed::new("ids", ids, "int64", 2..=2)?,
            scores: optional("scores", scores, 2..=2)?,
            positive_scores: optional("positive_scores", positive_scores, 1..=1)?,
            log_inclusion: optional("log_inclusion", log_inclusion, 2..=2)?,
        })
    };
    proposals.iter().map(each).collect()
}

impl ProposalArrays<'_> {
    fn proposals(&self) -> Proposals<'_> {
        Proposals {
            name: &self.name,
            ids: self.ids.slice(),
            width: self.ids.shape()[1],
            scores: self.scores.as_ref().map(Borrowed::slice),
            positive_scores: self.positive_scores.as_ref().map(Borrowed::slice),
            log_inclusion: self.log_inclusion.as_ref().map(Borrowed::slice),
        }
    }
}

fn checked(anchors: &[i64], n: usize) -> Result<Vec<u32>> {
    let check = |(position, &index): (usize, &i64)| {
        u32::try_from(index).ok().filter(|&anchor| (anchor as usize) < n).ok_or_else(|| Error::Index {
            argument: "anchors".into(),
            matrix: "queries",
            position,
            index,
            rows: n,
        })
    };
    anchors.iter().enumerate().map(check).collect()
}

/// Settings of a draw.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct DrawSettingsIn {
    num_negatives: usize,
    tiers: (f64, f64),
    slots: [f64; SHARES],
    temperature: Option<f64>,
    seed: u64,
    epoch: u64,
    step: u64,
}

impl DrawSettingsIn {
    fn into_core(self) -> Settings {
        let Self { num_negatives, tiers: (hard, semi_hard), slots, temperature, seed, epoch, step } = self;
        Settings { num_negatives, edges: Edges { hard, semi_hard }, slots, temperature, seed, epoch, step }
    }
}

/// Draws the negatives of anchors from what sources propose.
#[pyfunction]
#[pyo3(signature = (identity, allotment, usefulness, proposals, anchors, settings, n_threads))]
#[expect(clippy::too_many_arguments, reason = "one per thing that a draw depends on")]
pub(crate) fn tiered_draw<'py>(
    py: Python<'py>,
    identity: &DrawIdentity,
    allotment: Option<&DrawAllotment>,
    usefulness: &Bound<'py, PyAny>,
    proposals: Vec<ProposalsIn<'py>>,
    anchors: &Bound<'py, PyAny>,
    settings: DrawSettingsIn,
    n_threads: usize,
) -> PyResult<Bound<'py, PyDict>> {
    let usefulness = Borrowed::<f32>::new("usefulness", usefulness, "float32", 1..=1)?;
    let anchors = Borrowed::<i64>::new("anchors", anchors, "int64", 1..=1)?;
    let inputs = Detached((usefulness, arrays(&proposals)?, anchors));
    let (settings, identity, allotment) = (settings.into_core(), &identity.0, allotment.map(|held| &held.0));
    let drawn = detached(py, None, |watch| {
        let (usefulness, proposals, anchors) = inputs.get();
        let proposals: Vec<_> = proposals.iter().map(ProposalArrays::proposals).collect();
        let anchors = checked(anchors.slice(), identity.anchors())?;
        let (proposals, anchors) = (&proposals[..], &anchors[..]);
        let asked = Draw { identity, allotment, usefulness: usefulness.slice(), proposals, anchors, settings };
        draw(&asked, &mut Workers::new(n_threads, watch))
    })?;
    let (n, k) = (inputs.get().2.slice().len(), settings.num_negatives);
    let out = PyDict::new(py);
    out.set_item("ids", table(py, drawn.ids, n, k)?)?;
    out.set_item("scores", table(py, drawn.scores, n, k)?)?;
    out.set_item("tiers", table(py, drawn.tiers, n, k)?)?;
    out.set_item("sources", table(py, drawn.sources, n, k)?)?;
    out.set_item("log_weight", table(py, drawn.log_weights, n, k)?)?;
    out.set_item("shortfall", table(py, drawn.shortfall, n, SHARES)?)?;
    Ok(out)
}

/// The scores of pairs: of row i of the queries and row i of the corpus.
#[pyfunction]
pub(crate) fn pair_scores<'py>(
    py: Python<'py>,
    queries: &Bound<'py, PyAny>,
    corpus: &Bound<'py, PyAny>,
    metric: &str,
) -> PyResult<Bound<'py, PyArray1<f32>>> {
    let (queries, corpus) = (Matrix::new("queries", queries)?, Matrix::new("corpus", corpus)?);
    let metric = self::metric(metric)?;
    let inputs = Detached((queries, corpus));
    let (scores, _) = detached(py, None, |watch| {
        let (queries, corpus) = inputs.get();
        with_scorer(queries, corpus, metric, 1, watch, |scorer, _, _| {
            let mut scratch = Scratch::new(scorer.corpus.rows().dim());
            let n = scorer.queries.len().min(scorer.corpus.len());
            Ok((0..n).map(|i| scorer.score(i, i as u32, &mut scratch)).collect())
        })
    })?;
    Ok(PyArray1::from_vec(py, scores))
}

/// Distinct random numbers below `n` for each anchor.
#[pyfunction]
pub(crate) fn uniform_rows<'py>(
    py: Python<'py>,
    n: u32,
    width: usize,
    anchors: &Bound<'py, PyAny>,
    seed: u64,
    epoch: u64,
    step: u64,
) -> PyResult<Bound<'py, PyAny>> {
    let anchors = Borrowed::<i64>::new("anchors", anchors, "int64", 1..=1)?;
    let anchors = checked(anchors.slice(), u32::MAX as usize).map_err(|error| from_core(&error))?;
    let rows = detached(py, None, |_| Ok(uniform::uniform(n, width, &anchors, (seed, epoch, step))))?;
    table(py, rows, anchors.len(), width.min(n as usize))
}

/// The numbers below `n` in a random order.
#[pyfunction]
pub(crate) fn shuffled_rows(py: Python<'_>, n: u32, seed: u64, epoch: u64) -> PyResult<Bound<'_, PyArray1<i64>>> {
    let order = detached(py, None, |_| Ok(uniform::shuffled(n, seed, epoch)))?;
    Ok(PyArray1::from_vec(py, order))
}
