//! The rows of a bank that score most for an anchor, without those that it refuses.
//!
//! # How it runs
//!
//! Each thread takes some anchors, codes them, and passes over the codes of the bank panel by panel. The int8 tile tells
//! which pairs may reach their anchor's threshold, the `k`-th best so far. Those are multiplied in `f32`, once the panel is
//! through with all anchors, so that its rows are read once; what reaches the threshold even so, is not refused and is not
//! above the anchor's cap goes into the anchor's buffer. In the end what is left is scored in `f64`.
//!
//! Multiplying takes most of the time, because rows lie far away, so thresholds have to be high early. Of every
//! [`STRIDE`]-th panel all estimates are written down before, the rows with the best of them are looked at, and then those
//! of the rest that may reach the threshold which these have set.
//!
//! Where all rows point in nearly one direction, as those of an untrained model may, codes tell little. A panel that
//! follows one of which many pairs had to be multiplied is multiplied whole, in tiles of `f32`.
//!
//! # Why the result is exact
//!
//! Anchors are brought to norm 1; σ is the largest norm of a row. With ε = σ · [`slack`], the product in `f32` is within ε
//! of the score in these units, and the codes within the product of the extents, and rounding, of it. Let e be the `k`-th
//! best product so far. At least `k` rows have a score of e − ε or more, so a row whose product is below e − 2ε, or whose
//! codes prove that it would be, scores strictly less. All others are kept, scored by the one function of the crate, and
//! ordered by score, then by the number of their last write, which no two rows share. Where so many rows tie that they do
//! not fit the buffer, it is scored and ordered early, and so is each row that ties with the last one from there on.
//! A cap is tested with the same ε, and within ε of it by the score.

use std::cmp::Ordering;
use std::ops::Range;

use super::excluded::Excluded;
use super::shelf::{Shelf, coded};
use crate::aligned::Aligned;
use crate::codes::int8::raise_run_norms;
use crate::error::{Error, Result};
use crate::kernel::{
    CODE_COLUMNS, CODE_ROWS, CodePanel, CodeRows, CodeTile, Level, MAX_ROWS, Panels, RUNS, Tile, TileOutput, estimate,
    pack, reaching,
};
use crate::rows::Rows;
use crate::score::{Matrix, Metric, Scale, Scorer, Scratch, slack};
use crate::threads::{Progress, Workers, cut};
use crate::topk::{Buffers, Candidate, table};

/// Anchors of a block: their codes stay near while panels pass by.
const MOST_ANCHORS: usize = 264;
/// Panels between two reports of progress.
const TURN: usize = 16;
/// One panel of so many is looked at first.
const STRIDE: usize = 8;
/// Banks of fewer panels, or of fewer rows for each that is wanted, are not worth a first look.
const ENOUGH_PANELS: usize = 64;
const ENOUGH_ROWS: usize = 4 * STRIDE;
/// Of so many estimates one tells well enough how many reach a mark.
const SAMPLED: usize = 4;
/// Rows that are looked at first, beyond those that are wanted.
const SPARE: usize = 24;
/// Pairs after which a pair that is looked at now has been asked for.
const AHEAD: usize = 6;
/// Where more than one of so many pairs of a panel had to be multiplied, the next panel is multiplied whole.
const DENSE: usize = 8;
/// One panel of so many is tried by its codes whatever came before.
const TRIED: usize = 16;

/// What is looked for in a bank.
#[derive(Debug)]
pub struct Asked<'a> {
    /// The rows, slot by slot.
    pub rows: Rows<'a>,
    /// Their codes.
    pub shelf: &'a Shelf,
    /// The number of each row's last write: of rows that score the same, the one written first comes first.
    pub numbers: &'a [i64],
    /// The anchors.
    pub anchors: &'a Matrix<'a>,
    /// How many rows for each.
    pub k: usize,
    /// What they refuse.
    pub excluded: &'a [Excluded<'a>],
    /// Scores that their rows must not exceed.
    pub max_scores: Option<&'a [f64]>,
    /// The level to run at.
    pub level: Level,
}

/// Slots and scores, `k` an anchor, best first, padded with −1 and −∞.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Where the rows are.
    pub slots: Vec<i64>,
    /// What they score.
    pub scores: Vec<f32>,
}

/// Finds the hardest rows of a bank for each anchor.
///
/// # Errors
/// If sizes do not fit, products could leave the range of `f32`, there is no memory for the result, or the call is
/// cancelled.
pub fn hardest(asked: &Asked<'_>, workers: &mut Workers<'_>) -> Result<Found> {
    check(asked)?;
    let (n, k) = (asked.anchors.len(), asked.k);
    let mut slots = table("k", n, k, -1i64)?;
    let mut scores = table("k", n, k, f32::NEG_INFINITY)?;
    let norms = asked.shelf.norms().to_vec();
    let corpus = Matrix::measured(asked.rows, norms);
    let scorer = Scorer::new(asked.anchors, &corpus, asked.shelf.metric(), asked.level)?;
    let pass = Pass::new(asked, &scorer);
    let blocks = blocks(n, pass.tile.rows, workers.threads());
    let lengths = || blocks.iter().map(|block| block.len() * k);
    let outputs = cut(&mut slots, lengths()).into_iter().zip(cut(&mut scores, lengths()));
    let tasks: Vec<_> = blocks.iter().cloned().zip(outputs).collect();
    let dim = asked.shelf.dim();
    // A multiply-add of codes is a quarter of one in `f32`.
    let operations = (n * asked.shelf.slots() * dim / 4) as u64;
    workers.progress().expect((n * asked.shelf.panels()) as u64);
    workers.run(
        operations,
        tasks,
        || Scratch::new(dim),
        |scratch, (anchors, (slots, scores)), progress| {
            let mut block = Block::new(&pass, anchors);
            block.first(scratch, progress)?;
            block.scan(scratch, progress)?;
            block.finish(slots, scores, scratch);
            progress.advance(0)
        },
    )?;
    Ok(Found { slots, scores })
}

fn check(asked: &Asked<'_>) -> Result<()> {
    let (slots, dim, n) = (asked.shelf.slots(), asked.shelf.dim(), asked.anchors.len());
    let right = |argument: &str, expected: usize, got: usize| {
        let wrong = || Error::invalid(argument, expected.to_string(), got.to_string(), "pass as many");
        if expected == got { Ok(()) } else { Err(wrong()) }
    };
    right("rows of the bank", slots, asked.rows.rows())?;
    right("dim of the bank", dim, asked.rows.dim())?;
    right("dim of the anchors", dim, asked.anchors.rows().dim())?;
    right("numbers", slots, asked.numbers.len())?;
    right("max_score", n, asked.max_scores.map_or(n, <[f64]>::len))?;
    for excluded in asked.excluded {
        right("labels", slots, excluded.len())?;
    }
    let largest = asked.anchors.largest_norm() * asked.shelf.norms().iter().copied().fold(0.0, f64::max);
    if asked.shelf.metric() == Metric::Dot && largest > f64::from(f32::MAX) {
        let got = format!("a product of norms of {largest:.3e}");
        return Err(Error::invalid("anchors", "small enough for dot products in float32", got, "scale them down"));
    }
    Ok(())
}

/// Cuts anchors into blocks of whole tiles, enough of them to keep the threads busy.
fn blocks(n: usize, rows: usize, threads: usize) -> Vec<Range<usize>> {
    let even = n.div_ceil(threads).next_multiple_of(rows).max(rows);
    let size = even.min(MOST_ANCHORS / rows * rows);
    (0..n).step_by(size).map(|start| start..(start + size).min(n)).collect()
}

/// What all blocks share.
struct Pass<'a> {
    asked: &'a Asked<'a>,
    scorer: &'a Scorer<'a>,
    tile: CodeTile,
    depth: usize,
    /// Bounds the error of a product in `f32`.
    error: f64,
    /// What rounding adds to that of codes.
    rounding: f64,
    /// Which panels are looked at first; 0 for none.
    stride: usize,
}

impl<'a> Pass<'a> {
    fn new(asked: &'a Asked<'a>, scorer: &'a Scorer<'a>) -> Self {
        let (dim, norms) = (asked.shelf.dim(), asked.shelf.norms());
        let sigma = match asked.shelf.metric() {
            Metric::Cosine => 1.0,
            Metric::Dot => norms.iter().copied().fold(0.0, f64::max),
        };
        // Products of tiny elements lose all of their digits.
        let tiny = dim as f64 * f64::from(f32::MIN_POSITIVE);
        let depth = asked.k.min(asked.shelf.slots());
        let worth = asked.shelf.panels() >= ENOUGH_PANELS && asked.shelf.slots() >= depth * ENOUGH_ROWS;
        Self {
            asked,
            scorer,
            tile: CodeTile::new(asked.level),
            depth,
            stride: if worth { STRIDE } else { 0 },
            error: slack(dim) * sigma + tiny,
            // The test converts a sum, which can take 32 bits, and rounds three times; operands were rounded before.
            rounding: (16.0 / f64::from(1u32 << 24) + slack(1)) * sigma + tiny,
        }
    }

    /// An estimate times this is a score.
    fn unit(&self, anchor: usize) -> f64 {
        match self.asked.shelf.metric() {
            Metric::Cosine => 1.0,
            Metric::Dot => Some(self.asked.anchors.norm(anchor)).filter(|&norm| norm > 0.0).unwrap_or(1.0),
        }
    }

    /// Score first, then the row that was written first.
    fn order(&self, a: Candidate, b: Candidate) -> Ordering {
        let number = |c: Candidate| self.asked.numbers[c.row as usize];
        b.score.total_cmp(&a.score).then_with(|| number(a).cmp(&number(b)))
    }
}

/// Some anchors on their way through the bank.
struct Block<'a> {
    pass: &'a Pass<'a>,
    anchors: Range<usize>,
    /// The anchors at norm 1.
    values: Aligned<f32>,
    codes: Vec<i8>,
    biases: Vec<i32>,
    spreads: Vec<f32>,
    inverses: Vec<f32>,
    run: usize,
    per_anchor: usize,
    /// Lowest product that is kept.
    keep: Vec<f32>,
    /// The same in units of an anchor's codes, less what these may be off.
    thresholds: Vec<f32>,
    errors: Vec<f64>,
    kept: Buffers,
    /// The last of an anchor's best rows, where rows tied.
    last: Vec<Option<Candidate>>,
    hits: Vec<(u32, u32)>,
    widened: Vec<f32>,
    whole: Whole,
}

/// What panels that are multiplied whole need.
#[derive(Default)]
struct Whole {
    anchors: Panels,
    rows: Panels,
    out: TileOutput,
    found: Vec<(usize, Candidate)>,
}

impl<'a> Block<'a> {
    fn new(pass: &'a Pass<'a>, anchors: Range<usize>) -> Self {
        let (shelf, tile, n) = (pass.asked.shelf, pass.tile, anchors.len());
        let (dim, length, padded) = (shelf.dim(), shelf.quads() * 4, n.next_multiple_of(tile.rows));
        let mut block = Self {
            pass,
            values: Aligned::zeros(n * dim),
            codes: vec![0; padded * length],
            biases: Vec::new(),
            spreads: vec![0.0; padded],
            inverses: vec![1.0; padded],
            run: 1,
            per_anchor: 1,
            // Whole tiles are read.
            keep: [vec![f32::NEG_INFINITY; n], vec![f32::INFINITY; MAX_ROWS]].concat(),
            thresholds: vec![f32::INFINITY; padded],
            errors: Vec::new(),
            kept: Buffers::new(n, pass.depth),
            last: vec![None; n],
            hits: Vec::new(),
            widened: vec![0.0; dim],
            whole: Whole::default(),
            anchors,
        };
        let mut norms = [0.0; RUNS.len()];
        for i in 0..n {
            let values = &mut block.values[i * dim..(i + 1) * dim];
            pass.asked.anchors.scaled(block.anchors.start + i, Scale::Unit, values);
            let codes = &mut block.codes[i * length..(i + 1) * length];
            let (scale, extent) = coded(values, tile.limit(), codes);
            raise_run_norms(&mut norms, codes);
            block.inverses[i] = 1.0 / scale;
            // Rounds up: a bound has to stay one.
            block.spreads[i] = (extent / f64::from(scale) * (1.0 + 1e-6)) as f32;
            // Scores are rounded to f32; next to zero that error is absolute.
            block.errors.push(pass.error + f64::from(f32::from_bits(1)) / pass.unit(block.anchors.start + i));
        }
        block.run = shelf.run(&norms);
        block.per_anchor = tile.biases(shelf.quads(), block.run);
        block.biases.resize(padded * block.per_anchor, 0);
        for (codes, biases) in block.codes.chunks_exact(length).zip(block.biases.chunks_exact_mut(block.per_anchor)) {
            tile.bias(codes, block.run, biases);
        }
        (0..n).for_each(|i| block.raise(i, f64::NEG_INFINITY));
        block
    }

    /// Looks at the best rows of some panels.
    fn first(&mut self, scratch: &mut Scratch, progress: &Progress) -> Result<()> {
        let (pass, tile, n) = (self.pass, self.pass.tile, self.anchors.len());
        if pass.stride == 0 {
            return Ok(());
        }
        let panels: Vec<_> = (0..pass.asked.shelf.panels()).step_by(pass.stride).collect();
        let width = panels.len() * CODE_COLUMNS;
        let mut estimates = vec![f32::NEG_INFINITY; tile.rows * width];
        let mut products = [0.0; CODE_ROWS * CODE_COLUMNS];
        for start in (0..n).step_by(tile.rows) {
            progress.advance(0)?;
            for (at, &p) in panels.iter().enumerate() {
                let Some(panel) = pass.asked.shelf.panel(p) else { continue };
                tile.estimates(&self.rows(start), &panel, pass.asked.shelf.quads(), self.run, &mut products);
                for (line, products) in estimates.chunks_exact_mut(width).zip(products.chunks_exact(CODE_COLUMNS)) {
                    line[at * CODE_COLUMNS..][..CODE_COLUMNS].copy_from_slice(products);
                }
            }
            for (i, line) in (start..n).zip(estimates.chunks_exact_mut(width)) {
                self.reaching(i, &panels, line, (0.0, mark(line, pass.depth)));
                self.look(scratch);
                self.tighten(i);
                self.reaching(i, &panels, line, (self.spreads[i], self.thresholds[i]));
                self.look(scratch);
            }
        }
        Ok(())
    }

    /// Notes the rows whose estimates may reach a threshold, and takes them off the list.
    fn reaching(&mut self, i: usize, panels: &[usize], estimates: &mut [f32], (spread, threshold): (f32, f32)) {
        let asked = self.pass.asked;
        for (&p, estimates) in panels.iter().zip(estimates.chunks_exact_mut(CODE_COLUMNS)) {
            let Some(panel) = asked.shelf.panel(p) else { continue };
            let mut mask = reaching(asked.level, estimates, panel.widths, spread, threshold);
            while mask != 0 {
                let c = mask.trailing_zeros();
                mask &= mask - 1;
                estimates[c as usize] = f32::NEG_INFINITY;
                self.hits.push((i as u32, (p * CODE_COLUMNS) as u32 + c));
            }
        }
    }

    /// Passes over all panels but those that were looked at first.
    fn scan(&mut self, scratch: &mut Scratch, progress: &Progress) -> Result<()> {
        let (shelf, n, stride) = (self.pass.asked.shelf, self.anchors.len(), self.pass.stride);
        let mut dense = false;
        for p in 0..shelf.panels() {
            if p % TURN == 0 {
                progress.advance((n * TURN.min(shelf.panels() - p)) as u64)?;
            }
            if stride > 0 && p % stride == 0 {
                continue;
            }
            let Some(panel) = shelf.panel(p) else { continue };
            if dense && p % TRIED != 1 {
                self.multiply(p, &panel, scratch);
            } else {
                self.nominate(p, &panel);
                dense = self.hits.len() * DENSE > n * CODE_COLUMNS;
                self.look(scratch);
            }
        }
        Ok(())
    }

    /// Notes the pairs of a panel whose codes may reach a threshold.
    fn nominate(&mut self, p: usize, panel: &CodePanel<'_>) {
        let (quads, tile, n) = (self.pass.asked.shelf.quads(), self.pass.tile, self.anchors.len());
        let mut masks = [0; CODE_ROWS];
        for start in (0..n).step_by(tile.rows) {
            if !tile.run(&self.rows(start), panel, quads, self.run, &mut masks) {
                continue;
            }
            for (i, &mask) in (start..n).zip(&masks[..tile.rows]) {
                let mut mask = mask;
                while mask != 0 {
                    self.hits.push((i as u32, (p * CODE_COLUMNS) as u32 + mask.trailing_zeros()));
                    mask &= mask - 1;
                }
            }
        }
    }

    /// Multiplies all pairs of a panel in tiles of `f32`.
    fn multiply(&mut self, p: usize, panel: &CodePanel<'_>, scratch: &mut Scratch) {
        let (asked, n, tile) = (self.pass.asked, self.anchors.len(), Tile::new(self.pass.asked.level));
        let (dim, first) = (asked.shelf.dim(), p * CODE_COLUMNS);
        let mut whole = std::mem::take(&mut self.whole);
        if whole.anchors.count() == 0 {
            let values = &self.values;
            pack(&mut whole.anchors, dim, n, tile.rows, |i, row| {
                row.copy_from_slice(&values[i * dim..(i + 1) * dim]);
            });
        }
        let held = |c: usize| panel.widths[c] >= 0.0;
        pack(&mut whole.rows, dim, CODE_COLUMNS, tile.columns, |c, row| {
            if held(c) { asked.shelf.fill(&asked.rows, first + c, row) } else { row.fill(0.0) }
        });
        for b in 0..whole.rows.count() {
            for a in 0..whole.anchors.count() {
                let start = a * tile.rows;
                let (anchors, rows) = (whole.anchors.panel(a), whole.rows.panel(b));
                if !tile.run(anchors, rows, dim, &self.keep[start..], &mut whole.out) {
                    continue;
                }
                for r in 0..tile.rows.min(n - start) {
                    let mut mask = whole.out.masks[r];
                    while mask != 0 {
                        let c = mask.trailing_zeros() as usize;
                        mask &= mask - 1;
                        // Adding 0 turns −0, which buffers cannot hold, into 0.
                        let score = whole.out.products[r * tile.columns + c] + 0.0;
                        let c = b * tile.columns + c;
                        if held(c) {
                            whole.found.push((start + r, Candidate { score, row: (first + c) as u32 }));
                        }
                    }
                }
            }
        }
        for (i, found) in whole.found.drain(..) {
            self.meet(i, found, scratch);
        }
        self.whole = whole;
    }

    /// The anchors of the tile that starts at `start`.
    fn rows(&self, start: usize) -> CodeRows<'_> {
        CodeRows {
            codes: &self.codes[start * self.pass.asked.shelf.quads() * 4..],
            biases: &self.biases[start * self.per_anchor..],
            spreads: &self.spreads[start..],
            thresholds: &self.thresholds[start..],
            inverses: &self.inverses[start..],
        }
    }

    /// Multiplies the pairs found as they are, and keeps what reaches the threshold even so.
    fn look(&mut self, scratch: &mut Scratch) {
        let mut hits = std::mem::take(&mut self.hits);
        let (asked, dim) = (self.pass.asked, self.pass.asked.shelf.dim());
        for h in 0..hits.len() {
            if let Some(&(_, later)) = hits.get(h + AHEAD) {
                asked.rows.fetch(later as usize);
            }
            let (i, place, slot) = (hits[h].0 as usize, hits[h].1 as usize, hits[h].1);
            let row = asked.rows.row(place, &mut self.widened);
            let product = estimate(asked.level, &self.values[i * dim..(i + 1) * dim], row);
            // Adding 0 turns −0, which buffers cannot hold, into 0.
            self.meet(i, Candidate { score: product * asked.shelf.factor(place) + 0.0, row: slot }, scratch);
        }
        hits.clear();
        self.hits = hits;
    }

    /// Keeps a row that reaches the threshold of an anchor.
    #[inline]
    fn meet(&mut self, i: usize, found: Candidate, scratch: &mut Scratch) {
        let takes = found.score >= self.keep[i] && self.allows(i, found, scratch) && self.precedes(i, found, scratch);
        if takes && self.kept.push(i, found) {
            self.compact(i, scratch);
        }
    }

    /// Whether a row may be among the best although rows tied with the last of them.
    fn precedes(&self, i: usize, found: Candidate, scratch: &mut Scratch) -> bool {
        let Some(last) = self.last[i] else { return true };
        let anchor = self.anchors.start + i;
        if f64::from(found.score) > f64::from(last.score) / self.pass.unit(anchor) + self.errors[i] {
            return true;
        }
        let score = self.pass.scorer.score(anchor, found.row, scratch);
        self.pass.order(Candidate { score, ..found }, last) == Ordering::Less
    }

    /// Whether an anchor may have a row.
    fn allows(&self, i: usize, found: Candidate, scratch: &mut Scratch) -> bool {
        let (asked, anchor) = (self.pass.asked, self.anchors.start + i);
        if asked.excluded.iter().any(|excluded| excluded.has(anchor, found.row as usize)) {
            return false;
        }
        let Some(cap) = asked.max_scores.map(|scores| scores[anchor]) else { return true };
        let far = f64::from(found.score) - cap / self.pass.unit(anchor);
        if far.abs() > self.errors[i] {
            return far < 0.0;
        }
        f64::from(self.pass.scorer.score(anchor, found.row, scratch)) <= cap
    }

    /// Raises the threshold of an anchor to what its best rows allow.
    fn compact(&mut self, i: usize, scratch: &mut Scratch) {
        self.tighten(i);
        let (depth, len) = (self.pass.depth, self.kept.len(i));
        if len > depth + (Buffers::capacity_for(depth) - depth) / 2 {
            self.settle(i, scratch);
        }
    }

    fn tighten(&mut self, i: usize) {
        if let Some(kth) = self.kept.kth(i, self.pass.depth) {
            self.raise(i, f64::from(kth) - 2.0 * self.errors[i]);
            self.kept.retain_from(i, self.keep[i]);
        }
    }

    /// Scores a buffer that products cannot tell apart, and keeps its best rows.
    #[cold]
    fn settle(&mut self, i: usize, scratch: &mut Scratch) {
        let products: Vec<_> = self.kept.list(i).collect();
        let best = self.best(i, &products, scratch);
        let Some(&last) = best.last() else { return };
        self.last[i] = Some(last);
        let rows: std::collections::HashSet<u32> = best.iter().map(|found| found.row).collect();
        self.kept.replace(i, products.into_iter().filter(|found| rows.contains(&found.row)));
        self.raise(i, f64::from(last.score) / self.pass.unit(self.anchors.start + i) - self.errors[i]);
    }

    fn raise(&mut self, i: usize, threshold: f64) {
        self.keep[i] = self.keep[i].max(threshold as f32);
        let lowest = (f64::from(self.keep[i]) - self.pass.rounding) * f64::from(self.inverses[i]);
        // Free slots reach −∞.
        self.thresholds[i] = (lowest as f32).max(f32::MIN);
    }

    /// The best of some rows, by their scores, in order.
    fn best(&self, i: usize, products: &[Candidate], scratch: &mut Scratch) -> Vec<Candidate> {
        let rows: Vec<u32> = products.iter().map(|found| found.row).collect();
        let mut scores = vec![0.0; rows.len()];
        self.pass.scorer.score_all(self.anchors.start + i, &rows, &mut scores, scratch);
        let mut best: Vec<_> = rows.into_iter().zip(scores).map(|(row, score)| Candidate { score, row }).collect();
        best.sort_unstable_by(|&a, &b| self.pass.order(a, b));
        best.truncate(self.pass.depth);
        best
    }

    fn finish(&mut self, slots: &mut [i64], scores: &mut [f32], scratch: &mut Scratch) {
        let k = self.pass.asked.k;
        for i in 0..self.anchors.len() {
            self.tighten(i);
            let products: Vec<_> = self.kept.list(i).collect();
            for (at, found) in (i * k..).zip(self.best(i, &products, scratch)) {
                (slots[at], scores[at]) = (i64::from(found.row), found.score);
            }
        }
    }
}

/// A mark that about as many estimates reach as rows are wanted, and a few more.
fn mark(estimates: &[f32], depth: usize) -> f32 {
    let mut some: Vec<f32> = estimates.iter().copied().step_by(SAMPLED).collect();
    let nth = (depth + depth / 8 + SPARE) / SAMPLED;
    if nth >= some.len() { f32::MIN } else { *some.select_nth_unstable_by(nth, |a, b| b.total_cmp(a)).1 }
}
