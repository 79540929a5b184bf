//! The search of a corpus in itself: each pair is multiplied once.
//!
//! The score of two rows is one for both, so a tile of rows against rows serves the anchors on both sides. Every anchor's
//! threshold and candidates have to be at hand for that, for the whole corpus at once.
//!
//! First each block of anchors visits the lists nearest to it, as in any search over codes: this sets thresholds. Then
//! every pair of blocks is multiplied once; what may reach the threshold of either side is looked at, and offered to the
//! side that wants it, unless that side met it in its first lists.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::block::{Block, Finished};
use super::coded::{Coded, Effort, Pass};
use super::index::{Index, NO_ROW};
use super::sweep::{Room, Sweep};
use super::{Job, Plan, Work};
use crate::accept::Accept;
use crate::error::Result;
use crate::kernel::{CODE_COLUMNS, CODE_ROWS, CodePanel};
use crate::score::Metric;
use crate::threads::{Progress, Workers};
use crate::topk::{Buffers, Candidate};

/// Rows of a block, about.
const BLOCK: usize = 1024;
/// The most bytes that candidates may take if the caller sets no bound.
const MOST_BYTES: usize = 1 << 30;

/// Whether `job` searches the corpus of `index` in itself, and may have the memory to do so at once.
pub(super) fn fits(job: &Job<'_>, index: &Index) -> bool {
    let (queries, corpus) = (job.scorer.queries, job.scorer.corpus);
    let same = queries.rows().is_same(corpus.rows()) && job.scorer.metric == Metric::Cosine;
    let whole = job.anchors.len() == corpus.len() && job.anchors.iter().zip(0..).all(|(&anchor, row)| anchor == row);
    let bytes = bytes(job, index);
    same && whole && job.max_memory.map_or(bytes <= MOST_BYTES, |bound| bytes + index.size() <= bound)
}

/// Bytes of all anchors: their candidates, codes, rows for the second look and visits.
fn bytes(job: &Job<'_>, index: &Index) -> usize {
    let candidates = Buffers::capacity_for(job.depth.min(job.anchors.len())) * size_of::<u64>();
    let coded = index.coder.width() + job.scorer.corpus.rows().dim() * 4 + index.lists.len() / 8;
    job.anchors.len() * (candidates + coded + 256)
}

/// Cuts the places of an index into blocks of whole panels.
pub(super) fn plan(job: &Job<'_>, index: &Index) -> Plan {
    let (mut blocks, mut order) = (Vec::new(), Vec::with_capacity(job.anchors.len()));
    for panels in panels(index) {
        let first = order.len();
        order.extend(rows(index, &panels).map(|(_, row)| row));
        blocks.push(first..order.len());
    }
    let bytes = index.size() + bytes(job, index);
    Plan { blocks, ranges: Vec::new(), slab: 0, bytes, order }
}

fn panels(index: &Index) -> Vec<Range<usize>> {
    let (all, size) = (index.real.len(), BLOCK / CODE_COLUMNS);
    (0..all).step_by(size).map(|first| first..(first + size).min(all)).collect()
}

/// Places and rows of some panels.
fn rows<'i>(index: &'i Index, panels: &Range<usize>) -> impl Iterator<Item = (usize, u32)> + use<'i> {
    let places = panels.start * CODE_COLUMNS..panels.end * CODE_COLUMNS;
    places.map(|place| (place, index.rows[place])).filter(|&(_, row)| row != NO_ROW)
}

/// What is the same for all pairs of blocks.
struct Join<'s, 'a, A: Accept> {
    pass: &'s Pass<'a, A>,
    panels: Vec<Range<usize>>,
    blocks: Vec<Mutex<Block<'a, A>>>,
    starts: Vec<Start>,
    /// For each place, which anchor of its block it is.
    locals: Vec<u32>,
}

/// A block after its first lists: what does not change any more.
struct Start {
    /// Codes, padded to whole tiles.
    coded: Coded,
    /// Where each anchor has been: a bit for each list.
    visited: Vec<u64>,
}

/// A row for an anchor, and the list that the row is in.
type Offer = (usize, usize, Candidate);

/// Runs `job`, which fits, as `plan` cuts it.
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
    index: &Index,
    accept: &A,
    workers: &mut Workers<'_>,
    work: &Work,
    outputs: Vec<O>,
    take: impl Fn(O, &mut Finished<'_, '_, A>) -> Result<()> + Sync,
) -> Result<()> {
    assert_eq!(outputs.len(), plan.blocks.len(), "one output per block");
    let pass = Pass::new(job, index, Effort::proof(index, job.depth), accept, work);
    let (n, dim) = (job.anchors.len(), job.scorer.corpus.rows().dim());
    work.bytes.fetch_max(plan.bytes as u64, Ordering::Relaxed);
    workers.progress().expect((n * n / 2) as u64);
    let operations = (n * n * index.coder.width()) as u64;
    let panels = panels(index);
    let begun: Vec<_> = panels.iter().map(|_| Mutex::new(None)).collect();
    workers.run(
        operations,
        (0..panels.len()).collect(),
        || Room::new(dim),
        |room, b, progress| {
            *lock(&begun[b]) = Some(begin(&pass, plan.slots(b), room)?);
            progress.advance(0)
        },
    )?;
    let (blocks, starts): (Vec<_>, Vec<_>) = begun.into_iter().filter_map(into_inner).unzip();
    let mut locals = vec![0; index.rows.len()];
    for panels in &panels {
        rows(index, panels).zip(0..).for_each(|((place, _), local)| locals[place] = local);
    }
    let blocks = blocks.into_iter().map(Mutex::new).collect();
    let join = Join { pass: &pass, panels, blocks, starts, locals };
    let pairs = (0..join.panels.len()).flat_map(|a| (a..plan.blocks.len()).map(move |b| (a, b))).collect();
    workers.run(operations, pairs, || Room::new(dim), |room, pair, progress| join.pair(pair, room, progress))?;
    let tasks: Vec<_> = join.blocks.into_iter().map(into_inner).zip(outputs).collect();
    workers.run(
        operations,
        tasks,
        || Room::new(dim),
        |room, (block, output), progress| {
            let clock = Instant::now();
            block.finish(work, progress, &mut room.scratch, |finished| take(output, finished))?;
            Work::add(&work.finishing, clock);
            Ok(())
        },
    )
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn into_inner<T>(mutex: Mutex<T>) -> T {
    mutex.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Takes a block through its first lists.
fn begin<'a, A: Accept>(pass: &Pass<'a, A>, slots: Vec<u32>, room: &mut Room) -> Result<(Block<'a, A>, Start)> {
    let clock = Instant::now();
    let mut block = Block::new(pass.job, pass.accept, slots, true, pass.error, Buffers::default());
    let mut coded = Coded::default();
    pass.code(block.anchors(), &mut coded, &mut room.coding);
    Work::add(&pass.work.packing, clock);
    let clock = Instant::now();
    let (mut near, mut visited) = (Vec::new(), Vec::new());
    // What is scanned here is little, and comes again.
    let silent = Progress::default();
    let mut sweep = Sweep { pass, block: &mut block, coded: &coded, progress: &silent, first_row: 0, scanned: 0 };
    sweep.nearest(&mut near, &mut visited, room)?;
    pass.work.rows_scanned.fetch_add(sweep.scanned, Ordering::Relaxed);
    let lists = pass.index.lists.len();
    let words = lists.div_ceil(64);
    let mut bits = vec![0u64; block.len() * words];
    for (bits, visited) in bits.chunks_exact_mut(words).zip(visited.chunks_exact(lists)) {
        (0..lists).filter(|&list| visited[list]).for_each(|list| bits[list / 64] |= 1 << (list % 64));
    }
    Work::add(&pass.work.scanning, clock);
    Ok((block, Start { coded, visited: bits }))
}

impl<A: Accept> Join<'_, '_, A> {
    /// Multiplies the rows of one block with those of another, or of its own.
    fn pair(&self, (a, b): (usize, usize), room: &mut Room, progress: &Progress) -> Result<()> {
        let clock = Instant::now();
        let (index, scorer) = (self.pass.index, self.pass.job.scorer);
        // A snapshot will do: thresholds hardly move any more.
        let (looks, wanted) = (self.looks(a), self.looks(b));
        let places: Vec<usize> = rows(index, &self.panels[a]).map(|(place, _)| place).collect();
        let (mut ours, mut theirs): (Vec<Offer>, Vec<Offer>) = (Vec::new(), Vec::new());
        let coded = &self.starts[a].coded;
        let epsilon = self.pass.epsilon;
        let in_codes =
            looks.iter().zip(&coded.inverses).map(|(look, inverse)| ((look - epsilon) * inverse).max(f32::MIN));
        let mut thresholds: Vec<f32> = in_codes.collect();
        thresholds.resize(looks.len().next_multiple_of(self.pass.tile.rows), f32::INFINITY);
        let (mut hits, mut checked) = (std::mem::take(&mut room.hits), 0);
        for panel in self.panels[b].clone() {
            self.tiles((a, b), panel, (&thresholds[..], looks.len(), &wanted), &mut hits);
            checked += hits.len();
            for (i, place) in hits.drain(..).map(|(i, place)| (i as usize, place as usize)) {
                let row = index.rows[place];
                let score = index.seconds.product(scorer, &coded.seconds, i, (place, row), &mut room.second);
                let other = self.locals[place] as usize;
                if score >= looks[i] {
                    ours.push((i, index.list_of(place), Candidate { score, row }));
                }
                if a != b && score >= wanted[other] {
                    theirs.push((other, index.list_of(places[i]), Candidate { score, row: index.rows[places[i]] }));
                }
            }
            progress.advance((looks.len() * CODE_COLUMNS) as u64)?;
        }
        room.hits = hits;
        self.pass.work.rows_checked.fetch_add(checked as u64, Ordering::Relaxed);
        self.give(a, ours, room);
        self.give(b, theirs, room);
        let scanned = looks.len() * self.panels[b].len() * CODE_COLUMNS;
        self.pass.work.rows_scanned.fetch_add(scanned as u64, Ordering::Relaxed);
        Work::add(&self.pass.work.scanning, clock);
        Ok(())
    }

    fn looks(&self, block: usize) -> Vec<f32> {
        let block = lock(&self.blocks[block]);
        (0..block.len()).map(|i| block.look(i)).collect()
    }

    /// Finds the pairs of a block's anchors with a panel's rows that may reach the threshold of one or the other.
    fn tiles(
        &self,
        (a, b): (usize, usize),
        panel: usize,
        (thresholds, count, wanted): (&[f32], usize, &[f32]),
        hits: &mut Vec<(u32, u32)>,
    ) {
        let Pass { index, tile, epsilon, .. } = *self.pass;
        let (quads, coded) = (index.coder.quads(), &self.starts[a].coded);
        let mut columns = [f32::INFINITY; CODE_COLUMNS];
        for (c, threshold) in columns.iter_mut().enumerate().filter(|(c, _)| index.real[panel] >> c & 1 == 1) {
            *threshold = (wanted[self.locals[panel * CODE_COLUMNS + c] as usize] - epsilon).max(f32::MIN);
        }
        let codes = CodePanel { thresholds: &columns, ..index.panel(panel) };
        let mut masks = [0; CODE_ROWS];
        for start in (0..count).step_by(tile.rows) {
            let real = tile.rows.min(count - start);
            let anchors = coded.rows(start, quads, &thresholds[start..]);
            let reached = if a == b {
                tile.run(&anchors, &codes, quads, coded.run, &mut masks)
            } else {
                tile.run_both(&anchors, &codes, quads, coded.run, &mut masks)
            };
            for (r, &mask) in masks[..real].iter().enumerate().filter(|_| reached) {
                let mut mask = mask & index.real[panel];
                while mask != 0 {
                    hits.push(((start + r) as u32, (panel * CODE_COLUMNS) as u32 + mask.trailing_zeros()));
                    mask &= mask - 1;
                }
            }
        }
    }

    /// Hands a block what was found for its anchors, but for what they met in their first lists.
    fn give(&self, block: usize, offers: Vec<Offer>, room: &mut Room) {
        if offers.is_empty() {
            return;
        }
        let (visited, words) = (&self.starts[block].visited, self.pass.index.lists.len().div_ceil(64));
        let mut block = lock(&self.blocks[block]);
        for (i, list, candidate) in offers {
            if visited[i * words + list / 64] >> (list % 64) & 1 == 0 {
                block.offer(i, candidate);
            }
        }
        block.absorb(&mut room.scratch);
    }
}
