//! Draws: in which order an anchor prefers its allowed rows.
//!
//! Drawing without replacement with weights `w` is the same as sorting by `ln w` plus independent Gumbel noise and
//! taking the first (W. Kool, H. van Hoof and M. Welling, *Stochastic Beams and Where to Find Them*, 2019), so a draw
//! is an order, and a longer draw extends a shorter one.

use crate::rng::Stream;
use crate::topk::Candidate;

/// How negatives are chosen among the allowed rows of a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Draw {
    /// The best first.
    Top,
    /// Every row alike.
    Random,
    /// Weights `exp(score / temperature)`.
    Softmax {
        /// Above 0; smaller is closer to [`Draw::Top`].
        temperature: f64,
    },
    /// Weights `exp(−a (score − p − b)²)` around the anchor's lowest positive score `p`; uniform without one.
    ///
    /// K. Zhou et al., *SimANS: Simple Ambiguous Negatives Sampling for Dense Text Retrieval*, 2022.
    SimAns {
        /// How sharp the weights are.
        a: f64,
        /// Where they peak, relative to `p`.
        b: f64,
    },
}

impl Draw {
    /// Puts `rows`, best first, into drawing order.
    pub fn order(self, rows: &mut [Candidate], positive: Option<f64>, stream: &mut Stream) {
        if self == Self::Top {
            return;
        }
        let mut keyed: Vec<_> =
            rows.iter().map(|&c| (self.log_weight(f64::from(c.score), positive) + stream.gumbel(), c)).collect();
        // A stable sort: equal keys keep the order of ranks.
        keyed.sort_by(|a, b| b.0.total_cmp(&a.0));
        for (slot, (_, candidate)) in rows.iter_mut().zip(keyed) {
            *slot = candidate;
        }
    }

    fn log_weight(self, score: f64, positive: Option<f64>) -> f64 {
        match (self, positive) {
            (Self::Softmax { temperature }, _) => score / temperature,
            (Self::SimAns { a, b }, Some(p)) => -a * (score - p - b) * (score - p - b),
            _ => 0.0,
        }
    }
}
