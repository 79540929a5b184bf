//! The int8 tile: a few anchors times a panel of 32 coded corpus rows, summed in integers.
//!
//! A coded row is a vector of small integers times a scale. The sum over the products of two codes is exact, so what an
//! estimate lacks is known from how the rows were coded. Each corpus row carries a `width`, each anchor a `spread`, whose
//! product bounds that (`codes::int8` says how). The tile tells for which pairs
//!
//! ```text
//! scale * sum + spread * width >= threshold
//! ```
//!
//! in units of the anchor's own scale: those may reach the anchor's threshold, the others cannot.
//!
//! Codes of the corpus are stored as `code + 128` in `u8`: element `4 q + i` of row `c` of a panel is at
//! `(32 q + c) * 4 + i`, so that one 32-bit lane holds four elements of one row. Codes of anchors are plain `i8`, row by
//! row; four of them are one broadcast. The offset of 128 is taken back by the anchor's *bias*.
//!
//! * AVX-512 with VNNI multiplies and adds four elements a lane with one instruction, into 32 bits.
//! * AVX2 has `vpmaddubsw`, which adds two products into 16 bits. Anchors are coded in ±[`NARROW`] there, so that
//!   no pair saturates: 2 · 255 · 64 < 2¹⁵. Sums of pairs wrap around, which does no harm as long as the end of a *run*
//!   of elements fits, whatever passes through in between; then it is widened. The run is as long as the norms of
//!   the codes allow: the sum is at most the product of the norms (Cauchy and Schwarz). Two quads always fit.

use super::Level;

/// Corpus rows in a panel of codes.
pub const CODE_COLUMNS: usize = 32;
/// The most anchors in a tile, over all levels.
pub const CODE_ROWS: usize = 12;
/// Largest code of a corpus row, and of an anchor where 32-bit sums are at hand.
pub const WIDE: i8 = 127;
/// Largest code of an anchor where pairs are summed in 16 bits.
pub const NARROW: i8 = 64;
/// The lengths of runs, in quads, that are summed in 16 bits.
pub const RUNS: [usize; 4] = [16, 8, 4, 2];

/// A panel of coded corpus rows.
#[derive(Debug, Clone, Copy)]
pub struct CodePanel<'a> {
    /// Four elements of each of 32 rows, quad by quad.
    pub codes: &'a [u8],
    /// Multiplies a sum; one for each row.
    pub scales: &'a [f32],
    /// Multiplies an anchor's spread; one for each row, −∞ for padding.
    pub widths: &'a [f32],
    /// What the rows themselves, as anchors, want to be reached: one for each, for [`CodeTile::run_both`].
    pub thresholds: &'a [f32],
}

/// The coded anchors of a tile.
#[derive(Debug, Clone, Copy)]
pub struct CodeRows<'a> {
    /// Elements, anchor by anchor.
    pub codes: &'a [i8],
    /// What takes the offset back: as many numbers an anchor as [`CodeTile::biases`] tells.
    pub biases: &'a [i32],
    /// Multiplies a row's width.
    pub spreads: &'a [f32],
    /// What has to be reached.
    pub thresholds: &'a [f32],
    /// What a row's threshold is multiplied with to be in the units of an anchor, for [`CodeTile::run_both`].
    pub inverses: &'a [f32],
}

/// Which thresholds a tile tests.
pub(super) mod tests_of {
    /// None: it writes estimates.
    pub(crate) const NONE: u8 = 0;
    /// Those of the anchors.
    pub(crate) const ANCHORS: u8 = 1;
    /// Those of the anchors and those of the rows.
    pub(crate) const BOTH: u8 = 2;
}

/// The int8 kernel of one level.
#[derive(Debug, Clone, Copy)]
pub struct CodeTile {
    /// Anchors in a tile.
    pub rows: usize,
    body: Body,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Vnni,
}

impl CodeTile {
    /// The kernel of `level`, or of the highest level below it that this machine has.
    pub fn new(level: Level) -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let level = level.min(Level::detect());
            let vnni = is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512bw");
            if level == Level::Avx512 && vnni {
                return Self { rows: 12, body: Body::Vnni };
            }
            if level >= Level::Avx2 {
                return Self { rows: 6, body: Body::Avx2 };
            }
        }
        let _ = level;
        Self { rows: 4, body: Body::Portable }
    }

    /// The largest code of an anchor.
    pub fn limit(&self) -> i8 {
        if self.narrow() { NARROW } else { WIDE }
    }

    /// Whether sums are kept in 16 bits for a run of quads.
    pub fn narrow(&self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self.body == Body::Avx2;
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// How many numbers take the offset back from an anchor of so many quads.
    pub fn biases(&self, quads: usize, run: usize) -> usize {
        if self.narrow() { quads.div_ceil(run) } else { 1 }
    }

    /// Writes the biases of one anchor's `codes`.
    pub fn bias(&self, codes: &[i8], run: usize, out: &mut [i32]) {
        if !self.narrow() {
            out[0] = -128 * codes.iter().map(|&code| i32::from(code)).sum::<i32>();
            return;
        }
        for (out, run) in out.iter_mut().zip(codes.chunks(4 * run)) {
            // A 32-bit lane holds two 16-bit sums: of the first two elements of its quads, and of the last two.
            let half = |first: usize| -> i32 {
                run.chunks(4).flat_map(|quad| &quad[first..first + 2]).map(|&code| i32::from(code)).sum()
            };
            let wrapped = |sum: i32| u32::from((-128 * sum) as u16);
            *out = (wrapped(half(0)) | wrapped(half(2)) << 16) as i32;
        }
    }

    /// Finds the pairs that may reach their anchor's threshold: bit `c` of `masks[r]` tells it of row `c` and anchor `r`.
    /// Returns whether there are any; only then `masks` is written. `run` is what the biases were made for.
    ///
    /// # Panics
    /// If something is shorter than the tile needs.
    #[inline]
    pub fn run(
        &self,
        anchors: &CodeRows<'_>,
        panel: &CodePanel<'_>,
        quads: usize,
        run: usize,
        masks: &mut [u32; CODE_ROWS],
    ) -> bool {
        self.check(anchors, panel, quads, run);
        self.tile::<{ tests_of::ANCHORS }>(anchors, panel, quads, run, masks, &mut [])
    }

    /// As [`CodeTile::run`], for pairs that may reach the threshold of the anchor or that of the row.
    ///
    /// # Panics
    /// If something is shorter than the tile needs.
    #[inline]
    pub fn run_both(
        &self,
        anchors: &CodeRows<'_>,
        panel: &CodePanel<'_>,
        quads: usize,
        run: usize,
        masks: &mut [u32; CODE_ROWS],
    ) -> bool {
        self.check(anchors, panel, quads, run);
        assert!(anchors.inverses.len() >= self.rows && panel.thresholds.len() >= CODE_COLUMNS);
        self.tile::<{ tests_of::BOTH }>(anchors, panel, quads, run, masks, &mut [])
    }

    /// Writes `scale * sum` of all pairs instead: that of anchor `r` and row `c` at `32 r + c`.
    ///
    /// # Panics
    /// If something is shorter than the tile needs.
    pub fn estimates(
        &self,
        anchors: &CodeRows<'_>,
        panel: &CodePanel<'_>,
        quads: usize,
        run: usize,
        estimates: &mut [f32; CODE_ROWS * CODE_COLUMNS],
    ) {
        self.check(anchors, panel, quads, run);
        self.tile::<{ tests_of::NONE }>(anchors, panel, quads, run, &mut [0; CODE_ROWS], estimates);
    }

    /// What was measured by [`CodeTile::check`]; `estimates` holds a whole tile if nothing is tested.
    #[inline]
    fn tile<const TESTS: u8>(
        &self,
        anchors: &CodeRows<'_>,
        panel: &CodePanel<'_>,
        quads: usize,
        run: usize,
        masks: &mut [u32; CODE_ROWS],
        estimates: &mut [f32],
    ) -> bool {
        match self.body {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `new` looked for the features; callers measured the slices.
            Body::Vnni => unsafe { super::x86::codes_vnni::<TESTS>(anchors, panel, quads, masks, estimates) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Body::Avx2 => unsafe { super::x86::codes_avx2::<TESTS>(anchors, panel, quads, run, masks, estimates) },
            Body::Portable => portable::<TESTS>(anchors, panel, quads, masks, estimates),
        }
    }

    fn check(&self, anchors: &CodeRows<'_>, panel: &CodePanel<'_>, quads: usize, run: usize) {
        let rows = self.rows;
        assert!(anchors.codes.len() >= rows * quads * 4 && anchors.biases.len() >= rows * self.biases(quads, run));
        assert!(anchors.spreads.len() >= rows && anchors.thresholds.len() >= rows && run > 0);
        assert!(panel.codes.len() >= quads * 4 * CODE_COLUMNS);
        assert!(panel.scales.len() >= CODE_COLUMNS && panel.widths.len() >= CODE_COLUMNS);
    }
}

fn portable<const TESTS: u8>(
    anchors: &CodeRows<'_>,
    panel: &CodePanel<'_>,
    quads: usize,
    masks: &mut [u32; CODE_ROWS],
    estimates: &mut [f32],
) -> bool {
    const ROWS: usize = 4;
    let mut any = 0;
    for (r, codes) in anchors.codes.chunks_exact(quads * 4).take(ROWS).enumerate() {
        let mut sums = [anchors.biases[r]; CODE_COLUMNS];
        for (quad, group) in codes.chunks_exact(4).zip(panel.codes.chunks_exact(4 * CODE_COLUMNS)) {
            for (sum, four) in sums.iter_mut().zip(group.chunks_exact(4)) {
                for (&a, &b) in quad.iter().zip(four) {
                    *sum += i32::from(a) * i32::from(b);
                }
            }
        }
        let mut mask = 0;
        for (c, &sum) in sums.iter().enumerate() {
            let estimate = sum as f32 * panel.scales[c];
            if TESTS == tests_of::NONE {
                estimates[r * CODE_COLUMNS + c] = estimate;
                continue;
            }
            let reach = estimate + anchors.spreads[r] * panel.widths[c];
            let theirs = TESTS == tests_of::BOTH && reach >= panel.thresholds[c] * anchors.inverses[r];
            mask |= u32::from(reach >= anchors.thresholds[r] || theirs) << c;
        }
        masks[r] = mask;
        any |= mask;
    }
    any != 0
}

/// Which of 32 estimates reach `threshold` if `spread` times their width is added.
pub fn reaching(level: Level, estimates: &[f32], widths: &[f32], spread: f32, threshold: f32) -> u32 {
    let (estimates, widths) = (&estimates[..CODE_COLUMNS], &widths[..CODE_COLUMNS]);
    match level.min(Level::detect()) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the level was clamped to what the machine has.
        Level::Avx512 => unsafe { super::x86::reaching_avx512(estimates, widths, spread, threshold) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::Avx2 => unsafe { super::x86::reaching_avx2(estimates, widths, spread, threshold) },
        _ => reaching_body(estimates, widths, spread, threshold),
    }
}

#[inline(always)]
pub(super) fn reaching_body(estimates: &[f32], widths: &[f32], spread: f32, threshold: f32) -> u32 {
    let reached = estimates.iter().zip(widths).map(|(e, w)| u32::from(e + spread * w >= threshold));
    reached.enumerate().fold(0, |mask, (c, reached)| mask | reached << c)
}
