//! The search over codes: few rows reach the second look, fewer the score.
//!
//! Each task takes a block of anchors that point in similar directions, codes them, and visits the corpus list by list
//! ([`Sweep`]). How far to go, and how far to trust an estimate, is the [`Effort`]. With all of the bound and all lists,
//! the result is the exact one.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::block::{Block, Finished};
use super::index::Index;
use super::second::SecondAnchors;
use super::sweep::{Room, Sweep};
use super::{Job, Plan, Sizes, Work};
use crate::accept::Accept;
use crate::codes::columns::Codes;
use crate::codes::int8::{self, raise_run_norms};
use crate::error::Result;
use crate::kernel::{CodeRows, CodeTile, RUNS};
use crate::score::Scale;
use crate::threads::{Progress, Workers, cut, split};
use crate::topk::Buffers;

/// Anchors of a block: enough to share the visits of a list, few enough for their rows to stay in a core's cache.
const MOST_ANCHORS: usize = 1024;
const LEAST_ANCHORS: usize = 96;
/// Blocks that keep many threads busy.
const ENOUGH_BLOCKS: usize = 32;
/// Anchors that are coded at a time to put them in order.
const SPAN: usize = 256;

/// How much of the corpus an anchor's search looks at, and how closely.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Effort {
    /// Share of the bound on an estimate's error that is allowed for; 1 is proof.
    pub(super) share: f64,
    /// Lists are visited whose mean lies within so many radii below the threshold; infinity is all.
    pub(super) reach: f64,
    /// Lists nearest to an anchor that are visited first, whatever their distance.
    pub(super) first: usize,
}

impl Effort {
    /// Everything that could matter: the result is the exact one.
    pub(super) fn proof(index: &Index, depth: usize) -> Self {
        Self { share: 1.0, reach: f64::INFINITY, first: first_lists(index, depth) }
    }

    /// All lists, for searches that know of nothing else.
    pub(super) fn all() -> Self {
        Self { share: 1.0, reach: f64::INFINITY, first: 1 }
    }

    pub(super) fn is_proof(self) -> bool {
        self.share >= 1.0 && self.reach == f64::INFINITY
    }
}

/// Lists to begin with: enough to hold eighteen times the rows that are wanted, which most anchors' best rows are among.
pub(super) fn first_lists(index: &Index, depth: usize) -> usize {
    let rows = index.rows.len() / index.lists.len();
    (18 * depth).div_ceil(rows.max(1)).clamp(2, 2 + index.lists.len() / 20).min(index.lists.len())
}

/// The anchors of a block, coded.
#[derive(Debug, Default)]
pub(super) struct Coded {
    pub(super) codes: Vec<i8>,
    pub(super) biases: Vec<i32>,
    /// Reciprocals of the scales of their codes.
    pub(super) inverses: Vec<f32>,
    /// Extents in units of the scale, times the share that is allowed for.
    pub(super) spreads: Vec<f32>,
    /// The rows themselves, for the second look.
    pub(super) seconds: SecondAnchors,
    pub(super) run: usize,
    /// Numbers of `biases` to each anchor.
    pub(super) per_anchor: usize,
}

/// What all tasks of a search share.
pub(super) struct Pass<'a, A> {
    pub(super) job: &'a Job<'a>,
    pub(super) index: &'a Index,
    pub(super) effort: Effort,
    pub(super) accept: &'a A,
    pub(super) work: &'a Work,
    pub(super) tile: CodeTile,
    /// What rounding adds to a difference.
    pub(super) epsilon: f32,
    /// Bounds the error of the second look.
    pub(super) error: f64,
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
    let pass = Pass::new(job, index, effort, accept, work);
    work.bytes.fetch_max(plan.bytes as u64, Ordering::Relaxed);
    let dim = job.scorer.corpus.rows().dim();
    let pairs = (job.anchors.len() * job.scorer.corpus.len()) as u64;
    workers.progress().expect(pairs);
    let tasks: Vec<_> = (0..plan.blocks.len()).zip(outputs).collect();
    workers.run(
        pairs * dim as u64,
        tasks,
        || Room::new(dim),
        |room, (block, output), progress| {
            let block = pass.scan(plan.slots(block), room, progress)?;
            let clock = Instant::now();
            room.kept = block.finish(work, progress, &mut room.scratch, |finished| take(output, finished))?;
            Work::add(&work.finishing, clock);
            Ok(())
        },
    )
}

impl<'a, A: Accept> Pass<'a, A> {
    pub(super) fn new(job: &'a Job<'a>, index: &'a Index, effort: Effort, accept: &'a A, work: &'a Work) -> Self {
        let epsilon = index.coder.epsilon() as f32;
        let error = index.seconds.error(job.scorer.corpus.rows().dim());
        Self { job, index, effort, accept, work, tile: CodeTile::new(job.scorer.level), epsilon, error }
    }

    fn scan(&self, slots: Vec<u32>, room: &mut Room, progress: &Progress) -> Result<Block<'a, A>> {
        let span = slots.iter().min().zip(slots.iter().max());
        let first_row = span.map_or(0, |(&first, &last)| self.accept.first_row(&(first as usize..last as usize + 1)));
        let clock = Instant::now();
        let mut block = Block::new(
            self.job,
            self.accept,
            slots,
            self.effort.is_proof(),
            self.error,
            std::mem::take(&mut room.kept),
        );
        let mut coded = std::mem::take(&mut room.coded);
        self.code(block.anchors(), &mut coded, &mut room.coding);
        Work::add(&self.work.packing, clock);
        let clock = Instant::now();
        let mut sweep = Sweep { pass: self, block: &mut block, coded: &coded, progress, first_row, scanned: 0 };
        sweep.all(room)?;
        let scanned = sweep.scanned;
        room.coded = coded;
        Work::add(&self.work.scanning, clock);
        self.work.rows_scanned.fetch_add(scanned, Ordering::Relaxed);
        // A visit counts whole panels, which may be more than there are rows.
        progress.advance(((block.len() * self.job.scorer.corpus.len()) as u64).saturating_sub(scanned))?;
        Ok(block)
    }

    /// Codes `anchors` into `coded`, also for the second look.
    pub(super) fn code(&self, anchors: &[u32], coded: &mut Coded, room: &mut int8::Room) {
        coded.fill(self.job, self.index, anchors, self.effort.share, room);
        self.index.seconds.anchors(self.job.scorer, anchors, &mut coded.seconds);
    }
}

impl Coded {
    /// Codes `anchors`, of whose bounds this `share` is allowed for.
    fn fill(&mut self, job: &Job<'_>, index: &Index, anchors: &[u32], share: f64, room: &mut int8::Room) {
        let (scorer, coder, tile) = (job.scorer, &index.coder, CodeTile::new(job.scorer.level));
        let (n, length) = (anchors.len(), coder.quads() * 4);
        self.codes.resize(n * length, 0);
        self.inverses.clear();
        self.inverses.resize(n.next_multiple_of(tile.rows), 1.0);
        self.spreads.resize(n, 0.0);
        let mut norms = [0.0; RUNS.len()];
        let ids = anchors.iter().map(|&anchor| anchor as usize);
        coder.code((scorer.queries, Scale::Unit), ids, tile.limit(), room, |i, row| {
            self.codes[i * length..(i + 1) * length].copy_from_slice(row.codes);
            raise_run_norms(&mut norms, row.codes);
            self.inverses[i] = 1.0 / row.scale;
            // Rounds up: a bound has to stay one.
            self.spreads[i] = (row.extent * share / f64::from(row.scale) * (1.0 + 1e-6)) as f32;
        });
        // Whole tiles can be read where a list is visited by all.
        let padded = n.next_multiple_of(tile.rows);
        self.codes.resize(padded * length, 0);
        self.spreads.resize(padded, 0.0);
        self.run = index.run(&norms);
        self.per_anchor = tile.biases(coder.quads(), self.run);
        self.biases.resize(padded * self.per_anchor, 0);
        for (codes, biases) in self.codes.chunks_exact(length).zip(self.biases.chunks_exact_mut(self.per_anchor)) {
            tile.bias(codes, self.run, biases);
        }
    }

    /// The anchors of the tile that starts at `start`, whose thresholds are given.
    pub(super) fn rows<'c>(&'c self, start: usize, quads: usize, thresholds: &'c [f32]) -> CodeRows<'c> {
        CodeRows {
            codes: &self.codes[start * quads * 4..],
            biases: &self.biases[start * self.per_anchor..],
            spreads: &self.spreads[start..],
            thresholds,
            inverses: &self.inverses[start..],
        }
    }
}

/// The products of anchors' codes with the means of the lists, anchor by anchor.
pub(super) fn nearness(index: &Index, tile: &CodeTile, (coded, anchors): (&Coded, usize), near: &mut Vec<f32>) {
    let codes = Codes { codes: &coded.codes, biases: &coded.biases, run: coded.run };
    index.means.multiply(tile, codes, anchors, near);
    for (near, inverse) in near.chunks_exact_mut(index.means.count()).zip(&coded.inverses) {
        let scale = 1.0 / inverse;
        for near in near {
            *near *= scale;
        }
    }
}

/// Cuts a job into blocks of anchors that point in similar directions. They do not depend on the threads, so that what an
/// anchor finds does not.
///
/// # Errors
/// [`crate::error::Error::Cancelled`].
pub(super) fn plan(job: &Job<'_>, index: &Index, workers: &mut Workers<'_>) -> Result<Plan> {
    let (sizes, threads) = (job.sizes(), workers.threads());
    let each = bytes_each(&sizes, index.coder.width(), index.lists.len());
    let most = match sizes.max_memory {
        None => MOST_ANCHORS,
        Some(bound) => (bound.saturating_sub(index.size()) / threads / each).clamp(LEAST_ANCHORS, MOST_ANCHORS),
    };
    let size = (sizes.anchors / ENOUGH_BLOCKS).clamp(LEAST_ANCHORS, most);
    let blocks = split(sizes.anchors, sizes.anchors.div_ceil(size));
    let largest = blocks.iter().map(Range::len).max().unwrap_or(0);
    let bytes = index.size() + threads.min(blocks.len()) * largest * each;
    Ok(Plan { blocks, ranges: split(sizes.rows, 1), slab: 0, bytes, order: order(job, index, workers)? })
}

/// The slots of a job by the list that their anchor is nearest to; nothing if there is one list.
fn order(job: &Job<'_>, index: &Index, workers: &mut Workers<'_>) -> Result<Vec<u32>> {
    let (n, lists, width) = (job.anchors.len(), index.lists.len(), index.coder.width());
    if lists == 1 {
        return Ok(Vec::new());
    }
    let mut nearest = vec![0u32; n];
    let spans = split(n, n.div_ceil(SPAN));
    let parts = cut(&mut nearest, spans.iter().map(ExactSizeIterator::len));
    let tasks: Vec<_> = spans.into_iter().zip(parts).collect();
    let operations = (n * (job.scorer.queries.rows().dim() + lists) * width) as u64;
    let start = || (int8::Room::default(), Coded::default(), Vec::new());
    workers.run(operations, tasks, start, |(room, coded, near), (span, nearest), progress| {
        coded.fill(job, index, &job.anchors[span], 1.0, room);
        nearness(index, &CodeTile::new(job.scorer.level), (coded, nearest.len()), near);
        for (nearest, near) in nearest.iter_mut().zip(near.chunks_exact(lists)) {
            *nearest = crate::clusters::largest(near);
        }
        progress.advance(0)
    })?;
    let mut slots: Vec<u32> = (0..n as u32).collect();
    slots.sort_by_key(|&slot| nearest[slot as usize]);
    Ok(slots)
}

/// Bytes that a thread needs beside an index of so many coordinates and lists.
pub(super) fn least_bytes(job: &Job<'_>, width: usize, lists: usize) -> usize {
    LEAST_ANCHORS * bytes_each(&job.sizes(), width, lists)
}

/// Bytes of an anchor of a block: plain, coded, beside others, its distances, its first estimates, its candidates.
fn bytes_each(sizes: &Sizes, width: usize, lists: usize) -> usize {
    let candidates = Buffers::capacity_for(sizes.depth.min(sizes.rows)) * size_of::<u64>();
    let estimates = sizes.rows / 50 * size_of::<f32>();
    sizes.dim * size_of::<f32>() + width * 6 + lists * 5 + candidates + estimates + 256
}

/// The `n`-th largest of `numbers`, which it puts into another order, or the smallest.
pub(super) fn nth_largest(numbers: &mut [f32], n: usize) -> f32 {
    let at = n.clamp(1, numbers.len()) - 1;
    *numbers.select_nth_unstable_by(at, |a, b| b.total_cmp(a)).1
}
