//! Sums of products of short rows: pairs of 16-bit numbers, multiplied and added into 32 bits.
//!
//! Four sums at a time hide the latency of the additions; the rest is loads, one of each row a vector.

use std::arch::x86_64::{
    _mm256_add_epi32, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_setzero_si256, _mm256_storeu_si256,
    _mm512_add_epi32, _mm512_dpwssd_epi32, _mm512_loadu_si512, _mm512_reduce_add_epi32, _mm512_setzero_si512,
};

use super::super::short::STEP;

/// # Safety
/// The machine has AVX-512F, BW and VNNI; both rows are as long, a multiple of 32.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(in crate::kernel) unsafe fn short_sum_vnni(a: &[i16], b: &[i16]) -> i32 {
    // SAFETY: callers ask for vectors within both rows.
    let vector = |row: &[i16], at: usize| unsafe { _mm512_loadu_si512(row.as_ptr().add(at).cast()) };
    let mut sums = [_mm512_setzero_si512(); 4];
    let whole = a.len() - a.len() % (4 * STEP);
    for at in (0..whole).step_by(4 * STEP) {
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = _mm512_dpwssd_epi32(*sum, vector(a, at + i * STEP), vector(b, at + i * STEP));
        }
    }
    for at in (whole..a.len()).step_by(STEP) {
        sums[0] = _mm512_dpwssd_epi32(sums[0], vector(a, at), vector(b, at));
    }
    _mm512_reduce_add_epi32(_mm512_add_epi32(_mm512_add_epi32(sums[0], sums[1]), _mm512_add_epi32(sums[2], sums[3])))
}

/// # Safety
/// The machine has AVX2; both rows are as long, a multiple of 32.
#[target_feature(enable = "avx2")]
pub(in crate::kernel) unsafe fn short_sum_avx2(a: &[i16], b: &[i16]) -> i32 {
    // SAFETY: callers ask for vectors within both rows.
    let vector = |row: &[i16], at: usize| unsafe { _mm256_loadu_si256(row.as_ptr().add(at).cast()) };
    let mut sums = [_mm256_setzero_si256(); 4];
    let whole = a.len() - a.len() % 64;
    for at in (0..whole).step_by(64) {
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(vector(a, at + i * 16), vector(b, at + i * 16)));
        }
    }
    for at in (whole..a.len()).step_by(16) {
        sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(vector(a, at), vector(b, at)));
    }
    let sum = _mm256_add_epi32(_mm256_add_epi32(sums[0], sums[1]), _mm256_add_epi32(sums[2], sums[3]));
    let mut lanes = [0i32; 8];
    // SAFETY: the array holds a vector.
    unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), sum) };
    lanes.iter().sum()
}
