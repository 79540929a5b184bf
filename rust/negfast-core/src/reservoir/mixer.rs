//! Random bits for an id: the same ones wherever and whenever the id is met.
//!
//! A block of ChaCha for each id would cost fifty times what reading the id does. So the generator is asked for two
//! words of key once, and ids go through two rounds of a multiplication and shifts, with a word of key before each. The
//! rounds are those of NASAM (P. Evensen, 2020), a mixer whose output for counters, their rotations and reversals passes
//! `PractRand`. Each step can be undone, so different ids never get the same bits under one seed.

use crate::rng::stream;

/// Even steps from 0 to 1.
pub(super) const STEPS: f64 = (1u64 << 52) as f64;

/// A permutation of the 64-bit words that a seed and a purpose choose.
#[derive(Debug, Clone, Copy)]
pub struct Mixer {
    keys: [u64; 2],
}

impl Mixer {
    /// The permutation of a seed; `purpose` keeps apart those that serve different ends.
    pub fn new(seed: u64, purpose: u64) -> Self {
        let mut stream = stream(seed, 0, 0, purpose);
        Self { keys: [stream.bits(), stream.bits()] }
    }

    /// The bits of `word`.
    #[inline]
    pub fn bits(self, word: u64) -> u64 {
        let mut x = word ^ self.keys[0];
        x ^= x.rotate_right(25) ^ x.rotate_right(47);
        x = x.wrapping_mul(0x9e6c_63d0_676a_9a99);
        x ^= (x >> 23) ^ (x >> 51) ^ self.keys[1];
        x = x.wrapping_mul(0x9e6d_62d0_6f6a_9a9b);
        x ^ (x >> 23) ^ (x >> 51)
    }

    /// Which of [`STEPS`] even steps from 0 to 1.
    #[inline]
    pub(super) fn step(self, word: u64) -> u64 {
        self.bits(word) >> 12
    }

    /// A number uniform on the open interval (0, 1): the middle of its step, without rounding.
    #[inline]
    pub fn uniform(self, word: u64) -> f64 {
        (self.step(word) as f64 + 0.5) / STEPS
    }

    /// A number from 0 to `n`, exclusive.
    #[inline]
    pub fn below(self, word: u64, n: u64) -> u64 {
        ((u128::from(self.bits(word)) * u128::from(n)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pinned_values() {
        let got = [(0, 0), (42, 7), (u64::MAX, u64::MAX)].map(|(seed, id)| Mixer::new(seed, 1).bits(id));
        assert_eq!(got, [0x0257_a461_ffff_2e62, 0xc88d_af29_4448_d5f2, 0x6966_475d_96f3_4b19], "{got:#018x?}");
        // NASAM itself, as it is published.
        let got = [1, 0x0123_4567_89ab_cdef].map(|word| Mixer { keys: [0, 0] }.bits(word));
        assert_eq!(got, [0x9c1a_051e_07b9_e10d, 0x770f_13a0_ab5b_163d], "{got:#018x?}");
    }

    #[test]
    fn each_bit_of_an_id_or_a_seed_flips_half_of_the_bits() {
        const ROUNDS: u64 = 4096;
        let mut flips = [[0u32; 64]; 64];
        for round in 0..ROUNDS {
            let mixer = Mixer::new(round, 1);
            for (bit, flips) in flips.iter_mut().enumerate() {
                let mut changed = mixer.bits(round) ^ mixer.bits(round ^ 1 << bit);
                while changed != 0 {
                    flips[changed.trailing_zeros() as usize] += 1;
                    changed &= changed - 1;
                }
            }
        }
        // 4096 flips of a fair coin: 2048 with a standard deviation of 32; the bound is 7 of them for 4096 cells.
        for (bit, row) in flips.iter().enumerate() {
            for (out, &count) in row.iter().enumerate() {
                assert!(count.abs_diff(2048) < 7 * 32, "bit {bit} flips bit {out} {count} times of {ROUNDS}");
            }
        }
    }

    #[test]
    fn uniform_numbers_stay_inside() {
        let ends = [0, u64::MAX >> 12].map(|step| (step as f64 + 0.5) / STEPS);
        assert_eq!(ends.map(f64::to_bits), [f64::EPSILON / 2.0, 1.0 - f64::EPSILON / 2.0].map(f64::to_bits));
        let mixer = Mixer::new(3, 1);
        let mean = (0..10_000).map(|id| mixer.uniform(id)).sum::<f64>() / 1e4;
        assert!((mean - 0.5).abs() < 0.02);
    }

    #[test]
    fn below_stays_below() {
        let mixer = Mixer::new(3, 1);
        assert!((0..1000).all(|id| mixer.below(id, 7) < 7 && mixer.below(id, 1) == 0));
    }
}
