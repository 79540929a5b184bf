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
use crate::score::{Scale, Scratch, slack};
use crate::threads::{Progress, Workers};
use crate::topk::Buffers;

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
pub(super) fn search<A: Accept, O: Send>(
    job: &Job<'_>,
    plan: &Plan,
    accept: &A,
    workers: &mut Workers<'_>,
    work: &Work,
    outputs: Vec<O>,
    take: impl Fn(O, &mut Finished<'_, '_, A>) -> Result<()> + Sync,
) -> Result<()> {
    assert_eq!(outputs.len(), plan.blocks.len(), "one output per block");
    let pass = Pass { job, plan, accept, work, tile: Tile::new(job.scorer.level) };
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

/// What all tasks of a search share.
struct Pass<'a, A> {
    job: &'a Job<'a>,
    plan: &'a Plan,
    accept: &'a A,
    work: &'a Work,
    tile: Tile,
}

impl<'a, A: Accept> Pass<'a, A> {
    fn scan(
        &self,
        slots: Range<usize>,
        range: Range<usize>,
        room: &mut Room,
        progress: &Progress,
    ) -> Result<Block<'a, A>> {
        let Job { scorer, anchors, .. } = *self.job;
        let mut block = Block::new(
            self.job,
            self.accept,
            slots.clone().map(|slot| slot as u32).collect(),
            true,
            slack(scorer.corpus.rows().dim()),
            Buffers::default(),
        );
        let first = self.accept.first_row(&slots).clamp(range.start, range.end);
        progress.advance(((first - range.start) * slots.len()) as u64)?;
        let range = first..range.end;
        self.work.rows_scanned.fetch_add((range.len() * slots.len()) as u64, Ordering::Relaxed);
        let clock = Instant::now();
        let (dim, ids) = (scorer.corpus.rows().dim(), &anchors[slots]);
        pack(&mut room.anchors, dim, ids.len(), self.tile.rows, |i, row| {
            scorer.queries.scaled(ids[i] as usize, Scale::Unit, row);
        });
        Work::add(&self.work.packing, clock);
        for start in range.clone().step_by(self.plan.slab) {
            let rows = start..(start + self.plan.slab).min(range.end);
            let clock = Instant::now();
            pack(&mut room.slab, dim, rows.len(), self.tile.columns, |i, row| {
                scorer.corpus.scaled(rows.start + i, scorer.corpus_factor(), row);
            });
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
