//! Which corpus rows are near-copies of each other.
//!
//! Telling copies apart pair by pair costs the square of a list's length for every anchor. Near-copies are few and
//! belong to the corpus alone, so where lists are long it is cheaper to find all pairs once, with one search of the
//! corpus in itself, and then to look them up.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use crate::accept::Accept;
use crate::error::Result;
use crate::score::{Metric, Scorer};
use crate::search::{Asked, Engine, Job, Work};
use crate::threads::Workers;
use crate::topk::Candidate;

/// Copies that are listed per row, itself among them. Rows that have more are compared directly.
const MOST: usize = 64;

/// For each corpus row the rows whose cosine with it is above a bound.
#[derive(Debug)]
pub struct Copies {
    lists: Vec<Vec<u32>>,
}

/// Keeps what scores at least a bound.
struct AtLeast(f64);

impl Accept for AtLeast {
    type Tally = ();

    fn floor(&self, _: usize) -> f64 {
        self.0
    }
}

impl Copies {
    /// Finds the pairs of rows of the scorer's corpus whose cosine is above `bound`.
    ///
    /// # Errors
    /// If the call is cancelled.
    pub fn find(
        scorer: &Scorer<'_>,
        bound: f64,
        max_memory: Option<usize>,
        workers: &mut Workers<'_>,
        work: &Work,
    ) -> Result<Self> {
        let scorer = Scorer::new(scorer.corpus, scorer.corpus, Metric::Cosine, scorer.level)?;
        let rows: Vec<u32> = (0..scorer.corpus.len() as u32).collect();
        let depth = MOST.min(rows.len());
        let job = Job { scorer: &scorer, anchors: &rows, depth, scored: depth, audited: depth, max_memory };
        let mut engine = Engine::new(&scorer, Asked::following(max_memory))?;
        let plan = engine.plan(&job, &AtLeast(bound), workers, work)?;
        let lists = Mutex::new(vec![Vec::new(); rows.len()]);
        let outputs = vec![(); plan.blocks.len()];
        engine.search(&job, &plan, &AtLeast(bound), workers, work, outputs, |(), finished| {
            let mut found = Vec::new();
            finished.each(|f, _| {
                let above = f.kept.iter().filter(|c| f64::from(c.score) > bound);
                found.push((f.slot, above.map(|c| c.row).collect()));
            })?;
            let mut lists = lists.lock().unwrap_or_else(PoisonError::into_inner);
            for (slot, list) in found {
                lists[slot] = list;
            }
            Ok(())
        })?;
        Ok(Self { lists: lists.into_inner().unwrap_or_else(PoisonError::into_inner) })
    }

    /// Whether `row` is a copy of one of the rows `taken`, which `members` holds too.
    pub fn any(
        &self,
        row: u32,
        taken: &[Candidate],
        members: &HashSet<u32>,
        mut compare: impl FnMut(u32) -> bool,
    ) -> bool {
        let list = &self.lists[row as usize];
        if list.iter().any(|other| members.contains(other)) {
            return true;
        }
        // A list that is full may lack some; then the other row's list tells, or the rows themselves.
        let full = |row: u32| self.lists[row as usize].len() >= MOST;
        let lists = |other: u32| self.lists[other as usize].contains(&row);
        full(row) && taken.iter().any(|c| if full(c.row) { compare(c.row) } else { lists(c.row) })
    }
}
