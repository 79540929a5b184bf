//! The score: one function of two rows, the same bits everywhere.

mod together;

pub(crate) use together::Together;

use crate::error::{Error, Result};
use crate::kernel::{BATCH, Level, dot, dots, estimate, scaled, shorten};
use crate::lists::Lists;
use crate::rows::Rows;
use crate::threads::{Workers, cut, split};

/// Bytes of rows that a task reads at most before it looks whether to stop.
const SPAN_BYTES: usize = 4 << 20;

/// Cuts `n` lists of altogether `rows` rows into spans that keep every thread busy and end soon.
pub(crate) fn spans(n: usize, rows: usize, dim: usize, threads: usize) -> Vec<std::ops::Range<usize>> {
    split(n, (rows * dim * size_of::<f32>()).div_ceil(SPAN_BYTES).max(threads * 4))
}

/// What "close" means. Larger scores are closer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Dot product over the product of the norms; a zero row scores 0 with everything.
    Cosine,
    /// Dot product.
    Dot,
}

/// What the rows of a matrix are multiplied with before a kernel sees them, so that their norms are 1 or less.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    /// Each row with the reciprocal of its norm; a zero row stays one.
    Unit,
    /// All rows with one number.
    Factor(f64),
}

/// A matrix whose rows are known to be finite, with their Euclidean norms.
#[derive(Debug)]
pub struct Matrix<'a> {
    rows: Rows<'a>,
    norms: Vec<f64>,
}

impl<'a> Matrix<'a> {
    /// Reads every row once, on all of `workers`' threads.
    ///
    /// # Errors
    /// [`Error::NonFinite`] with the first row that holds a NaN or an infinity; `argument` names the matrix.
    pub fn measure(argument: &str, rows: Rows<'a>, level: Level, workers: &mut Workers<'_>) -> Result<Self> {
        let mut norms = vec![0.0; rows.rows()];
        let spans = spans(rows.rows(), rows.rows(), rows.dim(), workers.threads());
        let parts = cut(&mut norms, spans.iter().map(ExactSizeIterator::len));
        let tasks: Vec<_> = spans.iter().cloned().zip(parts).collect();
        let work = (rows.rows() * rows.dim()) as u64;
        workers.run(
            work,
            tasks,
            || vec![0.0; rows.dim()],
            |scratch, (span, norms), progress| {
                for (i, norm) in span.zip(norms) {
                    let row = rows.row(i, scratch);
                    // The square of an f32 is far inside of f64, so only a NaN or an infinity makes the sum one.
                    let squares = dot(level, row, row);
                    if !squares.is_finite() {
                        return Err(Error::NonFinite { argument: argument.into(), row: i });
                    }
                    *norm = squares.sqrt();
                }
                progress.advance(0)
            },
        )?;
        Ok(Self { rows, norms })
    }

    /// Rows that were measured before.
    ///
    /// # Panics
    /// If there is not one norm a row.
    pub(crate) fn measured(rows: Rows<'a>, norms: Vec<f64>) -> Self {
        assert_eq!(rows.rows(), norms.len(), "a norm for each row");
        Self { rows, norms }
    }

    /// The rows.
    pub fn rows(&self) -> &Rows<'a> {
        &self.rows
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.norms.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.norms.is_empty()
    }

    /// How many rows are all zeros.
    pub fn zeros(&self) -> usize {
        self.norms.iter().filter(|&&norm| norm == 0.0).count()
    }

    /// The norm of row `i`.
    pub fn norm(&self, i: usize) -> f64 {
        self.norms[i]
    }

    /// What row `i` is multiplied with.
    pub fn factor(&self, i: usize, scale: Scale) -> f64 {
        match scale {
            Scale::Factor(factor) => factor,
            Scale::Unit if self.norms[i] == 0.0 => 0.0,
            Scale::Unit => 1.0 / self.norms[i],
        }
    }

    /// Writes row `i`, scaled, into `out`.
    pub fn scaled(&self, i: usize, scale: Scale, out: &mut [f32]) {
        scaled(out, &self.rows, i, self.factor(i, scale));
    }

    /// Whether most rows are of a size, so that an error that suits the largest suits them all.
    pub fn is_even(&self) -> bool {
        let largest = self.largest_norm();
        let squares: f64 = self.norms.iter().map(|norm| norm * norm).sum();
        squares >= 0.16 * largest * largest * self.len() as f64
    }

    /// The largest norm, 0 without rows.
    pub fn largest_norm(&self) -> f64 {
        self.norms.iter().copied().fold(0.0, f64::max)
    }
}

/// Scores rows of two matrices.
#[derive(Debug)]
pub struct Scorer<'a> {
    /// The anchors.
    pub queries: &'a Matrix<'a>,
    /// Where negatives come from.
    pub corpus: &'a Matrix<'a>,
    /// What "close" means.
    pub metric: Metric,
    /// The level that dot products run at; it does not change their bits.
    pub level: Level,
}

/// Room for rows that have to be widened. One per thread.
#[derive(Debug, Default)]
pub struct Scratch {
    anchor: Vec<f32>,
    rows: Vec<f32>,
}

impl Scratch {
    /// Room for rows of `dim` elements.
    pub fn new(dim: usize) -> Self {
        Self { anchor: vec![0.0; dim], rows: vec![0.0; dim * BATCH] }
    }
}

impl<'a> Scorer<'a> {
    /// A scorer of `queries` against `corpus`.
    ///
    /// # Errors
    /// If their dims differ, or dot products could leave the range of `f32`.
    pub fn new(queries: &'a Matrix<'a>, corpus: &'a Matrix<'a>, metric: Metric, level: Level) -> Result<Self> {
        let (dim, other) = (corpus.rows().dim(), queries.rows().dim());
        if dim != other {
            return Err(Error::invalid(
                "queries",
                format!("of dim {dim}, as the corpus is"),
                format!("dim {other}"),
                "encode both with one model",
            ));
        }
        if metric == Metric::Dot && queries.largest_norm() * corpus.largest_norm() > f64::from(f32::MAX) {
            return Err(Error::invalid(
                "corpus",
                "small enough for dot products in float32",
                format!(
                    "rows of norm {:.3e} against queries of norm {:.3e}",
                    corpus.largest_norm(),
                    queries.largest_norm()
                ),
                "scale the rows down or use metric=\"cosine\"",
            ));
        }
        Ok(Self { queries, corpus, metric, level })
    }

    /// A power of two that brings the largest corpus row to norm 1 or less; 1 for cosine, which divides each row by its
    /// own norm.
    pub fn corpus_scale(&self) -> f64 {
        let largest = self.corpus.largest_norm();
        if self.metric == Metric::Cosine || largest == 0.0 { 1.0 } else { largest.log2().ceil().exp2() }
    }

    /// What kernels multiply corpus rows with; anchors are brought to norm 1.
    pub fn corpus_factor(&self) -> Scale {
        match self.metric {
            Metric::Cosine => Scale::Unit,
            Metric::Dot => Scale::Factor(1.0 / self.corpus_scale()),
        }
    }

    /// Writes corpus row `row`, scaled, into `out` in 16 bits; `scratch` has room for a row.
    pub fn shorten(&self, row: usize, scratch: &mut [f32], out: &mut [i16]) {
        let factor = self.corpus.factor(row, self.corpus_factor());
        // Beyond this, neither the factor nor the row need be numbers that f32 can multiply.
        if (1e-30..1e30).contains(&factor) {
            shorten(self.level, self.corpus.rows().row(row, scratch), factor as f32, out);
        } else {
            self.corpus.scaled(row, self.corpus_factor(), scratch);
            shorten(self.level, scratch, 1.0, out);
        }
    }

    /// The score of corpus row `row` for `anchor`.
    pub fn score(&self, anchor: usize, row: u32, scratch: &mut Scratch) -> f32 {
        let mut out = [0.0];
        self.score_all(anchor, &[row], &mut out, scratch);
        out[0]
    }

    /// The scores of several corpus rows for `anchor`, into `out`.
    ///
    /// # Panics
    /// If `out` is shorter than `rows`.
    pub fn score_all(&self, anchor: usize, rows: &[u32], out: &mut [f32], scratch: &mut Scratch) {
        let norm = self.queries.norm(anchor);
        let a = self.queries.rows().row(anchor, &mut scratch.anchor);
        self.products(a, rows, &mut scratch.rows, |position, row, product| {
            out[position] = self.scored(norm, row, product);
        });
    }

    /// The score of a query of this norm and a corpus row, from their product.
    fn scored(&self, norm: f64, row: usize, product: f64) -> f32 {
        match self.metric {
            // Adding 0 turns -0 into 0, so that equal scores are equal bits.
            Metric::Dot => product as f32 + 0.0,
            Metric::Cosine => over_norms(product, norm, self.corpus.norm(row)),
        }
    }

    /// Whether the cosine of two corpus rows is above `bound`, whatever the metric.
    ///
    /// Nearly always an estimate in `f32` can tell.
    pub fn nearer(&self, row: u32, other: u32, bound: f64, scratch: &mut Scratch) -> bool {
        let (a, b) = (row as usize, other as usize);
        if let (Some(x), Some(y)) = (self.corpus.rows().plain_row(a), self.corpus.rows().plain_row(b)) {
            // Norms for which no product overflows, and none that matters underflows.
            let usual = 1e-10..1e10;
            let (na, nb) = (self.corpus.norm(a), self.corpus.norm(b));
            if usual.contains(&na) && usual.contains(&nb) {
                let cosine = f64::from(estimate(self.level, x, y)) / (na * nb);
                let slack = slack(x.len());
                if (cosine - bound).abs() > slack {
                    return cosine > bound;
                }
            }
        }
        f64::from(self.cosine(row, other, scratch)) > bound
    }

    /// The cosine of two corpus rows, whatever the metric.
    pub fn cosine(&self, row: u32, other: u32, scratch: &mut Scratch) -> f32 {
        let a = self.corpus.rows().row(row as usize, &mut scratch.anchor);
        let mut cosine = 0.0;
        self.products(a, &[other], &mut scratch.rows, |_, other, product| {
            cosine = over_norms(product, self.corpus.norm(row as usize), self.corpus.norm(other));
        });
        cosine
    }

    fn products(&self, a: &[f32], rows: &[u32], widened: &mut [f32], mut take: impl FnMut(usize, usize, f64)) {
        let corpus = self.corpus.rows();
        let mut batches = rows.chunks_exact(BATCH);
        let mut position = 0;
        for batch in &mut batches {
            for &row in rows[(position + 2 * BATCH).min(rows.len())..].iter().take(BATCH) {
                corpus.fetch(row as usize);
            }
            let mut room = widened.chunks_exact_mut(corpus.dim());
            let four = [0, 1, 2, 3].map(|i| corpus.row(batch[i] as usize, room.next().unwrap_or_default()));
            for (i, product) in dots(self.level, a, four).into_iter().enumerate() {
                take(position + i, batch[i] as usize, product);
            }
            position += BATCH;
        }
        for &row in batches.remainder() {
            let product = dot(self.level, a, corpus.row(row as usize, widened));
            take(position, row as usize, product);
            position += 1;
        }
    }
}

/// How far a sum of products in `f32` may lie from the score, for rows of norm 1 or less.
///
/// The sum of n products in any order, each operand rounded once, errs by at most (n + 3)u / (1 − (n + 3)u) times
/// the sum of the products' magnitudes, which is at most 1 (N. Higham, *Accuracy and Stability of Numerical
/// Algorithms*, 2002, section 3.1), with u = 2⁻²⁴. The rest covers the rounding of thresholds and of the score
/// itself, and elements that packing flushed to zero.
pub fn slack(dim: usize) -> f64 {
    let relative = (dim as f64 + 16.0) / f64::from(1u32 << 24);
    relative / (1.0 - relative.min(0.5)) * 1.01 + f64::from(f32::EPSILON) / 65_536.0
}

fn over_norms(product: f64, a: f64, b: f64) -> f32 {
    let norms = a * b;
    if norms == 0.0 { 0.0 } else { (product / norms) as f32 + 0.0 }
}

/// The score of every row in the lists of `anchors`, which ascend; NaN for the lists of others.
///
/// # Errors
/// [`Error::Cancelled`].
pub fn score_lists(scorer: &Scorer<'_>, anchors: &[u32], lists: &Lists, workers: &mut Workers<'_>) -> Result<Vec<f32>> {
    let (starts, rows) = (lists.starts(), lists.rows());
    let mut scores = vec![f32::NAN; rows.len()];
    let first = |rank: usize| anchors.get(rank).map_or(rows.len(), |&anchor| starts[anchor as usize]);
    let wanted: usize = anchors.iter().map(|&anchor| lists.of(anchor as usize).len()).sum();
    let dim = scorer.corpus.rows().dim();
    let spans = spans(anchors.len(), wanted, dim, workers.threads());
    let parts = cut(&mut scores[first(0)..], spans.iter().map(|span| first(span.end) - first(span.start)));
    let tasks: Vec<_> = spans.iter().cloned().zip(parts).collect();
    let start = || Scratch::new(dim);
    workers.run((wanted * dim) as u64, tasks, start, |scratch, (span, out), progress| {
        let before = first(span.start);
        for &anchor in &anchors[span] {
            let list = starts[anchor as usize]..starts[anchor as usize + 1];
            let part = &mut out[list.start - before..list.end - before];
            scorer.score_all(anchor as usize, &rows[list], part, scratch);
        }
        progress.advance(0)
    })?;
    Ok(scores)
}
