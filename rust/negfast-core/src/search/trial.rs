//! Some anchors after the first round of a search, and what it would take to go on.

use super::block::{Block, unit};
use super::coded::{Coded, Effort, Pass};
use super::index::Index;
use super::sweep::{Room, Sweep};
use super::{Job, Work};
use crate::accept::Accept;
use crate::error::Result;
use crate::threads::Progress;
use crate::topk::Buffers;

/// Anchors after the first round.
pub(super) struct Trial<'a> {
    index: &'a Index,
    coded: Coded,
    /// What an anchor's scores are divided by to be in the units of the tile.
    units: Vec<f64>,
    near: Vec<f32>,
    visited: Vec<bool>,
    thresholds: Vec<f32>,
}

impl<'a> Trial<'a> {
    /// Takes the anchors of `job` through the first round.
    ///
    /// # Errors
    /// [`crate::error::Error::Cancelled`].
    pub(super) fn run<A: Accept>(
        job: &Job<'_>,
        index: &'a Index,
        accept: &A,
        work: &Work,
        (room, progress): (&mut Room, &Progress),
    ) -> Result<Self> {
        let (n, scorer) = (job.anchors.len(), job.scorer);
        let pass = Pass::new(job, index, Effort::proof(index, job.depth), accept, work);
        let mut block = Block::new(job, accept, (0..n as u32).collect(), false, pass.error, Buffers::default());
        let (mut coded, mut near, mut visited) = (Coded::default(), Vec::new(), Vec::new());
        pass.code(job.anchors, &mut coded, &mut room.coding);
        let mut sweep = Sweep { pass: &pass, block: &mut block, coded: &coded, progress, first_row: 0, scanned: 0 };
        sweep.nearest(&mut near, &mut visited, room)?;
        let thresholds = (0..n).map(|i| block.keep(i)).collect();
        let units = job.anchors.iter().map(|&a| unit(scorer, a as usize, scorer.corpus_scale())).collect();
        Ok(Self { index, coded, units, near, visited, thresholds })
    }

    /// A score of anchor `i` in the units of the tile.
    pub(super) fn in_units(&self, i: usize, score: f32) -> f32 {
        (f64::from(score) / self.units[i]) as f32
    }

    /// How far anchor `i` has to reach for the row at `place`, in radii of its list; −∞ if the list was visited.
    pub(super) fn reach(&self, i: usize, place: usize) -> f32 {
        let list = self.index.list_of(place);
        let at = i * self.index.lists.len() + list;
        if self.visited[at] {
            return f32::NEG_INFINITY;
        }
        (self.thresholds[i] - self.near[at]) / self.index.radii[list].max(f32::MIN_POSITIVE)
    }

    /// The share of the bound that anchor `i` has to allow for to notice the row at `place` at this threshold.
    pub(super) fn share(&self, i: usize, place: usize, threshold: f32) -> f32 {
        let length = self.index.coder.quads() * 4;
        let (sum, scale, width) = self.index.estimate(place, &self.coded.codes[i * length..(i + 1) * length]);
        let missing = threshold * self.coded.inverses[i] - sum as f32 * scale;
        missing / (self.coded.spreads[i] * width).max(f32::MIN_POSITIVE)
    }
}
