//! How a search is cut into tasks, and what they hold in memory.

use std::ops::Range;

use super::Job;
use crate::error::{Error, Result};
use crate::kernel::Tile;
use crate::threads::split;
use crate::topk::Buffers;

/// A packed stretch of the corpus. Its panels pass over all anchors of a block one by one, each staying in the nearest
/// caches meanwhile, while the packed anchors stream from the third level: a tile computes so long that a few bytes a
/// cycle suffice.
const SLAB_BYTES: usize = 1 << 20;
/// All working buffers together, if the caller sets no bound. Packing the corpus anew for each block of anchors
/// costs about one part in a thousand anchors, so larger blocks gain little.
const DEFAULT_BYTES: usize = 40 << 20;
/// Bounds on the anchors of a block.
const MOST_ANCHORS: usize = 4096;
const FEW_ANCHORS: usize = 256;
/// Below this many anchors a thread, the corpus is cut too.
const ENOUGH_ANCHORS: usize = 1024;
const LEAST_RANGE: usize = 4096;

/// The tasks of a search.
#[derive(Debug)]
pub struct Plan {
    /// Slots of each block of anchors; a block's lists are finished by one thread.
    pub blocks: Vec<Range<usize>>,
    /// Parts of the corpus that each block is searched in.
    pub ranges: Vec<Range<usize>>,
    /// Corpus rows packed at a time.
    pub slab: usize,
    /// Bytes of working buffers when all threads are busy.
    pub bytes: usize,
}

impl Plan {
    /// Plans `job` for `threads`.
    ///
    /// # Errors
    /// If `max_memory` is too small for the smallest block on every thread.
    pub fn new(job: &Job<'_>, tile: &Tile, threads: usize) -> Result<Self> {
        let dim = job.scorer.corpus.rows().dim();
        let (anchors, rows) = (job.anchors.len(), job.scorer.corpus.len());
        let panel = dim * tile.columns * size_of::<f32>();
        let slab = (SLAB_BYTES / panel).max(1) * tile.columns;
        // The packed slab and the row-major panel it is made from; the packed anchors; candidates and thresholds.
        let fixed = slab * dim * size_of::<f32>() + panel;
        let each = Buffers::capacity_for(job.depth.min(rows)) * size_of::<u64>() + dim * size_of::<f32>() + 128;
        let most = largest_block(job.max_memory, threads, fixed, each, tile)?;
        let (blocks, parts) = if anchors >= threads * ENOUGH_ANCHORS {
            (anchors.div_ceil(most).next_multiple_of(threads), 1)
        } else {
            let blocks = anchors.div_ceil(most).max(1);
            (blocks, threads.div_ceil(blocks).min(rows / LEAST_RANGE))
        };
        let blocks = split(anchors, blocks);
        let largest = blocks.iter().map(Range::len).max().unwrap_or(0);
        let busy = threads.min(blocks.len() * parts.max(1));
        Ok(Self { blocks, ranges: split(rows, parts), slab, bytes: busy * (fixed + largest * each) })
    }
}

fn largest_block(bound: Option<usize>, threads: usize, fixed: usize, each: usize, tile: &Tile) -> Result<usize> {
    let Some(bound) = bound else {
        let share = DEFAULT_BYTES / threads;
        return Ok((share.saturating_sub(fixed) / each).clamp(FEW_ANCHORS, MOST_ANCHORS));
    };
    let most = (bound / threads).saturating_sub(fixed) / each;
    if most < tile.rows {
        return Err(Error::invalid(
            "max_memory",
            format!("at least {} bytes for {threads} threads", threads * (fixed + tile.rows * each)),
            bound.to_string(),
            "raise it, use fewer threads or mine fewer negatives",
        ));
    }
    Ok(most.min(MOST_ANCHORS))
}
