//! How far scores can have moved.
//!
//! Under cosine, angles obey the triangle inequality on the sphere: a pair whose vectors turned by α and β has an angle that
//! differs by α + β at most. Under dot, |q'·d' − q·d| ≤ ‖q' − q‖ ‖d'‖ + ‖q‖ ‖d' − d‖.

use super::Past;
use crate::score::{Metric, Scorer};

/// Covers the rounding of scores and of what is computed here, for rows of norm 1.
const SLACK: f64 = 1e-6;

/// Bounds on the scores of rows that moved at most so far.
#[derive(Debug)]
pub(crate) struct Bounds<'a> {
    past: &'a Past<'a>,
    metric: Metric,
    /// The furthest that a row moved, of those that are not looked at one by one.
    farthest: f64,
    /// The longest row of the corpus.
    longest: f64,
    /// Norms of the queries, now.
    norms: Vec<f64>,
}

/// What unlisted rows can score now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound {
    /// Those that were below score this at most.
    pub(crate) ceiling: f32,
    /// Those that were above score more than this; −∞ if nothing is known.
    pub(crate) floor: f32,
}

impl<'a> Bounds<'a> {
    pub(crate) fn new(past: &'a Past<'a>, scorer: &Scorer<'_>, farthest: f32) -> Self {
        Self {
            past,
            metric: scorer.metric,
            farthest: f64::from(farthest),
            longest: scorer.corpus.largest_norm(),
            norms: (0..scorer.queries.len()).map(|i| scorer.queries.norm(i)).collect(),
        }
    }

    pub(crate) fn of(&self, anchor: usize) -> Bound {
        let (ceiling, floor) = (self.past.reserve.ceilings[anchor], self.past.reserve.floors[anchor]);
        let moved = f64::from(self.past.queries[anchor]);
        let [up, down] = match self.metric {
            Metric::Cosine => {
                let turned = turn(moved) + turn(self.farthest);
                let at = |score: f32, turned: f64| {
                    let angle = f64::from(score.clamp(-1.0, 1.0)).acos() + turned;
                    angle.clamp(0.0, std::f64::consts::PI).cos()
                };
                [at(ceiling, -turned) + SLACK, at(floor, turned) - SLACK]
            }
            Metric::Dot => {
                // The old norm is the new one and what it moved, at most.
                let off = moved * self.longest + (self.norms[anchor] + moved) * self.farthest;
                let slack = SLACK * (self.norms[anchor] + moved) * self.longest;
                [f64::from(ceiling) + off + slack, f64::from(floor) - off - slack]
            }
        };
        Bound {
            // Where everything is listed, nothing can come from elsewhere.
            ceiling: if ceiling == f32::NEG_INFINITY { ceiling } else { (up as f32).next_up() },
            floor: if floor.is_infinite() { floor } else { (down as f32).next_down() },
        }
    }
}

/// The angle between unit vectors at this distance.
fn turn(distance: f64) -> f64 {
    2.0 * (distance / 2.0).min(1.0).asin()
}
