//! The int8 tile in AVX2 and in AVX-512 with VNNI.
//!
//! VNNI: one step loads a quad of 32 rows (two vectors) and broadcasts a quad of each of 12 anchors; `vpdpbusd` adds four
//! products a lane to 24 sums. One such instruction a cycle is four times the multiply-adds of the `f32` tile.
//!
//! AVX2: six anchors and half a panel at a time: 12 sums of 16-bit pairs, 2 vectors of the corpus and 1 broadcast fill the
//! 16 registers. A step is 12 `vpmaddubsw` and 12 `vpaddw`, four a cycle. `vpaddw` wraps where `vpaddsw` would
//! saturate on fewer ports. At the end of a run `vpmaddwd` by ones adds the two halves of each lane into 32 bits.
//!
//! The test at the end takes a conversion, two multiply-adds and a comparison a vector.

use std::arch::x86_64::{
    __m256i, _CMP_GE_OQ, _mm256_add_epi16, _mm256_add_epi32, _mm256_cmp_ps, _mm256_cvtepi32_ps, _mm256_fmadd_ps,
    _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_min_ps, _mm256_movemask_ps,
    _mm256_mul_ps, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_si256, _mm256_storeu_ps,
    _mm512_cmp_ps_mask, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512,
    _mm512_min_ps, _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_storeu_ps,
};

use super::super::int8::{CODE_COLUMNS, CODE_ROWS, CodePanel, CodeRows, tests_of};

/// Twelve anchors times a panel. If nothing is tested, writes all estimates and returns `false`.
///
/// # Safety
/// The machine has AVX-512F, BW and VNNI; the anchors are twelve of `quads` quads, with one bias each; the panel has so
/// many quads (and thresholds of its rows, and the anchors inverses, if both are tested); without tests, `estimates` holds 12 × 32 numbers.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(in crate::kernel) unsafe fn codes_vnni<const TESTS: u8>(
    anchors: &CodeRows<'_>,
    panel: &CodePanel<'_>,
    quads: usize,
    masks: &mut [u32; CODE_ROWS],
    estimates: &mut [f32],
) -> bool {
    const ROWS: usize = 12;
    let mut acc = [[_mm512_set1_epi32(0); 2]; ROWS];
    for (r, acc) in acc.iter_mut().enumerate() {
        *acc = [_mm512_set1_epi32(anchors.biases[r]); 2];
    }
    let stride = quads * 4;
    let (mut a, mut b) = (anchors.codes.as_ptr(), panel.codes.as_ptr());
    for _ in 0..quads {
        // SAFETY: quad q reads four codes of each anchor at r * stride + 4 q and 128 codes of the panel at 128 q.
        unsafe {
            let (b0, b1) = (_mm512_loadu_si512(b.cast()), _mm512_loadu_si512(b.add(64).cast()));
            for (r, acc) in acc.iter_mut().enumerate() {
                let x = _mm512_set1_epi32(a.add(r * stride).cast::<i32>().read_unaligned());
                acc[0] = _mm512_dpbusd_epi32(acc[0], b0, x);
                acc[1] = _mm512_dpbusd_epi32(acc[1], b1, x);
            }
            a = a.add(4);
            b = b.add(4 * CODE_COLUMNS);
        }
    }
    let (s, w) = (panel.scales.as_ptr(), panel.widths.as_ptr());
    // SAFETY: the panel has 32 scales and widths.
    let (s, w) =
        unsafe { ([_mm512_loadu_ps(s), _mm512_loadu_ps(s.add(16))], [_mm512_loadu_ps(w), _mm512_loadu_ps(w.add(16))]) };
    if TESTS == tests_of::NONE {
        for (acc, out) in acc.iter().zip(estimates.chunks_exact_mut(CODE_COLUMNS)) {
            // SAFETY: each chunk holds 32 numbers.
            unsafe {
                _mm512_storeu_ps(out.as_mut_ptr(), _mm512_mul_ps(_mm512_cvtepi32_ps(acc[0]), s[0]));
                _mm512_storeu_ps(out.as_mut_ptr().add(16), _mm512_mul_ps(_mm512_cvtepi32_ps(acc[1]), s[1]));
            }
        }
        return false;
    }
    let mut found = [0u32; ROWS];
    let mut any = 0;
    for (r, acc) in acc.iter().enumerate() {
        let (u, t) = (_mm512_set1_ps(anchors.spreads[r]), _mm512_set1_ps(anchors.thresholds[r]));
        let reach = |half: usize| {
            let v = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[half]), s[half], _mm512_mul_ps(u, w[half]));
            if TESTS != tests_of::BOTH {
                return u32::from(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(v, t));
            }
            // SAFETY: the panel has 32 thresholds.
            let theirs = unsafe { _mm512_loadu_ps(panel.thresholds.as_ptr().add(16 * half)) };
            let theirs = _mm512_mul_ps(theirs, _mm512_set1_ps(anchors.inverses[r]));
            u32::from(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(v, _mm512_min_ps(t, theirs)))
        };
        found[r] = reach(0) | reach(1) << 16;
        any |= found[r];
    }
    if any != 0 {
        masks[..ROWS].copy_from_slice(&found);
    }
    any != 0
}

/// Six anchors times a panel. If nothing is tested, writes all estimates and returns `false`.
///
/// # Safety
/// The machine has AVX2 and FMA; the anchors are six of `quads` quads, with one bias for each run of `run` quads; the panel
/// has so many quads (and thresholds of its rows, and the anchors inverses, if both are tested); without tests, `estimates` holds 6 × 32 numbers.
#[target_feature(enable = "avx2,fma")]
pub(in crate::kernel) unsafe fn codes_avx2<const TESTS: u8>(
    anchors: &CodeRows<'_>,
    panel: &CodePanel<'_>,
    quads: usize,
    run: usize,
    masks: &mut [u32; CODE_ROWS],
    estimates: &mut [f32],
) -> bool {
    const ROWS: usize = 6;
    let (stride, runs) = (quads * 4, quads.div_ceil(run));
    let ones = _mm256_set1_epi16(1);
    let mut found = [0u32; ROWS];
    for half in 0..2 {
        let mut wide = [[_mm256_setzero_si256(); 2]; ROWS];
        for part in 0..runs {
            let mut acc = [[_mm256_setzero_si256(); 2]; ROWS];
            for (r, acc) in acc.iter_mut().enumerate() {
                *acc = [_mm256_set1_epi32(anchors.biases[r * runs + part]); 2];
            }
            for quad in part * run..((part + 1) * run).min(quads) {
                // SAFETY: quad q reads four codes of each anchor at r * stride + 4 q and 64 codes of the panel, those of
                // this half, at 128 q + 64 half.
                unsafe {
                    let a = anchors.codes.as_ptr().add(4 * quad);
                    let b = panel.codes.as_ptr().add(4 * CODE_COLUMNS * quad + 64 * half);
                    let b0 = _mm256_loadu_si256(b.cast());
                    let b1 = _mm256_loadu_si256(b.add(32).cast());
                    for (r, acc) in acc.iter_mut().enumerate() {
                        let x = _mm256_set1_epi32(a.add(r * stride).cast::<i32>().read_unaligned());
                        acc[0] = _mm256_add_epi16(acc[0], _mm256_maddubs_epi16(b0, x));
                        acc[1] = _mm256_add_epi16(acc[1], _mm256_maddubs_epi16(b1, x));
                    }
                }
            }
            for (wide, acc) in wide.iter_mut().zip(&acc) {
                wide[0] = _mm256_add_epi32(wide[0], _mm256_madd_epi16(acc[0], ones));
                wide[1] = _mm256_add_epi32(wide[1], _mm256_madd_epi16(acc[1], ones));
            }
        }
        for (r, wide) in wide.iter().enumerate() {
            let first = 16 * half;
            if TESTS == tests_of::NONE {
                let out = &mut estimates[r * CODE_COLUMNS + first..][..16];
                for (sums, at) in [(wide[0], 0), (wide[1], 8)] {
                    // SAFETY: the slice holds 16 numbers, the panel 32 scales.
                    unsafe {
                        let s = _mm256_loadu_ps(panel.scales.as_ptr().add(first + at));
                        _mm256_storeu_ps(out.as_mut_ptr().add(at), _mm256_mul_ps(_mm256_cvtepi32_ps(sums), s));
                    }
                }
                continue;
            }
            let (u, t) = (_mm256_set1_ps(anchors.spreads[r]), _mm256_set1_ps(anchors.thresholds[r]));
            let reach = |sums: __m256i, at: usize| {
                // SAFETY: the panel has 32 scales and widths.
                let (s, w) = unsafe {
                    (_mm256_loadu_ps(panel.scales.as_ptr().add(at)), _mm256_loadu_ps(panel.widths.as_ptr().add(at)))
                };
                let v = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), s, _mm256_mul_ps(u, w));
                if TESTS != tests_of::BOTH {
                    return _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(v, t)) as u32;
                }
                // SAFETY: the panel has 32 thresholds.
                let theirs = unsafe { _mm256_loadu_ps(panel.thresholds.as_ptr().add(at)) };
                let lower = _mm256_min_ps(t, _mm256_mul_ps(theirs, _mm256_set1_ps(anchors.inverses[r])));
                _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(v, lower)) as u32
            };
            found[r] |= (reach(wide[0], first) | reach(wide[1], first + 8) << 8) << first;
        }
    }
    let any = found.iter().fold(0, |any, &mask| any | mask);
    if any != 0 {
        masks[..ROWS].copy_from_slice(&found);
    }
    any != 0
}

/// # Safety
/// The machine has AVX-512F; both slices hold 32 numbers.
#[target_feature(enable = "avx512f")]
pub(in crate::kernel) unsafe fn reaching_avx512(estimates: &[f32], widths: &[f32], spread: f32, threshold: f32) -> u32 {
    let (u, t) = (_mm512_set1_ps(spread), _mm512_set1_ps(threshold));
    let reach = |at: usize| {
        // SAFETY: `at` is 0 or 16.
        let (e, w) = unsafe { (_mm512_loadu_ps(estimates.as_ptr().add(at)), _mm512_loadu_ps(widths.as_ptr().add(at))) };
        u32::from(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(_mm512_fmadd_ps(u, w, e), t))
    };
    reach(0) | reach(16) << 16
}

/// # Safety
/// The machine has AVX2 and FMA; both slices hold 32 numbers.
#[target_feature(enable = "avx2,fma")]
pub(in crate::kernel) unsafe fn reaching_avx2(estimates: &[f32], widths: &[f32], spread: f32, threshold: f32) -> u32 {
    let (u, t) = (_mm256_set1_ps(spread), _mm256_set1_ps(threshold));
    (0..4).fold(0, |mask, eighth| {
        // SAFETY: eight numbers from 8, 16 or 24 on.
        let (e, w) = unsafe {
            (_mm256_loadu_ps(estimates.as_ptr().add(8 * eighth)), _mm256_loadu_ps(widths.as_ptr().add(8 * eighth)))
        };
        let reached = _mm256_cmp_ps::<_CMP_GE_OQ>(_mm256_fmadd_ps(u, w, e), t);
        mask | (_mm256_movemask_ps(reached) as u32) << (8 * eighth)
    })
}
