//! How a search is cut into tasks, and what they hold in memory.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::kernel::Tile;
use crate::threads::split;
use crate::topk::Buffers;

/// A packed stretch of the corpus. Its panels pass over all anchors of a block one by one, each staying in the nearest
/// caches meanwhile, while the packed anchors stream from the third level: a tile computes so long that a few bytes a
/// cycle suffice.
const SLAB_BYTES: usize = 1 << 20;
/// All working buffers together, if the caller sets no bound. The corpus is packed anew for each block of anchors,
/// which asks for large blocks; but blocks that leave the last-level cache slow every tile.
const DEFAULT_BYTES: usize = 20 << 20;
/// Bounds on the anchors of a block.
const MOST_ANCHORS: usize = 3072;
const FEW_ANCHORS: usize = 256;
/// Below this many anchors a thread, the corpus is cut too.
const ENOUGH_ANCHORS: usize = 1024;
const LEAST_RANGE: usize = 4096;

/// The sizes of a search, which are all that its plan depends on.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Anchors.
    pub anchors: usize,
    /// Rows of the corpus.
    pub rows: usize,
    /// Elements in a row.
    pub dim: usize,
    /// How many rows to keep per anchor.
    pub depth: usize,
    /// Bound on the bytes of all working buffers, if there is one.
    pub max_memory: Option<usize>,
}

/// The tasks of a search.
#[derive(Debug)]
pub struct Plan {
    /// Places of each block's anchors in `order`; a block's lists are finished by one thread.
    pub blocks: Vec<Range<usize>>,
    /// Parts of the corpus that each block is searched in.
    pub ranges: Vec<Range<usize>>,
    /// Corpus rows packed at a time.
    pub slab: usize,
    /// Bytes of working buffers when all threads are busy.
    pub bytes: usize,
    /// The slots in the order in which blocks hold them; nothing if that is their own.
    pub order: Vec<u32>,
}

/// What threads and anchors take, whatever the memory.
struct Footprint {
    slab: usize,
    /// Bytes of a thread before any anchor: the packed slab and the row-major panel it is made from.
    fixed: usize,
    /// Bytes of an anchor: packed, its candidates, its thresholds.
    each: usize,
}

impl Footprint {
    fn of(sizes: &Sizes, tile: &Tile) -> Self {
        let Sizes { rows, dim, depth, .. } = *sizes;
        let panel = dim * tile.columns * size_of::<f32>();
        let slab = (SLAB_BYTES / panel).max(1) * tile.columns;
        let fixed = slab * dim * size_of::<f32>() + panel;
        let candidates = Buffers::capacity_for(depth.min(rows)) * size_of::<u64>();
        Self { slab, fixed, each: candidates + dim * size_of::<f32>() + 128 }
    }

    /// The least that `threads` can work with: one panel of anchors each.
    fn least(&self, tile: &Tile, threads: usize) -> usize {
        threads * (self.fixed + tile.rows * self.each)
    }
}

impl Plan {
    /// The slots of a block.
    pub fn slots(&self, block: usize) -> Vec<u32> {
        let places = self.blocks[block].clone();
        if self.order.is_empty() { places.map(|slot| slot as u32).collect() } else { self.order[places].to_vec() }
    }

    /// Plans a search of these sizes for `threads`.
    ///
    /// # Errors
    /// If `max_memory` is too small for the smallest block on every thread.
    pub fn new(sizes: &Sizes, tile: &Tile, threads: usize) -> Result<Self> {
        let least = Footprint::of(sizes, tile).least(tile, threads);
        match sizes.max_memory {
            Some(bound) if bound < least => Err(Error::invalid(
                "search.max_memory",
                format!("at least {least} bytes for {threads} threads"),
                bound.to_string(),
                "raise it, use fewer threads or mine fewer negatives",
            )),
            _ => Ok(Self::fitting(sizes, tile, threads)),
        }
    }

    /// Plans a search with the smallest blocks if not even they fit into `max_memory`: for passes that follow one that
    /// did fit.
    pub fn fitting(sizes: &Sizes, tile: &Tile, threads: usize) -> Self {
        let Footprint { slab, fixed, each } = Footprint::of(sizes, tile);
        let Sizes { anchors, rows, max_memory, .. } = *sizes;
        let share = max_memory.unwrap_or(DEFAULT_BYTES) / threads;
        let few = if max_memory.is_some() { tile.rows } else { FEW_ANCHORS };
        let most = (share.saturating_sub(fixed) / each).clamp(few, MOST_ANCHORS);
        let (blocks, parts) = if anchors >= threads * ENOUGH_ANCHORS {
            (anchors.div_ceil(most).next_multiple_of(threads), 1)
        } else {
            let blocks = anchors.div_ceil(most).max(1);
            (blocks, threads.div_ceil(blocks).min(rows / LEAST_RANGE))
        };
        let blocks = split(anchors, blocks);
        let largest = blocks.iter().map(Range::len).max().unwrap_or(0);
        let busy = threads.min(blocks.len() * parts.max(1));
        Self { blocks, ranges: split(rows, parts), slab, bytes: busy * (fixed + largest * each), order: Vec::new() }
    }
}
