//! The one function that decides: dot products in `f64`, in eight fixed lanes.
//!
//! The product of two `f32` has at most 48 significant bits, so it is exact in `f64`, and fusing it with the
//! addition changes nothing. Lane `l` adds the products of elements `l`, `l + 8`, `l + 16`, … in this order; the
//! lanes are added as `((0+4)+(2+6)) + ((1+5)+(3+7))`, which is how halves of a vector fold. Every level therefore
//! returns the same bits.

use super::Level;

/// Rows that [`dots`] takes at once: enough independent sums to hide the latency of the additions.
pub const BATCH: usize = 4;

const LANES: usize = 8;

/// The dot product of `a` and `b`.
///
/// # Panics
/// If their lengths differ.
pub fn dot(level: Level, a: &[f32], b: &[f32]) -> f64 {
    run(level, a, [b])[0]
}

/// The dot products of `a` with four rows.
///
/// # Panics
/// If a length differs.
pub fn dots(level: Level, a: &[f32], rows: [&[f32]; BATCH]) -> [f64; BATCH] {
    run(level, a, rows)
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

fn run<const N: usize>(level: Level, a: &[f32], rows: [&[f32]; N]) -> [f64; N] {
    assert!(rows.iter().all(|row| row.len() == a.len()), "rows of one length");
    match level.min(Level::detect()) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the level was clamped to what the machine has.
        Level::Avx512 => unsafe { avx512(a, rows) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::Avx2 => unsafe { avx2(a, rows) },
        _ => body::<N, false>(a, rows),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn avx512<const N: usize>(a: &[f32], rows: [&[f32]; N]) -> [f64; N] {
    body::<N, true>(a, rows)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<const N: usize>(a: &[f32], rows: [&[f32]; N]) -> [f64; N] {
    body::<N, true>(a, rows)
}

/// The sums themselves; `FUSED` only where the caller's features make `mul_add` an instruction.
#[inline(always)]
fn body<const N: usize, const FUSED: bool>(a: &[f32], rows: [&[f32]; N]) -> [f64; N] {
    let mut sums = [[0.0f64; LANES]; N];
    let whole = a.len() - a.len() % LANES;
    let mut start = 0;
    while start < whole {
        let x: &[f32; LANES] = a[start..start + LANES].try_into().expect("eight elements");
        for (sum, row) in sums.iter_mut().zip(rows) {
            let y: &[f32; LANES] = row[start..start + LANES].try_into().expect("eight elements");
            for lane in 0..LANES {
                sum[lane] = add::<FUSED>(sum[lane], x[lane], y[lane]);
            }
        }
        start += LANES;
    }
    for (sum, row) in sums.iter_mut().zip(rows) {
        for lane in 0..a.len() - whole {
            sum[lane] = add::<FUSED>(sum[lane], a[whole + lane], row[whole + lane]);
        }
    }
    sums.map(|s| ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7])))
}

#[inline(always)]
fn add<const FUSED: bool>(sum: f64, x: f32, y: f32) -> f64 {
    let (x, y) = (f64::from(x), f64::from(y));
    if FUSED { x.mul_add(y, sum) } else { sum + x * y }
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
            }
        }
    }
}
