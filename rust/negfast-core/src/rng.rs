//! Randomness as an argument: one portable stream per (seed, epoch, row).

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// A stream of uniform numbers that depends on its four coordinates alone.
///
/// The generator is ChaCha with eight rounds (D. J. Bernstein, *ChaCha, a variant of Salsa20*, 2008), whose output
/// is the same on every platform. The coordinates *are* its key, so streams of different rows share nothing and no
/// seed has to be mixed.
#[derive(Debug, Clone)]
pub struct Stream(ChaCha8Rng);

/// The stream of one row in one epoch; `purpose` keeps apart streams that serve different ends.
pub fn stream(seed: u64, epoch: u64, row: u64, purpose: u64) -> Stream {
    let mut key = [0u8; 32];
    for (slot, word) in key.chunks_exact_mut(8).zip([seed, epoch, row, purpose]) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    Stream(ChaCha8Rng::from_seed(key))
}

/// The stream of one row in one step of an epoch; at step 0 it is [`stream`].
pub fn step_stream(seed: u64, epoch: u64, row: u64, purpose: u64, step: u64) -> Stream {
    let mut stream = stream(seed, epoch, row, purpose);
    stream.0.set_stream(step);
    stream
}

impl Stream {
    /// Sixty-four random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number uniform on the open interval (0, 1): never 0 or 1, so logarithms of it and of
    /// its own are finite.
    pub fn uniform(&mut self) -> f64 {
        let bits = self.bits() >> 11;
        // The largest sum would be rounded to 1.
        ((bits as f64 + 0.5) * (1.0 / 9_007_199_254_740_992.0)).min(1.0 - f64::EPSILON / 2.0)
    }

    /// A whole number uniform on `0..n`; `n` is above 0. What 64 bits cannot share out evenly is below `n` / 2^64.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.0.next_u64()) * n as u128) >> 64) as usize
    }

    /// Puts `items` into an order that is uniform over all orders.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    /// A standard Gumbel number, −ln(−ln u). The logarithm is a software one, so that every machine draws alike.
    pub fn gumbel(&mut self) -> f64 {
        -libm::log(-libm::log(self.uniform()))
    }
}

#[cfg(test)]
mod tests {
    use super::stream;

    #[test]
    fn pinned_values() {
        let mut s = stream(1, 2, 3, 4);
        let drawn: Vec<u64> = (0..3).map(|_| (s.uniform() * 1e15) as u64).collect();
        assert_eq!(drawn, [66_344_732_577_037, 345_256_835_142_653, 251_018_073_154_284]);
    }

    #[test]
    fn pinned_shuffle() {
        let mut items = [0, 1, 2, 3, 4, 5, 6, 7];
        stream(1, 2, 3, 4).shuffle(&mut items);
        assert_eq!(items, [4, 6, 3, 7, 5, 1, 2, 0]);
    }

    #[test]
    fn coordinates_are_kept_apart() {
        let first = |a, b, c, d| stream(a, b, c, d).uniform().to_bits();
        let all = [first(1, 0, 0, 0), first(0, 1, 0, 0), first(0, 0, 1, 0), first(0, 0, 0, 1), first(0, 0, 0, 0)];
        for i in 0..all.len() {
            for j in 0..i {
                assert_ne!(all[i], all[j]);
            }
        }
    }
}
