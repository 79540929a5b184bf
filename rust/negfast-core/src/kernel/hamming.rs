//! Hamming distances: how many bits of two codes differ.
//!
//! Codes are packed in strips of eight, word by word, so that eight distances are summed side by side and nothing is
//! added across a vector. The body is written once: from it the compiler makes `vpopcntq` where the machine has it, the
//! look-up of four bits at a time where it has AVX2 (W. Muła, N. Kurz and D. Lemire, *Faster Population Counts Using
//! AVX2 Instructions*, 2018), and shifts and masks elsewhere.

use super::Level;

/// Codes in a strip.
const WIDE: usize = 8;

/// Codes packed for [`hamming`].
#[derive(Debug, Default)]
pub struct Strips {
    values: Vec<[u64; WIDE]>,
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
        self.values.resize(self.rows.div_ceil(WIDE) * words, [0; WIDE]);
        for (strip, codes) in self.values.chunks_exact_mut(words).zip(codes.chunks(words * WIDE)) {
            for (r, code) in codes.chunks_exact(words).enumerate() {
                for (value, &word) in strip.iter_mut().zip(code) {
                    value[r] = word;
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
            unsafe { counted(code, strips, out) }
        }
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the level was clamped to what the machine has.
        Level::Avx2 | Level::Avx512 => unsafe { avx2(code, strips, out) },
        _ => body(code, strips, out),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vpopcntdq")]
fn counted(code: &[u64], strips: &Strips, out: &mut [u16]) {
    body(code, strips, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2(code: &[u64], strips: &Strips, out: &mut [u16]) {
    body(code, strips, out);
}

#[inline(always)]
fn body(code: &[u64], strips: &Strips, out: &mut [u16]) {
    for (strip, out) in strips.values.chunks_exact(code.len()).zip(out.chunks_mut(WIDE)) {
        let mut sums = [0u64; WIDE];
        for (value, &word) in strip.iter().zip(code) {
            for (sum, other) in sums.iter_mut().zip(value) {
                *sum += u64::from((word ^ other).count_ones());
            }
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = sum as u16;
        }
    }
}
