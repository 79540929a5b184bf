//! The exact search: every row against every anchor, in fused tiles.
//!
//! Each task packs its block of anchors once and then passes over its part of the corpus, slab by slab: a slab is
//! packed, and each of its panels is multiplied with every panel of anchors. Nothing is shared between tasks,
//! so there is nothing to wait for, and memory does not grow with the corpus.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::block::{Block, Finished};
use super::{Job, Plan, Work};
use crate::accept::Accept;
use crate::error::Result;
use crate::kernel::{Panels, Tile, TileOutput, pack};
use crate::score::{Metric, Scorer, Scratch};
use crate::threads::{Progress, Workers};

/// What a worker keeps from task to task.
struct Room {
    anchors: Panels,
    slab: Panels,
    out: TileOutput,
    scratch: Scratch,
}

/// Runs `job` as `plan` cuts it; `take` receives each finished block with its element of `outputs`.
///
/// # Errors
/// [`crate::error::Error::Cancelled`].
///
/// # Panics
/// If there are not as many outputs as blocks.
pub fn search<A: Accept, O: Send>(
    job: &Job<'_>,
    plan: &Plan,
    accept: &A,
    workers: &mut Workers<'_>,
    work: &Work,
    outputs: Vec<O>,
    take: impl Fn(O, &mut Finished<'_, '_, A>) -> Result<()> + Sync,
) -> Result<()> {
    assert_eq!(outputs.len(), plan.blocks.len(), "one output per block");
    let pass = Pass { job, plan, accept, work, tile: Tile::new(job.scorer.level), scale: corpus_scale(job.scorer) };
    let (anchors, rows, dim) = (job.anchors.len(), job.scorer.corpus.len(), job.scorer.corpus.rows().dim());
    let pairs = (anchors * rows) as u64;
    work.bytes.fetch_max(plan.bytes as u64, Ordering::Relaxed);
    workers.progress().expect(pairs);
    let operations = pairs * dim as u64;
    let start = || Room {
        anchors: Panels::default(),
        slab: Panels::default(),
        out: TileOutput::default(),
        scratch: Scratch::new(dim),
    };
    if let [whole] = plan.ranges.as_slice() {
        let tasks: Vec<_> = plan.blocks.iter().cloned().zip(outputs).collect();
        return workers.run(operations, tasks, start, |room, (slots, output), progress| {
            let block = pass.scan(slots, whole.clone(), room, progress)?;
            pass.finish(block, output, progress, &mut room.scratch, &take)
        });
    }
    let parts: Vec<_> = plan.blocks.iter().map(|_| Mutex::new(Vec::new())).collect();
    let tasks: Vec<_> = (0..plan.blocks.len()).flat_map(|b| plan.ranges.iter().map(move |r| (b, r.clone()))).collect();
    workers.run(operations, tasks, start, |room, (b, range), progress| {
        let from = range.start;
        let block = pass.scan(plan.blocks[b].clone(), range, room, progress)?;
        parts[b].lock().unwrap_or_else(PoisonError::into_inner).push((from, block));
        Ok(())
    })?;
    let parts = parts.into_iter().map(|part| part.into_inner().unwrap_or_else(PoisonError::into_inner));
    let tasks: Vec<_> = parts.zip(outputs).collect();
    let merging = (anchors * job.depth * plan.ranges.len() * dim) as u64;
    workers.run(merging, tasks, start, |room, (mut found, output), progress| {
        // In the order of the corpus, whichever part was done first.
        found.sort_unstable_by_key(|(from, _)| *from);
        let mut found = found.into_iter().map(|(_, block)| block);
        let Some(mut first) = found.next() else { return Ok(()) };
        found.for_each(|other| first.merge(other, &mut room.scratch));
        pass.finish(first, output, progress, &mut room.scratch, &take)
    })
}

/// A power of two that brings the largest corpus row to norm 1 or less; cosine divides each row by its own norm.
fn corpus_scale(scorer: &Scorer<'_>) -> f64 {
    let largest = scorer.corpus.largest_norm();
    if scorer.metric == Metric::Cosine || largest == 0.0 { 1.0 } else { largest.log2().ceil().exp2() }
}

fn reciprocal(norm: f64) -> f64 {
    if norm == 0.0 { 0.0 } else { 1.0 / norm }
}

/// What all tasks of a search share.
struct Pass<'a, A> {
    job: &'a Job<'a>,
    plan: &'a Plan,
    accept: &'a A,
    work: &'a Work,
    tile: Tile,
    scale: f64,
}

impl<'a, A: Accept> Pass<'a, A> {
    fn scan(
        &self,
        slots: Range<usize>,
        range: Range<usize>,
        room: &mut Room,
        progress: &Progress,
    ) -> Result<Block<'a, A>> {
        let Job { scorer, anchors, depth, .. } = *self.job;
        let mut block = Block::new(scorer, self.accept, anchors, slots.clone(), depth, self.scale);
        let first = self.accept.first_row(&slots).clamp(range.start, range.end);
        progress.advance(((first - range.start) * slots.len()) as u64)?;
        let range = first..range.end;
        self.work.rows_scanned.fetch_add((range.len() * slots.len()) as u64, Ordering::Relaxed);
        let clock = Instant::now();
        let ids = anchors[slots].iter().map(|&anchor| anchor as usize);
        pack(
            &mut room.anchors,
            scorer.queries.rows(),
            ids,
            |anchor| reciprocal(scorer.queries.norm(anchor)),
            self.tile.rows,
        );
        Work::add(&self.work.packing, clock);
        for start in range.clone().step_by(self.plan.slab) {
            let rows = start..(start + self.plan.slab).min(range.end);
            let clock = Instant::now();
            let corpus = scorer.corpus;
            let scale =
                |row| if scorer.metric == Metric::Dot { 1.0 / self.scale } else { reciprocal(corpus.norm(row)) };
            pack(&mut room.slab, corpus.rows(), rows.clone(), scale, self.tile.columns);
            Work::add(&self.work.packing, clock);
            self.sweep(&mut block, rows, room, progress)?;
        }
        Ok(block)
    }

    /// Multiplies the packed anchors with a packed slab.
    fn sweep(&self, block: &mut Block<'_, A>, rows: Range<usize>, room: &mut Room, progress: &Progress) -> Result<()> {
        let clock = Instant::now();
        let dim = self.job.scorer.corpus.rows().dim();
        let (tile, Room { anchors, slab, out, scratch }) = (&self.tile, room);
        for b in 0..slab.count() {
            let first_row = rows.start + b * tile.columns;
            let real = tile.columns.min(rows.end - first_row);
            for a in 0..anchors.count() {
                let start = a * tile.rows;
                if tile.run(anchors.panel(a), slab.panel(b), dim, block.thresholds(start), out) {
                    block.note(tile, out, start, first_row, real);
                }
            }
            block.absorb(scratch);
            progress.advance((block.len() * real) as u64)?;
        }
        Work::add(&self.work.scanning, clock);
        Ok(())
    }

    fn finish<O>(
        &self,
        block: Block<'_, A>,
        output: O,
        progress: &Progress,
        scratch: &mut Scratch,
        take: &(impl Fn(O, &mut Finished<'_, '_, A>) -> Result<()> + Sync),
    ) -> Result<()> {
        let clock = Instant::now();
        block.finish(self.work, progress, scratch, |finished| take(output, finished))?;
        Work::add(&self.work.finishing, clock);
        Ok(())
    }
}
