//! Hamming distances in AVX2 and AVX-512.
//!
//! A strip holds one word of eight codes in 64 bytes: one vector, or two. Where the machine counts bits in vectors, a
//! word takes a load, an exclusive or, a count and an addition. On AVX2 bits are counted four at a time by a shuffle;
//! counts of bytes stay below 256 for 31 words, and only then are added across (W. Muła, N. Kurz and D. Lemire, *Faster
//! Population Counts Using AVX2 Instructions*, 2018).

use std::arch::x86_64::{
    __m256i, __m512i, _mm_storeu_si128, _mm256_add_epi8, _mm256_add_epi64, _mm256_and_si256, _mm256_load_si256,
    _mm256_sad_epu8, _mm256_set1_epi8, _mm256_set1_epi64x, _mm256_setr_epi8, _mm256_setzero_si256, _mm256_shuffle_epi8,
    _mm256_srli_epi16, _mm256_store_si256, _mm256_xor_si256, _mm512_add_epi64, _mm512_cvtepi64_epi16,
    _mm512_load_si512, _mm512_popcnt_epi64, _mm512_set1_epi64, _mm512_setzero_si512, _mm512_xor_si512,
};

use crate::kernel::hamming::{Eight, WIDE};

/// The distances of a code from a strip, whose words it has.
#[target_feature(enable = "avx512f,avx512vpopcntdq")]
pub(in crate::kernel) fn hamming_avx512(code: &[u64], strip: &[Eight]) -> [u16; WIDE] {
    let mut sum = _mm512_setzero_si512();
    for (words, &word) in strip.iter().zip(code) {
        // SAFETY: eight words are 64 aligned bytes.
        let words = unsafe { _mm512_load_si512(std::ptr::from_ref(words).cast::<__m512i>()) };
        let differing = _mm512_xor_si512(words, _mm512_set1_epi64(word as i64));
        sum = _mm512_add_epi64(sum, _mm512_popcnt_epi64(differing));
    }
    let mut out = [0; WIDE];
    // SAFETY: eight 16-bit numbers are 16 bytes.
    unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), _mm512_cvtepi64_epi16(sum)) };
    out
}

/// The distances of a code from a strip, whose words it has.
#[target_feature(enable = "avx2")]
pub(in crate::kernel) fn hamming_avx2(code: &[u64], strip: &[Eight]) -> [u16; WIDE] {
    let bits = _mm256_setr_epi8(
        0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
    );
    let (low, zero) = (_mm256_set1_epi8(15), _mm256_setzero_si256());
    let mut sums = [zero; 2];
    for (strip, code) in strip.chunks(31).zip(code.chunks(31)) {
        let mut bytes = [zero; 2];
        for (words, &word) in strip.iter().zip(code) {
            let word = _mm256_set1_epi64x(word as i64);
            for (half, bytes) in bytes.iter_mut().enumerate() {
                // SAFETY: eight words are two aligned vectors.
                let words = unsafe { _mm256_load_si256(std::ptr::from_ref(words).cast::<__m256i>().add(half)) };
                let differing = _mm256_xor_si256(words, word);
                let first = _mm256_shuffle_epi8(bits, _mm256_and_si256(differing, low));
                let second = _mm256_shuffle_epi8(bits, _mm256_and_si256(_mm256_srli_epi16::<4>(differing), low));
                *bytes = _mm256_add_epi8(*bytes, _mm256_add_epi8(first, second));
            }
        }
        for (sum, bytes) in sums.iter_mut().zip(bytes) {
            *sum = _mm256_add_epi64(*sum, _mm256_sad_epu8(bytes, zero));
        }
    }
    let mut out = Eight([0; WIDE]);
    for (half, sum) in sums.into_iter().enumerate() {
        // SAFETY: as above.
        unsafe { _mm256_store_si256(std::ptr::from_mut(&mut out).cast::<__m256i>().add(half), sum) };
    }
    out.0.map(|sum| sum as u16)
}
