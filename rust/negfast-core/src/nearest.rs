//! Plain nearest rows, without rules.

use std::sync::{Mutex, PoisonError};

use crate::accept::Everything;
use crate::error::Result;
use crate::search::{Engine, Job, Work};
use crate::threads::Workers;

/// Writes the `k` best corpus rows of each query into `indices` and `scores` (both `queries × k`, row-major), best
/// first, padded with −1 and −∞.
///
/// # Errors
/// If `max_memory` is too small, or the call is cancelled.
///
/// # Panics
/// If an output has another length.
pub fn nearest(
    engine: &mut Engine<'_>,
    k: usize,
    workers: &mut Workers<'_>,
    work: &Work,
    indices: &mut [i64],
    scores: &mut [f32],
) -> Result<()> {
    let scorer = engine.scorer();
    let anchors: Vec<u32> = (0..scorer.queries.len() as u32).collect();
    assert_eq!((indices.len(), scores.len()), (anchors.len() * k, anchors.len() * k), "one output per query and rank");
    if k == 0 || anchors.is_empty() || scorer.corpus.is_empty() {
        indices.fill(-1);
        scores.fill(f32::NEG_INFINITY);
        return Ok(());
    }
    let depth = k.min(scorer.corpus.len());
    let job =
        Job { scorer, anchors: &anchors, depth, scored: depth, audited: depth, max_memory: engine.asked().max_memory };
    let plan = engine.plan(&job, &Everything, workers, work)?;
    let outputs = vec![(); plan.blocks.len()];
    let tables = Mutex::new((indices, scores));
    engine.search(&job, &plan, &Everything, workers, work, outputs, |(), finished| {
        let mut lists = Vec::new();
        finished.each(|found, _| lists.push((found.slot, found.kept)))?;
        let mut tables = tables.lock().unwrap_or_else(PoisonError::into_inner);
        for (slot, kept) in lists {
            for (i, at) in (slot * k..(slot + 1) * k).enumerate() {
                let candidate = kept.get(i);
                tables.0[at] = candidate.map_or(-1, |c| i64::from(c.row));
                tables.1[at] = candidate.map_or(f32::NEG_INFINITY, |c| c.score);
            }
        }
        Ok(())
    })
}
