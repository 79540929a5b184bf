//! Lanes of dot products in `f64`: some rows at a time, widened on the way.

use std::arch::x86_64::{
    _mm_loadu_ps, _mm256_cvtps_pd, _mm256_fmadd_pd, _mm256_loadu_ps, _mm256_setzero_pd, _mm256_storeu_pd,
    _mm512_cvtps_pd, _mm512_fmadd_pd, _mm512_setzero_pd, _mm512_storeu_pd,
};

use super::super::dot::LANES;

/// The sums of whole vectors, lane by lane; what is left at the end of the rows is left to the caller.
///
/// # Safety
/// The machine has AVX-512F; all rows are as long.
#[target_feature(enable = "avx512f")]
pub(in crate::kernel) unsafe fn dots_avx512<const N: usize>(row: &[f32], others: [&[f32]; N]) -> [[f64; LANES]; N] {
    let mut sums = [_mm512_setzero_pd(); N];
    let (row, others, len) = (row.as_ptr(), others.map(<[f32]>::as_ptr), row.len());
    for at in (0..len - len % LANES).step_by(LANES) {
        // SAFETY: eight elements from `at` on lie within the row.
        let x = _mm512_cvtps_pd(unsafe { _mm256_loadu_ps(row.add(at)) });
        for (sum, other) in sums.iter_mut().zip(others) {
            // SAFETY: as above.
            let y = unsafe { _mm256_loadu_ps(other.add(at)) };
            *sum = _mm512_fmadd_pd(_mm512_cvtps_pd(y), x, *sum);
        }
    }
    sums.map(|sum| {
        let mut lanes = [0.0; LANES];
        // SAFETY: the array holds a vector.
        unsafe { _mm512_storeu_pd(lanes.as_mut_ptr(), sum) };
        lanes
    })
}

/// The sums of whole vectors, lane by lane; what is left at the end of the rows is left to the caller.
///
/// # Safety
/// The machine has AVX2 and FMA; all rows are as long.
#[target_feature(enable = "avx2,fma")]
pub(in crate::kernel) unsafe fn dots_avx2<const N: usize>(row: &[f32], others: [&[f32]; N]) -> [[f64; LANES]; N] {
    const HALF: usize = LANES / 2;
    let mut sums = [[_mm256_setzero_pd(); 2]; N];
    let (row, others, len) = (row.as_ptr(), others.map(<[f32]>::as_ptr), row.len());
    for at in (0..len - len % LANES).step_by(LANES) {
        // SAFETY: eight elements from `at` on lie within the row.
        let x = [at, at + HALF].map(|at| _mm256_cvtps_pd(unsafe { _mm_loadu_ps(row.add(at)) }));
        for (sums, other) in sums.iter_mut().zip(others) {
            for ((sum, x), at) in sums.iter_mut().zip(x).zip([at, at + HALF]) {
                // SAFETY: as above.
                let y = unsafe { _mm_loadu_ps(other.add(at)) };
                *sum = _mm256_fmadd_pd(_mm256_cvtps_pd(y), x, *sum);
            }
        }
    }
    sums.map(|sums| {
        let mut lanes = [0.0; LANES];
        for (lanes, sum) in lanes.chunks_exact_mut(HALF).zip(sums) {
            // SAFETY: half of the lanes are a vector.
            unsafe { _mm256_storeu_pd(lanes.as_mut_ptr(), sum) };
        }
        lanes
    })
}
