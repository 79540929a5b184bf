//! The search over signatures: one bit an element, estimates from tables.
//!
//! Every anchor meets every row, in the order of the corpus. An estimate errs by a random amount whose standard
//! deviation each pair knows ([`SignCoder`]); a row is looked at if so many of them above its estimate reach its anchor's
//! threshold. Nothing is proven.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::block::{Block, Finished, unit};
use super::coded::Effort;
use super::second::{SecondAnchors, SecondRow, Seconds};
use super::{Job, Plan, Work};
use crate::accept::Accept;
use crate::codes::signs::{CodedQuery, CodingScratch, FACTORS, SignCoder};
use crate::error::Result;
use crate::kernel::{BLOCK_ROWS, Blocks, Lookup, LookupOutput, PANEL_QUERIES, Table, Tables};
use crate::score::{Metric, Scorer, Scratch};
use crate::threads::{Progress, Workers, split};
use crate::topk::{Buffers, Candidate};

/// Anchors of a block: their tables and rows stay in a core's cache.
const ANCHORS: usize = 256;
/// Blocks of the corpus after which thresholds are read anew.
const STRETCH: usize = 8;

/// The signatures of a corpus.
#[derive(Debug)]
pub(super) struct SignIndex {
    coder: SignCoder,
    words: Vec<u64>,
    factors: Vec<f32>,
    blocks: Blocks,
    seconds: Seconds,
}

/// What a worker keeps from task to task.
struct Room {
    coding: CodingScratch,
    out: LookupOutput,
    tables: Tables,
    seconds: SecondAnchors,
    second: SecondRow,
    scratch: Scratch,
    kept: Buffers,
    hits: Vec<(u32, u32)>,
}

impl SignIndex {
    /// Makes signatures of about as many bits as rows have elements.
    ///
    /// # Errors
    /// If rows are too long, or the call is cancelled.
    pub(super) fn build(scorer: &Scorer<'_>, keep_short: bool, workers: &mut Workers<'_>) -> Result<Self> {
        let (n, dim) = (scorer.corpus.len(), scorer.corpus.rows().dim());
        let coder = SignCoder::new(dim, dim.next_multiple_of(64), 0, scorer.metric)?;
        let coder = coder.fit("corpus", scorer.corpus, workers)?;
        let (mut words, mut factors) = (vec![0; n * coder.words()], vec![0.0; n * FACTORS]);
        coder.encode("corpus", scorer.corpus, &mut words, &mut factors, scorer.level, workers)?;
        let mut blocks = Blocks::default();
        blocks.pack(&words, coder.words(), |row| [0, 1, 2].map(|term| factors[row * FACTORS + term]));
        let rows: Vec<u32> = (0..n as u32).collect();
        let seconds = Seconds::new(scorer, &rows, keep_short, workers)?;
        Ok(Self { coder, words, factors, blocks, seconds })
    }

    /// Bytes in memory.
    pub(super) fn size(&self) -> usize {
        self.words.len() * 16 + self.factors.len() * 8 + self.seconds.size()
    }

    /// Cycles for a pair, counted in multiply-adds of the int8 tile.
    pub(super) fn bits(&self) -> usize {
        self.coder.n_bits()
    }

    /// Cuts a job into blocks, which do not depend on the threads.
    pub(super) fn plan(&self, job: &Job<'_>, threads: usize) -> Plan {
        let blocks = split(job.anchors.len(), job.anchors.len().div_ceil(ANCHORS));
        let bytes = self.size() + threads.min(blocks.len()) * ANCHORS * bytes_each(job);
        Plan { blocks, ranges: split(job.scorer.corpus.len(), 1), slab: 0, bytes, order: Vec::new() }
    }

    fn room(&self, dim: usize) -> Room {
        Room {
            coding: self.coder.scratch(),
            out: LookupOutput::default(),
            tables: Tables::default(),
            seconds: SecondAnchors::default(),
            second: SecondRow::new(dim),
            scratch: Scratch::new(dim),
            kept: Buffers::default(),
            hits: Vec::new(),
        }
    }

    /// How many standard deviations the row needs to be looked at by an anchor at this threshold, in tile units.
    fn deviations(&self, query: &CodedQuery, row: usize, threshold: f64, scorer: &Scorer<'_>) -> f32 {
        let [scale, add, width] = [0, 1, 2].map(|term| self.factors[row * FACTORS + term]);
        let words = &self.words[row * self.coder.words()..(row + 1) * self.coder.words()];
        let nibble = |group: usize| (words[group / 16] >> (group % 16 * 4) & 15) as usize;
        let entries = query.table.entries().iter().enumerate();
        let sum: u32 = entries.map(|(group, entries)| u32::from(entries[nibble(group)])).sum();
        let estimate = scale * (sum as f32 - query.table.offset()) + add * query.table.add;
        let missing = f64::from(query.threshold(in_directions(threshold, scorer)) - estimate) * query.table.unit();
        (missing / (f64::from(width) * query.length).max(f64::MIN_POSITIVE)) as f32
    }

    /// For each anchor of `job`: the deviations that its rows of `lists` need at the last score of the list, and those of
    /// rows that `random` names.
    pub(super) fn demands(
        &self,
        job: &Job<'_>,
        lists: &[Vec<Candidate>],
        random: impl Fn(usize) -> Vec<u32> + Sync,
        workers: &mut Workers<'_>,
    ) -> Result<Vec<(Vec<f32>, Vec<f32>)>> {
        let scorer = job.scorer;
        let mut out = vec![(Vec::new(), Vec::new()); lists.len()];
        let tasks: Vec<_> = lists.iter().enumerate().zip(&mut out).collect();
        let operations = (lists.len() * 1000 * self.bits()) as u64;
        workers.run(
            operations,
            tasks,
            || self.coder.scratch(),
            |scratch, ((i, list), out), progress| {
                let Some(last) = list.last() else { return Ok(()) };
                let anchor = job.anchors[i] as usize;
                let query = self.coder.query(scorer.queries, anchor, true, scorer.level, scratch);
                let threshold = f64::from(last.score) / unit(scorer, anchor, scorer.corpus_scale());
                let needed = |row: u32| self.deviations(&query, row as usize, threshold, scorer);
                *out = (list.iter().map(|c| needed(c.row)).collect(), random(i).into_iter().map(needed).collect());
                progress.advance(0)
            },
        )?;
        Ok(out)
    }
}

/// Bytes that signatures of the corpus and the blocks of all threads take, without rows in 16 bits.
pub(super) fn bytes(job: &Job<'_>, threads: usize) -> usize {
    let bits = job.scorer.corpus.rows().dim().next_multiple_of(64);
    job.scorer.corpus.len() * (bits / 4 + 2 * FACTORS * size_of::<f32>()) + threads * ANCHORS * bytes_each(job)
}

/// Bytes of an anchor of a block: its tables, its row, its candidates.
fn bytes_each(job: &Job<'_>) -> usize {
    let dim = job.scorer.corpus.rows().dim();
    Buffers::capacity_for(job.depth.min(job.scorer.corpus.len())) * size_of::<u64>() + dim.next_multiple_of(64) * 16
}

/// A threshold in tile units as a score with an anchor's direction.
fn in_directions(threshold: f64, scorer: &Scorer<'_>) -> f64 {
    if scorer.metric == Metric::Cosine { threshold } else { threshold * scorer.corpus_scale() }
}

/// Runs `job` as `plan` cuts it, looking at rows that are within `effort.share` standard deviations.
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
    (index, effort): (&SignIndex, Effort),
    accept: &A,
    workers: &mut Workers<'_>,
    work: &Work,
    outputs: Vec<O>,
    take: impl Fn(O, &mut Finished<'_, '_, A>) -> Result<()> + Sync,
) -> Result<()> {
    assert_eq!(outputs.len(), plan.blocks.len(), "one output per block");
    work.bytes.fetch_max(plan.bytes as u64, Ordering::Relaxed);
    let dim = job.scorer.corpus.rows().dim();
    let pairs = (job.anchors.len() * job.scorer.corpus.len()) as u64;
    workers.progress().expect(pairs);
    let tasks: Vec<_> = (0..plan.blocks.len()).zip(outputs).collect();
    workers.run(
        pairs * dim as u64,
        tasks,
        || index.room(dim),
        |room, (b, output), progress| {
            let clock = Instant::now();
            let error = index.seconds.error(dim);
            let mut block = Block::new(job, accept, plan.slots(b), false, error, std::mem::take(&mut room.kept));
            let queries = index.queries(job, block.anchors(), effort, room);
            index.seconds.anchors(job.scorer, block.anchors(), &mut room.seconds);
            Work::add(&work.packing, clock);
            let clock = Instant::now();
            index.scan(job, &mut block, &queries, (room, work, progress))?;
            Work::add(&work.scanning, clock);
            let clock = Instant::now();
            room.kept = block.finish(work, progress, &mut room.scratch, |finished| take(output, finished))?;
            Work::add(&work.finishing, clock);
            Ok(())
        },
    )
}

impl SignIndex {
    /// Makes the tables of a block's anchors, and packs them.
    fn queries(&self, job: &Job<'_>, anchors: &[u32], effort: Effort, room: &mut Room) -> Vec<CodedQuery> {
        let scorer = job.scorer;
        let made = anchors.iter().map(|&anchor| {
            let mut query = self.coder.query(scorer.queries, anchor as usize, true, scorer.level, &mut room.coding);
            query.table.width = (effort.share * query.length / query.table.unit()) as f32;
            query
        });
        let queries: Vec<_> = made.collect();
        let tables: Vec<Table> = queries.iter().map(|query| query.table.clone()).collect();
        room.tables.pack(&tables, &Lookup::new(scorer.level));
        queries
    }

    fn scan<A: Accept>(
        &self,
        job: &Job<'_>,
        block: &mut Block<'_, A>,
        queries: &[CodedQuery],
        (room, work, progress): (&mut Room, &Work, &Progress),
    ) -> Result<()> {
        let (scorer, lookup) = (job.scorer, Lookup::new(job.scorer.level));
        let mut thresholds = vec![f32::INFINITY; queries.len().next_multiple_of(PANEL_QUERIES)];
        for b in 0..self.blocks.count() {
            if b % STRETCH == 0 {
                for (i, (threshold, query)) in thresholds.iter_mut().zip(queries).enumerate() {
                    block.tighten(i);
                    let score = in_directions(f64::from(block.look(i)), scorer);
                    *threshold = if score == f64::NEG_INFINITY { f32::MIN } else { query.threshold(score) };
                }
            }
            for p in 0..room.tables.count() {
                let first = p * PANEL_QUERIES;
                if !lookup.run(&room.tables, p, &self.blocks, b, &thresholds[first..], &mut room.out) {
                    continue;
                }
                for (i, &mask) in (first..queries.len()).zip(&room.out.masks) {
                    let mut mask = mask;
                    while mask != 0 {
                        room.hits.push((i as u32, (b * BLOCK_ROWS) as u32 + mask.trailing_zeros()));
                        mask &= mask - 1;
                    }
                }
            }
            for &(i, row) in &room.hits {
                let (i, place) = (i as usize, row as usize);
                let score = self.seconds.product(scorer, &room.seconds, i, (place, row), &mut room.second);
                block.offer(i, Candidate { score, row });
            }
            work.rows_checked.fetch_add(room.hits.len() as u64, Ordering::Relaxed);
            room.hits.clear();
            block.absorb(&mut room.scratch);
            let rows = BLOCK_ROWS.min(self.blocks.rows() - b * BLOCK_ROWS);
            let pairs = (queries.len() * rows) as u64;
            work.rows_scanned.fetch_add(pairs, Ordering::Relaxed);
            progress.advance(pairs)?;
        }
        Ok(())
    }
}
