//! The lookup in AVX2 and AVX-512.
//!
//! For four bits of both bytes of a line, a query costs one load of two tables, and then, for each 16 rows, a shuffle
//! and an addition. Shuffles run on two of Zen 4's four vector pipes, and with the additions all four are busy: the
//! least that 128 bits of 32 rows can take is 16 cycles, where the tile needs 256. Picking the four bits apart is shared
//! by the queries of a panel. On AVX-512 a vector holds the whole line and both of its halves look into the same two
//! tables. Loading those into both halves would take a shuffle's place, so the tables are stored twice; more than four
//! queries would then leave the first-level cache.
//!
//! At the end of a run, a vector of byte sums is added to two vectors of 16-bit ones: as it is, which sums even rows
//! plus 256 times odd rows, and shifted down, which sums odd rows. Modulo 2¹⁶ the even rows are the difference.

use std::arch::x86_64::{
    __m256i, __m512i, _CMP_GE_OQ, _mm_add_epi16, _mm_storeu_si128, _mm_unpackhi_epi16, _mm_unpacklo_epi16,
    _mm256_add_epi8, _mm256_add_epi16, _mm256_add_ps, _mm256_and_si256, _mm256_castsi256_si128, _mm256_cmp_ps,
    _mm256_cvtepi32_ps, _mm256_cvtepu16_epi32, _mm256_extracti128_si256, _mm256_load_ps, _mm256_load_si256,
    _mm256_movemask_ps, _mm256_mul_ps, _mm256_set1_epi8, _mm256_set1_ps, _mm256_setzero_ps, _mm256_setzero_si256,
    _mm256_shuffle_epi8, _mm256_slli_epi16, _mm256_srli_epi16, _mm256_storeu_ps, _mm256_sub_epi16, _mm256_sub_ps,
    _mm512_add_epi8, _mm512_add_epi16, _mm512_add_ps, _mm512_and_si512, _mm512_castsi512_si256, _mm512_cmp_ps_mask,
    _mm512_cvtepi32_ps, _mm512_cvtepu16_epi32, _mm512_extracti64x4_epi64, _mm512_load_ps, _mm512_load_si512,
    _mm512_mul_ps, _mm512_set1_epi8, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_shuffle_epi8,
    _mm512_shuffle_i64x2, _mm512_slli_epi16, _mm512_srli_epi16, _mm512_storeu_ps, _mm512_storeu_si512,
    _mm512_sub_epi16, _mm512_sub_ps, _mm512_unpackhi_epi16, _mm512_unpacklo_epi16,
};

use crate::kernel::lookup::{BLOCK_ROWS, RUN, Step};
use crate::kernel::{LookupOutput, PANEL_QUERIES};

/// Repeats a block for each of these constants: what an array is indexed by constants alone stays in registers.
macro_rules! repeated {
    (for $q:ident in [$($number:literal)*] $body:block) => {
        $({
            const $q: usize = $number;
            $body
        })*
    };
}

/// Four queries times 32 rows.
///
/// # Safety
/// The machine has AVX2; the step holds the terms and thresholds of four queries, and four lines of tables for each
/// line of codes.
#[target_feature(enable = "avx2")]
pub(in crate::kernel) unsafe fn lookup_avx2(step: &Step<'_>, out: &mut LookupOutput) -> bool {
    let low = _mm256_set1_epi8(15);
    // For both halves of the rows, the sums as they are and shifted down.
    let mut wide = [[[_mm256_setzero_si256(); 2]; 2]; PANEL_QUERIES];
    let mut tables = step.tables.as_ptr().cast::<__m256i>();
    for run in step.codes.chunks(RUN) {
        let mut sums = [[_mm256_setzero_si256(); 2]; PANEL_QUERIES];
        for line in run {
            let codes = std::ptr::from_ref(line).cast::<__m256i>();
            // SAFETY: a line is 64 aligned bytes.
            let (x, y) = unsafe { (_mm256_load_si256(codes), _mm256_load_si256(codes.add(1))) };
            let first = [_mm256_and_si256(x, low), _mm256_and_si256(y, low)];
            let shifted = [_mm256_srli_epi16::<4>(x), _mm256_srli_epi16::<4>(y)];
            let second = [_mm256_and_si256(shifted[0], low), _mm256_and_si256(shifted[1], low)];
            for (q, sums) in sums.iter_mut().enumerate() {
                // SAFETY: each line of codes comes with four lines of tables, and the pointer goes along.
                let (a, b) =
                    unsafe { (_mm256_load_si256(tables.add(2 * q)), _mm256_load_si256(tables.add(2 * q + 1))) };
                for half in 0..2 {
                    sums[half] = _mm256_add_epi8(sums[half], _mm256_shuffle_epi8(a, first[half]));
                    sums[half] = _mm256_add_epi8(sums[half], _mm256_shuffle_epi8(b, second[half]));
                }
            }
            // SAFETY: at most one past the end.
            tables = unsafe { tables.add(2 * PANEL_QUERIES) };
        }
        // They do not fit into the registers. Held in memory they are aligned, which what the compiler spills is not.
        let wide = std::hint::black_box(&mut wide);
        for (wide, sums) in wide.as_flattened_mut().iter_mut().zip(sums.as_flattened()) {
            wide[0] = _mm256_add_epi16(wide[0], *sums);
            wide[1] = _mm256_add_epi16(wide[1], _mm256_srli_epi16::<8>(*sums));
        }
    }
    let mut any = false;
    for (q, wide) in wide.iter().enumerate() {
        let mut ordered = [_mm256_castsi256_si128(low); 4];
        for (half, [both, odd]) in wide.iter().enumerate() {
            let even = _mm256_sub_epi16(*both, _mm256_slli_epi16::<8>(*odd));
            let even = _mm_add_epi16(_mm256_castsi256_si128(even), _mm256_extracti128_si256::<1>(even));
            let odd = _mm_add_epi16(_mm256_castsi256_si128(*odd), _mm256_extracti128_si256::<1>(*odd));
            ordered[2 * half] = _mm_unpacklo_epi16(even, odd);
            ordered[2 * half + 1] = _mm_unpackhi_epi16(even, odd);
        }
        let terms = step.terms[q];
        let (offset, add, width) =
            (_mm256_set1_ps(terms.offset), _mm256_set1_ps(terms.add), _mm256_set1_ps(terms.width));
        let threshold = _mm256_set1_ps(step.thresholds[q]);
        let mut estimates = [_mm256_setzero_ps(); 4];
        let mut mask = 0;
        for (i, estimate) in estimates.iter_mut().enumerate() {
            let sum = _mm256_sub_ps(_mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(ordered[i])), offset);
            // SAFETY: each column holds 32 numbers, aligned to 64 bytes.
            let [scales, adds, widths] = unsafe {
                [&step.columns.scale, &step.columns.add, &step.columns.width]
                    .map(|column| _mm256_load_ps(column.as_ptr().add(8 * i)))
            };
            *estimate = _mm256_add_ps(_mm256_mul_ps(scales, sum), _mm256_mul_ps(adds, add));
            let most = _mm256_add_ps(*estimate, _mm256_mul_ps(widths, width));
            mask |= (_mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(most, threshold)) as u32) << (8 * i);
        }
        mask &= step.mask;
        if mask != 0 && !any {
            out.masks = [0; PANEL_QUERIES];
        }
        if mask != 0 {
            any = true;
            out.masks[q] = mask;
            let (floats, words) = (&mut out.estimates[q * BLOCK_ROWS..], &mut out.sums[q * BLOCK_ROWS..]);
            for i in 0..4 {
                // SAFETY: 32 of each are left, and eight are stored at a time.
                unsafe {
                    _mm256_storeu_ps(floats[8 * i..].as_mut_ptr(), estimates[i]);
                    _mm_storeu_si128(words[8 * i..].as_mut_ptr().cast(), ordered[i]);
                }
            }
        }
    }
    any
}

/// Four queries times 32 rows.
///
/// # Safety
/// The machine has AVX-512F and AVX-512BW; the step holds the terms and thresholds of four queries, and eight lines of
/// tables for each line of codes.
#[target_feature(enable = "avx512f,avx512bw")]
pub(in crate::kernel) unsafe fn lookup_avx512(step: &Step<'_>, out: &mut LookupOutput) -> bool {
    let low = _mm512_set1_epi8(15);
    let mut wide = [[_mm512_setzero_si512(); 2]; PANEL_QUERIES];
    let mut tables = step.tables.as_ptr().cast::<__m512i>();
    for run in step.codes.chunks(RUN) {
        let mut sums = [_mm512_setzero_si512(); PANEL_QUERIES];
        for line in run {
            // SAFETY: a line is 64 aligned bytes.
            let x = unsafe { _mm512_load_si512(std::ptr::from_ref(line).cast::<__m512i>()) };
            let first = _mm512_and_si512(x, low);
            let second = _mm512_and_si512(_mm512_srli_epi16::<4>(x), low);
            for (q, sum) in sums.iter_mut().enumerate() {
                // SAFETY: each line of codes comes with eight lines of tables, and the pointer goes along.
                let (a, b) =
                    unsafe { (_mm512_load_si512(tables.add(2 * q)), _mm512_load_si512(tables.add(2 * q + 1))) };
                *sum = _mm512_add_epi8(*sum, _mm512_shuffle_epi8(a, first));
                *sum = _mm512_add_epi8(*sum, _mm512_shuffle_epi8(b, second));
            }
            // SAFETY: at most one past the end.
            tables = unsafe { tables.add(2 * PANEL_QUERIES) };
        }
        for (wide, sum) in wide.iter_mut().zip(sums) {
            wide[0] = _mm512_add_epi16(wide[0], sum);
            wide[1] = _mm512_add_epi16(wide[1], _mm512_srli_epi16::<8>(sum));
        }
    }
    let mut any = false;
    repeated!(for Q in [0 1 2 3] {
        let [both, odd] = wide[Q];
        let even = _mm512_sub_epi16(both, _mm512_slli_epi16::<8>(odd));
        // Eight rows a quarter; quarters 0 and 1 hold both bytes of the first 16 rows, 2 and 3 those of the others.
        let (front, back) = (_mm512_unpacklo_epi16(even, odd), _mm512_unpackhi_epi16(even, odd));
        let first = _mm512_shuffle_i64x2::<0b10_00_10_00>(front, back);
        let second = _mm512_shuffle_i64x2::<0b11_01_11_01>(front, back);
        let sum = _mm512_add_epi16(first, second);
        let ordered = _mm512_shuffle_i64x2::<0b11_01_10_00>(sum, sum);
        let terms = step.terms[Q];
        let (offset, add, width) = (_mm512_set1_ps(terms.offset), _mm512_set1_ps(terms.add), _mm512_set1_ps(terms.width));
        let threshold = _mm512_set1_ps(step.thresholds[Q]);
        let halves = [_mm512_castsi512_si256(ordered), _mm512_extracti64x4_epi64::<1>(ordered)];
        let mut estimates = [_mm512_setzero_ps(); 2];
        let mut mask = 0;
        for (i, estimate) in estimates.iter_mut().enumerate() {
            let sum = _mm512_sub_ps(_mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(halves[i])), offset);
            // SAFETY: each column holds 32 numbers, aligned to 64 bytes.
            let [scales, adds, widths] = unsafe {
                [&step.columns.scale, &step.columns.add, &step.columns.width]
                    .map(|column| _mm512_load_ps(column.as_ptr().add(16 * i)))
            };
            *estimate = _mm512_add_ps(_mm512_mul_ps(scales, sum), _mm512_mul_ps(adds, add));
            let most = _mm512_add_ps(*estimate, _mm512_mul_ps(widths, width));
            mask |= u32::from(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(most, threshold)) << (16 * i);
        }
        mask &= step.mask;
        if mask != 0 && !any {
            out.masks = [0; PANEL_QUERIES];
        }
        if mask != 0 {
            any = true;
            out.masks[Q] = mask;
            let (floats, words) = (&mut out.estimates[Q * BLOCK_ROWS..], &mut out.sums[Q * BLOCK_ROWS..]);
            // SAFETY: 32 of each are left.
            unsafe {
                _mm512_storeu_ps(floats.as_mut_ptr(), estimates[0]);
                _mm512_storeu_ps(floats[16..].as_mut_ptr(), estimates[1]);
                _mm512_storeu_si512(words.as_mut_ptr().cast(), ordered);
            }
        }
    });
    any
}
