//! Packing: rows scaled, widened and laid out as the tile reads them.

use crate::aligned::Aligned;
use crate::rows::Rows;

/// Numbers below this (rows have norm 1 or less when packed) are stored as zero: products of what remains stay
/// normal numbers, which keeps the tile free of the slow path for denormals. The slack of a search covers it.
const NEGLIGIBLE: f32 = 8.673_617_4e-19; // 2^-60

/// Rows of a matrix in panels: element `d` of the `r`-th row of panel `p` is at `(p * dim + d) * width + r`.
#[derive(Debug, Default)]
pub struct Panels {
    values: Aligned<f32>,
    stride: usize,
    count: usize,
}

impl Panels {
    /// Number of panels.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Panel `p`.
    pub fn panel(&self, p: usize) -> &[f32] {
        &self.values[p * self.stride..(p + 1) * self.stride]
    }
}

/// Packs `count` rows of `dim` elements into panels of `width` rows, each written by `fill`; missing rows of the last
/// panel are zeros.
pub fn pack(panels: &mut Panels, dim: usize, count: usize, width: usize, mut fill: impl FnMut(usize, &mut [f32])) {
    panels.stride = dim * width;
    panels.count = count.div_ceil(width);
    panels.values.resize(panels.count * panels.stride);
    let mut scratch = vec![0.0; dim * width];
    for (p, panel) in panels.values.chunks_exact_mut(panels.stride.max(1)).enumerate() {
        for (r, row) in scratch.chunks_exact_mut(dim).enumerate() {
            let place = p * width + r;
            if place < count { fill(place, row) } else { row.fill(0.0) }
        }
        interleave(panel, &scratch, dim, width);
    }
}

/// Writes row `id` times `scale` into `out`. The scale is applied in `f64`: that of a tiny row may lie outside of `f32`.
pub fn scaled(out: &mut [f32], rows: &Rows<'_>, id: usize, scale: f64) {
    let scaled = |x: f32| {
        let y = (f64::from(x) * scale) as f32;
        if y.abs() < NEGLIGIBLE { 0.0 } else { y }
    };
    if let Some(row) = rows.plain_row(id) {
        for (y, &x) in out.iter_mut().zip(row) {
            *y = scaled(x);
        }
    } else {
        rows.row(id, out);
        for y in out {
            *y = scaled(*y);
        }
    }
}

/// Transposes `rows` of `dim` elements into `panel`, sixteen elements of every row at a time: both sides of such a
/// block stay in the first-level cache.
fn interleave(panel: &mut [f32], rows: &[f32], dim: usize, width: usize) {
    const STEP: usize = 16;
    for start in (0..dim).step_by(STEP) {
        let end = (start + STEP).min(dim);
        for (r, row) in rows.chunks_exact(dim).enumerate() {
            for d in start..end {
                panel[d * width + r] = row[d];
            }
        }
    }
}
