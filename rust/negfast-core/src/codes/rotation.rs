//! A random rotation that costs `dim log dim`.
//!
//! Four rounds: flip random signs; mix the first (in even rounds) or the last (in odd ones) 2^k elements by a Hadamard
//! transform, 2^k being the largest power of two that fits; then, if some were left out, turn element i of the first
//! half and element i of the second half by 45 degrees against each other. Each step is orthogonal, so the whole is,
//! for any dim (N. Ailon and B. Chazelle, *The Fast Johnson–Lindenstrauss Transform*, 2009, for signs and Hadamard
//! transform; the alternation and the turns are those of RaBitQ's reference implementation, J. Gao and C. Long, 2024).
//!
//! Where more outputs than `dim` are wanted, several rotations of their own signs follow each other, each orthogonal in
//! itself: fewer errors than with independent directions (J. Ji et al., *Super-Bit Locality-Sensitive Hashing*, 2012).
//! Where fewer are wanted, the first are taken.
//!
//! Every element is computed by the same additions and multiplications in the same order whatever vectors the compiler
//! uses, and nothing is fused: outputs are the same bits on every machine.

use std::f32::consts::FRAC_1_SQRT_2;

use crate::rng::stream;

/// Rounds of a rotation: after three, no coordinate is special any more; the fourth is for dims that are no power of two.
const ROUNDS: usize = 4;
/// Names this use of a seed: "sign".
const SIGNS: u64 = 0x7369_676e;

/// Random rotations of rows of one dim.
#[derive(Debug, Clone)]
pub struct Rotation {
    dim: usize,
    outputs: usize,
    /// Size of the Hadamard transforms.
    power: usize,
    /// For each rotation, round and element: the sign, and the factor that makes the transform orthogonal.
    factors: Vec<f32>,
}

impl Rotation {
    /// The rotations of rows of `dim` elements that `seed` names, with `outputs` elements in all.
    ///
    /// # Panics
    /// If `dim` is 0.
    pub fn new(dim: usize, outputs: usize, seed: u64) -> Self {
        assert!(dim > 0, "rows with elements");
        let power = 1 << dim.ilog2();
        let shrink = (1.0 / (power as f64).sqrt()) as f32;
        let mut factors = Vec::with_capacity(outputs.div_ceil(dim) * ROUNDS * dim);
        for block in 0..outputs.div_ceil(dim) as u64 {
            let mut stream = stream(seed, 0, block, SIGNS);
            for round in 0..ROUNDS {
                let mixed = mixed(round, dim, power);
                factors.extend((0..dim).map(|i| {
                    let size = if mixed.contains(&i) { shrink } else { 1.0 };
                    if stream.uniform() < 0.5 { -size } else { size }
                }));
            }
        }
        Self { dim, outputs, power, factors }
    }

    /// Elements in a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Elements that come out.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Rotates `row` into `out`.
    ///
    /// # Panics
    /// If `row` is not of `dim` elements, `out` not of as many as come out, or `scratch` shorter than a row.
    pub fn apply(&self, row: &[f32], out: &mut [f32], scratch: &mut [f32]) {
        assert!(row.len() == self.dim && out.len() == self.outputs, "rows of one dim");
        let blocks = self.factors.chunks_exact(ROUNDS * self.dim);
        for (factors, out) in blocks.zip(out.chunks_mut(self.dim)) {
            if out.len() == self.dim {
                self.rotate(factors, row, out);
            } else {
                let scratch = &mut scratch[..self.dim];
                self.rotate(factors, row, scratch);
                out.copy_from_slice(&scratch[..out.len()]);
            }
        }
    }

    fn rotate(&self, factors: &[f32], row: &[f32], x: &mut [f32]) {
        x.copy_from_slice(row);
        for (round, factors) in factors.chunks_exact(self.dim).enumerate() {
            for (x, factor) in x.iter_mut().zip(factors) {
                *x *= factor;
            }
            hadamard(&mut x[mixed(round, self.dim, self.power)]);
            if self.power < self.dim {
                turn(x);
            }
        }
    }
}

/// The elements that a round mixes.
fn mixed(round: usize, dim: usize, power: usize) -> std::ops::Range<usize> {
    if round.is_multiple_of(2) { 0..power } else { dim - power..dim }
}

/// The Hadamard transform, not scaled, of 2^k elements.
fn hadamard(x: &mut [f32]) {
    let mut half = 1;
    while half < x.len() {
        for both in x.chunks_exact_mut(2 * half) {
            let (a, b) = both.split_at_mut(half);
            for (a, b) in a.iter_mut().zip(b) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
}

/// Turns the halves of a row against each other by 45 degrees; of an odd number the last element stays.
fn turn(x: &mut [f32]) {
    let (a, b) = x.split_at_mut(x.len() / 2);
    for (a, b) in a.iter_mut().zip(b) {
        (*a, *b) = ((*a + *b) * FRAC_1_SQRT_2, (*a - *b) * FRAC_1_SQRT_2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(dim: usize, seed: u64) -> Vec<f32> {
        let mut stream = stream(seed, 1, 2, 3);
        (0..dim).map(|_| stream.uniform() as f32 - 0.5).collect()
    }

    fn product(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    }

    #[test]
    fn norms_and_products_are_kept() {
        for dim in [1, 2, 3, 4, 5, 7, 8, 9, 31, 33, 64, 100, 384, 385, 768, 1000] {
            for times in [1, 3] {
                let rotation = Rotation::new(dim, dim * times, 7);
                let (a, b) = (row(dim, 1), row(dim, 2));
                let mut out = [vec![0.0; dim * times], vec![0.0; dim * times]];
                let mut scratch = vec![0.0; dim];
                rotation.apply(&a, &mut out[0], &mut scratch);
                rotation.apply(&b, &mut out[1], &mut scratch);
                let size = product(&a, &a).max(product(&b, &b));
                for (x, y) in out[0].chunks_exact(dim).zip(out[1].chunks_exact(dim)) {
                    for (got, expected) in [
                        (product(x, y), product(&a, &b)),
                        (product(x, x), product(&a, &a)),
                        (product(y, y), product(&b, &b)),
                    ] {
                        assert!((got - expected).abs() <= 1e-5 * size, "dim {dim}: {got} for {expected}");
                    }
                }
            }
        }
    }

    #[test]
    fn fewer_outputs_are_the_first() {
        let (dim, row) = (100, row(100, 5));
        let mut scratch = vec![0.0; dim];
        let mut whole = vec![0.0; 200];
        Rotation::new(dim, 200, 9).apply(&row, &mut whole, &mut scratch);
        for outputs in [1, 64, 100, 128] {
            let mut part = vec![0.0; outputs];
            Rotation::new(dim, outputs, 9).apply(&row, &mut part, &mut scratch);
            assert_eq!(part, whole[..outputs]);
        }
        let mut other = vec![0.0; 200];
        Rotation::new(dim, 200, 10).apply(&row, &mut other, &mut scratch);
        assert_ne!(whole, other);
        assert_ne!(whole[..100], whole[100..]);
    }

    /// A single coordinate is spread over all, so that its sign does not decide one bit alone.
    #[test]
    fn coordinates_are_spread() {
        for dim in [64, 100, 384, 1000] {
            let mut unit = vec![0.0; dim];
            unit[dim / 3] = 1.0;
            let mut out = vec![0.0; dim];
            Rotation::new(dim, dim, 3).apply(&unit, &mut out, &mut vec![0.0; dim]);
            let largest = out.iter().fold(0.0f32, |most, x| most.max(x.abs()));
            assert!(largest < 6.0 / (dim as f32).sqrt(), "dim {dim}: {largest}");
        }
    }
}
