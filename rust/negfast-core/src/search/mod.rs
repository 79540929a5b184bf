//! Searches: for each anchor, the best rows that an [`Accept`](crate::accept::Accept) allows.

mod block;
mod choice;
mod coded;
mod engine;
mod exact;
mod index;
mod join;
mod plan;
mod recall;
mod second;
mod signatures;
mod sweep;
mod trial;

pub use block::{Finished, Found};
pub use engine::{Account, Asked, Engine, Method};
pub use plan::{Plan, Sizes};
pub use recall::Recall;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::score::Scorer;

/// One search: which anchors, how deep, with how much memory.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// Scores of the two matrices.
    pub scorer: &'a Scorer<'a>,
    /// The anchor in each slot; an anchor may occur in several.
    pub anchors: &'a [u32],
    /// How many rows to keep per anchor.
    pub depth: usize,
    /// How many of those need scores; of the others an estimate will do, and no recall is promised.
    pub scored: usize,
    /// How many of them recall is measured on: those that are used now.
    pub audited: usize,
    /// Bound on the bytes of all working buffers, if there is one.
    pub max_memory: Option<usize>,
}

impl Job<'_> {
    /// What its plan is made from.
    pub fn sizes(&self) -> Sizes {
        let Self { scorer, anchors, depth, max_memory, .. } = *self;
        Sizes { anchors: anchors.len(), rows: scorer.corpus.len(), dim: scorer.corpus.rows().dim(), depth, max_memory }
    }
}

/// What a search did, added up over threads and passes.
#[derive(Debug, Default)]
pub struct Work {
    planning: AtomicU64,
    indexing: AtomicU64,
    packing: AtomicU64,
    scanning: AtomicU64,
    finishing: AtomicU64,
    rows_scanned: AtomicU64,
    rows_checked: AtomicU64,
    rows_rescored: AtomicU64,
    bytes: AtomicU64,
}

impl Work {
    /// Wall-clock time spent choosing a search, fitting its effort and measuring its recall.
    pub fn planning(&self) -> Duration {
        Duration::from_nanos(self.planning.load(Ordering::Relaxed))
    }

    /// Wall-clock time spent coding the corpus and cutting it into lists.
    pub fn indexing(&self) -> Duration {
        Duration::from_nanos(self.indexing.load(Ordering::Relaxed))
    }

    /// Thread-time spent laying out rows for the tile.
    pub fn packing(&self) -> Duration {
        Duration::from_nanos(self.packing.load(Ordering::Relaxed))
    }

    /// Thread-time spent in tiles and on the rows that reach a threshold.
    pub fn scanning(&self) -> Duration {
        Duration::from_nanos(self.scanning.load(Ordering::Relaxed))
    }

    /// Thread-time spent scoring and ordering what was kept, and on what the caller does with it.
    pub fn finishing(&self) -> Duration {
        Duration::from_nanos(self.finishing.load(Ordering::Relaxed))
    }

    /// Pairs of anchor and row that the tile multiplied.
    pub fn rows_scanned(&self) -> u64 {
        self.rows_scanned.load(Ordering::Relaxed)
    }

    /// Pairs that an estimate from codes could not settle.
    pub fn rows_checked(&self) -> u64 {
        self.rows_checked.load(Ordering::Relaxed)
    }

    /// Pairs that were scored in `f64`.
    pub fn rows_rescored(&self) -> u64 {
        self.rows_rescored.load(Ordering::Relaxed)
    }

    /// The most bytes that a pass was planned to hold in working buffers at one time.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn add(counter: &AtomicU64, since: Instant) {
        counter.fetch_add(since.elapsed().as_nanos() as u64, Ordering::Relaxed);
    }
}
