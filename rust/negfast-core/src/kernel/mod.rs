//! SIMD bodies, and the one place that picks a level.
//!
//! Two kernels do the work of an exact search. The *tile* ([`Tile`]) multiplies a panel of anchors with a panel of corpus rows in
//! `f32`, keeps the products in registers and tells which of them reach their anchor's threshold: it nominates. The
//! *score* ([`dots`]) sums products in `f64` in eight fixed lanes: it decides. Whatever level the tile runs at, the
//! decision is the same bits.
//!
//! Codes of a bit an element have two more. The *lookup* ([`Lookup`]) estimates the products of queries with a block of
//! codes from tables, and tells which reach a threshold; [`hamming()`] counts differing bits. Both are sums of integers,
//! the same at every level.
//!
//! A level is chosen once per call and a kernel is entered once per tile, never once per pair of rows.

mod dot;
mod hamming;
mod int8;
mod lookup;
mod pack;
mod short;
mod tile;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use dot::{BATCH, dot, dots, estimate};
pub use hamming::{Strips, hamming};
pub use int8::{CODE_COLUMNS, CODE_ROWS, CodePanel, CodeRows, CodeTile, NARROW, RUNS, WIDE, reaching};
pub use lookup::{BLOCK_ROWS, Blocks, Lookup, LookupOutput, MAX_BITS, PANEL_QUERIES, Table, Tables};
pub use pack::{Panels, pack, scaled};
pub use short::{fetch, short_length, short_slack, short_sum, short_unit, shorten};
pub use tile::{MAX_COLUMNS, MAX_ROWS, Tile, TileOutput};

use crate::error::{Error, Result};

/// The instruction set that kernels run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Portable code; what the compiler makes of it.
    Scalar,
    /// AVX2 with FMA: 256-bit vectors.
    Avx2,
    /// AVX-512F: 512-bit vectors.
    Avx512,
}

/// The environment variable that lowers the level.
pub const LEVEL_VARIABLE: &str = "NEGFAST_SIMD";

impl Level {
    /// The highest level of this machine.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if avx2 && is_x86_feature_detected!("avx512f") {
                return Self::Avx512;
            }
            if avx2 {
                return Self::Avx2;
            }
        }
        Self::Scalar
    }

    /// All levels that this machine can run, lowest first.
    pub fn available() -> Vec<Self> {
        [Self::Scalar, Self::Avx2, Self::Avx512].into_iter().filter(|&level| level <= Self::detect()).collect()
    }

    /// The level to use: the machine's, lowered by `NEGFAST_SIMD` (`scalar`, `avx2` or `avx512`) if that is set.
    ///
    /// # Errors
    /// If the variable holds anything else.
    pub fn chosen() -> Result<Self> {
        let Some(asked) = std::env::var_os(LEVEL_VARIABLE).filter(|value| !value.is_empty()) else {
            return Ok(Self::detect());
        };
        let all = [Self::Scalar, Self::Avx2, Self::Avx512];
        all.into_iter().find(|level| asked == level.name()).map(|level| level.min(Self::detect())).ok_or_else(|| {
            Error::invalid(
                LEVEL_VARIABLE,
                "\"scalar\", \"avx2\" or \"avx512\"",
                format!("{}", asked.display()),
                "correct or unset the environment variable",
            )
        })
    }

    /// The name that `NEGFAST_SIMD` knows it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }
}
