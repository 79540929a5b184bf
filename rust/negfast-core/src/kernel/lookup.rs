//! The lookup: a panel of queries against a block of sign codes, by tables of four bits, tested before it is stored.
//!
//! A code is a row of signs, one bit each. A query gives every bit a weight and wants `Σ ±weight`, the sign being the
//! bit's. For four bits there are 16 such sums, so they are computed once, rounded to small integers and kept as a
//! table of 16 bytes: a shuffle then looks up the same four bits of many codes at once, and only additions are left
//! (F. André, A.-M. Kermarrec and N. Le Scouarnec, *Cache locality is not enough: high-performance nearest neighbor
//! search with product quantization fast scan*, 2015; J. Gao and C. Long, *RaBitQ*, 2024, for sign codes).
//!
//! Codes lie in blocks of 32 rows, two bytes of every row in a cache line: sixteen rows' first bytes, the same rows'
//! second bytes, then both of the other sixteen rows. One load of two tables, those of four bits of the first byte and
//! of the second, so serves all four quarters. A shuffled pair of quarters goes to one vector of byte sums, whose
//! halves belong to first and to second bytes; they meet only at the end.
//!
//! Byte sums cannot overflow: [`Table::new`] rounds so coarsely that in each run of 128 bits the largest entries of
//! all first bytes add up to 255 at most, and those of all second bytes too; after a run, byte sums are added to
//! 16-bit ones. So a sum is at most 510 a run, and [`MAX_BITS`] keeps 128 of them within 16 bits. The sums are those
//! of integers, hence the same at every level; the test that follows rounds every operation once, in one order, never
//! fused, so masks and estimates are the same as well.

use super::Level;

/// Rows in a block of codes.
pub const BLOCK_ROWS: usize = 32;
/// Queries in a panel, at every level.
///
/// Of the 16 registers of AVX2, 8 byte sums (two a query), four vectors of four bits each, the mask and a table leave two.
pub const PANEL_QUERIES: usize = 4;
/// The most bits of a code.
pub const MAX_BITS: usize = 16_384;

/// Lines of a block, of two bytes of every row each, after which byte sums are widened.
pub(super) const RUN: usize = 8;
/// Bits that a line holds of each row.
const LINE_BITS: usize = 16;
/// What the largest entries of 16 tables may add up to; each was rounded up by a half at most.
const MOST: f64 = 255.0 - 8.0;

/// A cache line.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(super) struct Line(pub(super) [u8; 64]);

/// The tables of one query, and what its estimates are made of.
///
/// For a code with bits `b`, `Σ (2 b_j − 1) weight_j` is about `unit * (sum − offset)`, where `sum` is the integer that
/// the tables give. A row's estimate, in this unit, is `scale * (sum − offset) + add * self.add`, with its own `scale`
/// and `add`; it reaches a threshold if `estimate + width * self.width` does.
#[derive(Debug, Clone)]
pub struct Table {
    entries: Vec<[u8; 16]>,
    offset: f32,
    unit: f64,
    /// What a row's `add` is multiplied by.
    pub add: f32,
    /// What a row's `width` is multiplied by.
    pub width: f32,
}

impl Table {
    /// The tables for a weight per bit; the multipliers of rows' terms are 0.
    ///
    /// # Panics
    /// If the number of weights is no multiple of 64, or above [`MAX_BITS`].
    pub fn new(weights: &[f32]) -> Self {
        assert!(weights.len().is_multiple_of(64) && weights.len() <= MAX_BITS, "whole words");
        let ranges: Vec<f64> =
            weights.chunks_exact(4).map(|four| 2.0 * four.iter().map(|w| f64::from(w.abs())).sum::<f64>()).collect();
        // Four tables a line: the first byte's, then the second's.
        let mut largest = 0.0f64;
        for run in ranges.chunks(4 * RUN) {
            for byte in [0, 2] {
                let sum = run.chunks_exact(4).map(|line| line[byte] + line[byte + 1]).sum();
                largest = largest.max(sum);
            }
        }
        // Weights this small mean nothing, and their unit could not be divided by.
        let unit = if largest > 1e-30 { largest / MOST } else { 1.0 };
        let entry = |four: &[f32], bits: usize| {
            let chosen = four.iter().enumerate().map(|(j, &w)| {
                // Relative to the smallest of the 16 sums, in which the bit of a negative weight is set.
                let set = bits >> j & 1 == 1;
                if set == (w > 0.0) { 2.0 * f64::from(w.abs()) } else { 0.0 }
            });
            (chosen.sum::<f64>() / unit).round() as u8
        };
        let entries = weights.chunks_exact(4).map(|four| std::array::from_fn(|bits| entry(four, bits))).collect();
        let offset = (ranges.iter().sum::<f64>() / (2.0 * unit)) as f32;
        Self { entries, offset, unit, add: 0.0, width: 0.0 }
    }

    /// The 16 entries for each four bits, the lowest bits of the first word first.
    pub fn entries(&self) -> &[[u8; 16]] {
        &self.entries
    }

    /// The sum that stands for 0.
    pub fn offset(&self) -> f32 {
        self.offset
    }

    /// What one step of a sum is worth.
    pub fn unit(&self) -> f64 {
        self.unit
    }
}

/// Per-query numbers of a panel.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Terms {
    pub(super) offset: f32,
    pub(super) add: f32,
    pub(super) width: f32,
}

/// Tables of many queries in panels, as the kernel reads them.
#[derive(Debug, Default)]
pub struct Tables {
    lines: Vec<Line>,
    terms: Vec<Terms>,
    stride: usize,
}

impl Tables {
    /// Packs `tables`, all of one number of bits, into panels for `lookup`; missing queries of the last panel sum to 0.
    ///
    /// # Panics
    /// If their numbers of bits differ.
    pub fn pack(&mut self, tables: &[Table], lookup: &Lookup) {
        let lines = tables.first().map_or(0, |table| table.entries.len() / 4);
        let panels = tables.len().div_ceil(PANEL_QUERIES);
        let copies = lookup.copies();
        self.stride = lines * PANEL_QUERIES * copies;
        self.lines.clear();
        self.lines.resize(panels * self.stride, Line([0; 64]));
        self.terms.clear();
        self.terms.resize(panels * PANEL_QUERIES, Terms::default());
        for (q, table) in tables.iter().enumerate() {
            assert_eq!(table.entries.len(), 4 * lines, "tables of one number of bits");
            self.terms[q] = Terms { offset: table.offset, add: table.add, width: table.width };
            let panel = &mut self.lines[q / PANEL_QUERIES * self.stride..][..self.stride];
            let ours = panel.chunks_exact_mut(copies).skip(q % PANEL_QUERIES).step_by(PANEL_QUERIES);
            for (lines, four) in ours.zip(table.entries.chunks_exact(4)) {
                // The low four bits of both bytes, then the high ones.
                let order: &[usize] = if copies == 1 { &[0, 2, 1, 3] } else { &[0, 2, 0, 2, 1, 3, 1, 3] };
                let places = lines.iter_mut().flat_map(|line| line.0.chunks_exact_mut(16));
                for (place, &group) in places.zip(order) {
                    place.copy_from_slice(&four[group]);
                }
            }
        }
    }

    /// Number of panels.
    pub fn count(&self) -> usize {
        self.terms.len() / PANEL_QUERIES
    }

    fn panel(&self, p: usize) -> (&[Line], &[Terms]) {
        (&self.lines[p * self.stride..][..self.stride], &self.terms[p * PANEL_QUERIES..][..PANEL_QUERIES])
    }
}

/// Per-row terms of a block.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(super) struct Columns {
    pub(super) scale: [f32; BLOCK_ROWS],
    pub(super) add: [f32; BLOCK_ROWS],
    pub(super) width: [f32; BLOCK_ROWS],
}

const NO_COLUMNS: Columns = Columns { scale: [0.0; BLOCK_ROWS], add: [0.0; BLOCK_ROWS], width: [0.0; BLOCK_ROWS] };

/// Codes in blocks of 32 rows, as the kernel reads them, with each row's terms.
#[derive(Debug, Default)]
pub struct Blocks {
    lines: Vec<Line>,
    columns: Vec<Columns>,
    stride: usize,
    rows: usize,
}

impl Blocks {
    /// Packs codes of `words` words each, row by row; `terms` gives a row's `[scale, add, width]`.
    ///
    /// # Panics
    /// If `codes` are no whole rows.
    pub fn pack(&mut self, codes: &[u64], words: usize, terms: impl Fn(usize) -> [f32; 3]) {
        assert!(words > 0 && codes.len().is_multiple_of(words), "whole rows");
        self.rows = codes.len() / words;
        self.stride = words * (64 / LINE_BITS);
        let count = self.rows.div_ceil(BLOCK_ROWS);
        self.lines.resize(count * self.stride, Line([0; 64]));
        self.columns.clear();
        self.columns.resize(count, NO_COLUMNS);
        for (b, block) in codes.chunks(words * BLOCK_ROWS).enumerate() {
            let real = block.len() / words;
            for (w, lines) in self.lines[b * self.stride..][..self.stride].chunks_exact_mut(64 / LINE_BITS).enumerate()
            {
                let mut column = [0u64; BLOCK_ROWS];
                for (word, code) in column.iter_mut().zip(block.chunks_exact(words)) {
                    *word = code[w];
                }
                for (p, Line(line)) in lines.iter_mut().enumerate() {
                    for (place, sixteen) in line.chunks_exact_mut(32).zip(column.chunks_exact(16)) {
                        let (first, second) = place.split_at_mut(16);
                        for ((first, second), word) in first.iter_mut().zip(second).zip(sixteen) {
                            [*first, *second] = ((word >> (LINE_BITS * p)) as u16).to_le_bytes();
                        }
                    }
                }
            }
            let columns = &mut self.columns[b];
            for r in 0..real {
                [columns.scale[r], columns.add[r], columns.width[r]] = terms(b * BLOCK_ROWS + r);
            }
        }
    }

    /// Number of blocks.
    pub fn count(&self) -> usize {
        self.columns.len()
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    fn block(&self, b: usize) -> (&[Line], &Columns, u32) {
        let real = (self.rows - b * BLOCK_ROWS).min(BLOCK_ROWS);
        let mask = u32::MAX >> (BLOCK_ROWS - real);
        (&self.lines[b * self.stride..][..self.stride], &self.columns[b], mask)
    }
}

/// What a lookup leaves behind when some row reached its query's threshold.
#[derive(Debug, Clone)]
#[repr(align(64))]
pub struct LookupOutput {
    /// Estimate of query `q` and row `r` at `q * 32 + r`, in the query's unit.
    pub estimates: [f32; PANEL_QUERIES * BLOCK_ROWS],
    /// The sum that it was made of.
    pub sums: [u16; PANEL_QUERIES * BLOCK_ROWS],
    /// Bit `r` of `masks[q]` is set if that row reaches the threshold of query `q`.
    pub masks: [u32; PANEL_QUERIES],
}

impl Default for LookupOutput {
    fn default() -> Self {
        Self {
            estimates: [0.0; PANEL_QUERIES * BLOCK_ROWS],
            sums: [0; PANEL_QUERIES * BLOCK_ROWS],
            masks: [0; PANEL_QUERIES],
        }
    }
}

/// One panel against one block, as the bodies take them.
pub(super) struct Step<'a> {
    pub(super) tables: &'a [Line],
    pub(super) terms: &'a [Terms],
    pub(super) codes: &'a [Line],
    pub(super) columns: &'a Columns,
    pub(super) mask: u32,
    pub(super) thresholds: &'a [f32],
}

/// The lookup kernel of one level.
#[derive(Debug, Clone, Copy)]
pub struct Lookup {
    level: Level,
}

impl Lookup {
    /// The kernel of `level`, or of the highest level below it that this machine has.
    pub fn new(level: Level) -> Self {
        let level = match level.min(Level::detect()) {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 if !is_x86_feature_detected!("avx512bw") => Level::Avx2,
            level => level,
        };
        Self { level }
    }

    /// How often tables are stored: where a vector holds all of a line, both of its halves need them.
    fn copies(self) -> usize {
        if self.level == Level::Avx512 { 2 } else { 1 }
    }

    /// Looks block `b` of `blocks` up for panel `p` of `tables`; returns whether a row reaches its query's `threshold`.
    ///
    /// Only if it returns `true` are the masks of `out` written, and only where a mask is not 0 the estimates and sums
    /// of its query. Rows that the last block lacks reach nothing.
    ///
    /// # Panics
    /// If there is no such panel or block, `thresholds` is shorter than a panel, the tables were packed for another
    /// level, or codes and tables differ in their bits.
    #[inline]
    pub fn run(
        &self,
        tables: &Tables,
        p: usize,
        blocks: &Blocks,
        b: usize,
        thresholds: &[f32],
        out: &mut LookupOutput,
    ) -> bool {
        let (lines, terms) = tables.panel(p);
        let (codes, columns, mask) = blocks.block(b);
        let needed = codes.len() * PANEL_QUERIES * self.copies();
        assert!(lines.len() == needed && thresholds.len() >= PANEL_QUERIES, "a panel against a block");
        let step = Step { tables: lines, terms, codes, columns, mask, thresholds };
        match self.level {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `new` saw AVX-512F and BW; the panel, its terms and its thresholds were measured above.
            Level::Avx512 => unsafe { super::x86::lookup_avx512(&step, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `new` clamped the level to what the machine has; measured as above.
            Level::Avx2 => unsafe { super::x86::lookup_avx2(&step, out) },
            _ => portable(&step, out),
        }
    }
}

fn portable(step: &Step<'_>, out: &mut LookupOutput) -> bool {
    let mut sums = [[0u16; BLOCK_ROWS]; PANEL_QUERIES];
    for (tables, Line(codes)) in step.tables.chunks_exact(PANEL_QUERIES).zip(step.codes) {
        for (sums, Line(table)) in sums.iter_mut().zip(tables) {
            for (half, sums) in sums.chunks_exact_mut(16).enumerate() {
                for (r, sum) in sums.iter_mut().enumerate() {
                    let (first, second) = (codes[32 * half + r], codes[32 * half + 16 + r]);
                    let low =
                        u16::from(table[usize::from(first & 15)]) + u16::from(table[16 + usize::from(second & 15)]);
                    let high = u16::from(table[32 + usize::from(first >> 4)])
                        + u16::from(table[48 + usize::from(second >> 4)]);
                    *sum += low + high;
                }
            }
        }
    }
    let mut masks = [0u32; PANEL_QUERIES];
    let mut estimates = [[0.0f32; BLOCK_ROWS]; PANEL_QUERIES];
    for q in 0..PANEL_QUERIES {
        let (terms, columns) = (step.terms[q], step.columns);
        for r in 0..BLOCK_ROWS {
            let product = columns.scale[r] * (f32::from(sums[q][r]) - terms.offset);
            let estimate = product + columns.add[r] * terms.add;
            let reached = estimate + columns.width[r] * terms.width >= step.thresholds[q];
            estimates[q][r] = estimate;
            masks[q] |= u32::from(reached) << r;
        }
        masks[q] &= step.mask;
    }
    if masks == [0; PANEL_QUERIES] {
        return false;
    }
    out.masks = masks;
    for q in (0..PANEL_QUERIES).filter(|&q| masks[q] != 0) {
        out.estimates[q * BLOCK_ROWS..][..BLOCK_ROWS].copy_from_slice(&estimates[q]);
        out.sums[q * BLOCK_ROWS..][..BLOCK_ROWS].copy_from_slice(&sums[q]);
    }
    true
}
