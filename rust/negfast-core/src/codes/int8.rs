//! Rows in int8, with what the codes leave out.
//!
//! A row `x` of norm 1 or less is projected on a [`Basis`] (or taken as it is), `y = Vx`, and coded as `ŷ = s · code`, whole
//! numbers times a scale of its own. For two rows
//!
//! ```text
//! |q·x − ŷ_q·ŷ_x| ≤ tail(q) tail(x) + |ŷ_q| err(x) + err(q) |y_x| + ε      with err(x) = |y_x − ŷ_x|
//! ```
//!
//! where ε covers rounding. The three products are the scalar product of `(tail, norm/λ, λ err)` of one row with
//! `(tail, λ err, norm/λ)` of the other, so by Cauchy and Schwarz they are at most `extent(q) extent(x)` with
//!
//! ```text
//! extent² = tail² + norm²/λ² + λ² err²
//! ```
//!
//! for any λ. Rows are alike enough for this to cost little if λ² is the usual ratio of norm to err: then both triples
//! point in one direction. One number a row is thus enough for a bound that holds for every pair, whatever the data; and
//! a share of the product serves searches that do without proof.

use super::basis::Basis;
use crate::kernel::{CodeTile, Level, Panels, RUNS, Tile, WIDE, pack};
use crate::score::{Matrix, Scale, Scorer, slack};

/// Rows that the balance of norm and error is measured on.
const SAMPLE: usize = 256;

/// Turns rows into codes.
#[derive(Debug)]
pub struct Coder {
    basis: Option<Basis>,
    dim: usize,
    level: Level,
    /// λ² of the module's documentation.
    balance: f64,
}

/// One row's code.
#[derive(Debug, Clone, Copy)]
pub struct Coded<'a> {
    /// The coordinates before coding.
    pub values: &'a [f32],
    /// Whole numbers, padded with zeros to whole quads.
    pub codes: &'a [i8],
    /// Times this they are the coordinates; 1 for a row of zeros.
    pub scale: f32,
    /// Bounds what a pair of codes can be off, multiplied with that of the other row.
    pub extent: f64,
}

/// Room for rows while they are coded.
#[derive(Debug, Default)]
pub struct Room {
    panels: Panels,
    values: Vec<f32>,
    codes: Vec<i8>,
    ids: Vec<usize>,
}

impl Coder {
    /// A coder for the rows of `scorer`, in the coordinates of `basis`, or in all as they are.
    pub fn new(scorer: &Scorer<'_>, basis: Option<Basis>) -> Self {
        let dim = scorer.corpus.rows().dim();
        let mut coder = Self { basis, dim, level: scorer.level, balance: 1.0 };
        coder.balance = coder.usual_balance([(scorer.queries, Scale::Unit), (scorer.corpus, scorer.corpus_factor())]);
        coder
    }

    /// Coordinates that are coded.
    pub fn width(&self) -> usize {
        self.basis.as_ref().map_or(self.dim, Basis::width)
    }

    /// Quads of codes of a row.
    pub fn quads(&self) -> usize {
        self.width().div_ceil(4)
    }

    /// What rounding adds to the difference of a score and its estimate, beyond the extents: in the projections of both
    /// rows, in the sums of the tile's test, and in scaling the rows.
    pub fn epsilon(&self) -> f64 {
        // The test converts a sum, which can take 32 bits, and rounds three times.
        let test = 16.0 / f64::from(1u32 << 24);
        let basis = self.basis.as_ref().map_or(0.0, |b| b.eta() + b.rounding() * (2.0 + b.rounding()) * 1.01);
        basis + test + slack(1)
    }

    /// Computes the coordinates of the rows of `ids`, in order.
    pub fn project(
        &self,
        (matrix, scale): (&Matrix<'_>, Scale),
        ids: impl ExactSizeIterator<Item = usize>,
        room: &mut Room,
        mut take: impl FnMut(usize, &[f32]),
    ) {
        let Room { panels, values, ids: known, .. } = room;
        let width = self.width();
        known.clear();
        known.extend(ids);
        if let Some(basis) = &self.basis {
            let rows = Tile::new(self.level).rows;
            pack(panels, self.dim, known.len(), rows, |i, row| matrix.scaled(known[i], scale, row));
            basis.project(panels, known.len(), values);
        } else {
            values.resize(known.len() * width, 0.0);
            for (&id, row) in known.iter().zip(values.chunks_exact_mut(width)) {
                matrix.scaled(id, scale, row);
            }
        }
        values.chunks_exact(width).take(known.len()).enumerate().for_each(|(i, values)| take(i, values));
    }

    /// Codes the rows of `ids`, in order, with codes of at most `limit`.
    pub fn code(
        &self,
        (matrix, scale): (&Matrix<'_>, Scale),
        ids: impl ExactSizeIterator<Item = usize> + Clone,
        limit: i8,
        room: &mut Room,
        mut take: impl FnMut(usize, Coded<'_>),
    ) {
        let mut codes = std::mem::take(&mut room.codes);
        codes.clear();
        codes.resize(self.quads() * 4, 0);
        let mut norms = ids.clone().map(|id| matrix.norm(id) * matrix.factor(id, scale));
        self.project((matrix, scale), ids, room, |i, values| {
            let (scale, parts) = quantise(values, limit, &mut codes);
            let tail = self.tail(norms.next().unwrap_or(0.0), parts.projected);
            let [norm, error] = [parts.norm * parts.norm / self.balance, parts.error * parts.error * self.balance];
            // Rounds up: a bound has to stay one.
            let extent = (tail * tail + norm + error).sqrt() * (1.0 + 1e-6);
            take(i, Coded { values, codes: &codes, scale, extent });
        });
        room.codes = codes;
    }

    /// Bounds the norm of what a projection leaves out of a row.
    fn tail(&self, norm: f64, projected: f64) -> f64 {
        let Some(basis) = &self.basis else { return 0.0 };
        let missing = norm * norm - projected * projected;
        // The norm of the projection is known up to rounding, and the norm of a scaled row up to 2⁻²⁴.
        let unsure = norm * norm * (basis.eta() + basis.rounding() * 2.01 + 1e-6);
        (missing + unsure).max(0.0).sqrt()
    }

    fn usual_balance(&self, sides: [(&Matrix<'_>, Scale); 2]) -> f64 {
        let (limits, mut room) = ([CodeTile::new(self.level).limit(), WIDE], Room::default());
        let mut product = 1.0;
        for ((matrix, scale), limit) in sides.into_iter().zip(limits) {
            let (mut norms, mut errors, count) = (0.0, 0.0, matrix.len().min(SAMPLE));
            let mut codes = vec![0; self.quads() * 4];
            self.code((matrix, scale), (0..count).map(|i| i * matrix.len() / count), limit, &mut room, |_, coded| {
                let (_, parts) = quantise(coded.values, limit, &mut codes);
                norms += parts.norm;
                errors += parts.error;
            });
            product *= if errors > 0.0 { norms / errors } else { 1e6 };
        }
        product.sqrt().clamp(1.0, 1e6)
    }
}

/// What a code keeps and what it loses.
pub(crate) struct Parts {
    /// The norm of the coordinates: a code can be longer than what it stands for.
    projected: f64,
    /// Bounds the norms of the coordinates and of their code.
    pub(crate) norm: f64,
    /// Bounds the norm of their difference.
    pub(crate) error: f64,
}

/// Codes `values` as whole numbers of at most `limit`.
pub(crate) fn quantise(values: &[f32], limit: i8, codes: &mut [i8]) -> (f32, Parts) {
    // Adding and taking away 1.5 · 2²³ rounds to the nearest whole number.
    const ROUND: f32 = 12_582_912.0;
    let largest = values.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    // Below this, the reciprocal of a scale is no number any more: nothing is coded, all of it is error.
    if largest < 1e-30 {
        codes.fill(0);
        let norm = values.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
        return (1.0, Parts { projected: norm, norm, error: norm });
    }
    let scale = largest / f32::from(limit);
    let inverse = f32::from(limit) / largest;
    let (mut squares, mut coded, mut missed) = (0.0f64, 0.0f64, 0.0f64);
    for (code, &x) in codes.iter_mut().zip(values) {
        let whole = ((x * inverse + ROUND) - ROUND).clamp(-f32::from(limit), f32::from(limit));
        *code = whole as i8;
        let (x, y) = (f64::from(x), f64::from(whole) * f64::from(scale));
        squares += x * x;
        coded += y * y;
        missed += (x - y) * (x - y);
    }
    let [norm, error] = [squares.max(coded), missed].map(|squares| squares.sqrt() * (1.0 + 1e-9));
    (scale, Parts { projected: squares.sqrt(), norm, error })
}

/// Raises `norms` to those of the runs of one row's codes, lane by lane.
pub(crate) fn raise_run_norms(norms: &mut [f64; RUNS.len()], codes: &[i8]) {
    for (norm, run) in norms.iter_mut().zip(RUNS) {
        for run in codes.chunks(4 * run) {
            let mut squares = [0i32; 2];
            for quad in run.chunks_exact(4) {
                squares[0] += i32::from(quad[0]).pow(2) + i32::from(quad[1]).pow(2);
                squares[1] += i32::from(quad[2]).pow(2) + i32::from(quad[3]).pow(2);
            }
            *norm = norm.max(f64::from(squares[0].max(squares[1])).sqrt());
        }
    }
}

/// The longest run of quads whose sums fit into 16 bits, for rows on both sides whose runs have these norms at most.
pub(crate) fn longest_run(rows: &[f64; RUNS.len()], anchors: &[f64; RUNS.len()]) -> usize {
    let fits = |i: usize| rows[i] * anchors[i] * (1.0 + 1e-9) <= f64::from(i16::MAX);
    (0..RUNS.len()).find(|&i| fits(i)).map_or(RUNS[RUNS.len() - 1], |i| RUNS[i])
}
