//! The second look: pairs that a first estimate could not settle, multiplied as they are.
//!
//! In 16 bits where rows are even enough for one scale to suit them all, else in `f32`.

use super::index::NO_ROW;
use crate::aligned::Aligned;
use crate::error::Result;
use crate::kernel::{estimate, fetch, short_length, short_slack, short_sum, short_unit, shorten};
use crate::score::{Scale, Scorer, slack};
use crate::threads::Workers;

/// Rows that are shortened at a time.
const SPAN: usize = 256;

/// The rows of a corpus, place by place.
#[derive(Debug)]
pub(super) struct Seconds {
    /// Whether 16 bits are enough.
    even: bool,
    /// The rows in 16 bits; nothing if memory is short or they are not even enough.
    shorts: Aligned<i16>,
}

/// The anchors of a block.
#[derive(Debug, Default)]
pub(super) struct SecondAnchors {
    short: Aligned<i16>,
    plain: Vec<f32>,
}

/// A row of the corpus that is looked at.
#[derive(Debug, Default)]
pub(super) struct SecondRow {
    short: Vec<i16>,
    plain: Vec<f32>,
}

impl SecondRow {
    pub(super) fn new(dim: usize) -> Self {
        Self { short: vec![0; short_length(dim)], plain: vec![0.0; dim] }
    }
}

impl Seconds {
    /// The rows in these places, kept in 16 bits if `keep`, else shortened when they are looked at.
    pub(super) fn new(scorer: &Scorer<'_>, rows: &[u32], keep: bool, workers: &mut Workers<'_>) -> Result<Self> {
        let even = scorer.corpus_factor() == Scale::Unit || scorer.corpus.is_even();
        if !even || !keep {
            return Ok(Self { even, shorts: Aligned::default() });
        }
        let dim = scorer.corpus.rows().dim();
        let length = short_length(dim);
        let mut shorts = Aligned::zeros(rows.len() * length);
        let tasks: Vec<_> = rows.chunks(SPAN).zip(shorts.chunks_mut(SPAN * length)).collect();
        let start = || vec![0.0; dim];
        workers.run((rows.len() * dim * 4) as u64, tasks, start, |scratch, (rows, shorts), progress| {
            for (&row, out) in rows.iter().zip(shorts.chunks_exact_mut(length)).filter(|(row, _)| **row != NO_ROW) {
                scorer.shorten(row as usize, scratch, out);
            }
            progress.advance(0)
        })?;
        Ok(Self { even, shorts })
    }

    /// Bytes in memory.
    pub(super) fn size(&self) -> usize {
        self.shorts.len() * size_of::<i16>()
    }

    /// Bounds the error of a product.
    pub(super) fn error(&self, dim: usize) -> f64 {
        slack(dim) + if self.even { short_slack(dim) } else { 0.0 }
    }

    /// Asks for a pair to be brought near.
    pub(super) fn fetch(&self, anchors: &SecondAnchors, i: usize, place: usize, dim: usize) {
        let length = short_length(dim);
        fetch(self.shorts.get(place * length..(place + 1) * length).unwrap_or_default());
        fetch(anchors.short.get(i * length..(i + 1) * length).unwrap_or_default());
    }

    /// The product of anchor `i` with the corpus row `row` at `place`, in the units of the tile.
    pub(super) fn product(
        &self,
        scorer: &Scorer<'_>,
        anchors: &SecondAnchors,
        i: usize,
        (place, row): (usize, u32),
        room: &mut SecondRow,
    ) -> f32 {
        let (row, dim) = (row as usize, scorer.corpus.rows().dim());
        let product = if self.even {
            let length = short_length(dim);
            let corpus = self.shorts.get(place * length..(place + 1) * length).unwrap_or_else(|| {
                scorer.shorten(row, &mut room.plain, &mut room.short);
                &room.short
            });
            short_sum(scorer.level, &anchors.short[i * length..(i + 1) * length], corpus) as f32 * short_unit()
        } else {
            scorer.corpus.scaled(row, scorer.corpus_factor(), &mut room.plain);
            estimate(scorer.level, &anchors.plain[i * dim..(i + 1) * dim], &room.plain)
        };
        // Adding 0 turns −0, which buffers cannot hold, into 0.
        product + 0.0
    }

    /// Writes these anchors, of norm 1, into `out`.
    pub(super) fn anchors(&self, scorer: &Scorer<'_>, anchors: &[u32], out: &mut SecondAnchors) {
        let (n, dim) = (anchors.len(), scorer.queries.rows().dim());
        let length = short_length(dim);
        out.short.resize(if self.even { n * length } else { 0 });
        out.plain.resize(if self.even { dim } else { n * dim }, 0.0);
        for (i, &anchor) in anchors.iter().enumerate() {
            let at = if self.even { 0 } else { i };
            let plain = &mut out.plain[at * dim..(at + 1) * dim];
            scorer.queries.scaled(anchor as usize, Scale::Unit, plain);
            if self.even {
                shorten(scorer.level, plain, 1.0, &mut out.short[i * length..(i + 1) * length]);
            }
        }
    }
}
