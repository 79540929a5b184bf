//! The one function that decides: dot products in `f64`, in eight fixed lanes.
//!
//! The product of two `f32` has at most 48 significant bits, so it is exact in `f64`, and fusing it with the
//! addition changes nothing. Lane `l` adds the products of elements `l`, `l + 8`, `l + 16`, … in this order; the
//! lanes are added as `((0+4)+(2+6)) + ((1+5)+(3+7))`, which is how halves of a vector fold. Every level therefore
//! returns the same bits.

use super::Level;
#[cfg(target_arch = "x86_64")]
use super::x86::{dots_avx2, dots_avx512};

/// Rows that [`dots`] takes best: enough independent sums to hide the latency of the additions.
pub const BATCH: usize = 4;

/// Sums of a dot product.
pub(super) const LANES: usize = 8;

/// The dot product of `a` and `b`.
///
/// # Panics
/// If their lengths differ.
pub fn dot(level: Level, a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "rows of one length");
    match level.min(Level::detect()) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the level was clamped to what the machine has.
        Level::Avx512 => unsafe { dot_avx512(a, b) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::Avx2 => unsafe { dot_avx2(a, b) },
        _ => fold(lanes::<false>(a, b)),
    }
}

/// The dot products of a row with some others, [`BATCH`] or fewer.
///
/// # Panics
/// If a length differs.
pub fn dots<const N: usize>(level: Level, row: &[f32], others: [&[f32]; N]) -> [f64; N] {
    assert!(others.iter().all(|other| other.len() == row.len()), "rows of one length");
    let whole = row.len() - row.len() % LANES;
    let mut sums = match level.min(Level::detect()) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the level was clamped to what the machine has, and all rows are as long.
        Level::Avx512 => unsafe { dots_avx512(row, others) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::Avx2 => unsafe { dots_avx2(row, others) },
        _ => others.map(|other| lanes::<false>(&row[..whole], &other[..whole])),
    };
    for (sums, other) in sums.iter_mut().zip(others) {
        for ((sum, &x), &y) in sums.iter_mut().zip(&row[whole..]).zip(&other[whole..]) {
            *sum += f64::from(x) * f64::from(y);
        }
    }
    sums.map(fold)
}

/// A quick estimate of the dot product, summed in `f32` in no particular order: within the usual bound of
/// `(dim + 3) 2⁻²⁴` times the product of the norms, if neither overflows nor comes near the smallest numbers.
///
/// # Panics
/// If their lengths differ.
pub fn estimate(level: Level, a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "rows of one length");
    match level.min(Level::detect()) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the level was clamped to what the machine has.
        Level::Avx512 => unsafe { estimate_avx512(a, b) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::Avx2 => unsafe { estimate_avx2(a, b) },
        _ => estimate_body::<false>(a, b),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn estimate_avx512(a: &[f32], b: &[f32]) -> f32 {
    estimate_body::<true>(a, b)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn estimate_avx2(a: &[f32], b: &[f32]) -> f32 {
    estimate_body::<true>(a, b)
}

#[inline(always)]
fn estimate_body<const FUSED: bool>(a: &[f32], b: &[f32]) -> f32 {
    // Four vectors of the widest level: enough independent sums to hide the latency of an FMA.
    const WIDE: usize = 64;
    let add = |sum: f32, x: f32, y: f32| if FUSED { x.mul_add(y, sum) } else { sum + x * y };
    let mut sums = [0.0f32; WIDE];
    let (x, y) = (a.chunks_exact(WIDE), b.chunks_exact(WIDE));
    let tail: f32 = x.remainder().iter().zip(y.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in x.zip(y) {
        for (sum, (x, y)) in sums.iter_mut().zip(x.iter().zip(y)) {
            *sum = add(*sum, *x, *y);
        }
    }
    let mut width = WIDE / 2;
    while width > 0 {
        for i in 0..width {
            sums[i] += sums[i + width];
        }
        width /= 2;
    }
    sums[0] + tail
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn dot_avx512(a: &[f32], b: &[f32]) -> f64 {
    fold(lanes::<true>(a, b))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn dot_avx2(a: &[f32], b: &[f32]) -> f64 {
    fold(lanes::<true>(a, b))
}

/// The sums, lane by lane; `FUSED` only where the caller's features make `mul_add` an instruction.
#[inline(always)]
fn lanes<const FUSED: bool>(a: &[f32], b: &[f32]) -> [f64; LANES] {
    let add = |sum: &mut f64, x: f32, y: f32| {
        let (x, y) = (f64::from(x), f64::from(y));
        *sum = if FUSED { x.mul_add(y, *sum) } else { *sum + x * y };
    };
    let mut sums = [0.0f64; LANES];
    let (x, y) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (x, y) in x.0.iter().zip(y.0) {
        for lane in 0..LANES {
            add(&mut sums[lane], x[lane], y[lane]);
        }
    }
    for (sum, (&x, &y)) in sums.iter_mut().zip(x.1.iter().zip(y.1)) {
        add(sum, x, y);
    }
    sums
}

fn fold(s: [f64; LANES]) -> f64 {
    ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(a: &[f32], b: &[f32]) -> f64 {
        let mut lanes = [0.0f64; 8];
        for (i, (x, y)) in a.iter().zip(b).enumerate() {
            lanes[i % 8] += f64::from(*x) * f64::from(*y);
        }
        let [a, b, c, d, e, f, g, h] = lanes;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }

    #[test]
    fn every_level_gives_the_bits_of_the_definition() {
        for dim in [1, 2, 7, 8, 9, 15, 16, 31, 100, 384] {
            let row = |seed: usize| -> Vec<f32> {
                (0..dim).map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 37.0 - 13.0).collect()
            };
            let (a, rows) = (row(1), [row(2), row(3), row(4), row(5)]);
            for level in Level::available() {
                let all = dots(level, &a, [&rows[0], &rows[1], &rows[2], &rows[3]]);
                for (got, b) in all.iter().zip(&rows) {
                    assert_eq!(got.to_bits(), naive(&a, b).to_bits(), "{level:?}, dim {dim}");
                    assert_eq!(got.to_bits(), dot(level, &a, b).to_bits());
                }
                let bits = |products: &[f64]| products.iter().map(|p| p.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&dots(level, &a, [&rows[0], &rows[1], &rows[2]])), bits(&all[..3]));
                assert_eq!(bits(&dots(level, &a, [&rows[0]])), bits(&all[..1]));
            }
        }
    }
}
