//! Hamming distances: how many bits of two codes differ.
//!
//! Codes are packed in strips of eight, word by word, so that eight distances are summed side by side and nothing is
//! added across a vector.

use super::Level;
#[cfg(target_arch = "x86_64")]
use super::x86::{hamming_avx2, hamming_avx512};

/// Codes in a strip.
pub(super) const WIDE: usize = 8;

/// One word of each code of a strip.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(super) struct Eight(pub(super) [u64; WIDE]);

/// Codes packed for [`hamming`].
#[derive(Debug, Default)]
pub struct Strips {
    values: Vec<Eight>,
    words: usize,
    rows: usize,
}

impl Strips {
    /// Packs codes of `words` words each, row by row.
    ///
    /// # Panics
    /// If `codes` are no whole rows.
    pub fn pack(&mut self, codes: &[u64], words: usize) {
        assert!(words > 0 && codes.len().is_multiple_of(words), "whole rows");
        (self.words, self.rows) = (words, codes.len() / words);
        self.values.clear();
        self.values.resize(self.rows.div_ceil(WIDE) * words, Eight([0; WIDE]));
        for (strip, codes) in self.values.chunks_exact_mut(words).zip(codes.chunks(words * WIDE)) {
            for (r, code) in codes.chunks_exact(words).enumerate() {
                for (value, &word) in strip.iter_mut().zip(code) {
                    value.0[r] = word;
                }
            }
        }
    }

    /// Number of codes.
    pub fn rows(&self) -> usize {
        self.rows
    }
}

/// Writes into `out` how many bits of `code` differ from those of each packed row.
///
/// # Panics
/// If `code` has another number of words (or 1,024 of them or more), or `out` not one element a row.
pub fn hamming(level: Level, code: &[u64], strips: &Strips, out: &mut [u16]) {
    assert!(code.len() == strips.words && code.len() < 1024 && out.len() == strips.rows, "codes of one size");
    match level.min(Level::detect()) {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 if is_x86_feature_detected!("avx512vpopcntdq") => {
            // SAFETY: the level was clamped to what the machine has, and it counts bits in vectors.
            unsafe { avx512(code, strips, out) }
        }
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the level was clamped to what the machine has.
        Level::Avx2 | Level::Avx512 => unsafe { avx2(code, strips, out) },
        _ => each(code, strips, out, counted),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vpopcntdq")]
fn avx512(code: &[u64], strips: &Strips, out: &mut [u16]) {
    each(code, strips, out, |code, strip| hamming_avx512(code, strip));
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2(code: &[u64], strips: &Strips, out: &mut [u16]) {
    each(code, strips, out, |code, strip| hamming_avx2(code, strip));
}

#[inline(always)]
fn each(code: &[u64], strips: &Strips, out: &mut [u16], distances: impl Fn(&[u64], &[Eight]) -> [u16; WIDE]) {
    for (strip, out) in strips.values.chunks_exact(code.len()).zip(out.chunks_mut(WIDE)) {
        let distances = distances(code, strip);
        match <&mut [u16; WIDE]>::try_from(&mut *out) {
            Ok(out) => *out = distances,
            // The last strip may be wider than what is left.
            Err(_) => out.copy_from_slice(&distances[..out.len()]),
        }
    }
}

fn counted(code: &[u64], strip: &[Eight]) -> [u16; WIDE] {
    let mut sums = [0; WIDE];
    for (words, word) in strip.iter().zip(code) {
        for (sum, other) in sums.iter_mut().zip(words.0) {
            *sum += (word ^ other).count_ones() as u16;
        }
    }
    sums
}
