//! One block of anchors on its way through the lists.
//!
//! A list's panels of codes are multiplied with the codes of all anchors that visit it; the tile tells which pairs may
//! reach their anchor's threshold. Those are multiplied again in 16 bits, which tells nearly always, and what reaches the
//! threshold even so goes into the anchor's buffer. All as in the exact search, from there on.
//!
//! Lists near an anchor come first: they hold most of its best rows, so that its threshold is high before the bulk is
//! scanned. In them there is no threshold yet; so all estimates are written down, the rows with the best of them are
//! looked at, and then those of the rest that may reach the threshold which these have set.

use super::block::Block;
use super::coded::{Coded, Pass, nearness, nth_largest};
use super::second::SecondRow;
use crate::accept::Accept;
use crate::codes::int8;
use crate::error::Result;
use crate::kernel::{CODE_COLUMNS, CODE_ROWS, CodeRows, Level, reaching};
use crate::score::Scratch;
use crate::threads::Progress;
use crate::topk::{Buffers, Candidate};

/// Radii within which lists are visited before the others: what is likely to raise thresholds further.
const SOON: f32 = 0.15;
/// Pairs after which a pair that is looked at now has been asked for.
const AHEAD: usize = 6;
/// Times as many estimates as rows wanted, from which on a sample of them is looked at.
const SAMPLED: usize = 6;
/// Rows that are looked at first, beyond those that are wanted.
const SPARE: usize = 24;

/// What a worker keeps from task to task.
#[derive(Default)]
pub(super) struct Room {
    pub(super) coding: int8::Room,
    pub(super) coded: Coded,
    pub(super) scratch: Scratch,
    pub(super) kept: Buffers,
    near: Vec<f32>,
    visited: Vec<bool>,
    visitors: Visitors,
    /// Who is to visit each list in the round at hand.
    waiting: Vec<Vec<u32>>,
    pub(super) hits: Vec<(u32, u32)>,
    pub(super) second: SecondRow,
    first: First,
}

impl Room {
    pub(super) fn new(dim: usize) -> Self {
        Self { scratch: Scratch::new(dim), second: SecondRow::new(dim), ..Self::default() }
    }
}

/// The anchors that visit a list, side by side.
#[derive(Default)]
struct Visitors {
    anchors: Vec<u32>,
    codes: Vec<i8>,
    biases: Vec<i32>,
    spreads: Vec<f32>,
    thresholds: Vec<f32>,
}

/// The visits of the first round and their estimates.
#[derive(Default)]
struct First {
    /// Anchors list by list, and where each one's estimates of the list start.
    visits: Vec<(u32, usize)>,
    /// Where the visits of each list end.
    ends: Vec<usize>,
    /// Where the estimates of each anchor start.
    starts: Vec<usize>,
    estimates: Vec<f32>,
    sorted: Vec<f32>,
    cuts: Vec<f32>,
}

/// One block on its way through the lists.
pub(super) struct Sweep<'s, 'a, A: Accept> {
    pub(super) pass: &'s Pass<'a, A>,
    pub(super) block: &'s mut Block<'a, A>,
    pub(super) coded: &'s Coded,
    pub(super) progress: &'s Progress,
    /// Rows before this do not matter.
    pub(super) first_row: usize,
    /// Pairs multiplied so far.
    pub(super) scanned: u64,
}

impl<'a, A: Accept> Sweep<'_, 'a, A> {
    pub(super) fn all(&mut self, room: &mut Room) -> Result<()> {
        let effort = self.pass.effort;
        let (mut near, mut visited) = (std::mem::take(&mut room.near), std::mem::take(&mut room.visited));
        self.nearest(&mut near, &mut visited, room)?;
        // From here on, where an anchor has been is −∞ near.
        for (near, _) in near.iter_mut().zip(&visited).filter(|(_, visited)| **visited) {
            *near = f32::NEG_INFINITY;
        }
        let reach = effort.reach as f32;
        self.round(room, &mut near, |block, i| Some((reach.min(SOON), block.keep(i))))?;
        if reach > SOON {
            self.round(room, &mut near, |block, i| Some((reach, block.keep(i))))?;
        }
        // An anchor that has found too few looks everywhere.
        self.round(room, &mut near, |block, i| block.is_short(i).then_some((f32::INFINITY, f32::MIN)))?;
        (room.near, room.visited) = (near, visited);
        Ok(())
    }

    /// The first round: the lists nearest to each anchor. Leaves in `near` how near each list is to each anchor, and in
    /// `visited` where each has been.
    pub(super) fn nearest(&mut self, near: &mut Vec<f32>, visited: &mut Vec<bool>, room: &mut Room) -> Result<()> {
        let (lists, n) = (self.pass.index.lists.len(), self.block.len());
        visited.clear();
        visited.resize(n * lists, false);
        nearness(self.pass.index, &self.pass.tile, (self.coded, n), near);
        if lists == 1 {
            return Ok(());
        }
        let mut first = std::mem::take(&mut room.first);
        self.choose(near, visited, &mut first);
        self.estimate(&mut first, room)?;
        self.cuts(&mut first);
        self.best(&mut first, room)?;
        room.first = first;
        (0..n).for_each(|i| self.block.tighten(i));
        Ok(())
    }

    /// Which anchors visit which lists first.
    fn choose(&self, near: &[f32], visited: &mut [bool], first: &mut First) {
        let (index, n) = (self.pass.index, self.block.len());
        let lists = index.lists.len();
        first.cuts.clear();
        for near in near.chunks_exact(lists) {
            first.sorted.clear();
            first.sorted.extend_from_slice(near);
            first.cuts.push(nth_largest(&mut first.sorted, self.pass.effort.first));
        }
        first.starts.clear();
        first.starts.resize(n + 1, 0);
        for (i, (near, visited)) in near.chunks_exact(lists).zip(visited.chunks_exact_mut(lists)).enumerate() {
            let mut places = 0;
            for (list, (near, visited)) in near.iter().zip(visited).enumerate() {
                *visited = *near >= first.cuts[i];
                places += if *visited { index.lists[list].len() * CODE_COLUMNS } else { 0 };
            }
            first.starts[i + 1] = first.starts[i] + places;
        }
        first.visits.clear();
        first.ends.clear();
        let mut next = first.starts.clone();
        for list in 0..lists {
            for (i, _) in visited.iter().skip(list).step_by(lists).enumerate().filter(|(_, visited)| **visited) {
                first.visits.push((i as u32, next[i]));
                next[i] += index.lists[list].len() * CODE_COLUMNS;
            }
            first.ends.push(first.visits.len());
        }
        first.estimates.resize(first.starts[n], 0.0);
    }

    /// Writes down the estimates of all visits.
    fn estimate(&mut self, first: &mut First, room: &mut Room) -> Result<()> {
        let Pass { index, tile, .. } = self.pass;
        let (quads, rows) = (index.coder.quads(), tile.rows);
        let mut out = [0.0; CODE_ROWS * CODE_COLUMNS];
        let mut begin = 0;
        for (list, &end) in first.ends.iter().enumerate() {
            let visits = &first.visits[begin..end];
            begin = end;
            room.visitors.anchors.clear();
            room.visitors.anchors.extend(visits.iter().map(|visit| visit.0));
            self.gather(&mut room.visitors);
            self.refresh(&mut room.visitors, false);
            for (p, panel) in index.lists[list].clone().enumerate() {
                let codes = index.panel(panel);
                for start in (0..visits.len()).step_by(rows) {
                    let anchors = room.visitors.rows(start, quads, self.coded.per_anchor);
                    tile.estimates(&anchors, &codes, quads, self.coded.run, &mut out);
                    for (visit, out) in visits[start..].iter().take(rows).zip(out.chunks_exact(CODE_COLUMNS)) {
                        first.estimates[visit.1 + p * CODE_COLUMNS..][..CODE_COLUMNS].copy_from_slice(out);
                    }
                }
                self.count(visits.len())?;
            }
        }
        Ok(())
    }

    /// For each anchor the estimate from which on rows are looked at first.
    fn cuts(&self, first: &mut First) {
        let wanted = self.pass.job.depth + self.pass.job.depth / 8 + SPARE;
        first.cuts.clear();
        for span in first.starts.windows(2) {
            first.sorted.clear();
            // Of many, some tell well enough; how many are looked at first matters little.
            let step = if span[1] - span[0] >= SAMPLED * wanted { 4 } else { 1 };
            first.sorted.extend(first.estimates[span[0]..span[1]].iter().step_by(step));
            let enough = first.sorted.len() * step > wanted;
            first.cuts.push(if enough { nth_largest(&mut first.sorted, wanted / step) } else { f32::MIN });
        }
    }

    /// Looks at the rows with the best estimates, and takes them off the list; then at those of the rest that may reach the
    /// threshold which these have set.
    fn best(&mut self, first: &mut First, room: &mut Room) -> Result<()> {
        let cuts = std::mem::take(&mut first.cuts);
        self.again(first, room, |_, i| (0.0, cuts[i]))?;
        (0..self.block.len()).for_each(|i| self.block.tighten(i));
        self.again(first, room, |sweep, i| (sweep.coded.spreads[i], sweep.threshold(i)))?;
        first.cuts = cuts;
        Ok(())
    }

    /// Looks at the rows of the first round that reach what `marks` says of their anchor, a spread and a threshold.
    fn again(&mut self, first: &mut First, room: &mut Room, marks: impl Fn(&Self, usize) -> (f32, f32)) -> Result<()> {
        let (index, level) = (self.pass.index, self.pass.job.scorer.level);
        let mut begin = 0;
        for (list, &end) in first.ends.iter().enumerate() {
            for &(i, at) in &first.visits[begin..end] {
                let (spread, threshold) = marks(self, i as usize);
                for (p, panel) in index.lists[list].clone().enumerate() {
                    let estimates = &mut first.estimates[at + p * CODE_COLUMNS..][..CODE_COLUMNS];
                    let widths = index.panel(panel).widths;
                    let mut mask = reaching(level, estimates, widths, spread, threshold) & index.real[panel];
                    while mask != 0 {
                        let c = mask.trailing_zeros();
                        mask &= mask - 1;
                        estimates[c as usize] = f32::NEG_INFINITY;
                        room.hits.push((i, (panel * CODE_COLUMNS) as u32 + c));
                    }
                }
            }
            self.look(room);
            self.progress.advance(0)?;
            begin = end;
        }
        Ok(())
    }

    /// Visits each list with those anchors that want to: `wants` tells an anchor's reach, in radii of a list, and what the
    /// list has to reach with that.
    fn round(
        &mut self,
        room: &mut Room,
        near: &mut [f32],
        wants: impl Fn(&Block<'a, A>, usize) -> Option<(f32, f32)>,
    ) -> Result<()> {
        let (index, level) = (self.pass.index, self.pass.job.scorer.level);
        let lists = index.lists.len();
        let mut waiting = std::mem::take(&mut room.waiting);
        waiting.resize_with(lists, Vec::new);
        for (i, near) in near.chunks_exact_mut(lists).enumerate() {
            self.block.tighten(i);
            let Some((reach, threshold)) = wants(self.block, i) else { continue };
            // Everything is within an infinite reach, lists of copies with a radius of 0 too.
            let marks = if reach == f32::INFINITY { (0.0, f32::MIN) } else { (reach, threshold.max(f32::MIN)) };
            for (first, (near, radii)) in
                (0..).step_by(CODE_COLUMNS).zip(near.chunks_mut(CODE_COLUMNS).zip(index.radii.chunks(CODE_COLUMNS)))
            {
                let mut mask = within(level, near, radii, marks);
                while mask != 0 {
                    let list = mask.trailing_zeros() as usize;
                    mask &= mask - 1;
                    near[list] = f32::NEG_INFINITY;
                    waiting[first + list].push(i as u32);
                }
            }
        }
        for (list, anchors) in waiting.iter_mut().enumerate().filter(|(_, anchors)| !anchors.is_empty()) {
            std::mem::swap(&mut room.visitors.anchors, anchors);
            anchors.clear();
            self.visit(list, room)?;
        }
        room.waiting = waiting;
        Ok(())
    }

    /// Scans a list for the anchors in `room.visitors`.
    fn visit(&mut self, list: usize, room: &mut Room) -> Result<()> {
        let Pass { index, tile, .. } = self.pass;
        let (quads, rows) = (index.coder.quads(), tile.rows);
        // Where nearly all visit, the others come along, with thresholds that nothing reaches.
        let all = room.visitors.anchors.len() * 8 >= self.block.len() * 7;
        let count = if all { self.block.len() } else { room.visitors.anchors.len() };
        if !all {
            self.gather(&mut room.visitors);
        }
        self.refresh(&mut room.visitors, all);
        let mut masks = [0; CODE_ROWS];
        for panel in index.lists[list].clone() {
            if index.last_row(panel) < self.first_row {
                continue;
            }
            let (codes, first) = (index.panel(panel), (panel * CODE_COLUMNS) as u32);
            for start in (0..count).step_by(rows) {
                let visitors = &room.visitors;
                let anchors = if all {
                    self.coded.rows(start, quads, &visitors.thresholds[start..])
                } else {
                    visitors.rows(start, quads, self.coded.per_anchor)
                };
                if !tile.run(&anchors, &codes, quads, self.coded.run, &mut masks) {
                    continue;
                }
                for (at, &mask) in (start..count).zip(&masks[..rows]) {
                    let mut mask = mask;
                    while mask != 0 {
                        let i = if all { at as u32 } else { visitors.anchors[at] };
                        room.hits.push((i, first + mask.trailing_zeros()));
                        mask &= mask - 1;
                    }
                }
            }
            if !room.hits.is_empty() {
                self.look(room);
                if self.block.has_risen() {
                    self.refresh(&mut room.visitors, all);
                }
            }
            self.count(count)?;
        }
        Ok(())
    }

    fn count(&mut self, anchors: usize) -> Result<()> {
        let pairs = (anchors * CODE_COLUMNS) as u64;
        self.scanned += pairs;
        self.progress.advance(pairs)
    }

    /// Puts what the tile reads of the visiting anchors side by side.
    fn gather(&self, visitors: &mut Visitors) {
        let Coded { codes, biases, spreads, per_anchor, .. } = self.coded;
        let length = self.pass.index.coder.quads() * 4;
        let padded = visitors.anchors.len().next_multiple_of(self.pass.tile.rows);
        visitors.codes.clear();
        visitors.biases.clear();
        visitors.spreads.clear();
        for i in visitors.anchors.iter().map(|&i| i as usize) {
            visitors.codes.extend_from_slice(&codes[i * length..(i + 1) * length]);
            visitors.biases.extend_from_slice(&biases[i * per_anchor..(i + 1) * per_anchor]);
            visitors.spreads.push(spreads[i]);
        }
        visitors.codes.resize(padded * length, 0);
        visitors.biases.resize(padded * per_anchor, 0);
        visitors.spreads.resize(padded, 0.0);
    }

    /// Reads the thresholds of the visitors: side by side, or each in its place among all anchors.
    fn refresh(&self, visitors: &mut Visitors, all: bool) {
        let Visitors { anchors, thresholds, .. } = visitors;
        let count = if all { self.block.len() } else { anchors.len() };
        thresholds.clear();
        thresholds.resize(count.next_multiple_of(self.pass.tile.rows), f32::INFINITY);
        for (at, i) in anchors.iter().map(|&i| i as usize).enumerate() {
            thresholds[if all { i } else { at }] = self.threshold(i);
        }
    }

    /// What a row has to reach to be looked at for anchor `i`, in units of its codes.
    fn threshold(&self, i: usize) -> f32 {
        let threshold = (self.block.look(i) - self.pass.epsilon) * self.coded.inverses[i];
        // Padded places of a panel reach −∞.
        threshold.max(f32::MIN)
    }

    /// Multiplies the pairs found as they are, and hands on what reaches the threshold even so.
    fn look(&mut self, room: &mut Room) {
        let Pass { index, job, work, .. } = self.pass;
        let (scorer, dim, anchors) = (job.scorer, job.scorer.corpus.rows().dim(), &self.coded.seconds);
        for (h, &(i, place)) in room.hits.iter().enumerate() {
            if let Some(&(i, place)) = room.hits.get(h + AHEAD) {
                index.seconds.fetch(anchors, i as usize, place as usize, dim);
            }
            let (i, place) = (i as usize, place as usize);
            let row = index.rows[place];
            let score = index.seconds.product(scorer, anchors, i, (place, row), &mut room.second);
            self.block.offer(i, Candidate { score, row });
        }
        work.rows_checked.fetch_add(room.hits.len() as u64, std::sync::atomic::Ordering::Relaxed);
        room.hits.clear();
        self.block.absorb(&mut room.scratch);
    }
}

/// Which of up to 32 lists lie within reach.
fn within(level: Level, near: &[f32], radii: &[f32], (reach, threshold): (f32, f32)) -> u32 {
    if near.len() == CODE_COLUMNS {
        return reaching(level, near, radii, reach, threshold);
    }
    let reached = near.iter().zip(radii).map(|(near, radius)| u32::from(near + reach * radius >= threshold));
    reached.enumerate().fold(0, |mask, (list, reached)| mask | reached << list)
}

impl Visitors {
    /// The anchors of one tile.
    fn rows(&self, start: usize, quads: usize, per_anchor: usize) -> CodeRows<'_> {
        CodeRows {
            codes: &self.codes[start * quads * 4..],
            biases: &self.biases[start * per_anchor..],
            spreads: &self.spreads[start..],
            thresholds: &self.thresholds[start..],
            inverses: &[],
        }
    }
}
