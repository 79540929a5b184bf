//! Which rows of a corpus are near-copies of each other, directly or by way of others.
//!
//! One search of the corpus in itself, of the rows after each row, unites what scores enough as it goes: pairs are not
//! listed, and those that are together already are not scored, so that a flood of copies costs neither memory nor time.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::accept::Accept;
use crate::error::Result;
use crate::kernel::Level;
use crate::score::{Matrix, Metric, Scorer};
use crate::search::{Asked, Engine, Job, Work};
use crate::threads::Workers;

/// Numbers the connected components of the rows of `corpus`, those being linked whose cosine is at least `threshold`:
/// from 0, in the order of their first rows.
///
/// # Errors
/// If the call is cancelled.
pub fn near_duplicates(
    corpus: &Matrix<'_>,
    threshold: f64,
    level: Level,
    workers: &mut Workers<'_>,
    work: &Work,
) -> Result<Vec<i64>> {
    let scorer = Scorer::new(corpus, corpus, Metric::Cosine, level)?;
    let rows: Vec<u32> = (0..corpus.len() as u32).collect();
    let job = Job { scorer: &scorer, anchors: &rows, depth: 1, scored: 1, audited: 1, max_memory: None };
    let forest = Forest::new(corpus.len());
    let joining = Joining { forest: &forest, threshold };
    let mut engine = Engine::new(&scorer, Asked { in_order: true, ..Asked::exactly(None) })?;
    let plan = engine.plan(&job, &joining, workers, work)?;
    let outputs = vec![(); plan.blocks.len()];
    engine.search(&job, &plan, &joining, workers, work, outputs, |(), _| Ok(()))?;
    Ok(forest.numbers())
}

/// Unites rows that score enough; keeps nothing.
struct Joining<'a> {
    forest: &'a Forest,
    threshold: f64,
}

impl Accept for Joining<'_> {
    type Tally = ();

    fn floor(&self, _: usize) -> f64 {
        self.threshold
    }

    fn first_row(&self, slots: &Range<usize>) -> usize {
        slots.start + 1
    }

    fn take(&self, slot: usize, row: u32, exceeds: &mut dyn FnMut(f64) -> bool) -> bool {
        let anchor = slot as u32;
        // Above the next lower number is at or above the threshold.
        if anchor < row && !self.forest.together(anchor, row) && exceeds(self.threshold.next_down()) {
            self.forest.unite(anchor, row);
        }
        true
    }
}

/// Disjoint sets that threads unite without waiting for each other.
///
/// Each row names a lower row of its set, or itself if it is the lowest. Which rows come together in the end, and what
/// their lowest is, does not depend on the order of unions. (R. Anderson and H. Woll, *Wait-free Parallel Algorithms for
/// the Union-Find Problem*, 1991.) Nothing is published with a number but the number, so relaxed accesses do.
struct Forest {
    parents: Vec<AtomicU32>,
}

impl Forest {
    fn new(rows: usize) -> Self {
        Self { parents: (0..rows as u32).map(AtomicU32::new).collect() }
    }

    fn parent(&self, row: u32) -> u32 {
        self.parents[row as usize].load(Ordering::Relaxed)
    }

    /// The lowest row known to be together with `row`. Halves the way there for those who ask later.
    fn lowest(&self, mut row: u32) -> u32 {
        loop {
            let parent = self.parent(row);
            let grandparent = self.parent(parent);
            if parent == grandparent {
                return parent;
            }
            // Where another thread was faster, its number is as good.
            let slot = &self.parents[row as usize];
            let _ = slot.compare_exchange_weak(parent, grandparent, Ordering::Relaxed, Ordering::Relaxed);
            row = grandparent;
        }
    }

    /// Whether two rows are known to be together. Another thread may just be uniting them.
    fn together(&self, a: u32, b: u32) -> bool {
        self.lowest(a) == self.lowest(b)
    }

    fn unite(&self, a: u32, b: u32) {
        loop {
            let (a, b) = (self.lowest(a), self.lowest(b));
            let (low, high) = (a.min(b), a.max(b));
            let slot = &self.parents[high as usize];
            // Fails if `high` is no longer the lowest of its set.
            if low == high || slot.compare_exchange(high, low, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return;
            }
        }
    }

    /// The number of each row's set, in the order of their lowest rows.
    fn numbers(&self) -> Vec<i64> {
        let mut numbers = vec![0; self.parents.len()];
        let mut sets = 0;
        for row in 0..numbers.len() {
            let lowest = self.lowest(row as u32) as usize;
            if lowest == row {
                numbers[row] = sets;
                sets += 1;
            } else {
                numbers[row] = numbers[lowest];
            }
        }
        numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_numbered_by_their_lowest_rows() {
        let forest = Forest::new(7);
        for (a, b) in [(5, 6), (3, 5), (1, 4), (6, 2), (4, 1)] {
            forest.unite(a, b);
        }
        assert_eq!(forest.numbers(), [0, 1, 2, 2, 1, 2, 2]);
        assert!(forest.together(3, 6) && !forest.together(0, 1));
    }

    #[test]
    fn threads_that_unite_at_once_lose_nothing() {
        let n = 20_000;
        let forest = Forest::new(n as usize);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let forest = &forest;
                scope.spawn(move || {
                    // Links to the seventh next row, in another order on each thread.
                    for i in 0..n - 7 {
                        let row = if thread % 2 == 0 { i } else { n - 8 - i };
                        forest.unite(row + 7, row);
                    }
                });
            }
        });
        assert!((0..i64::from(n)).eq(forest.numbers().into_iter().zip(0..).map(|(set, row)| {
            assert_eq!(set, row % 7);
            row
        })));
    }
}
