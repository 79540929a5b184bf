//! The tile in AVX2 and AVX-512.
//!
//! One step along the dimension loads two vectors of corpus rows and, for each anchor, broadcasts one number and
//! issues two fused multiply-adds. Two FMAs a cycle with a latency of four need eight independent sums; 12 and 24
//! are there. So the FMA units are the limit: 6 cycles a step on AVX2, 12 on AVX-512 (K. Goto and R. van de Geijn,
//! *Anatomy of High-Performance Matrix Multiplication*, 2008, for the panel layout). The comparison at the end costs
//! one instruction a vector.

use std::arch::x86_64::{
    _CMP_GE_OQ, _mm256_cmp_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_movemask_ps, _mm256_or_ps, _mm256_set1_ps,
    _mm256_setzero_ps, _mm256_storeu_ps, _mm512_cmp_ps_mask, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_storeu_ps,
};

use crate::kernel::TileOutput;

/// Twelve anchors times 32 corpus rows.
///
/// # Safety
/// The machine has AVX-512F; `a` holds `12 * dim` numbers, `b` `32 * dim`, `thresholds` 12.
#[target_feature(enable = "avx512f")]
pub(in crate::kernel) unsafe fn tile_avx512(
    a: &[f32],
    b: &[f32],
    dim: usize,
    thresholds: &[f32],
    out: &mut TileOutput,
) -> bool {
    const ROWS: usize = 12;
    let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
    let (mut pa, mut pb) = (a.as_ptr(), b.as_ptr());
    for _ in 0..dim {
        // SAFETY: step `d` reads a[12 d .. 12 d + 12] and b[32 d .. 32 d + 32], and d < dim.
        unsafe {
            let (b0, b1) = (_mm512_loadu_ps(pb), _mm512_loadu_ps(pb.add(16)));
            for (r, sum) in sums.iter_mut().enumerate() {
                let x = _mm512_set1_ps(*pa.add(r));
                sum[0] = _mm512_fmadd_ps(x, b0, sum[0]);
                sum[1] = _mm512_fmadd_ps(x, b1, sum[1]);
            }
            pa = pa.add(ROWS);
            pb = pb.add(32);
        }
    }
    let mut masks = [0u32; ROWS];
    let mut any = 0;
    for (r, sum) in sums.iter().enumerate() {
        let t = _mm512_set1_ps(thresholds[r]);
        let low = u32::from(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(sum[0], t));
        let high = u32::from(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(sum[1], t));
        masks[r] = low | high << 16;
        any |= masks[r];
    }
    if any != 0 {
        out.masks[..ROWS].copy_from_slice(&masks);
        for (sum, store) in sums.iter().zip(out.products.chunks_exact_mut(32)) {
            // SAFETY: each chunk holds 32 numbers.
            unsafe {
                _mm512_storeu_ps(store.as_mut_ptr(), sum[0]);
                _mm512_storeu_ps(store.as_mut_ptr().add(16), sum[1]);
            }
        }
    }
    any != 0
}

/// Six anchors times 16 corpus rows.
///
/// # Safety
/// The machine has AVX2 and FMA; `a` holds `6 * dim` numbers, `b` `16 * dim`, `thresholds` 6.
#[target_feature(enable = "avx2,fma")]
pub(in crate::kernel) unsafe fn tile_avx2(
    a: &[f32],
    b: &[f32],
    dim: usize,
    thresholds: &[f32],
    out: &mut TileOutput,
) -> bool {
    const ROWS: usize = 6;
    let mut sums = [[_mm256_setzero_ps(); 2]; ROWS];
    let (mut pa, mut pb) = (a.as_ptr(), b.as_ptr());
    for _ in 0..dim {
        // SAFETY: step `d` reads a[6 d .. 6 d + 6] and b[16 d .. 16 d + 16], and d < dim.
        unsafe {
            let (b0, b1) = (_mm256_loadu_ps(pb), _mm256_loadu_ps(pb.add(8)));
            for (r, sum) in sums.iter_mut().enumerate() {
                let x = _mm256_set1_ps(*pa.add(r));
                sum[0] = _mm256_fmadd_ps(x, b0, sum[0]);
                sum[1] = _mm256_fmadd_ps(x, b1, sum[1]);
            }
            pa = pa.add(ROWS);
            pb = pb.add(16);
        }
    }
    let mut reached = [[_mm256_setzero_ps(); 2]; ROWS];
    let mut any = _mm256_setzero_ps();
    for (r, sum) in sums.iter().enumerate() {
        let t = _mm256_set1_ps(thresholds[r]);
        reached[r] = [_mm256_cmp_ps::<_CMP_GE_OQ>(sum[0], t), _mm256_cmp_ps::<_CMP_GE_OQ>(sum[1], t)];
        any = _mm256_or_ps(any, _mm256_or_ps(reached[r][0], reached[r][1]));
    }
    if _mm256_movemask_ps(any) == 0 {
        return false;
    }
    for r in 0..ROWS {
        let low = _mm256_movemask_ps(reached[r][0]) as u32;
        let high = _mm256_movemask_ps(reached[r][1]) as u32;
        out.masks[r] = low | high << 8;
        let store = &mut out.products[r * 16..(r + 1) * 16];
        // SAFETY: the slice holds 16 numbers.
        unsafe {
            _mm256_storeu_ps(store.as_mut_ptr(), sums[r][0]);
            _mm256_storeu_ps(store.as_mut_ptr().add(8), sums[r][1]);
        }
    }
    true
}
