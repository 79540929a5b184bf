//! Plain nearest rows, without rules.

use crate::accept::Everything;
use crate::error::Result;
use crate::search::{Engine, Job, Work};
use crate::threads::{Workers, cut};

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
    let job = Job { scorer, anchors: &anchors, depth, max_memory: engine.asked().max_memory };
    let plan = engine.plan(&job, &Everything, workers, work)?;
    let lengths = plan.blocks.iter().map(|block| block.len() * k);
    let outputs: Vec<_> = cut(indices, lengths.clone()).into_iter().zip(cut(scores, lengths)).collect();
    engine.search(&job, &plan, &Everything, workers, work, outputs, |(indices, scores), finished| {
        let mut lists = indices.chunks_exact_mut(k).zip(scores.chunks_exact_mut(k));
        finished.each(|found, _| {
            let Some((indices, scores)) = lists.next() else { return };
            for (i, (index, score)) in indices.iter_mut().zip(scores).enumerate() {
                let candidate = found.kept.get(i);
                *index = candidate.map_or(-1, |c| i64::from(c.row));
                *score = candidate.map_or(f32::NEG_INFINITY, |c| c.score);
            }
        })
    })
}
