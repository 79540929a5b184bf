//! Kernels in AVX2 and AVX-512.

mod dot;
mod hamming;
mod int8;
mod lookup;
mod short;
mod tile;

pub(super) use dot::{dots_avx2, dots_avx512};
pub(super) use hamming::{hamming_avx2, hamming_avx512};
pub(super) use int8::{codes_avx2, codes_vnni, reaching_avx2, reaching_avx512};
pub(super) use lookup::{lookup_avx2, lookup_avx512};
pub(super) use short::{short_sum_avx2, short_sum_vnni};
pub(super) use tile::{tile_avx2, tile_avx512};
