//! The searches, as Python calls them.

use std::time::{Duration, Instant};

use negfast_core::anchors::Anchors;
use negfast_core::error::{Error, Result};
use negfast_core::kernel::{Level, Tile};
use negfast_core::lists::Lists;
use negfast_core::mine::{Candidates, Mined, PositiveScores, Settings};
use negfast_core::nearest::nearest;
use negfast_core::pool::first_depth;
use negfast_core::refresh::drift::drift;
use negfast_core::refresh::{Parts, Past, Refreshed, Reserve};
use negfast_core::rules::{Known, Labels};
use negfast_core::score::{Matrix as Measured, Metric, Scorer};
use negfast_core::search::{Account, Engine, Plan, Recall, Sizes, Work};
use negfast_core::threads::Workers;
use numpy::{Element, PyArray1, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::{Borrowed, Matrix};
use crate::errors::{from_core, value_error};
use crate::monitor::Watch;
use crate::settings::{SearchIn, SettingsIn, metric};

/// Per-anchor lists: `(indptr, indices)`.
pub(crate) type ListsIn<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>);
/// Labels of queries and corpus.
pub(crate) type PairIn<'py> = (LabelsIn<'py>, LabelsIn<'py>);

/// Labels of the rows of a matrix.
#[derive(FromPyObject)]
pub(crate) enum LabelsIn<'py> {
    /// `(indptr, labels)`.
    Ragged(ListsIn<'py>),
    /// One row of labels for each row.
    Columns(Bound<'py, PyAny>),
}

/// What is known about the rows, as it crosses.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct KnownIn<'py> {
    positives: ListsIn<'py>,
    keys: Option<PairIn<'py>>,
    groups: Option<PairIn<'py>>,
    exclude: Option<ListsIn<'py>>,
    forbidden: Option<Bound<'py, PyAny>>,
}

pub(crate) struct ListArrays<'py> {
    argument: &'static str,
    indptr: Borrowed<'py, i64>,
    indices: Borrowed<'py, i64>,
}

impl<'py> ListArrays<'py> {
    pub(crate) fn new(argument: &'static str, (indptr, indices): &ListsIn<'py>) -> PyResult<Self> {
        Ok(Self {
            argument,
            indptr: Borrowed::new(argument, indptr, "int64", 1..=1)?,
            indices: Borrowed::new(argument, indices, "int64", 1..=1)?,
        })
    }

    pub(crate) fn lists(&self, anchors: usize, corpus: usize) -> Result<Lists> {
        Lists::new(self.argument, self.indptr.slice(), self.indices.slice(), anchors, corpus)
    }
}

/// Labels of the rows of one matrix, borrowed.
pub(crate) struct LabelArrays<'py> {
    argument: String,
    indptr: Option<Borrowed<'py, i64>>,
    labels: Borrowed<'py, i64>,
}

impl<'py> LabelArrays<'py> {
    pub(crate) fn new(argument: String, labels: &LabelsIn<'py>) -> PyResult<Self> {
        let (indptr, labels) = match labels {
            LabelsIn::Ragged((indptr, labels)) => (Some(indptr), Borrowed::new(&argument, labels, "int64", 1..=1)?),
            LabelsIn::Columns(labels) => (None, Borrowed::new(&argument, labels, "int64", 1..=2)?),
        };
        let indptr = indptr.map(|indptr| Borrowed::new(&argument, indptr, "int64", 1..=1)).transpose()?;
        Ok(Self { argument, indptr, labels })
    }

    pub(crate) fn labels(&self, rows: usize) -> Result<Labels<'_>> {
        let (argument, values, shape) = (&self.argument, self.labels.slice(), self.labels.shape());
        if let Some(indptr) = &self.indptr {
            return Labels::ragged(argument, indptr.slice(), values, rows);
        }
        if shape[0] != rows {
            let expected = format!("one entry for each of the {rows} rows");
            return Err(Error::invalid(argument, expected, shape[0].to_string(), "use -1 where a row has none"));
        }
        Labels::new(argument, values, shape.get(1).copied().unwrap_or(1), rows)
    }
}

/// Labels of queries and corpus, borrowed.
pub(crate) struct LabelPair<'py> {
    queries: LabelArrays<'py>,
    corpus: LabelArrays<'py>,
}

impl<'py> LabelPair<'py> {
    pub(crate) fn new(argument: &str, (queries, corpus): &PairIn<'py>) -> PyResult<Self> {
        let side = |name: &str, labels| LabelArrays::new(format!("{argument} of the {name}"), labels);
        Ok(Self { queries: side("queries", queries)?, corpus: side("corpus", corpus)? })
    }

    pub(crate) fn labels(&self, anchors: usize, rows: usize) -> Result<(Labels<'_>, Labels<'_>)> {
        Ok((self.queries.labels(anchors)?, self.corpus.labels(rows)?))
    }
}

/// Borrowed arrays behind a [`Known`].
struct KnownArrays<'py> {
    positives: ListArrays<'py>,
    keys: Option<LabelPair<'py>>,
    groups: Option<LabelPair<'py>>,
    exclude: Option<ListArrays<'py>>,
    forbidden: Option<Borrowed<'py, u8>>,
}

impl<'py> KnownArrays<'py> {
    fn new(known: &KnownIn<'py>) -> PyResult<Self> {
        let forbidden = known.forbidden.as_ref();
        Ok(Self {
            positives: ListArrays::new("positives", &known.positives)?,
            keys: known.keys.as_ref().map(|pair| LabelPair::new("keys", pair)).transpose()?,
            groups: known.groups.as_ref().map(|pair| LabelPair::new("groups", pair)).transpose()?,
            exclude: known.exclude.as_ref().map(|lists| ListArrays::new("exclude", lists)).transpose()?,
            forbidden: forbidden.map(|mask| Borrowed::new("forbidden", mask, "uint8", 1..=1)).transpose()?,
        })
    }

    fn known(&self, anchors: usize, corpus: usize) -> Result<Known<'_>> {
        let forbidden = self.forbidden.as_ref().map(Borrowed::slice);
        if let Some(mask) = forbidden.filter(|mask| mask.len() != corpus) {
            let expected = format!("a mask of the {corpus} corpus rows, or their indices");
            return Err(Error::invalid("forbidden", expected, mask.len().to_string(), "pass one entry per corpus row"));
        }
        Ok(Known {
            positives: self.positives.lists(anchors, corpus)?,
            keys: self.keys.as_ref().map(|pair| pair.labels(anchors, corpus)).transpose()?,
            groups: self.groups.as_ref().map(|pair| pair.labels(anchors, corpus)).transpose()?,
            exclude: self.exclude.as_ref().map(|lists| lists.lists(anchors, corpus)).transpose()?,
            forbidden,
        })
    }
}

/// What every call measures.
pub(crate) struct Ran {
    level: Level,
    threads: usize,
    measuring: Duration,
    total: Duration,
    /// Rows of the queries and of the corpus that are all zeros.
    zeros: [usize; 2],
    work: Work,
}

/// Measures the matrices, makes a scorer, and hands it to `call`.
pub(crate) fn with_scorer<T>(
    queries: &Matrix<'_>,
    corpus: &Matrix<'_>,
    metric: Metric,
    threads: usize,
    watch: &mut Watch,
    call: impl FnOnce(&Scorer<'_>, &mut Workers<'_>, &Work) -> Result<T>,
) -> Result<(T, Ran)> {
    let clock = Instant::now();
    let level = Level::chosen()?;
    let mut workers = Workers::new(threads, watch);
    let queries = Measured::measure("queries", queries.rows("queries")?, level, &mut workers)?;
    let corpus = Measured::measure("corpus", corpus.rows("corpus")?, level, &mut workers)?;
    let measuring = clock.elapsed();
    let scorer = Scorer::new(&queries, &corpus, metric, level)?;
    let work = Work::default();
    let result = call(&scorer, &mut workers, &work)?;
    let zeros = [queries.zeros(), corpus.zeros()];
    Ok((result, Ran { level, threads, measuring, total: clock.elapsed(), zeros, work }))
}

/// Runs a call detached from the interpreter.
pub(crate) fn detached<T: Send>(
    py: Python<'_>,
    progress: Option<Py<PyAny>>,
    call: impl FnOnce(&mut Watch) -> Result<T> + Send,
) -> PyResult<T> {
    let mut watch = Watch::new(progress);
    match py.detach(|| call(&mut watch)) {
        Ok(result) => Ok(result),
        Err(error @ Error::Cancelled) => Err(watch.exception(&error)),
        Err(error) => Err(from_core(&error)),
    }
}

#[pyfunction]
#[pyo3(signature = (queries, corpus, known, anchors, settings, n_threads, progress))]
#[expect(clippy::too_many_arguments, reason = "one per argument of the public function")]
pub(crate) fn mine<'py>(
    py: Python<'py>,
    queries: &Bound<'py, PyAny>,
    corpus: &Bound<'py, PyAny>,
    known: KnownIn<'py>,
    anchors: Option<Bound<'py, PyAny>>,
    settings: SettingsIn,
    n_threads: usize,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let (queries, corpus) = (Matrix::new("queries", queries)?, Matrix::new("corpus", corpus)?);
    let arrays = KnownArrays::new(&known)?;
    let anchors = anchors.map(|rows| Borrowed::<i64>::new("anchors", &rows, "int64", 1..=1)).transpose()?;
    let (metric, settings) = (settings.metric()?, settings.into_core()?);
    let inputs = Detached((queries, corpus, arrays, anchors));
    let (mined, ran) = detached(py, progress, |watch| {
        let (queries, corpus, arrays, anchors) = inputs.get();
        with_scorer(queries, corpus, metric, n_threads, watch, |scorer, workers, work| {
            let n_queries = scorer.queries.len();
            let known = arrays.known(n_queries, scorer.corpus.len())?;
            let anchors = match anchors {
                None => Anchors::all(n_queries),
                Some(rows) => Anchors::new("anchors", rows.slice(), n_queries)?,
            };
            negfast_core::mine::mine(scorer, &known, &anchors, &settings, None, workers, work)
        })
    })?;
    wrap_mined(py, mined, settings.num_negatives, &ran)
}

/// What a miner remembers, as it crosses: `(indptr, rows)` and `(ceilings, floors)`.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct PastIn<'py> {
    queries: Bound<'py, PyAny>,
    corpus: Bound<'py, PyAny>,
    indptr: Bound<'py, PyAny>,
    rows: Bound<'py, PyAny>,
    scores: Bound<'py, PyAny>,
    ceilings: Bound<'py, PyAny>,
    floors: Bound<'py, PyAny>,
    pending: Bound<'py, PyAny>,
    /// Whether no other row of the corpus may differ.
    told: bool,
}

/// Borrowed arrays behind a [`Past`].
struct PastArrays<'py> {
    queries: Matrix<'py>,
    corpus: Matrix<'py>,
    indptr: Borrowed<'py, i64>,
    rows: Borrowed<'py, u32>,
    scores: Borrowed<'py, f32>,
    ceilings: Borrowed<'py, f32>,
    floors: Borrowed<'py, f32>,
    pending: Borrowed<'py, u32>,
    told: bool,
}

impl<'py> PastArrays<'py> {
    fn new(past: &PastIn<'py>) -> PyResult<Self> {
        Ok(Self {
            queries: Matrix::new("queries", &past.queries)?,
            corpus: Matrix::new("corpus", &past.corpus)?,
            indptr: Borrowed::new("reserve", &past.indptr, "int64", 1..=1)?,
            rows: Borrowed::new("reserve", &past.rows, "uint32", 1..=1)?,
            scores: Borrowed::new("reserve", &past.scores, "float32", 1..=1)?,
            ceilings: Borrowed::new("reserve", &past.ceilings, "float32", 1..=1)?,
            floors: Borrowed::new("reserve", &past.floors, "float32", 1..=1)?,
            pending: Borrowed::new("changed", &past.pending, "uint32", 1..=1)?,
            told: past.told,
        })
    }
}

/// Refuses a corpus of which a row moved that is not among those that were told.
fn check_told(moved: &[f32], told: &[u32]) -> Result<()> {
    let mut others: Vec<bool> = moved.iter().map(|&length| length > 0.0).collect();
    for &row in told {
        if let Some(other) = others.get_mut(row as usize) {
            *other = false;
        }
    }
    let Some(row) = others.iter().position(|&other| other) else { return Ok(()) };
    Err(Error::invalid(
        "changed",
        "every corpus row whose vector differs from the last call's",
        format!("one that leaves out row {row}"),
        "leave it out if most rows moved",
    ))
}

/// Mines again for all queries from what was remembered.
#[pyfunction]
#[pyo3(signature = (queries, corpus, known, past, settings, n_threads, progress))]
#[expect(clippy::too_many_arguments, reason = "one per argument of the public function")]
pub(crate) fn refresh<'py>(
    py: Python<'py>,
    queries: &Bound<'py, PyAny>,
    corpus: &Bound<'py, PyAny>,
    known: KnownIn<'py>,
    past: PastIn<'py>,
    settings: SettingsIn,
    n_threads: usize,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let (queries, corpus) = (Matrix::new("queries", queries)?, Matrix::new("corpus", corpus)?);
    let (arrays, past) = (KnownArrays::new(&known)?, PastArrays::new(&past)?);
    let (metric, settings) = (settings.metric()?, settings.into_core()?);
    let inputs = Detached((queries, corpus, arrays, past));
    let ((mined, drifts, measuring), ran) = detached(py, progress, |watch| {
        let (queries, corpus, arrays, past) = inputs.get();
        with_scorer(queries, corpus, metric, n_threads, watch, |scorer, workers, work| {
            let (n_queries, n_corpus) = (scorer.queries.len(), scorer.corpus.len());
            let known = arrays.known(n_queries, n_corpus)?;
            let clock = Instant::now();
            let old = Measured::measure("queries", past.queries.rows("queries")?, scorer.level, workers)?;
            let of_queries = drift("queries", (&old, scorer.queries), metric, workers)?;
            let old = Measured::measure("corpus", past.corpus.rows("corpus")?, scorer.level, workers)?;
            let of_corpus = drift("corpus", (&old, scorer.corpus), metric, workers)?;
            let measuring = clock.elapsed();
            if past.told {
                check_told(&of_corpus, past.pending.slice())?;
            }
            let lists = (past.indptr.slice(), past.rows.slice(), past.scores.slice());
            let bounds = (past.ceilings.slice(), past.floors.slice());
            let reserve = Reserve::from_parts(lists, bounds, n_queries, n_corpus)?;
            let past =
                Past { reserve: &reserve, queries: &of_queries, corpus: &of_corpus, pending: past.pending.slice() };
            let anchors = Anchors::all(n_queries);
            let mined = negfast_core::mine::mine(scorer, &known, &anchors, &settings, Some(&past), workers, work)?;
            Ok((mined, (of_queries, of_corpus), measuring))
        })
    })?;
    let out = wrap_mined(py, mined, settings.num_negatives, &ran)?;
    out.set_item("drift_queries", PyArray1::from_vec(py, drifts.0))?;
    out.set_item("drift_corpus", PyArray1::from_vec(py, drifts.1))?;
    out.set_item("drift_seconds", measuring.as_secs_f64())?;
    Ok(out)
}

#[pyfunction]
#[pyo3(signature = (queries, corpus, known, candidates, scores, positive_scores, lowest, settings, n_threads, progress))]
#[expect(clippy::too_many_arguments, reason = "one per argument of the public function")]
pub(crate) fn select<'py>(
    py: Python<'py>,
    queries: &Bound<'py, PyAny>,
    corpus: &Bound<'py, PyAny>,
    known: KnownIn<'py>,
    candidates: ListsIn<'py>,
    scores: Option<Bound<'py, PyAny>>,
    positive_scores: Option<Bound<'py, PyAny>>,
    lowest: bool,
    settings: SettingsIn,
    n_threads: usize,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let (queries, corpus) = (Matrix::new("queries", queries)?, Matrix::new("corpus", corpus)?);
    let arrays = KnownArrays::new(&known)?;
    let candidates = ListArrays::new("candidates", &candidates)?;
    let float =
        |name, array: Option<Bound<'py, PyAny>>| array.map(|a| Borrowed::<f32>::new(name, &a, "float32", 1..=1));
    let scores = float("scores", scores).transpose()?;
    let positive_scores = float("positive_scores", positive_scores).transpose()?;
    let (metric, settings) = (settings.metric()?, settings.into_core()?);
    let inputs = Detached((queries, corpus, arrays, candidates, scores, positive_scores));
    let (mined, ran) = detached(py, progress, |watch| {
        let (queries, corpus, arrays, candidates, scores, positive_scores) = inputs.get();
        with_scorer(queries, corpus, metric, n_threads, watch, |scorer, workers, work| {
            let (anchors, rows) = (scorer.queries.len(), scorer.corpus.len());
            let known = arrays.known(anchors, rows)?;
            let lists = candidates.lists(anchors, rows)?;
            let positive_scores = match positive_scores {
                None => PositiveScores::Computed,
                Some(given) if lowest => PositiveScores::Lowest(given.slice()),
                Some(given) => PositiveScores::Each(given.slice()),
            };
            let scores = scores.as_ref().map(Borrowed::slice);
            let candidates = Candidates { lists: &lists, scores, positive_scores };
            negfast_core::mine::select(scorer, &known, &candidates, &settings, workers, work)
        })
    })?;
    wrap_mined(py, mined, settings.num_negatives, &ran)
}

#[pyfunction]
#[pyo3(signature = (queries, corpus, k, metric, search, n_threads, progress))]
#[expect(clippy::too_many_arguments, reason = "one per argument of the public function")]
pub(crate) fn topk<'py>(
    py: Python<'py>,
    queries: &Bound<'py, PyAny>,
    corpus: &Bound<'py, PyAny>,
    k: usize,
    metric: &str,
    search: SearchIn,
    n_threads: usize,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let (queries, corpus) = (Matrix::new("queries", queries)?, Matrix::new("corpus", corpus)?);
    let (metric, asked) = (self::metric(metric)?, search.into_core()?);
    let inputs = Detached((queries, corpus));
    let ((indices, scores, n_queries, account), ran) = detached(py, progress, |watch| {
        let (queries, corpus) = inputs.get();
        with_scorer(queries, corpus, metric, n_threads, watch, |scorer, workers, work| {
            let n_queries = scorer.queries.len();
            let mut indices = negfast_core::topk::table("k", n_queries, k, -1i64)?;
            let mut scores = negfast_core::topk::table("k", n_queries, k, f32::NEG_INFINITY)?;
            let mut engine = Engine::new(scorer, asked)?;
            nearest(&mut engine, k, workers, work, &mut indices, &mut scores)?;
            Ok((indices, scores, n_queries, engine.account()))
        })
    })?;
    let out = PyDict::new(py);
    out.set_item("indices", table(py, indices, n_queries, k)?)?;
    out.set_item("scores", table(py, scores, n_queries, k)?)?;
    out.set_item("search", wrap_search(py, &ran, Some(&account))?)?;
    Ok(out)
}

#[pyfunction]
#[pyo3(signature = (corpus, threshold, n_threads, progress))]
pub(crate) fn near_duplicates<'py>(
    py: Python<'py>,
    corpus: &Bound<'py, PyAny>,
    threshold: f64,
    n_threads: usize,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let inputs = Detached(Matrix::new("corpus", corpus)?);
    let numbers = detached(py, progress, |watch| {
        let level = Level::chosen()?;
        let mut workers = Workers::new(n_threads, watch);
        let corpus = Measured::measure("corpus", inputs.get().rows("corpus")?, level, &mut workers)?;
        negfast_core::duplicates::near_duplicates(&corpus, threshold, level, &mut workers, &Work::default())
    })?;
    Ok(PyArray1::from_vec(py, numbers))
}

/// How many allowed rows per anchor the first search of `mine` keeps under these settings.
#[pyfunction]
pub(crate) fn search_depth(settings: SettingsIn, n_corpus: usize) -> PyResult<usize> {
    let Settings { rules, draw, num_negatives, .. } = settings.into_core()?;
    Ok(first_depth(&rules, draw, num_negatives, n_corpus))
}

/// How a search of these sizes would be cut into tasks, and what they would hold in memory.
#[pyfunction]
#[pyo3(signature = (n_queries, n_corpus, dim, depth, max_memory, n_threads))]
pub(crate) fn plan(
    py: Python<'_>,
    n_queries: usize,
    n_corpus: usize,
    dim: usize,
    depth: usize,
    max_memory: Option<usize>,
    n_threads: usize,
) -> PyResult<Bound<'_, PyDict>> {
    // Sizes that no matrix can have would overflow.
    for (argument, size) in [("n_queries", n_queries), ("n_corpus", n_corpus), ("dim", dim)] {
        if size >= u32::MAX as usize {
            return Err(value_error(argument, "below 4294967295", &size.to_string(), "split the matrix into parts"));
        }
    }
    let level = Level::chosen().map_err(|error| from_core(&error))?;
    let sizes = Sizes { anchors: n_queries, rows: n_corpus, dim: dim.max(1), depth, max_memory };
    let plan = Plan::new(&sizes, &Tile::new(level), n_threads.clamp(1, 1024)).map_err(|error| from_core(&error))?;
    let out = PyDict::new(py);
    out.set_item("level", level.name())?;
    out.set_item("blocks", plan.blocks.len())?;
    out.set_item("block_anchors", plan.blocks.iter().map(ExactSizeIterator::len).max().unwrap_or(0))?;
    out.set_item("ranges", plan.ranges.len())?;
    out.set_item("slab_rows", plan.slab)?;
    out.set_item("working_bytes", plan.bytes)?;
    Ok(out)
}

/// Recall, the ends of its 95 % interval, and the anchors it was measured on, from the rows found and sought of each.
#[pyfunction]
pub(crate) fn measured_recall(found: Vec<usize>, sought: Vec<usize>) -> (f64, (f64, f64), usize) {
    let pairs: Vec<_> = found.into_iter().zip(sought).collect();
    let Recall { value, interval, anchors } = Recall::measured(&pairs);
    (value, interval, anchors)
}

/// The SIMD level that kernels run at: "scalar", "avx2" or "avx512".
#[pyfunction]
pub(crate) fn simd_level() -> PyResult<&'static str> {
    Level::chosen().map(Level::name).map_err(|error| from_core(&error))
}

/// The CPUs that this process may use.
#[pyfunction]
pub(crate) fn available_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Borrowed arrays on their way through a detached call.
///
/// The guards of numpy's borrows hold references into the interpreter, which a detached thread must neither clone
/// nor drop; reading the numbers behind them needs no interpreter. `get` only lends.
pub(crate) struct Detached<T>(pub(crate) T);

// SAFETY: the value is moved into no other thread and dropped by the thread that made it, attached; a detached
// closure sees it by reference, and every reference gives access to plain numbers only (`Borrowed::slice`, `shape`).
unsafe impl<T> Sync for Detached<T> {}

impl<T> Detached<T> {
    pub(crate) fn get(&self) -> &T {
        &self.0
    }
}

pub(crate) fn table<T: Element>(
    py: Python<'_>,
    values: Vec<T>,
    rows: usize,
    columns: usize,
) -> PyResult<Bound<'_, PyAny>> {
    Ok(PyArray1::from_vec(py, values).reshape([rows, columns])?.into_any())
}

fn wrap_mined<'py>(py: Python<'py>, mined: Mined, columns: usize, ran: &Ran) -> PyResult<Bound<'py, PyDict>> {
    let out = PyDict::new(py);
    let rows = mined.positive_scores.len();
    out.set_item("indices", table(py, mined.indices, rows, columns)?)?;
    out.set_item("scores", table(py, mined.scores, rows, columns)?)?;
    out.set_item("tiers", table(py, mined.tiers, rows, columns)?)?;
    out.set_item("positive_scores", PyArray1::from_vec(py, mined.positive_scores))?;
    let ranks = mined.positive_ranks.into_iter().map(|rank| rank as i64).collect();
    out.set_item("positive_ranks", PyArray1::from_vec(py, ranks))?;
    let names = negfast_core::rules::Rule::NAMES;
    let removed = PyDict::new(py);
    for (name, count) in names.into_iter().zip(mined.removed) {
        removed.set_item(name, count)?;
    }
    out.set_item("removed", removed)?;
    let suspects = mined.suspects;
    out.set_item("suspect_anchors", column(py, suspects.iter().map(|s| i64::from(s.anchor))))?;
    out.set_item("suspect_positives", column(py, suspects.iter().map(|s| i64::from(s.row))))?;
    out.set_item("suspect_scores", column(py, suspects.iter().map(|s| s.score)))?;
    out.set_item("suspect_ranks", column(py, suspects.iter().map(|s| s.rank as i64)))?;
    if let Some(reserve) = mined.reserve {
        out.set_item("reserve", wrap_reserve(py, reserve)?)?;
    }
    if let Some(refreshed) = &mined.refreshed {
        out.set_item("refresh", wrap_refreshed(py, refreshed)?)?;
    }
    let known = mined.false_negatives;
    out.set_item("false_negatives", (known.rows, known.known, known.rows_within, known.known_within))?;
    out.set_item("deepened", mined.deepened)?;
    out.set_item("search", wrap_search(py, ran, mined.account.as_ref())?)?;
    Ok(out)
}

fn wrap_reserve<'py>(py: Python<'py>, reserve: Reserve<'_>) -> PyResult<Bound<'py, PyDict>> {
    let out = PyDict::new(py);
    let Parts { starts, rows, scores, ceilings, floors } = reserve.into_parts();
    out.set_item("indptr", column(py, starts.into_iter().map(|start| start as i64)))?;
    out.set_item("rows", PyArray1::from_vec(py, rows))?;
    out.set_item("scores", PyArray1::from_vec(py, scores))?;
    out.set_item("ceilings", PyArray1::from_vec(py, ceilings))?;
    out.set_item("floors", PyArray1::from_vec(py, floors))?;
    Ok(out)
}

fn wrap_refreshed<'py>(py: Python<'py>, refreshed: &Refreshed) -> PyResult<Bound<'py, PyDict>> {
    let out = PyDict::new(py);
    out.set_item("proven", refreshed.proven)?;
    out.set_item("estimated", refreshed.estimated)?;
    out.set_item("searched", refreshed.searched)?;
    out.set_item("movers", refreshed.movers)?;
    out.set_item("prefix", refreshed.prefix)?;
    out.set_item("why", &refreshed.why)?;
    out.set_item("recall", refreshed.recall.value)?;
    out.set_item("recall_interval", refreshed.recall.interval)?;
    out.set_item("audited", refreshed.recall.anchors)?;
    let [deciding, judging] = refreshed.seconds;
    out.set_item("seconds", (deciding, judging))?;
    Ok(out)
}

pub(crate) fn column<T: Element>(py: Python<'_>, values: impl Iterator<Item = T>) -> Bound<'_, PyArray1<T>> {
    PyArray1::from_vec(py, values.collect())
}

fn wrap_search<'py>(py: Python<'py>, ran: &Ran, account: Option<&Account>) -> PyResult<Bound<'py, PyDict>> {
    let out = PyDict::new(py);
    if let Some(Account { method, why, recall }) = account {
        out.set_item("method", method.name())?;
        out.set_item("why", why)?;
        out.set_item("recall", recall.value)?;
        out.set_item("recall_interval", recall.interval)?;
        out.set_item("audited", recall.anchors)?;
    }
    out.set_item("level", ran.level.name())?;
    out.set_item("n_threads", ran.threads)?;
    out.set_item("rows_scanned", ran.work.rows_scanned())?;
    out.set_item("rows_checked", ran.work.rows_checked())?;
    out.set_item("rows_rescored", ran.work.rows_rescored())?;
    out.set_item("working_bytes", ran.work.bytes())?;
    let [zero_queries, zero_rows] = ran.zeros;
    out.set_item("zero_queries", zero_queries)?;
    out.set_item("zero_rows", zero_rows)?;
    // Stages are thread-time; divided by the threads they add up to about the wall-clock time.
    let share = |time: Duration| time.as_secs_f64() / ran.threads as f64;
    let seconds = PyDict::new(py);
    seconds.set_item("measure", ran.measuring.as_secs_f64())?;
    seconds.set_item("plan", ran.work.planning().as_secs_f64())?;
    seconds.set_item("index", ran.work.indexing().as_secs_f64())?;
    seconds.set_item("pack", share(ran.work.packing()))?;
    seconds.set_item("scan", share(ran.work.scanning()))?;
    seconds.set_item("finish", share(ran.work.finishing()))?;
    seconds.set_item("total", ran.total.as_secs_f64())?;
    out.set_item("seconds", seconds)?;
    Ok(out)
}
