//! A block of anchors while it is searched: thresholds, candidates, and what is to be told about the rest.
//!
//! # Why the result is exact
//!
//! The tile works on packed rows: anchors of norm 1 and corpus rows of norm at most 1. For such rows a sum of `dim`
//! products in `f32`, with rounded operands, is within [`slack`](crate::score::slack) ε of the score that the one scoring function would
//! give, in the same units. Let e be the `depth`-th best estimate so far. At least `depth` rows then have a score of
//! e − ε or more, so a row whose estimate is below e − 2ε has a score strictly below theirs and cannot be among the
//! best `depth`. Everything at or above e − 2ε is kept, scored once at the end, and ordered by that score. Caps and
//! floors are tested with the same ε; within ε of one, the score itself decides.
//!
//! Rows that tie in great numbers (copies) can all lie inside the 2ε; then the buffer is scored early, and the exact
//! `depth` best of it stay.

use super::{Job, Work};
use crate::accept::Accept;
use crate::error::Result;
use crate::kernel::{MAX_ROWS, Tile, TileOutput};
use crate::score::{Metric, Scorer, Scratch};
use crate::threads::Progress;
use crate::topk::{Buffers, Candidate, select_best, sort_best_first};

/// Rejected rows that are remembered per anchor: at least the better half of so many.
const MOST_REFUSED: usize = 4096;

/// Thresholds of one anchor that do not change, in the units of the tile.
#[derive(Debug, Clone, Copy)]
struct Marks {
    /// Multiplies an estimate into a score.
    unit: f64,
    /// Error of an estimate.
    slack: f64,
    /// Estimates above `high` are above the mark, below `low` below it.
    cap: Mark,
    watch: Mark,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    low: f32,
    high: f32,
}

impl Mark {
    fn new(score: f64, unit: f64, slack: f64) -> Self {
        Self { low: (score / unit - slack) as f32, high: (score / unit + slack) as f32 }
    }
}

/// Some anchors, searched over some part of the corpus.
pub(super) struct Block<'a, A: Accept> {
    scorer: &'a Scorer<'a>,
    accept: &'a A,
    anchors: Vec<u32>,
    slots: Vec<u32>,
    depth: usize,
    scored: usize,
    marks: Vec<Marks>,
    /// Lowest estimate that is kept.
    keep: Vec<f32>,
    /// Lowest estimate that is looked at: the lower of `keep` and what is counted. Padded to whole panels.
    look: Vec<f32>,
    /// Whether every row above the watched score is to be counted, or those that come along.
    counts_all: bool,
    /// Rows that reached the threshold of an anchor in the panel at hand.
    noted: Vec<(u32, Candidate)>,
    kept: Buffers,
    refused: Vec<Vec<Candidate>>,
    /// Highest estimate of a refused row that was forgotten.
    forgotten: Vec<f32>,
    tallies: Vec<A::Tally>,
    above: Vec<u64>,
    rescored: u64,
    /// Whether a threshold has risen since it was asked.
    raised: bool,
}

impl<'a, A: Accept> Block<'a, A> {
    /// A block of the anchors in these `slots`, which a search that `counts_all` will see all rows of; `error`
    /// bounds that of its estimates. `kept` is memory that served an earlier block.
    pub(super) fn new(
        job: &Job<'a>,
        accept: &'a A,
        slots: Vec<u32>,
        counts_all: bool,
        error: f64,
        mut kept: Buffers,
    ) -> Self {
        let Job { scorer, anchors: all, depth, scored, .. } = *job;
        let corpus_scale = scorer.corpus_scale();
        let anchors: Vec<u32> = slots.iter().map(|&slot| all[slot as usize]).collect();
        let marks: Vec<_> = slots
            .iter()
            .zip(&anchors)
            .map(|(&slot, &anchor)| {
                let unit = unit(scorer, anchor as usize, corpus_scale);
                // Scores are rounded to f32; next to zero that error is absolute.
                let slack = error + f64::from(f32::from_bits(1)) / unit;
                Marks {
                    unit,
                    slack,
                    cap: Mark::new(accept.cap(slot as usize), unit, slack),
                    watch: Mark::new(accept.watch(slot as usize), unit, slack),
                }
            })
            .collect();
        let keep: Vec<_> = slots
            .iter()
            .zip(&marks)
            .map(|(&slot, m)| {
                // Rows between a cap and a floor above it are counted over the cap, so they have to be seen.
                let lowest = accept.floor(slot as usize).min(accept.cap(slot as usize));
                if depth == 0 { f32::INFINITY } else { Mark::new(lowest, m.unit, m.slack).low }
            })
            .collect();
        let counted = |m: &Marks| if counts_all { m.watch.low } else { f32::INFINITY };
        let mut look: Vec<_> = keep.iter().zip(&marks).map(|(keep, m)| keep.min(counted(m))).collect();
        look.resize(anchors.len() + MAX_ROWS, f32::INFINITY);
        let n = anchors.len();
        kept.reset(n, depth);
        Self {
            scorer,
            accept,
            anchors,
            slots,
            depth,
            scored,
            marks,
            keep,
            look,
            counts_all,
            noted: Vec::new(),
            kept,
            refused: (0..n).map(|_| Vec::new()).collect(),
            forgotten: vec![f32::NEG_INFINITY; n],
            tallies: std::iter::repeat_with(A::Tally::default).take(n).collect(),
            above: vec![0; n],
            rescored: 0,
            raised: false,
        }
    }

    pub(super) fn anchors(&self) -> &[u32] {
        &self.anchors
    }

    pub(super) fn len(&self) -> usize {
        self.anchors.len()
    }

    /// The thresholds of the anchors from `start` on, with room for a whole panel.
    pub(super) fn thresholds(&self, start: usize) -> &[f32] {
        &self.look[start..]
    }

    /// Notes what a tile of anchors from `start` on and corpus rows from `first_row` on has found.
    ///
    /// Only notes: looking at an anchor's thresholds and buffer now would push panels out of the nearest cache.
    #[cold]
    pub(super) fn note(&mut self, tile: &Tile, out: &TileOutput, start: usize, first_row: usize, rows: usize) {
        // Padding columns of the last panel hold zeros, which may reach a threshold.
        let real = u32::MAX >> (u32::BITS - rows as u32);
        for r in 0..tile.rows.min(self.len() - start) {
            let mut mask = out.masks[r] & real;
            while mask != 0 {
                let c = mask.trailing_zeros() as usize;
                mask &= mask - 1;
                // Adding 0 turns −0, which buffers cannot hold, into 0.
                let score = out.products[r * tile.columns + c] + 0.0;
                self.noted.push(((start + r) as u32, Candidate { score, row: (first_row + c) as u32 }));
            }
        }
    }

    /// Lowest estimate that anchor `i` keeps.
    pub(super) fn keep(&self, i: usize) -> f32 {
        self.keep[i]
    }

    /// Lowest estimate that is looked at for anchor `i`.
    pub(super) fn look(&self, i: usize) -> f32 {
        self.look[i]
    }

    /// Whether a threshold has risen since this was last asked.
    pub(super) fn has_risen(&mut self) -> bool {
        std::mem::take(&mut self.raised)
    }

    /// Whether anchor `i` has found fewer rows than it may keep.
    pub(super) fn is_short(&self, i: usize) -> bool {
        self.kept.len(i) < self.depth
    }

    /// Raises the threshold of anchor `i` to what is known now.
    pub(super) fn tighten(&mut self, i: usize) {
        if let Some(kth) = self.kept.kth(i, self.depth) {
            self.raise(i, f64::from(kth) - 2.0 * self.marks[i].slack);
            self.kept.retain_from(i, self.keep[i]);
        }
    }

    /// Notes a row for anchor `i`, if its estimate reaches the threshold.
    pub(super) fn offer(&mut self, i: usize, found: Candidate) {
        if found.score >= self.look[i] {
            self.noted.push((i as u32, found));
        }
    }

    /// Takes in what was noted: after each panel of the corpus, in the order of anchors.
    pub(super) fn absorb(&mut self, scratch: &mut Scratch) {
        let mut noted = std::mem::take(&mut self.noted);
        for (i, found) in noted.drain(..) {
            self.hit(i as usize, found, scratch);
        }
        self.noted = noted;
    }

    #[inline]
    fn hit(&mut self, i: usize, found: Candidate, scratch: &mut Scratch) {
        let (accept, slot, marks) = (self.accept, self.slots[i] as usize, self.marks[i]);
        let Candidate { score: estimate, row } = found;
        if accept.take(slot, row, &mut exceeding(self.scorer, self.anchors[i] as usize, marks, found, scratch)) {
            return;
        }
        if estimate > marks.watch.high
            || estimate >= marks.watch.low && self.exactly(i, row, scratch) > accept.watch(slot)
        {
            self.above[i] += 1;
        }
        if estimate < self.keep[i] {
            return;
        }
        if estimate > marks.cap.high || estimate >= marks.cap.low && self.exactly(i, row, scratch) > accept.cap(slot) {
            self.over_cap(i, found, scratch);
        } else if accept.allow(slot, row, scratch) {
            if self.kept.push(i, found) {
                self.compact(i, scratch);
            }
        } else {
            self.refuse(i, found);
        }
    }

    /// The score of a row, where an estimate is too close to a mark.
    #[cold]
    fn exactly(&mut self, i: usize, row: u32, scratch: &mut Scratch) -> f64 {
        self.rescored += 1;
        f64::from(self.scorer.score(self.anchors[i] as usize, row, scratch))
    }

    fn over_cap(&mut self, i: usize, found: Candidate, scratch: &mut Scratch) {
        let mut exceeds = exceeding(self.scorer, self.anchors[i] as usize, self.marks[i], found, scratch);
        self.accept.over_cap(self.slots[i] as usize, found.row, &mut exceeds, &mut self.tallies[i]);
    }

    /// Remembers a refused row. Of too many the worse half is forgotten: in the end the threshold mostly turns out to
    /// lie above them.
    fn refuse(&mut self, i: usize, found: Candidate) {
        let list = &mut self.refused[i];
        list.push(found);
        if list.len() < MOST_REFUSED {
            return;
        }
        let lowest = self.keep[i];
        list.retain(|c| c.score >= lowest);
        if let Some(worst) = select_best(list, MOST_REFUSED / 2) {
            list.truncate(MOST_REFUSED / 2);
            self.forgotten[i] = self.forgotten[i].max(worst.score);
        }
    }

    /// Raises the threshold of anchor `i` to what its `depth` best allow.
    fn compact(&mut self, i: usize, scratch: &mut Scratch) {
        let Some(kth) = self.kept.kth(i, self.depth) else { return };
        self.raise(i, f64::from(kth) - 2.0 * self.marks[i].slack);
        self.kept.retain_from(i, self.keep[i]);
        let capacity = Buffers::capacity_for(self.depth);
        if self.kept.len(i) > self.depth + (capacity - self.depth) / 2 {
            self.settle(i, scratch);
        }
    }

    /// Scores a buffer that estimates cannot tell apart, and keeps its exact `depth` best.
    #[cold]
    fn settle(&mut self, i: usize, scratch: &mut Scratch) {
        let estimates: Vec<_> = self.kept.list(i).collect();
        let mut scored = self.score(i, &estimates, scratch);
        let Some(kth) = select_best(&mut scored, self.depth) else { return };
        scored.truncate(self.depth);
        let rows: std::collections::HashSet<u32> = scored.iter().map(|c| c.row).collect();
        self.kept.replace(i, estimates.into_iter().filter(|c| rows.contains(&c.row)));
        let marks = self.marks[i];
        self.raise(i, f64::from(kth.score) / marks.unit - marks.slack);
    }

    fn raise(&mut self, i: usize, threshold: f64) {
        self.raised = true;
        self.keep[i] = self.keep[i].max(threshold as f32);
        let counted = if self.counts_all { self.marks[i].watch.low } else { f32::INFINITY };
        self.look[i] = self.keep[i].min(counted);
    }

    fn score(&mut self, i: usize, candidates: &[Candidate], scratch: &mut Scratch) -> Vec<Candidate> {
        let rows: Vec<u32> = candidates.iter().map(|c| c.row).collect();
        let mut scores = vec![0.0; rows.len()];
        self.scorer.score_all(self.anchors[i] as usize, &rows, &mut scores, scratch);
        self.rescored += rows.len() as u64;
        rows.into_iter().zip(scores).map(|(row, score)| Candidate { score, row }).collect()
    }

    /// Takes in what the same anchors found in another part of the corpus.
    pub(super) fn merge(&mut self, other: Self, scratch: &mut Scratch) {
        self.rescored += other.rescored;
        for (i, tally) in other.tallies.into_iter().enumerate() {
            self.accept.merge(&mut self.tallies[i], tally);
            self.above[i] += other.above[i];
            self.forgotten[i] = self.forgotten[i].max(other.forgotten[i]);
            self.raise(i, f64::from(other.keep[i]));
            for &found in &other.refused[i] {
                self.refuse(i, found);
            }
            for found in other.kept.list(i) {
                if found.score >= self.keep[i] && self.kept.push(i, found) {
                    self.compact(i, scratch);
                }
            }
        }
    }

    /// Hands the finished lists to `take`; returns memory for another block.
    pub(super) fn finish(
        mut self,
        work: &Work,
        progress: &Progress,
        scratch: &mut Scratch,
        take: impl FnOnce(&mut Finished<'_, 'a, A>) -> Result<()>,
    ) -> Result<Buffers> {
        take(&mut Finished { block: &mut self, progress, scratch })?;
        work.rows_rescored.fetch_add(self.rescored, std::sync::atomic::Ordering::Relaxed);
        Ok(self.kept)
    }

    /// Splits off candidates that cannot be among those that need scores, best first.
    fn split_off_rest(&self, i: usize, estimates: &mut Vec<Candidate>) -> Vec<Candidate> {
        let Marks { unit, slack, .. } = self.marks[i];
        let lowest = match select_best(estimates, self.scored) {
            Some(last) => (f64::from(last.score) - 2.0 * slack) as f32,
            None if self.scored == 0 => f32::INFINITY,
            None => return Vec::new(),
        };
        let mut rest: Vec<_> = estimates.extract_if(.., |c| c.score < lowest).collect();
        for c in &mut rest {
            c.score = (f64::from(c.score) * unit) as f32 + 0.0;
        }
        sort_best_first(&mut rest);
        rest
    }

    /// What is kept, how many of it have their scores, and what is refused.
    fn finish_one(&mut self, i: usize, scratch: &mut Scratch) -> (Vec<Candidate>, usize, Vec<Candidate>) {
        self.tighten(i);
        let mut estimates: Vec<_> = self.kept.list(i).collect();
        let floor = self.accept.floor(self.slots[i] as usize);
        let rest = if floor == f64::NEG_INFINITY { self.split_off_rest(i, &mut estimates) } else { Vec::new() };
        let mut kept = self.score(i, &estimates, scratch);
        kept.retain(|c| f64::from(c.score) >= floor);
        sort_best_first(&mut kept);
        // A scored one beyond those asked for may score less than one of the rest.
        let known = if rest.is_empty() { self.depth } else { self.scored.min(kept.len()) };
        kept.extend(rest);
        kept.truncate(self.depth);
        let known = known.min(kept.len());
        let lowest = self.keep[i];
        let mut refused = std::mem::take(&mut self.refused[i]);
        refused.retain(|c| c.score >= lowest);
        let refused = if refused.is_empty() { refused } else { self.score(i, &refused, scratch) };
        (kept, known, refused)
    }
}

/// Tells whether the score of a row is above a bound, by its estimate where that can tell.
fn exceeding<'s>(
    scorer: &'s Scorer<'_>,
    anchor: usize,
    marks: Marks,
    found: Candidate,
    scratch: &'s mut Scratch,
) -> impl FnMut(f64) -> bool + 's {
    let mut score = None;
    move |bound| {
        let mark = Mark::new(bound, marks.unit, marks.slack);
        if found.score > mark.high || found.score < mark.low {
            return found.score > mark.high;
        }
        f64::from(*score.get_or_insert_with(|| scorer.score(anchor, found.row, scratch))) > bound
    }
}

/// The tile's unit: an estimate times this is a score.
pub(super) fn unit(scorer: &Scorer<'_>, anchor: usize, corpus_scale: f64) -> f64 {
    match scorer.metric {
        Metric::Cosine => 1.0,
        Metric::Dot => {
            let unit = scorer.queries.norm(anchor) * corpus_scale;
            // A zero anchor scores 0 with everything, in any unit.
            if unit == 0.0 { 1.0 } else { unit }
        }
    }
}

/// What a search found for one anchor.
#[derive(Debug)]
pub struct Found<'f, T> {
    /// Place of the anchor among those searched.
    pub slot: usize,
    /// The anchor.
    pub anchor: u32,
    /// Allowed rows with their scores, best first; at most as many as asked for.
    pub kept: Vec<Candidate>,
    /// How many of them have their scores; none of the others, which have estimates, scores more than any of these.
    pub known: usize,
    /// Rows that were not allowed although no worse than the last kept (and some that are), in no order.
    pub refused: Vec<Candidate>,
    /// Whether `refused` lacks some that it should hold, because there were too many.
    pub overflowed: bool,
    /// What was counted above the cap.
    pub tally: &'f T,
    /// Rows that score more than the watched score.
    pub above: u64,
    /// How far what is beyond the rows that need scores may be off.
    pub error: f64,
}

/// A finished block, to be read anchor by anchor.
pub struct Finished<'f, 'a, A: Accept> {
    block: &'f mut Block<'a, A>,
    progress: &'f Progress,
    scratch: &'f mut Scratch,
}

impl<A: Accept> Finished<'_, '_, A> {
    /// Hands over each anchor's lists, in the order of slots.
    ///
    /// # Errors
    /// [`Error::Cancelled`](crate::error::Error::Cancelled): what `take` does with a list can take long.
    pub fn each(&mut self, mut take: impl FnMut(Found<'_, A::Tally>, &mut Scratch)) -> Result<()> {
        for i in 0..self.block.len() {
            self.progress.advance(0)?;
            let (kept, known, refused) = self.block.finish_one(i, self.scratch);
            let found = Found {
                slot: self.block.slots[i] as usize,
                anchor: self.block.anchors[i],
                kept,
                known,
                refused,
                // Both are −∞ where nothing was forgotten and all that is allowed is kept.
                overflowed: self.block.forgotten[i] > f32::NEG_INFINITY
                    && self.block.forgotten[i] >= self.block.keep[i],
                tally: &self.block.tallies[i],
                above: self.block.above[i],
                error: self.block.marks[i].slack * self.block.marks[i].unit,
            };
            take(found, self.scratch);
        }
        Ok(())
    }
}
