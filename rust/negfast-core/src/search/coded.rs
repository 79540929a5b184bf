//! The search over codes: few rows reach the second look, fewer the score.
//!
//! Each task takes a block of anchors, codes them, and visits the corpus list by list. A list's panels of codes are
//! multiplied with the codes of all anchors that visit it; the tile tells which pairs may reach their anchor's threshold.
//! Those are multiplied again in `f32`, which tells nearly always, and what reaches the threshold even so goes into the
//! anchor's buffer. All as in the exact search, from there on.
//!
//! Lists near an anchor come first: they hold most of its best rows, so that its threshold is high before the bulk is
//! scanned. How far to go, and how far to trust an estimate, is the [`Effort`]. With all of the bound and all lists, the
//! result is the exact one.

use std::ops::Range;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::block::{Block, Finished, unit};
use super::index::{Index, NO_ROW, raise_run_norms};
use super::{Job, Plan, Sizes, Work};
use crate::accept::Accept;
use crate::codes::basis::{multiply, pack_plain};
use crate::codes::int8;
use crate::error::Result;
use crate::kernel::{CODE_COLUMNS, CODE_ROWS, CodeRows, CodeTile, Panels, RUNS, Tile, estimate};
use crate::score::{Scale, Scratch};
use crate::threads::{Progress, Workers, split};
use crate::topk::{Buffers, Candidate};

/// How much of the corpus an anchor's search looks at, and how closely.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effort {
    /// Share of the bound on an estimate's error that is allowed for; 1 is proof.
    pub share: f64,
    /// Lists are visited whose mean lies within so many radii below the threshold; infinity is all.
    pub reach: f64,
    /// Lists nearest to an anchor that are visited first, whatever their distance.
    pub first: usize,
}

impl Effort {
    /// Everything that could matter: the result is the exact one.
    pub fn proof(index: &Index) -> Self {
        Self { share: 1.0, reach: f64::INFINITY, first: first_lists(index) }
    }

    fn is_proof(self) -> bool {
        self.share >= 1.0 && self.reach == f64::INFINITY
    }
}

/// Lists to begin with: enough to hold the best rows of most anchors.
pub(super) fn first_lists(index: &Index) -> usize {
    (index.lists.len() / 50).max(2).min(index.lists.len())
}

/// What a worker keeps from task to task.
#[derive(Default)]
struct Room {
    coding: int8::Room,
    points: Panels,
    products: Vec<f32>,
    visitors: Visitors,
    hits: Vec<(u32, u32)>,
    scratch: Scratch,
    row: Vec<f32>,
}

impl Room {
    fn new(dim: usize) -> Self {
        Self { scratch: Scratch::new(dim), row: vec![0.0; dim], ..Self::default() }
    }
}

/// The anchors of a block, coded.
#[derive(Debug)]
struct Coded {
    codes: Vec<i8>,
    biases: Vec<i32>,
    /// Reciprocals of the scales of their codes.
    inverses: Vec<f32>,
    /// Extents in units of the scale, times the share that is allowed for.
    spreads: Vec<f32>,
    /// The rows themselves, of norm 1.
    plain: Vec<f32>,
    /// Coordinates, for the distances to lists.
    values: Vec<f32>,
    run: usize,
    /// Numbers of `biases` to each anchor.
    per_anchor: usize,
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

/// Runs `job` as `plan` cuts it; `take` receives each finished block with its element of `outputs`.
///
/// # Errors
/// [`crate::error::Error::Cancelled`].
///
/// # Panics
/// If there are not as many outputs as blocks.
#[expect(clippy::too_many_arguments, reason = "a job, its plan, its rules, its threads and where results go")]
pub(super) fn search<A: Accept, O: Send>(
    job: &Job<'_>,
    plan: &Plan,
    (index, effort): (&Index, Effort),
    accept: &A,
    workers: &mut Workers<'_>,
    work: &Work,
    outputs: Vec<O>,
    take: impl Fn(O, &mut Finished<'_, '_, A>) -> Result<()> + Sync,
) -> Result<()> {
    assert_eq!(outputs.len(), plan.blocks.len(), "one output per block");
    let pass = Pass { job, index, effort, accept, work, tile: CodeTile::new(job.scorer.level) };
    work.bytes.fetch_max(plan.bytes as u64, Ordering::Relaxed);
    let dim = job.scorer.corpus.rows().dim();
    let pairs = (job.anchors.len() * job.scorer.corpus.len()) as u64;
    workers.progress().expect(pairs);
    let tasks: Vec<_> = plan.blocks.iter().cloned().zip(outputs).collect();
    workers.run(pairs * dim as u64, tasks, || Room::new(dim), |room, (slots, output), progress| {
        let block = pass.scan(slots, room, progress)?;
        let clock = Instant::now();
        block.finish(work, progress, &mut room.scratch, |finished| take(output, finished))?;
        Work::add(&work.finishing, clock);
        Ok(())
    })
}

/// What all tasks of a search share.
pub(super) struct Pass<'a, A> {
    pub(super) job: &'a Job<'a>,
    pub(super) index: &'a Index,
    pub(super) effort: Effort,
    pub(super) accept: &'a A,
    pub(super) work: &'a Work,
    pub(super) tile: CodeTile,
}

impl<'a, A: Accept> Pass<'a, A> {
    fn scan(&self, slots: Range<usize>, room: &mut Room, progress: &Progress) -> Result<Block<'a, A>> {
        let Job { scorer, anchors, .. } = *self.job;
        let first_row = self.accept.first_row(&slots).min(scorer.corpus.len());
        let mut block = Block::new(self.job, self.accept, slots.clone(), self.effort.is_proof());
        let clock = Instant::now();
        let coded = self.code(&anchors[slots], &mut room.coding);
        Work::add(&self.work.packing, clock);
        let clock = Instant::now();
        let mut sweep = Sweep { pass: self, block: &mut block, coded: &coded, progress, first_row, scanned: 0 };
        sweep.all(room)?;
        let scanned = sweep.scanned;
        Work::add(&self.work.scanning, clock);
        self.work.rows_scanned.fetch_add(scanned, Ordering::Relaxed);
        progress.advance((block.len() * scorer.corpus.len()) as u64 - scanned)?;
        Ok(block)
    }

    fn code(&self, anchors: &[u32], room: &mut int8::Room) -> Coded {
        let (scorer, coder, tile) = (self.job.scorer, &self.index.coder, &self.tile);
        let (n, length) = (anchors.len(), coder.quads() * 4);
        let mut coded = Coded {
            codes: vec![0; n * length],
            biases: Vec::new(),
            inverses: vec![0.0; n],
            spreads: vec![0.0; n],
            plain: vec![0.0; n * scorer.queries.rows().dim()],
            values: Vec::with_capacity(n * coder.width()),
            run: 1,
            per_anchor: 1,
        };
        let mut norms = [0.0; RUNS.len()];
        let ids = anchors.iter().map(|&anchor| anchor as usize);
        coder.code((scorer.queries, Scale::Unit), ids, tile.limit(), room, |i, row| {
            coded.codes[i * length..(i + 1) * length].copy_from_slice(row.codes);
            raise_run_norms(&mut norms, row.codes);
            coded.inverses[i] = 1.0 / row.scale;
            coded.spreads[i] = (row.extent * self.effort.share / f64::from(row.scale) * (1.0 + 1e-6)) as f32;
            coded.values.extend_from_slice(row.values);
        });
        let dim = scorer.queries.rows().dim();
        for (&anchor, plain) in anchors.iter().zip(coded.plain.chunks_exact_mut(dim)) {
            scorer.queries.scaled(anchor as usize, Scale::Unit, plain);
        }
        coded.run = self.index.run(&norms);
        coded.per_anchor = tile.biases(coder.quads(), coded.run);
        coded.biases = vec![0; n * coded.per_anchor];
        for (codes, biases) in coded.codes.chunks_exact(length).zip(coded.biases.chunks_exact_mut(coded.per_anchor)) {
            tile.bias(codes, coded.run, biases);
        }
        coded
    }
}

/// One block on its way through the lists.
struct Sweep<'s, 'a, A: Accept> {
    pass: &'s Pass<'a, A>,
    block: &'s mut Block<'a, A>,
    coded: &'s Coded,
    progress: &'s Progress,
    first_row: usize,
    scanned: u64,
}

impl<A: Accept> Sweep<'_, '_, A> {
    fn all(&mut self, room: &mut Room) -> Result<()> {
        let (index, effort) = (self.pass.index, self.pass.effort);
        let lists = index.lists.len();
        let near = self.distances(room);
        let mut visited = vec![false; self.block.len() * lists];
        self.nearest(&near, &mut visited, room)?;
        let within = |reach: f32| {
            let near = &near;
            // Without a threshold yet, everything is within reach.
            move |block: &Block<'_, A>, i, list| block.keep(i) - near[i * lists + list] <= reach * index.radii[list]
        };
        // First what is likely to raise thresholds further.
        let reach = effort.reach as f32;
        self.round(room, &mut visited, within(reach.min(SOON)))?;
        if reach > SOON {
            self.round(room, &mut visited, within(reach))?;
        }
        // An anchor that has found too few looks everywhere.
        self.round(room, &mut visited, |block, i, _| block.is_short(i))
    }

    /// The first round: the lists nearest to each anchor.
    fn nearest(&mut self, near: &[f32], visited: &mut [bool], room: &mut Room) -> Result<()> {
        let lists = self.pass.index.lists.len();
        let first = self.pass.effort.first;
        let bounds: Vec<f32> = near.chunks_exact(lists).map(|near| nth_largest(near, first)).collect();
        self.round(room, visited, |_, i, list| near[i * lists + list] >= bounds[i])?;
        (0..self.block.len()).for_each(|i| self.block.tighten(i));
        Ok(())
    }

    /// The products of the block's anchors with the means of the lists.
    fn distances(&self, room: &mut Room) -> Vec<f32> {
        let (index, level) = (self.pass.index, self.pass.job.scorer.level);
        let width = index.coder.width();
        pack_plain(&mut room.points, &self.coded.values, width, Tile::new(level).rows);
        let mut near = Vec::new();
        multiply(&room.points, &index.means, width, level, self.block.len(), index.lists.len(), &mut near);
        near
    }

    /// Visits each list with those anchors that have not been there and want to.
    fn round(
        &mut self,
        room: &mut Room,
        visited: &mut [bool],
        wanted: impl Fn(&Block<'_, A>, usize, usize) -> bool,
    ) -> Result<()> {
        let lists = self.pass.index.lists.len();
        (0..self.block.len()).for_each(|i| self.block.tighten(i));
        for list in 0..lists {
            room.visitors.anchors.clear();
            for (i, seen) in visited.iter_mut().skip(list).step_by(lists).enumerate() {
                if !*seen && wanted(self.block, i, list) {
                    *seen = true;
                    room.visitors.anchors.push(i as u32);
                }
            }
            if !room.visitors.anchors.is_empty() {
                self.visit(list, room)?;
            }
        }
        Ok(())
    }

    /// Scans a list for the anchors in `room.visitors`.
    fn visit(&mut self, list: usize, room: &mut Room) -> Result<()> {
        let Pass { index, tile, .. } = self.pass;
        let (quads, rows) = (index.coder.quads(), tile.rows);
        self.gather(&mut room.visitors);
        let length = quads * 4;
        let count = room.visitors.anchors.len();
        let mut masks = [0; CODE_ROWS];
        for panel in index.lists[list].clone() {
            let first = panel * CODE_COLUMNS;
            let real = &index.rows[first..first + CODE_COLUMNS];
            let last = real.iter().rev().find(|&&row| row != NO_ROW);
            if last.is_none_or(|&row| (row as usize) < self.first_row) {
                continue;
            }
            let codes = index.panel(panel);
            let visitors = &room.visitors;
            for start in (0..count).step_by(rows) {
                let per = self.coded.per_anchor;
                let anchors = CodeRows {
                    codes: &visitors.codes[start * length..],
                    biases: &visitors.biases[start * per..],
                    spreads: &visitors.spreads[start..],
                    thresholds: &visitors.thresholds[start..],
                };
                if !tile.run(&anchors, &codes, quads, self.coded.run, &mut masks) {
                    continue;
                }
                for (r, &mask) in masks.iter().enumerate().take(rows.min(count - start)) {
                    let mut mask = mask;
                    while mask != 0 {
                        let c = mask.trailing_zeros();
                        mask &= mask - 1;
                        room.hits.push((visitors.anchors[start + r], c));
                    }
                }
            }
            self.scanned += (count * CODE_COLUMNS) as u64;
            if !room.hits.is_empty() {
                self.look(first, room);
                self.refresh(&mut room.visitors);
            }
            self.progress.advance((count * CODE_COLUMNS) as u64)?;
        }
        Ok(())
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
        self.refresh(visitors);
    }

    fn refresh(&self, visitors: &mut Visitors) {
        let padded = visitors.spreads.len();
        visitors.thresholds.clear();
        let epsilon = self.pass.index.coder.epsilon() as f32;
        for i in visitors.anchors.iter().map(|&i| i as usize) {
            // A padded place of a panel reaches −∞ alone.
            let threshold = (self.block.look(i) - epsilon) * self.coded.inverses[i];
            visitors.thresholds.push(threshold.max(f32::MIN));
        }
        visitors.thresholds.resize(padded, f32::INFINITY);
    }

    /// Multiplies what the tile found in the panel of the places from `first` on, in `f32`.
    fn look(&mut self, first: usize, room: &mut Room) {
        let Pass { index, job, .. } = self.pass;
        let (scorer, dim) = (job.scorer, job.scorer.corpus.rows().dim());
        // Row by row: each is read once, and widened once.
        room.hits.sort_unstable_by_key(|&(i, c)| (c, i));
        let mut checked = 0;
        for group in room.hits.chunk_by(|a, b| a.1 == b.1) {
            let row = index.rows[first + group[0].1 as usize] as usize;
            scorer.corpus.scaled(row, scorer.corpus_factor(), &mut room.row);
            for &(i, _) in group {
                let i = i as usize;
                let score = estimate(scorer.level, &self.coded.plain[i * dim..(i + 1) * dim], &room.row) + 0.0;
                self.block.offer(i, Candidate { score, row: row as u32 });
            }
            checked += group.len() as u64;
        }
        room.hits.clear();
        self.pass.work.rows_checked.fetch_add(checked, Ordering::Relaxed);
        self.block.absorb(&mut room.scratch);
    }
}

/// Radii within which lists are visited before the others.
const SOON: f32 = 0.15;

/// Anchors after the first round, and what it would take to go on.
pub(super) struct Trial<'a> {
    index: &'a Index,
    coded: Coded,
    /// What an anchor's scores are divided by to be in the units of the tile.
    units: Vec<f64>,
    near: Vec<f32>,
    visited: Vec<bool>,
    thresholds: Vec<f32>,
}

/// Takes the anchors of `job` through the first round.
///
/// # Errors
/// [`crate::error::Error::Cancelled`].
pub(super) fn trial<'a, A: Accept>(
    job: &Job<'_>,
    index: &'a Index,
    accept: &A,
    workers: &mut Workers<'_>,
    work: &Work,
) -> Result<Trial<'a>> {
    let (n, scorer) = (job.anchors.len(), job.scorer);
    let effort = Effort::proof(index);
    let pass = Pass { job, index, effort, accept, work, tile: CodeTile::new(scorer.level) };
    let found = std::sync::Mutex::new(None);
    let operations = (n * scorer.corpus.len() / 50 * index.coder.width()) as u64;
    workers.run(operations, vec![()], || Room::new(scorer.corpus.rows().dim()), |room, (), progress| {
        let mut block = Block::new(job, accept, 0..n, false);
        let coded = pass.code(job.anchors, &mut room.coding);
        let mut sweep = Sweep { pass: &pass, block: &mut block, coded: &coded, progress, first_row: 0, scanned: 0 };
        let near = sweep.distances(room);
        let mut visited = vec![false; near.len()];
        sweep.nearest(&near, &mut visited, room)?;
        let thresholds = (0..n).map(|i| block.keep(i)).collect();
        let units = job.anchors.iter().map(|&a| unit(scorer, a as usize, scorer.corpus_scale())).collect();
        let trial = Trial { index, coded, units, near, visited, thresholds };
        *found.lock().unwrap_or_else(PoisonError::into_inner) = Some(trial);
        Ok(())
    })?;
    found.into_inner().unwrap_or_else(PoisonError::into_inner).ok_or(crate::error::Error::Cancelled)
}

impl Trial<'_> {
    /// A score of anchor `i` in the units of the tile.
    pub(super) fn in_units(&self, i: usize, score: f32) -> f32 {
        (f64::from(score) / self.units[i]) as f32
    }

    /// How far anchor `i` has to reach for the row at `place`, in radii of its list.
    pub(super) fn reach(&self, i: usize, place: usize) -> f32 {
        let list = self.index.list_of(place);
        let at = i * self.index.lists.len() + list;
        if self.visited[at] {
            return f32::NEG_INFINITY;
        }
        (self.thresholds[i] - self.near[at]) / self.index.radii[list].max(f32::MIN_POSITIVE)
    }

    /// The share of the bound that anchor `i` has to allow for to notice the row at `place` at this threshold.
    pub(super) fn share(&self, i: usize, place: usize, threshold: f32) -> f32 {
        let length = self.index.coder.quads() * 4;
        let (sum, scale, width) = self.index.estimate(place, &self.coded.codes[i * length..(i + 1) * length]);
        let missing = threshold * self.coded.inverses[i] - sum as f32 * scale;
        missing / (self.coded.spreads[i] * width).max(f32::MIN_POSITIVE)
    }
}

/// Cuts a job of these sizes into blocks. They do not depend on the threads, so that what an anchor finds does not.
pub(super) fn plan(sizes: &Sizes, index: &Index, threads: usize) -> Plan {
    let each = bytes_each(sizes, index.coder.width(), index.lists.len());
    let most = match sizes.max_memory {
        None => MOST_ANCHORS,
        Some(bound) => (bound.saturating_sub(index.size()) / threads / each).clamp(LEAST_ANCHORS, MOST_ANCHORS),
    };
    let size = (sizes.anchors / ENOUGH_BLOCKS).clamp(LEAST_ANCHORS, most);
    let blocks = split(sizes.anchors, sizes.anchors.div_ceil(size));
    let largest = blocks.iter().map(Range::len).max().unwrap_or(0);
    let bytes = index.size() + threads.min(blocks.len()) * largest * each;
    Plan { blocks, ranges: split(sizes.rows, 1), slab: 0, bytes }
}

/// Bytes that a thread needs beside an index of so many coordinates and lists.
pub(super) fn least_bytes(job: &Job<'_>, width: usize, lists: usize) -> usize {
    LEAST_ANCHORS * bytes_each(&job.sizes(), width, lists)
}

/// Bytes of an anchor of a block: plain, coded, beside others, its distances, its candidates.
fn bytes_each(sizes: &Sizes, width: usize, lists: usize) -> usize {
    let candidates = Buffers::capacity_for(sizes.depth.min(sizes.rows)) * size_of::<u64>();
    sizes.dim * size_of::<f32>() + width * 6 + lists * 5 + candidates + 256
}

/// Anchors of a block.
const MOST_ANCHORS: usize = 1024;
const LEAST_ANCHORS: usize = 96;
/// Blocks that keep many threads busy.
const ENOUGH_BLOCKS: usize = 32;

/// The `n`-th largest of `numbers`, or the smallest.
pub(super) fn nth_largest(numbers: &[f32], n: usize) -> f32 {
    let mut sorted = numbers.to_vec();
    let at = n.clamp(1, sorted.len()) - 1;
    *sorted.select_nth_unstable_by(at, |a, b| b.total_cmp(a)).1
}
