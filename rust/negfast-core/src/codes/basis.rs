//! An orthonormal basis of the directions in which rows vary most.
//!
//! Scores of embeddings live in few of their dimensions: 128 of 384 hold about 80 % of the squared norm. What is left out
//! is bounded: with `P = VᵀV` the projection on the rows of `V`,
//!
//! ```text
//! q·x = (Vq)·(Vx) + qᵀ(I − P)x,   |qᵀ(I − P)x| ≤ tail(q) tail(x) + η,   tail(x)² = |x|² − |Vx|² + η
//! ```
//!
//! for rows of norm 1 or less, where `η` bounds the distance of `VVᵀ` from the identity: the eigenvalues of `I − P` are 1
//! off the span of `V` and within `η` of 0 on it, so Cauchy and Schwarz apply to the part that is not negative.
//!
//! The basis is found by orthogonal iteration on the second moments of a sample (G. Golub and C. Van Loan, *Matrix
//! Computations*, 2013, section 8.2) and then turned at random within its span, so that no coordinate is much larger
//! than the others and codes of one scale suit them all. How well it fits decides about speed alone: the bound above
//! holds for any `V`.

use crate::error::Result;
use crate::kernel::{Level, Panels, Tile, TileOutput, dot, pack};
use crate::rng::stream;
use crate::score::{Matrix, Scale};
use crate::threads::{Workers, split};

/// Keeps the choice of a basis apart from other uses of a seed.
const PURPOSE: u64 = 0x6261_7369;
/// Rows of each matrix that the second moments are taken from.
const SAMPLE: usize = 2048;
/// Steps of the iteration. The edge of the span converges slowly, but hardly matters.
const STEPS: usize = 3;

/// Directions in which rows vary most, about in the order of how much.
#[derive(Debug)]
pub struct Leading {
    rows: Vec<f32>,
    dim: usize,
    level: Level,
}

impl Leading {
    /// Finds `width` directions for the rows of both matrices.
    ///
    /// # Errors
    /// If the call is cancelled.
    ///
    /// # Panics
    /// If `width` is 0 or more than the dim of the rows.
    pub fn fit(
        sides: [(&Matrix<'_>, Scale); 2],
        width: usize,
        level: Level,
        workers: &mut Workers<'_>,
    ) -> Result<Self> {
        let dim = sides[0].0.rows().dim();
        assert!((1..=dim).contains(&width), "some of the dims");
        let moments = moments(sides, level, workers)?;
        let mut rows = gaussian(width, dim, 0);
        for _ in 0..STEPS {
            // What is not quite orthonormal yet is mended in the end.
            gram_schmidt(&mut rows, dim, level, 1);
            rows = product(&rows, &moments, dim, level);
        }
        orthonormalise(&mut rows, dim, level);
        Ok(Self { rows, dim, level })
    }

    /// The coordinates of plain rows of `dim` numbers along the directions.
    pub fn project(&self, rows: &[f32]) -> Vec<f32> {
        product(rows, &self.rows, self.dim, self.level)
    }

    /// How many directions there are.
    pub fn width(&self) -> usize {
        self.rows.len() / self.dim
    }
}

/// An orthonormal set of directions.
#[derive(Debug)]
pub struct Basis {
    /// The directions, one after the other.
    rows: Vec<f32>,
    dim: usize,
    /// The same, packed for the tile.
    panels: Panels,
    /// Bound on the distance of `VVᵀ` from the identity, in the Frobenius norm.
    eta: f64,
    level: Level,
}

impl Basis {
    /// The basis of the first `width` of the directions that were found, turned at random.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn of(leading: &Leading, width: usize) -> Self {
        let Leading { rows, dim, level } = leading;
        let mut turn = gaussian(width, width, 1);
        orthonormalise(&mut turn, width, *level);
        let columns = transposed(&rows[..width * dim], *dim);
        let mut turned = product(&turn, &columns, width, *level);
        orthonormalise(&mut turned, *dim, *level);
        Self::new(turned, *dim, *level)
    }

    fn new(rows: Vec<f32>, dim: usize, level: Level) -> Self {
        let eta = deviation(&rows, dim, level);
        let mut panels = Panels::default();
        pack_plain(&mut panels, &rows, dim, Tile::new(level).columns);
        Self { rows, dim, panels, eta, level }
    }

    /// How many directions there are.
    pub fn width(&self) -> usize {
        self.rows.len() / self.dim
    }

    /// Bound on the distance of the basis from an orthonormal one.
    pub fn eta(&self) -> f64 {
        self.eta
    }

    /// Projects packed rows, panels of [`Tile::rows`] each: writes coordinate `p` of row `i` to `out[i * width + p]`.
    pub fn project(&self, rows: &Panels, count: usize, out: &mut Vec<f32>) {
        multiply(rows, &self.panels, self.dim, self.level, count, self.width(), out);
    }

    /// Bound on the error of a projection in `f32`, as a share of the row's norm: each coordinate is a sum of `dim`
    /// products, within `(dim + 3) 2⁻²⁴` of the product of the norms.
    pub fn rounding(&self) -> f64 {
        crate::score::slack(self.dim) * (self.width() as f64).sqrt() * (1.0 + self.eta)
    }
}

/// Multiplies each of `count` packed rows with each of `width` packed columns.
pub(crate) fn multiply(
    rows: &Panels,
    columns: &Panels,
    dim: usize,
    level: Level,
    count: usize,
    width: usize,
    out: &mut Vec<f32>,
) {
    let (tile, mut products) = (Tile::new(level), TileOutput::default());
    let thresholds = [f32::NEG_INFINITY; crate::kernel::MAX_ROWS];
    out.clear();
    out.resize(count * width, 0.0);
    for a in 0..rows.count() {
        let first = a * tile.rows;
        for b in 0..columns.count() {
            let start = b * tile.columns;
            let real = tile.columns.min(width - start);
            tile.run(rows.panel(a), columns.panel(b), dim, &thresholds, &mut products);
            for r in 0..tile.rows.min(count - first) {
                let line = &products.products[r * tile.columns..][..real];
                out[(first + r) * width + start..][..real].copy_from_slice(line);
            }
        }
    }
}

/// Packs plain rows of `dim` numbers into panels of `width` rows.
pub(crate) fn pack_plain(panels: &mut Panels, rows: &[f32], dim: usize, width: usize) {
    pack(panels, dim, rows.len() / dim, width, |row, out| out.copy_from_slice(&rows[row * dim..(row + 1) * dim]));
}

/// `a · bᵀ` for rows of `dim` numbers.
pub(crate) fn product(a: &[f32], b: &[f32], dim: usize, level: Level) -> Vec<f32> {
    let tile = Tile::new(level);
    let (mut rows, mut columns, mut out) = (Panels::default(), Panels::default(), Vec::new());
    pack_plain(&mut rows, a, dim, tile.rows);
    pack_plain(&mut columns, b, dim, tile.columns);
    multiply(&rows, &columns, dim, level, a.len() / dim, b.len() / dim, &mut out);
    out
}

fn transposed(rows: &[f32], dim: usize) -> Vec<f32> {
    let n = rows.len() / dim;
    (0..dim * n).map(|i| rows[i % n * dim + i / n]).collect()
}

fn gaussian(rows: usize, dim: usize, epoch: u64) -> Vec<f32> {
    let mut random = stream(0, epoch, 0, PURPOSE);
    // Sums of uniform numbers are near enough to Gaussian ones for a start.
    (0..rows * dim).map(|_| (0..4).map(|_| random.uniform() as f32 - 0.5).sum()).collect()
}

/// Makes rows orthonormal.
fn orthonormalise(rows: &mut [f32], dim: usize, level: Level) {
    gram_schmidt(rows, dim, level, dim);
}

/// Makes rows orthonormal, one after the other, each against all before it, as often as it takes but at most `attempts`
/// times.
fn gram_schmidt(rows: &mut [f32], dim: usize, level: Level, attempts: usize) {
    for i in 0..rows.len() / dim {
        let (before, rest) = rows.split_at_mut(i * dim);
        let row = &mut rest[..dim];
        for attempt in 1..=attempts {
            let norm = dot(level, row, row).sqrt();
            if norm < 1e-30 {
                // A row within the span of those before it: any other direction will do.
                row.iter_mut().enumerate().for_each(|(d, x)| *x = f32::from(u8::from((d + attempt) % dim == i % dim)));
            } else {
                divide(row, norm);
            }
            for other in before.chunks_exact(dim) {
                let shared = dot(level, row, other) as f32;
                row.iter_mut().zip(other).for_each(|(x, y)| *x -= shared * y);
            }
            // Little was taken away: what rounding left of the others is as little.
            let left = dot(level, row, row).sqrt();
            if (left - 1.0).abs() < 1e-3 || attempt == attempts {
                divide(row, left.max(1e-30));
                break;
            }
        }
    }
}

fn divide(row: &mut [f32], by: f64) {
    for x in row {
        *x = (f64::from(*x) / by) as f32;
    }
}

/// Bounds the Frobenius norm of `VVᵀ − I`.
fn deviation(rows: &[f32], dim: usize, level: Level) -> f64 {
    let mut squares = 0.0;
    for (i, a) in rows.chunks_exact(dim).enumerate() {
        for (j, b) in rows.chunks_exact(dim).enumerate().take(i + 1) {
            let off = dot(level, a, b) - f64::from(u8::from(i == j));
            squares += off * off * if i == j { 1.0 } else { 2.0 };
        }
    }
    // The rest covers what rounding in f64 hides.
    squares.sqrt() * (1.0 + 1e-6) + 1e-9
}

/// The second moments of a sample of both matrices, each scaled to weigh alike.
fn moments(sides: [(&Matrix<'_>, Scale); 2], level: Level, workers: &mut Workers<'_>) -> Result<Vec<f32>> {
    let dim = sides[0].0.rows().dim();
    let mut sample = Vec::new();
    for (matrix, scale) in sides {
        let n = matrix.len().min(SAMPLE);
        let first = sample.len();
        sample.resize(first + n * dim, 0.0);
        for (i, row) in sample[first..].chunks_exact_mut(dim).enumerate() {
            matrix.scaled(i * matrix.len() / n, scale, row);
        }
    }
    // Features take the place of rows, and the sample that of the dims.
    let features = transposed(&sample, dim);
    let n = sample.len() / dim;
    let tile = Tile::new(level);
    let mut columns = Panels::default();
    pack_plain(&mut columns, &features, n.max(1), tile.columns);
    let mut moments = vec![0.0; dim * dim];
    let spans = split(dim, workers.threads() * 4);
    let parts = crate::threads::cut(&mut moments, spans.iter().map(|span| span.len() * dim));
    let tasks: Vec<_> = spans.into_iter().zip(parts).collect();
    workers.run((n * dim * dim) as u64, tasks, Vec::new, |out, (span, part), progress| {
        let mut rows = Panels::default();
        pack_plain(&mut rows, &features[span.start * n..span.end * n], n.max(1), tile.rows);
        multiply(&rows, &columns, n, level, span.len(), dim, out);
        part.copy_from_slice(out);
        progress.advance(0)
    })?;
    Ok(moments)
}
