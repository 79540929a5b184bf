//! Rows that moved most, compared with every anchor: what is left moved less, and can be bounded better.

use std::sync::{Mutex, PoisonError};

use super::Past;
use crate::accept::Accept;
use crate::error::Result;
use crate::rows::{Data, Rows};
use crate::rules::Guard;
use crate::score::{Matrix, Scorer, Scratch};
use crate::search::{Asked, Engine, Job, Work};
use crate::threads::Workers;

/// The share of the corpus that may be compared because nothing else moved; because it moved most, where every list is to be
/// proven; and because it moved far more than usual, where lists are trusted.
const FEW: usize = 10;
const FARTHEST: usize = 100;
const OUTLIERS: usize = 500;
/// What is far more than usual, in mean distances.
const FAR: f32 = 5.0;
/// Movers that are remembered for an anchor, at least.
const DEPTH: usize = 64;

/// Rows to compare with every anchor, ascending, and the furthest that any other row moved.
pub(crate) fn choose(past: &Past<'_>, proof: bool) -> (Vec<u32>, f32) {
    let n = past.corpus.len();
    let moved = past.corpus.iter().filter(|&&length| length > 0.0).count();
    let most = past.corpus.iter().copied().fold(0.0, f32::max);
    let beyond = |share: usize| {
        let mut lengths = past.corpus.to_vec();
        let (_, &mut length, _) = lengths.select_nth_unstable_by(n - n / share - 1, f32::total_cmp);
        length
    };
    let above = if moved * FEW <= n {
        0.0
    } else if proof {
        // Worth a comparison only if much is gained.
        Some(beyond(FARTHEST)).filter(|&length| length < 0.8 * most).unwrap_or(most)
    } else {
        let mean = past.corpus.iter().map(|&length| f64::from(length)).sum::<f64>() / n as f64;
        beyond(OUTLIERS).max(FAR * mean as f32)
    };
    let farther = (0u32..).zip(past.corpus).filter(|(_, length)| **length > above);
    let mut movers: Vec<u32> = past.pending.iter().copied().chain(farther.map(|(row, _)| row)).collect();
    movers.sort_unstable();
    movers.dedup();
    let others = (0u32..).zip(past.corpus).filter(|(row, _)| movers.binary_search(row).is_err());
    let farthest = others.map(|(_, &length)| length).fold(0.0, f32::max);
    (movers, farthest)
}

/// What was found among movers.
#[derive(Debug, Default)]
pub(crate) struct Met {
    /// For each anchor the movers that score what it asked for, best first.
    pub(crate) rows: Vec<Vec<u32>>,
    /// What others score at most: more than asked for where there were too many.
    pub(crate) ceilings: Vec<f32>,
}

impl Met {
    /// That nothing was found for so many anchors.
    pub(crate) fn nothing(anchors: usize) -> Self {
        Self { rows: vec![Vec::new(); anchors], ceilings: vec![f32::NEG_INFINITY; anchors] }
    }
}

/// Movers that score at least what `marks` says for their anchor and that no identity rule rejects.
///
/// # Errors
/// [`crate::error::Error::Cancelled`].
pub(crate) fn meet(
    (scorer, guard): (&Scorer<'_>, &Guard<'_>),
    movers: &[u32],
    marks: &[f32],
    wanted: usize,
    workers: &mut Workers<'_>,
    work: &Work,
) -> Result<Met> {
    let mut met = Met::nothing(marks.len());
    if movers.is_empty() {
        return Ok(met);
    }
    let dim = scorer.corpus.rows().dim();
    let mut rows = vec![0.0; movers.len() * dim];
    let mut wide = vec![0.0; dim];
    for (&row, out) in movers.iter().zip(rows.chunks_exact_mut(dim)) {
        // As they are: what scales rows for a tile takes tiny ones for zeros, whose direction still counts.
        out.copy_from_slice(scorer.corpus.rows().row(row as usize, &mut wide));
    }
    let rows =
        Matrix::measure("corpus", Rows::new("corpus", Data::F32(&rows), movers.len(), dim)?, scorer.level, workers)?;
    let part = Scorer::new(scorer.queries, &rows, scorer.metric, scorer.level)?;
    let anchors: Vec<u32> = (0..marks.len() as u32).collect();
    let depth = wanted.max(DEPTH).min(movers.len());
    let job = Job { scorer: &part, anchors: &anchors, depth, scored: 0, audited: 0, max_memory: None };
    let accept = Movers { guard, movers, marks };
    let mut engine = Engine::new(&part, Asked::following(None))?;
    let plan = engine.plan(&job, &accept, workers, work)?;
    let all = Mutex::new(&mut met);
    let outputs = vec![(); plan.blocks.len()];
    engine.search(&job, &plan, &accept, workers, work, outputs, |(), finished| {
        let mut found = Vec::new();
        finished.each(|f, _| found.push((f.slot, f.kept, f.error)))?;
        let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
        for (slot, kept, error) in found {
            if kept.len() == depth && depth < movers.len() {
                all.ceilings[slot] =
                    kept.last().map_or(f32::NEG_INFINITY, |c| ((f64::from(c.score) + error) as f32).next_up());
            }
            all.rows[slot] = kept.iter().map(|c| movers[c.row as usize]).collect();
        }
        Ok(())
    })?;
    Ok(met)
}

/// Keeps movers that score enough.
struct Movers<'a> {
    guard: &'a Guard<'a>,
    movers: &'a [u32],
    marks: &'a [f32],
}

impl Accept for Movers<'_> {
    type Tally = ();

    fn floor(&self, slot: usize) -> f64 {
        f64::from(self.marks[slot])
    }

    fn allow(&self, slot: usize, row: u32, _: &mut Scratch) -> bool {
        self.guard.identity(slot, self.movers[row as usize]).is_none()
    }
}
