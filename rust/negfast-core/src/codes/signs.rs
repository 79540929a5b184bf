//! Sign codes: one bit for each element of a rotated row.
//!
//! A row is moved so that the corpus lies around 0, rotated at random, and only the signs of what comes out are kept:
//! its *signature*. The angle between two rows is estimated by how many bits differ (M. Charikar, *Similarity
//! Estimation Techniques from Rounding Algorithms*, 2002). Far better, a query keeps its numbers, and each row three
//! more (J. Gao and C. Long, *RaBitQ: Quantizing High-Dimensional Vectors with a Theoretical Error Bound for
//! Approximate Nearest Neighbor Search*, 2024):
//!
//! Let r be the row less the centre c, s the signs of its rotation Pr, and u = Pᵀs the corner of the cube that stands
//! for it. For any vector w, ⟨u, w⟩ = Σ s (Pw), which needs bits of the row alone; and ⟨u, r⟩ = Σ |Pr|. Of w, the part
//! along r therefore contributes ⟨r, w⟩ ⟨u, r⟩ / ‖r‖² to ⟨u, w⟩, and the rest as much to one side as to the other, over
//! random rotations. So ⟨r, w⟩ is estimated without bias by `scale * ⟨u, w⟩` with `scale = ‖r‖² / Σ |Pr|`, and the
//! error has a standard deviation of about `width * ‖w‖`, with
//! `width = ‖r‖ √(‖u‖² ‖r‖² / ⟨u, r⟩² − 1) / √(dim − 1)`.
//!
//! Only what is unknown is estimated. With ĉ the direction of the centre, ⟨r, q⟩ = ⟨r, w⟩ + ⟨q, ĉ⟩ ⟨r, ĉ⟩ for
//! w = q − ⟨q, ĉ⟩ ĉ; the row keeps `add = ⟨r, ĉ⟩`. Hence the score of row and query is
//! `scale * ⟨u, w⟩ + add * ⟨q, ĉ⟩ + ⟨q, c⟩`. [`Lookup`] sums ⟨u, w⟩ from tables.

use crate::codes::rotation::Rotation;
use crate::error::{Error, Result};
use crate::kernel::{
    BLOCK_ROWS, Blocks, Level, Lookup, LookupOutput, MAX_BITS, PANEL_QUERIES, Strips, Table, Tables, dot,
    hamming as distances,
};
use crate::score::{Matrix, Metric, spans};
use crate::threads::{Workers, cut, split};
use crate::topk::{Buffers, Candidate, select_best, sort_best_first, table};

/// Numbers that a row keeps beside its signature.
pub const FACTORS: usize = 3;
/// The most elements of a row: the signs of its rotation are kept in memory.
pub const MAX_DIM: usize = 1 << 20;
/// Largest norm of a row under [`Metric::Dot`]: products of estimates stay far inside of `f32`.
const LARGEST_NORM: f64 = 1e15;
/// A part of a unit query shorter than this is rounding.
const NOTHING: f64 = 1e-6;
/// Rows whose sum is rounded as one, however many threads there are.
const FIT_ROWS: usize = 4096;
/// Most queries that a task takes at once, and most bytes of their tables and candidates.
const MOST_QUERIES: usize = 512;
const MOST_BYTES: usize = 8 << 20;
/// Rows that a task packs at once: they and a panel of tables stay near.
const SLAB: usize = 16 * BLOCK_ROWS;

/// Makes signatures of rows of one kind.
#[derive(Debug, Clone)]
pub struct SignCoder {
    rotation: Rotation,
    seed: u64,
    metric: Metric,
    centre: Vec<f32>,
    /// The centre over its norm.
    direction: Vec<f32>,
}

/// Room of one thread that makes signatures.
#[derive(Debug)]
pub struct CodingScratch {
    row: Vec<f32>,
    residual: Vec<f32>,
    rotated: Vec<f32>,
    part: Vec<f32>,
}

/// A query as rows' estimates need it.
#[derive(Debug, Clone)]
pub struct CodedQuery {
    /// Estimates in its unit, for rows with their `[scale, add, width]`.
    pub table: Table,
    /// What every row's score has in common, ⟨q, c⟩ for the query's direction.
    pub shift: f64,
    /// Length of the part that is estimated; times a row's `width`, the standard deviation of the estimate.
    pub length: f64,
    /// Norm of the query.
    pub norm: f64,
}

impl CodedQuery {
    /// The score with the query's direction that an estimate in the table's unit stands for; a dot product is `norm`
    /// times it.
    pub fn score(&self, estimate: f32) -> f64 {
        f64::from(estimate) * self.table.unit() + self.shift
    }

    /// The estimate in the table's unit that stands for a score with the query's direction.
    pub fn threshold(&self, score: f64) -> f32 {
        ((score - self.shift) / self.table.unit()) as f32
    }
}

/// What candidates are ranked by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ranking {
    /// The estimated score, of a query that keeps its numbers.
    Estimate,
    /// The number of differing bits, of a query that is a signature too: one without the centre under [`Metric::Dot`].
    Hamming,
}

/// Signatures of rows, and their factors if they are known; borrowed.
#[derive(Debug, Clone, Copy)]
pub struct Signatures<'a> {
    words: &'a [u64],
    width: usize,
    factors: Option<&'a [f32]>,
}

impl<'a> Signatures<'a> {
    /// The same with the factors of each row, of the given shape; `argument` names them in errors.
    ///
    /// # Errors
    /// If they are not three for each row, or one is not finite.
    pub fn with_factors(self, argument: &str, factors: &'a [f32], shape: &[usize]) -> Result<Self> {
        if shape != [self.len(), FACTORS] || factors.len() != self.len() * FACTORS {
            return Err(Error::invalid(
                argument,
                format!("of shape ({}, {FACTORS}), a row for each signature", self.len()),
                format!("{shape:?}"),
                "pass what encode_with_factors returned with the signatures",
            ));
        }
        if let Some(bad) = factors.iter().position(|x| !x.is_finite()) {
            return Err(Error::NonFinite { argument: argument.into(), row: bad / FACTORS });
        }
        Ok(Self { factors: Some(factors), ..self })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.words.len() / self.width
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    fn span(&self, rows: &std::ops::Range<usize>) -> &'a [u64] {
        &self.words[rows.start * self.width..rows.end * self.width]
    }
}

impl SignCoder {
    /// A coder of rows of `dim` elements into `n_bits` bits, its centre at 0. `seed` chooses the rotation; scores are
    /// those of `metric`.
    ///
    /// # Errors
    /// If `dim` is 0 or above [`MAX_DIM`], or `n_bits` no multiple of 64 from 64 to [`MAX_BITS`].
    pub fn new(dim: usize, n_bits: usize, seed: u64, metric: Metric) -> Result<Self> {
        if dim == 0 || dim > MAX_DIM {
            return Err(Error::invalid(
                "dim",
                format!("from 1 to {MAX_DIM}"),
                dim.to_string(),
                "give each row at least one element",
            ));
        }
        if n_bits == 0 || n_bits > MAX_BITS || !n_bits.is_multiple_of(64) {
            return Err(Error::invalid(
                "n_bits",
                format!("a multiple of 64, from 64 to {MAX_BITS}"),
                n_bits.to_string(),
                "round it up; about as many bits as the rows have elements is a good choice",
            ));
        }
        let rotation = Rotation::new(dim, n_bits, seed);
        Ok(Self { rotation, seed, metric, centre: vec![0.0; dim], direction: vec![0.0; dim] })
    }

    /// The same coder with its centre at `centre`.
    ///
    /// # Errors
    /// If it is not of `dim` elements, not finite, or longer than rows may be.
    pub fn with_centre(mut self, centre: &[f32]) -> Result<Self> {
        if centre.len() != self.dim() {
            return Err(Error::invalid(
                "centre",
                format!("of {} elements", self.dim()),
                centre.len().to_string(),
                "pass that of a coder of the same dim",
            ));
        }
        let norm = dot(Level::Scalar, centre, centre).sqrt();
        if !norm.is_finite() {
            return Err(Error::NonFinite { argument: "centre".into(), row: 0 });
        }
        if norm > LARGEST_NORM {
            return Err(too_long("centre", norm));
        }
        self.centre.copy_from_slice(centre);
        direction(&mut self.direction, centre, norm);
        Ok(self)
    }

    /// The same coder with its centre at the mean of `rows`, under [`Metric::Cosine`] of their directions.
    ///
    /// Sums are in `f64`, over runs of rows that do not depend on the threads: so the centre has the same bits for any
    /// number of them. Without rows it is 0.
    ///
    /// # Errors
    /// If the rows are of another dim or too long, or the call is cancelled.
    pub fn fit(self, argument: &str, rows: &Matrix<'_>, workers: &mut Workers<'_>) -> Result<Self> {
        self.check(argument, rows)?;
        let dim = self.dim();
        let parts = rows.len().div_ceil(FIT_ROWS);
        let mut sums = vec![0.0f64; parts * dim];
        let spans = (0..parts).map(|i| i * FIT_ROWS..((i + 1) * FIT_ROWS).min(rows.len()));
        let tasks: Vec<_> = spans.zip(sums.chunks_exact_mut(dim)).collect();
        let work = (rows.len() * dim) as u64;
        workers.run(
            work,
            tasks,
            || vec![0.0; dim],
            |scratch, (span, sums), progress| {
                for i in span {
                    let scale = self.scale(rows.norm(i));
                    for (sum, &x) in sums.iter_mut().zip(rows.rows().row(i, scratch)) {
                        *sum += f64::from(x) * scale;
                    }
                }
                progress.advance(0)
            },
        )?;
        let mut mean = vec![0.0f64; dim];
        for part in sums.chunks_exact(dim) {
            for (mean, sum) in mean.iter_mut().zip(part) {
                *mean += sum;
            }
        }
        let n = rows.len().max(1) as f64;
        let centre: Vec<f32> = mean.iter().map(|sum| (sum / n) as f32).collect();
        self.with_centre(&centre)
    }

    /// Elements in a row.
    pub fn dim(&self) -> usize {
        self.rotation.dim()
    }

    /// Bits in a signature.
    pub fn n_bits(&self) -> usize {
        self.rotation.outputs()
    }

    /// Words in a signature.
    pub fn words(&self) -> usize {
        self.n_bits() / 64
    }

    /// What chose the rotation.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// What scores are.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// What is taken off every row.
    pub fn centre(&self) -> &[f32] {
        &self.centre
    }

    /// Room for a thread.
    pub fn scratch(&self) -> CodingScratch {
        let row = || vec![0.0; self.dim()];
        CodingScratch { row: row(), residual: row(), rotated: vec![0.0; self.n_bits()], part: row() }
    }

    /// Wraps `rows` signatures of `width` words each as made by a coder like this; `argument` names them in errors.
    ///
    /// # Errors
    /// If signatures of this coder have another width, the words are not as many, or there are more rows than a `u32`
    /// can name.
    pub fn signatures<'a>(
        &self,
        argument: &str,
        words: &'a [u64],
        rows: usize,
        width: usize,
    ) -> Result<Signatures<'a>> {
        if width != self.words() || rows > u32::MAX as usize - 1 || rows.checked_mul(width) != Some(words.len()) {
            return Err(Error::invalid(
                argument,
                format!("of shape (n_rows, {}), for {} bits, and at most 4294967294 rows", self.words(), self.n_bits()),
                format!("({rows}, {width})"),
                "pass what encode returned, with the coder that made it",
            ));
        }
        Ok(Signatures { words, width, factors: None })
    }

    /// Writes the signatures of `rows`, and their factors `[scale, add, width]`.
    ///
    /// # Errors
    /// If the rows are of another dim or too long, or the call is cancelled.
    ///
    /// # Panics
    /// If an output has another length.
    pub fn encode(
        &self,
        argument: &str,
        rows: &Matrix<'_>,
        signatures: &mut [u64],
        factors: &mut [f32],
        level: Level,
        workers: &mut Workers<'_>,
    ) -> Result<()> {
        self.check(argument, rows)?;
        assert_eq!((signatures.len(), factors.len()), (rows.len() * self.words(), rows.len() * FACTORS));
        // A rotation costs about as much as this many multiply-adds an output.
        let cost = 4 * self.n_bits().max(self.dim());
        let spans = spans(rows.len(), rows.len(), cost, workers.threads());
        let signatures = cut(signatures, spans.iter().map(|span| span.len() * self.words()));
        let factors = cut(factors, spans.iter().map(|span| span.len() * FACTORS));
        let tasks: Vec<_> = spans.into_iter().zip(signatures.into_iter().zip(factors)).collect();
        let work = (rows.len() * cost) as u64;
        workers.progress().expect(rows.len() as u64);
        workers.run(
            work,
            tasks,
            || self.scratch(),
            |scratch, (span, (words, factors)), progress| {
                let done = span.len() as u64;
                let outputs = words.chunks_exact_mut(self.words()).zip(factors.chunks_exact_mut(FACTORS));
                for (i, (words, factors)) in span.zip(outputs) {
                    factors.copy_from_slice(&self.encode_row(rows, i, words, level, scratch));
                }
                progress.advance(done)
            },
        )
    }

    /// Writes the signature of row `i` and returns its factors.
    fn encode_row(
        &self,
        rows: &Matrix<'_>,
        i: usize,
        words: &mut [u64],
        level: Level,
        scratch: &mut CodingScratch,
    ) -> [f32; FACTORS] {
        let CodingScratch { row, residual, rotated, part } = scratch;
        let scale = self.scale(rows.norm(i));
        let row = rows.rows().row(i, row);
        for ((residual, &x), &c) in residual.iter_mut().zip(row).zip(&self.centre) {
            *residual = (f64::from(x) * scale - f64::from(c)) as f32;
        }
        let norm = dot(level, residual, residual).sqrt();
        let add = dot(level, residual, &self.direction) as f32;
        if norm == 0.0 {
            words.fill(0);
            return [0.0, add, 0.0];
        }
        for x in residual.iter_mut() {
            *x = (f64::from(*x) / norm) as f32;
        }
        self.rotation.apply(residual, rotated, part);
        signs(rotated, words);
        let (mut along, mut across) = (0.0, 0.0);
        for rotated in rotated.chunks(self.dim()) {
            // The corner is as long as the root of its bits, and rotations are independent of each other.
            let sum = magnitudes(rotated);
            along += sum;
            across += (rotated.len() as f64 - sum * sum).max(0.0);
        }
        let width = norm * (across / (self.dim() as f64 - 1.0).max(1.0)).sqrt() / along;
        [(norm / along) as f32, add, width as f32]
    }

    /// Makes the tables of query `i`: for rows with factors, or, not `corrected`, for signatures alone.
    pub fn query(
        &self,
        queries: &Matrix<'_>,
        i: usize,
        corrected: bool,
        level: Level,
        scratch: &mut CodingScratch,
    ) -> CodedQuery {
        let CodingScratch { row, residual, rotated, part } = scratch;
        let norm = queries.norm(i);
        direction(residual, queries.rows().row(i, row), norm);
        let (shift, along) = if corrected {
            (dot(level, residual, &self.centre), dot(level, residual, &self.direction))
        } else {
            (0.0, 0.0)
        };
        for (x, &c) in residual.iter_mut().zip(&self.direction) {
            *x = (f64::from(*x) - along * f64::from(c)) as f32;
        }
        let mut length = dot(level, residual, residual).sqrt();
        if length < NOTHING {
            length = 0.0;
            residual.fill(0.0);
        }
        self.rotation.apply(residual, rotated, part);
        let mut table = Table::new(rotated);
        table.add = (along / table.unit()) as f32;
        CodedQuery { table, shift, length, norm }
    }

    /// Writes the signature that query `i` is compared by. Under [`Metric::Dot`] the centre stays where it is: what a
    /// row adds to ⟨c, q⟩ is the product of the query itself and the row less the centre, and the query's length, of
    /// which the centre knows nothing, does not matter.
    fn query_signature(
        &self,
        queries: &Matrix<'_>,
        i: usize,
        words: &mut [u64],
        level: Level,
        scratch: &mut CodingScratch,
    ) {
        if self.metric == Metric::Cosine {
            self.encode_row(queries, i, words, level, scratch);
            return;
        }
        let CodingScratch { row, residual, rotated, part } = scratch;
        direction(residual, queries.rows().row(i, row), queries.norm(i));
        self.rotation.apply(residual, rotated, part);
        signs(rotated, words);
    }

    fn scale(&self, norm: f64) -> f64 {
        match self.metric {
            Metric::Dot => 1.0,
            Metric::Cosine if norm == 0.0 => 0.0,
            Metric::Cosine => 1.0 / norm,
        }
    }

    fn check(&self, argument: &str, rows: &Matrix<'_>) -> Result<()> {
        let dim = rows.rows().dim();
        if dim != self.dim() {
            return Err(Error::invalid(
                argument,
                format!("of dim {}, as the signatures are made for", self.dim()),
                format!("dim {dim}"),
                "encode with one model, or make signatures for this dim",
            ));
        }
        if self.metric == Metric::Dot && rows.largest_norm() > LARGEST_NORM {
            return Err(too_long(argument, rows.largest_norm()));
        }
        Ok(())
    }
}

fn too_long(argument: &str, norm: f64) -> Error {
    Error::invalid(
        argument,
        format!("of norms up to {LARGEST_NORM:e}"),
        format!("a norm of {norm:.3e}"),
        "scale it down or use metric=\"cosine\"",
    )
}

/// Writes `row` over its norm into `unit`; zeros stay zeros.
fn direction(unit: &mut [f32], row: &[f32], norm: f64) {
    let scale = if norm == 0.0 { 0.0 } else { 1.0 / norm };
    for (unit, &x) in unit.iter_mut().zip(row) {
        *unit = (f64::from(x) * scale) as f32;
    }
}

/// Bit `j` of word `w` is set where number `64 w + j` is positive.
fn signs(numbers: &[f32], words: &mut [u64]) {
    for (word, numbers) in words.iter_mut().zip(numbers.chunks_exact(64)) {
        *word = numbers.iter().enumerate().fold(0, |word, (j, &x)| word | u64::from(x > 0.0) << j);
    }
}

/// The sum of magnitudes, in eight lanes.
fn magnitudes(numbers: &[f32]) -> f64 {
    let mut sums = [0.0f64; 8];
    for eight in numbers.chunks(8) {
        for (sum, x) in sums.iter_mut().zip(eight) {
            *sum += f64::from(x.abs());
        }
    }
    sums.iter().sum()
}

/// The number of differing bits of each pair, `a × b`, row-major.
///
/// # Errors
/// If there is no memory for the result, or the call is cancelled.
///
/// # Panics
/// If the signatures are of different widths.
pub fn hamming(a: &Signatures<'_>, b: &Signatures<'_>, level: Level, workers: &mut Workers<'_>) -> Result<Vec<u16>> {
    assert_eq!(a.width, b.width, "signatures of one coder");
    let mut out = table("b", a.len(), b.len(), 0u16)?;
    if out.is_empty() {
        return Ok(out);
    }
    let spans = split(a.len(), (a.len() * b.len()).div_ceil(1 << 24).max(4 * workers.threads()));
    let parts = cut(&mut out, spans.iter().map(|span| span.len() * b.len()));
    let tasks: Vec<_> = spans.into_iter().zip(parts).collect();
    workers.progress().expect((a.len() * b.len()) as u64);
    // A word is about as much work as this many multiply-adds.
    let work = (a.len() * b.len() * a.width * 4) as u64;
    workers.run(work, tasks, Strips::default, |strips, (span, out), progress| {
        for start in (0..b.len()).step_by(SLAB) {
            let rows = start..(start + SLAB).min(b.len());
            strips.pack(b.span(&rows), b.width);
            for (i, out) in span.clone().zip(out.chunks_exact_mut(b.len())) {
                distances(level, a.span(&(i..i + 1)), strips, &mut out[rows.clone()]);
            }
            progress.advance((span.len() * rows.len()) as u64)?;
        }
        Ok(())
    })?;
    Ok(out)
}

/// The `k` rows of `signatures` that rank best for each query, `queries × k`, best first, padded with −1; equal ranks go
/// to the lower row.
///
/// Without factors, estimates take all rows to be equally far from the centre and equally well represented by their
/// signatures.
///
/// # Errors
/// If the queries are of another dim or too long, there is no memory for the result, or the call is cancelled.
///
/// # Panics
/// If the signatures are of another width than the coder's.
pub fn candidates(
    coder: &SignCoder,
    queries: &Matrix<'_>,
    signatures: &Signatures<'_>,
    k: usize,
    ranking: Ranking,
    level: Level,
    workers: &mut Workers<'_>,
) -> Result<Vec<i64>> {
    coder.check("queries", queries)?;
    assert_eq!(signatures.width, coder.words(), "signatures of this coder");
    let mut out = table("k", queries.len(), k, -1i64)?;
    let depth = k.min(signatures.len());
    if depth == 0 || queries.is_empty() {
        return Ok(out);
    }
    // Tables take four bytes a bit; twice that again as they are packed.
    let each = Buffers::capacity_for(depth) * size_of::<u64>() + 12 * coder.n_bits();
    let most = (MOST_BYTES / each).clamp(4, MOST_QUERIES);
    let spans = split(queries.len(), queries.len().div_ceil(most).next_multiple_of(workers.threads()));
    let parts = cut(&mut out, spans.iter().map(|span| span.len() * k));
    let tasks: Vec<_> = spans.into_iter().zip(parts).collect();
    let pairs = (queries.len() * signatures.len()) as u64;
    workers.progress().expect(pairs);
    let work = pairs * (coder.n_bits() as u64 / 8) + (queries.len() * coder.n_bits() * 16) as u64;
    let search = Search { coder, queries, signatures, level };
    workers.run(
        work,
        tasks,
        || (),
        |(), (span, out), progress| {
            let mut best = Best::new(span.len(), depth);
            let advance = |rows: usize| progress.advance((span.len() * rows) as u64);
            match ranking {
                Ranking::Estimate => search.estimates(&span, &mut best, advance)?,
                Ranking::Hamming => search.distances(&span, &mut best, advance)?,
            }
            for (q, out) in out.chunks_exact_mut(k).enumerate() {
                for (out, candidate) in out.iter_mut().zip(best.finish(q)) {
                    *out = i64::from(candidate.row);
                }
            }
            Ok(())
        },
    )?;
    Ok(out)
}

/// What the tasks of a search for candidates share.
struct Search<'a> {
    coder: &'a SignCoder,
    queries: &'a Matrix<'a>,
    signatures: &'a Signatures<'a>,
    level: Level,
}

impl Search<'_> {
    /// Offers all rows by their estimates.
    fn estimates(
        &self,
        span: &std::ops::Range<usize>,
        best: &mut Best,
        advance: impl Fn(usize) -> Result<()>,
    ) -> Result<()> {
        let Self { coder, queries, signatures, level } = *self;
        let (lookup, factors) = (Lookup::new(level), signatures.factors);
        let mut scratch = coder.scratch();
        let query = |i| coder.query(queries, i, factors.is_some(), level, &mut scratch).table;
        let coded: Vec<_> = span.clone().map(query).collect();
        let (mut tables, mut blocks, mut out) = (Tables::default(), Blocks::default(), LookupOutput::default());
        tables.pack(&coded, &lookup);
        best.pad(tables.count() * PANEL_QUERIES);
        for start in (0..signatures.len()).step_by(SLAB) {
            let rows = start..(start + SLAB).min(signatures.len());
            blocks.pack(signatures.span(&rows), signatures.width, |r| {
                factors.map_or([1.0, 0.0, 0.0], |f| {
                    let at = (start + r) * FACTORS;
                    [f[at], f[at + 1], f[at + 2]]
                })
            });
            for p in 0..tables.count() {
                let first = p * PANEL_QUERIES;
                for b in 0..blocks.count() {
                    if lookup.run(&tables, p, &blocks, b, &best.thresholds[first..], &mut out) {
                        best.note(&out, first, start + b * BLOCK_ROWS);
                    }
                }
            }
            advance(rows.len())?;
        }
        Ok(())
    }

    /// Offers all rows by how few of their bits differ.
    fn distances(
        &self,
        span: &std::ops::Range<usize>,
        best: &mut Best,
        advance: impl Fn(usize) -> Result<()>,
    ) -> Result<()> {
        let Self { coder, queries, signatures, level } = *self;
        let mut scratch = coder.scratch();
        let mut codes = vec![0; span.len() * signatures.width];
        for (i, code) in span.clone().zip(codes.chunks_exact_mut(signatures.width)) {
            coder.query_signature(queries, i, code, level, &mut scratch);
        }
        let (mut strips, mut out) = (Strips::default(), vec![0; SLAB]);
        for start in (0..signatures.len()).step_by(SLAB) {
            let rows = start..(start + SLAB).min(signatures.len());
            strips.pack(signatures.span(&rows), signatures.width);
            for (q, code) in codes.chunks_exact(signatures.width).enumerate() {
                let out = &mut out[..rows.len()];
                distances(level, code, &strips, out);
                // Hardly any row is among the best: most are left behind a few dozen at a time.
                for (few, start) in out.chunks(BLOCK_ROWS).zip(rows.clone().step_by(BLOCK_ROWS)) {
                    let most = -best.thresholds[q];
                    if few.iter().fold(false, |any, &bits| any | (f32::from(bits) <= most)) {
                        best.offer(q, few, start);
                    }
                }
            }
            advance(rows.len())?;
        }
        Ok(())
    }
}

/// The best rows of several queries, which are offered in the order of rows.
struct Best {
    buffers: Buffers,
    depth: usize,
    /// What a row must reach. Among equals the first come stay, so it lies above the worst of a full list.
    thresholds: Vec<f32>,
}

impl Best {
    fn new(queries: usize, depth: usize) -> Self {
        Self { buffers: Buffers::new(queries, depth), depth, thresholds: vec![f32::NEG_INFINITY; queries] }
    }

    /// Makes room for queries that are none: nothing reaches them.
    fn pad(&mut self, queries: usize) {
        self.thresholds.resize(queries, f32::INFINITY);
    }

    fn note(&mut self, out: &LookupOutput, first: usize, first_row: usize) {
        for (q, &mask) in out.masks.iter().enumerate() {
            let mut mask = mask;
            while mask != 0 {
                let r = mask.trailing_zeros() as usize;
                mask &= mask - 1;
                // Adding 0 turns −0, which buffers cannot hold, into 0.
                let score = out.estimates[q * BLOCK_ROWS + r] + 0.0;
                // The threshold may have risen since the block was tested.
                if score >= self.thresholds[first + q] {
                    self.push(first + q, Candidate { score, row: (first_row + r) as u32 });
                }
            }
        }
    }

    /// Offers consecutive rows by how few of their bits differ.
    fn offer(&mut self, q: usize, bits: &[u16], first_row: usize) {
        for (&bits, row) in bits.iter().zip(first_row..) {
            let score = -f32::from(bits) + 0.0;
            if score >= self.thresholds[q] {
                self.push(q, Candidate { score, row: row as u32 });
            }
        }
    }

    fn push(&mut self, q: usize, candidate: Candidate) {
        if self.buffers.push(q, candidate) {
            let mut list: Vec<_> = self.buffers.list(q).collect();
            if let Some(worst) = select_best(&mut list, self.depth) {
                list.truncate(self.depth);
                self.thresholds[q] = worst.score.next_up();
                self.buffers.replace(q, list.into_iter());
            }
        }
    }

    fn finish(&self, q: usize) -> Vec<Candidate> {
        let mut list: Vec<_> = self.buffers.list(q).collect();
        sort_best_first(&mut list);
        list.truncate(self.depth);
        list
    }
}
