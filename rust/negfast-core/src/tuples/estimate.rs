//! Scores of a block of anchors to within a bound, from the tile.

use std::ops::Range;

use crate::kernel::{MAX_ROWS, Panels, Tile, TileOutput, pack};
use crate::score::{Metric, Scale, Scorer, slack};

/// All rows, packed.
pub(super) struct Estimator<'a> {
    scorer: &'a Scorer<'a>,
    tile: Tile,
    rows: Panels,
}

/// Estimates of a block of anchors. One per thread.
#[derive(Default)]
pub(super) struct Table {
    anchors: Panels,
    out: TileOutput,
    values: Vec<f32>,
}

impl<'a> Estimator<'a> {
    pub(super) fn new(scorer: &'a Scorer<'a>) -> Self {
        let (tile, mut rows) = (Tile::new(scorer.level), Panels::default());
        pack(&mut rows, scorer.corpus.rows().dim(), scorer.corpus.len(), tile.columns, |row, out| {
            scorer.corpus.scaled(row, scorer.corpus_factor(), out);
        });
        Self { scorer, tile, rows }
    }

    /// Estimates the scores of all rows for some anchors.
    pub(super) fn fill(&self, anchors: Range<usize>, table: &mut Table) {
        let (scorer, tile) = (self.scorer, self.tile);
        let (n, width, dim) = (anchors.len(), scorer.corpus.len(), scorer.corpus.rows().dim());
        pack(&mut table.anchors, dim, n, tile.rows, |i, out| {
            scorer.queries.scaled(anchors.start + i, Scale::Unit, out);
        });
        table.values.resize(n * width, 0.0);
        for panel in 0..self.rows.count() {
            let first = panel * tile.columns;
            let columns = tile.columns.min(width - first);
            for block in 0..table.anchors.count() {
                let none = [f32::NEG_INFINITY; MAX_ROWS];
                tile.run(table.anchors.panel(block), self.rows.panel(panel), dim, &none, &mut table.out);
                let start = block * tile.rows;
                for i in start..(start + tile.rows).min(n) {
                    let products = &table.out.products[(i - start) * tile.columns..][..columns];
                    table.values[i * width + first..][..columns].copy_from_slice(products);
                }
            }
        }
    }

    /// Writes the estimates of the `i`-th anchor of a table, `anchor`, into `out`.
    pub(super) fn read(&self, table: &Table, i: usize, anchor: usize, out: &mut [f32]) {
        let unit = self.unit(anchor) as f32;
        let products = &table.values[i * out.len()..];
        for (out, &product) in out.iter_mut().zip(products) {
            *out = product * unit + 0.0;
        }
    }

    /// How far an estimate may lie from the score; the last term covers that both, and bounds on them, are rounded.
    pub(super) fn error(&self, anchor: usize) -> f64 {
        let dim = self.scorer.corpus.rows().dim();
        self.unit(anchor) * (slack(dim) + 8.0 * f64::from(f32::EPSILON)) + f64::from(f32::MIN_POSITIVE)
    }

    /// A product times this is a score.
    fn unit(&self, anchor: usize) -> f64 {
        match self.scorer.metric {
            Metric::Cosine => 1.0,
            Metric::Dot => self.scorer.queries.norm(anchor) * self.scorer.corpus_scale(),
        }
    }
}
