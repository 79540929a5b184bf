//! Codes of the rows of a bank, slot by slot, as the int8 tile reads them.
//!
//! Each row `x` is brought to norm 1 where scores are cosines, and coded by itself: `ŷ = s · code`. As in
//! [`codes::int8`](crate::codes::int8), a pair is off by at most the product of two extents,
//!
//! ```text
//! extent² = norm²/λ² + λ² err²
//! ```
//!
//! for any λ that both rows share. Here it is fixed, so that the code of a row depends on nothing but the row: λ² = 128 is
//! the ratio of norm to error of a row in 127 levels whose largest element is about 3.5 times the usual one.

use crate::aligned::Aligned;
use crate::codes::columns::write_column;
use crate::codes::int8::{longest_run, quantise, raise_run_norms};
use crate::error::{Error, Result};
use crate::kernel::{CODE_COLUMNS, CodePanel, Level, RUNS, WIDE, dot, scaled};
use crate::rows::Rows;
use crate::score::Metric;
use crate::threads::{Workers, cut, split};

/// λ² of the module's documentation.
const BALANCE: f64 = 128.0;
/// Longer rows could leave the range of a sum.
const MAX_DIM: usize = 1 << 16;
/// Panels that a thread codes at a time.
const SPAN: usize = 8;

/// The codes of the rows in a bank's slots.
#[derive(Debug)]
pub struct Shelf {
    metric: Metric,
    dim: usize,
    codes: Aligned<u8>,
    scales: Vec<f32>,
    /// Extents, −∞ where a slot is free.
    widths: Vec<f32>,
    norms: Vec<f64>,
    slots: usize,
    run_norms: [f64; RUNS.len()],
}

/// What codes hold of some panels.
struct Part<'a> {
    first: usize,
    codes: &'a mut [u8],
    scales: &'a mut [f32],
    widths: &'a mut [f32],
    norms: &'a mut [f64],
}

impl Shelf {
    /// A shelf of free slots.
    ///
    /// # Errors
    /// If `dim` is 0 or above 65,536.
    pub fn new(metric: Metric, slots: usize, dim: usize) -> Result<Self> {
        if !(1..=MAX_DIM).contains(&dim) {
            return Err(Error::invalid("dim", format!("from 1 to {MAX_DIM}"), dim.to_string(), "correct it"));
        }
        let places = slots.next_multiple_of(CODE_COLUMNS);
        Ok(Self {
            metric,
            dim,
            codes: Aligned::zeros(places * Self::length(dim)),
            scales: vec![0.0; places],
            widths: vec![f32::NEG_INFINITY; places],
            norms: vec![0.0; places],
            slots,
            run_norms: [0.0; RUNS.len()],
        })
    }

    /// Codes the rows of these slots, which ascend.
    ///
    /// # Errors
    /// If a slot or a row is none of this shelf's, a row is not finite, or the call is cancelled.
    pub fn write(&mut self, rows: &Rows<'_>, slots: &[u32], level: Level, workers: &mut Workers<'_>) -> Result<()> {
        self.check(rows, slots)?;
        let (dim, metric, size) = (self.dim, self.metric, Self::length(self.dim) * CODE_COLUMNS);
        let spans = split(self.scales.len() / CODE_COLUMNS, (self.scales.len() / CODE_COLUMNS).div_ceil(SPAN));
        let places = || spans.iter().map(|span| span.len() * CODE_COLUMNS);
        let codes = cut(&mut self.codes, spans.iter().map(|span| span.len() * size));
        let columns = cut(&mut self.scales, places()).into_iter().zip(cut(&mut self.widths, places()));
        let parts = codes.into_iter().zip(columns).zip(cut(&mut self.norms, places()));
        let mut left = slots;
        let mut tasks = Vec::new();
        for (span, ((codes, (scales, widths)), norms)) in spans.iter().zip(parts) {
            let (now, later) = left.split_at(left.partition_point(|&slot| (slot as usize) < span.end * CODE_COLUMNS));
            left = later;
            if !now.is_empty() {
                tasks.push((now, Part { first: span.start * CODE_COLUMNS, codes, scales, widths, norms }));
            }
        }
        let run_norms = std::sync::Mutex::new(&mut self.run_norms);
        let start = || (vec![0.0; dim], vec![0.0; dim], vec![0i8; Self::length(dim)]);
        workers.run(
            (slots.len() * dim * 8) as u64,
            tasks,
            start,
            |(scratch, values, codes), (slots, mut part), progress| {
                let mut norms = [0.0; RUNS.len()];
                for &slot in slots {
                    let slot = slot as usize;
                    let row = rows.row(slot, scratch);
                    let norm = dot(level, row, row).sqrt();
                    if !norm.is_finite() {
                        return Err(Error::NonFinite { argument: "rows of the bank".into(), row: slot });
                    }
                    match metric {
                        Metric::Dot => values.copy_from_slice(row),
                        Metric::Cosine => scaled(values, rows, slot, factor(metric, norm)),
                    }
                    part.code(slot, norm, values, codes);
                    raise_run_norms(&mut norms, codes);
                }
                let mut all = run_norms.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                all.iter_mut().zip(norms).for_each(|(all, norm)| *all = all.max(norm));
                progress.advance(0)
            },
        )
    }

    fn check(&self, rows: &Rows<'_>, slots: &[u32]) -> Result<()> {
        if rows.rows() != self.slots || rows.dim() != self.dim {
            let (expected, got) = (format!("({}, {})", self.slots, self.dim), (rows.rows(), rows.dim()));
            return Err(Error::invalid("rows", format!("of shape {expected}"), format!("{got:?}"), "pass the bank's"));
        }
        if !slots.is_sorted() || slots.last().is_some_and(|&last| last as usize >= self.slots) {
            return Err(Error::invalid("slots", "slots of the bank, ascending", "others", "sort them"));
        }
        Ok(())
    }

    /// Codes of a row, padded to whole quads.
    fn length(dim: usize) -> usize {
        dim.next_multiple_of(4)
    }

    /// Quads of codes of a row.
    pub(super) fn quads(&self) -> usize {
        Self::length(self.dim) / 4
    }

    /// Panels of slots.
    pub(super) fn panels(&self) -> usize {
        self.scales.len() / CODE_COLUMNS
    }

    /// The codes of a panel; nothing if all of its slots are free.
    pub(super) fn panel(&self, panel: usize) -> Option<CodePanel<'_>> {
        let (size, places) = (self.quads() * 4 * CODE_COLUMNS, panel * CODE_COLUMNS..(panel + 1) * CODE_COLUMNS);
        let widths = &self.widths[places.clone()];
        let held = widths.iter().any(|&width| width >= 0.0);
        let codes = &self.codes[panel * size..(panel + 1) * size];
        held.then(|| CodePanel { codes, scales: &self.scales[places], widths, thresholds: &[] })
    }

    /// What rows are scored by.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// Elements of a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// How many slots there are.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// The norms of the rows, 0 for free slots.
    pub(super) fn norms(&self) -> &[f64] {
        &self.norms[..self.slots]
    }

    /// What the row in a slot is multiplied with.
    pub(super) fn factor(&self, slot: usize) -> f32 {
        factor(self.metric, self.norms[slot]) as f32
    }

    /// Writes the row in a slot as it is coded, and multiplied with anchors.
    pub(super) fn fill(&self, rows: &Rows<'_>, slot: usize, out: &mut [f32]) {
        fill(self.metric, rows, slot, self.norms[slot], out);
    }

    /// The longest run of quads for anchors of these norms.
    pub(super) fn run(&self, anchors: &[f64; RUNS.len()]) -> usize {
        longest_run(&self.run_norms, anchors)
    }
}

impl Part<'_> {
    fn code(&mut self, slot: usize, norm: f64, values: &[f32], codes: &mut [i8]) {
        let place = slot - self.first;
        let (scale, extent) = coded(values, WIDE, codes);
        let size = codes.len() * CODE_COLUMNS;
        write_column(&mut self.codes[place / CODE_COLUMNS * size..][..size], place % CODE_COLUMNS, codes);
        (self.scales[place], self.widths[place], self.norms[place]) = (scale, extent as f32, norm);
    }
}

/// Codes `values` by numbers of at most `limit`; returns their scale and the row's extent, rounded up.
pub(super) fn coded(values: &[f32], limit: i8, codes: &mut [i8]) -> (f32, f64) {
    let (scale, parts) = quantise(values, limit, codes);
    let squares = parts.norm * parts.norm / BALANCE + parts.error * parts.error * BALANCE;
    (scale, squares.sqrt() * (1.0 + 1e-6))
}

fn factor(metric: Metric, norm: f64) -> f64 {
    match metric {
        Metric::Dot => 1.0,
        Metric::Cosine if norm == 0.0 => 0.0,
        Metric::Cosine => 1.0 / norm,
    }
}

fn fill(metric: Metric, rows: &Rows<'_>, slot: usize, norm: f64, out: &mut [f32]) {
    match metric {
        // Scaling takes tiny elements for zeros.
        Metric::Dot => {
            if let Some(row) = rows.plain_row(slot) {
                out.copy_from_slice(row);
            } else {
                rows.row(slot, out);
            }
        }
        Metric::Cosine => scaled(out, rows, slot, factor(metric, norm)),
    }
}
