//! Rows in 16 bits: half the memory of `f32`, and exact sums.
//!
//! A row of norm 1 or less is stored as `round(32767 x)`. The sum of the products of two such rows is at most the product
//! of their norms, about 2³⁰, and so is the sum of any part of them (Cauchy and Schwarz): 32 bits hold it at all times.
//! Rounding moves a row by at most `√dim / 2` units, so an estimate is off by at most about `√dim / 32767`.

use super::Level;

/// Units of a row of norm 1.
const ONE: f32 = 32_767.0;
/// Rows are padded with zeros to a multiple of so many elements.
pub(super) const STEP: usize = 32;

/// Numbers that a row of so many elements takes.
pub fn short_length(dim: usize) -> usize {
    dim.next_multiple_of(STEP)
}

/// Bound on the difference of the product of two rows of norm 1 or less and that of their short forms, times
/// [`short_unit`].
pub fn short_slack(dim: usize) -> f64 {
    // Each row is off by half a unit an element at most, a little more because it is scaled in f32; the other row has norm
    // 1 or less, and is itself off.
    let off = (dim as f64).sqrt() * 0.5 / f64::from(ONE) + 4.0 / f64::from(1u32 << 24);
    off * (2.0 + off) * 1.0001
}

/// What a sum is multiplied with to be a product.
pub fn short_unit() -> f32 {
    1.0 / (ONE * ONE)
}

/// Writes the short form of `values` times `factor`, a row of norm 1 or less.
///
/// # Panics
/// If `out` is not [`short_length`] of the row long.
pub fn shorten(level: Level, values: &[f32], factor: f32, out: &mut [i16]) {
    assert_eq!(out.len(), short_length(values.len()), "a padded row");
    out[values.len()..].fill(0);
    match level.min(Level::detect()) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the level was clamped to what the machine has.
        Level::Avx512 => unsafe { shorten_avx512(values, factor * ONE, out) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::Avx2 => unsafe { shorten_avx2(values, factor * ONE, out) },
        _ => shorten_body(values, factor * ONE, out),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn shorten_avx512(values: &[f32], factor: f32, out: &mut [i16]) {
    shorten_body(values, factor, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn shorten_avx2(values: &[f32], factor: f32, out: &mut [i16]) {
    shorten_body(values, factor, out);
}

#[inline(always)]
fn shorten_body(values: &[f32], factor: f32, out: &mut [i16]) {
    // A number of this size has its units in the last bits, so adding it rounds, and its bits count the units.
    const ROUND: f32 = 12_582_912.0;
    for (out, &x) in out.iter_mut().zip(values) {
        let y = (x * factor).clamp(-ONE, ONE) + ROUND;
        *out = (y.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32) as i16;
    }
}

/// Asks for the beginning of a short row to be brought near, where the machine can be asked; it fetches what follows by
/// itself once that is read.
pub fn fetch(row: &[i16]) {
    #[cfg(target_arch = "x86_64")]
    for line in row.chunks(STEP).take(3) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch changes nothing, and the address is that of a borrowed element.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = row;
}

/// The sum of the products of two short rows.
///
/// # Panics
/// If their lengths differ or are not those of padded rows.
pub fn short_sum(level: Level, a: &[i16], b: &[i16]) -> i32 {
    assert!(a.len() == b.len() && a.len().is_multiple_of(STEP), "padded rows of one length");
    match level.min(Level::detect()) {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 if is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512bw") => {
            // SAFETY: the features are there; both rows are whole vectors.
            unsafe { super::x86::short_sum_vnni(a, b) }
        }
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::Avx512 | Level::Avx2 => unsafe { super::x86::short_sum_avx2(a, b) },
        _ => a.iter().zip(b).map(|(&x, &y)| i32::from(x) * i32::from(y)).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_sums_alike_and_keeps_to_the_slack() {
        for dim in [1usize, 31, 32, 100, 384, 770] {
            let row = |seed: usize| -> Vec<f32> {
                let raw: Vec<f32> =
                    (0..dim).map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 504.0 - 1.0).collect();
                let norm = raw.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt() as f32;
                raw.iter().map(|x| x / norm * 0.999_999).collect()
            };
            let (a, b) = (row(1), row(2));
            let exact: f64 = a.iter().zip(&b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
            let mut sums = Vec::new();
            for level in Level::available() {
                let (mut x, mut y) = (vec![0; short_length(dim)], vec![0; short_length(dim)]);
                shorten(level, &a, 1.0, &mut x);
                shorten(level, &b, 1.0, &mut y);
                let sum = short_sum(level, &x, &y);
                assert!((f64::from(sum) * f64::from(short_unit()) - exact).abs() <= short_slack(dim), "dim {dim}");
                sums.push(sum);
            }
            assert!(sums.windows(2).all(|pair| pair[0] == pair[1]));
        }
    }

    #[test]
    fn the_largest_rows_do_not_overflow() {
        for dim in [1usize, 4, 1024] {
            let x = 1.0 / (dim as f32).sqrt();
            let mut short = vec![0; short_length(dim)];
            for level in Level::available() {
                shorten(level, &vec![x; dim], 1.0, &mut short);
                let product = f64::from(short_sum(level, &short, &short)) * f64::from(short_unit());
                assert!((product - 1.0).abs() <= short_slack(dim));
            }
        }
    }
}
