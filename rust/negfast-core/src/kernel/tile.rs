//! The tile: a panel of anchors times a panel of corpus rows, tested against thresholds before it is stored.
//!
//! Both panels are packed so that one step along the dimension reads consecutive numbers: `a[d * rows + r]` is
//! element `d` of anchor `r`, `b[d * columns + c]` element `d` of corpus row `c`. All products of the tile stay in
//! registers for the whole dimension. At the end each is compared with its anchor's threshold; only if one reaches
//! it, which soon is rare, the tile is stored and its row masks are set. No matrix of scores ever exists.
//!
//! Each product's error is that of a plain `f32` sum in the order of the dimension, with or without FMA; the
//! caller's slack covers it. Which numbers a product sums depends on its two rows alone, not on their place in the
//! tile, so equal rows get equal products.

use super::Level;

/// The most anchors in a tile, over all levels.
pub const MAX_ROWS: usize = 12;
/// The most corpus rows in a tile, over all levels.
pub const MAX_COLUMNS: usize = 32;

/// What a tile leaves behind when some product reached its threshold.
#[derive(Debug, Clone)]
#[repr(align(64))]
pub struct TileOutput {
    /// Product of anchor `r` and corpus row `c` at `r * columns + c`.
    pub products: [f32; MAX_ROWS * MAX_COLUMNS],
    /// Bit `c` of `masks[r]` is set if that product reaches the threshold of anchor `r`.
    pub masks: [u32; MAX_ROWS],
}

impl Default for TileOutput {
    fn default() -> Self {
        Self { products: [0.0; MAX_ROWS * MAX_COLUMNS], masks: [0; MAX_ROWS] }
    }
}

/// The tile kernel of one level.
#[derive(Debug, Clone, Copy)]
pub struct Tile {
    /// Anchors in a panel.
    pub rows: usize,
    /// Corpus rows in a panel.
    pub columns: usize,
    level: Level,
}

impl Tile {
    /// The kernel of `level`, or of the highest level below it that this machine has.
    pub fn new(level: Level) -> Self {
        let level = level.min(Level::detect());
        let (rows, columns) = match level {
            // 24 accumulators, 2 vectors of the corpus and 1 broadcast of 32 registers; 14 loads for 24 FMAs.
            Level::Avx512 => (12, 32),
            // 12 accumulators, 2 and 1 of 16 registers; 8 loads for 12 FMAs.
            Level::Avx2 => (6, 16),
            // 8 accumulators of the 16 four-wide registers that SSE2 and NEON both have at least.
            Level::Scalar => (4, 8),
        };
        Self { rows, columns, level }
    }

    /// Multiplies panel `a` with panel `b`; returns whether any product reaches its anchor's `threshold`.
    ///
    /// Only if it returns `true` is `out` written.
    ///
    /// # Panics
    /// If a panel or `thresholds` is shorter than the tile needs.
    #[inline]
    pub fn run(&self, a: &[f32], b: &[f32], dim: usize, thresholds: &[f32], out: &mut TileOutput) -> bool {
        assert!(a.len() >= dim * self.rows && b.len() >= dim * self.columns && thresholds.len() >= self.rows);
        match self.level {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `new` clamped the level to what the machine has; the panels were measured above.
            Level::Avx512 => unsafe { super::x86::tile_avx512(a, b, dim, thresholds, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Level::Avx2 => unsafe { super::x86::tile_avx2(a, b, dim, thresholds, out) },
            _ => portable(a, b, dim, thresholds, out),
        }
    }
}

/// Whether a fused multiply-add is one instruction wherever this crate may run; elsewhere it is a library call.
const FUSED: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));

fn portable(a: &[f32], b: &[f32], dim: usize, thresholds: &[f32], out: &mut TileOutput) -> bool {
    const ROWS: usize = 4;
    const COLUMNS: usize = 8;
    let mut products = [[0.0f32; COLUMNS]; ROWS];
    for (x, y) in a.chunks_exact(ROWS).zip(b.chunks_exact(COLUMNS)).take(dim) {
        for r in 0..ROWS {
            for c in 0..COLUMNS {
                products[r][c] = if FUSED { x[r].mul_add(y[c], products[r][c]) } else { x[r] * y[c] + products[r][c] };
            }
        }
    }
    let mut masks = [0u32; ROWS];
    for (mask, (row, &threshold)) in masks.iter_mut().zip(products.iter().zip(thresholds)) {
        let reached = row.iter().enumerate().map(|(c, &product)| u32::from(product >= threshold) << c);
        *mask = reached.fold(0, |mask, bit| mask | bit);
    }
    if masks == [0; ROWS] {
        return false;
    }
    out.masks[..ROWS].copy_from_slice(&masks);
    out.products[..ROWS * COLUMNS].copy_from_slice(products.as_flattened());
    true
}
