//! What margins are measured in.

use crate::score::Scorer;

/// How close two rows are; larger is closer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Closeness {
    /// Their score.
    Score,
    /// Minus this power of the Euclidean distance of their directions, under [`Metric::Cosine`](crate::score::Metric).
    /// A row of zeros stays where it is.
    Distance(f64),
}

impl Closeness {
    /// The closeness of an anchor and a row of this score.
    pub fn of(self, scorer: &Scorer<'_>, anchor: usize, row: usize, score: f32) -> f32 {
        let square = |norm: f64| f64::from(u8::from(norm > 0.0));
        self.at(f64::from(score), square(scorer.queries.norm(anchor)) + square(scorer.corpus.norm(row))) as f32
    }

    /// The closeness of two rows of norm 1 and of this score.
    pub(super) fn at_score(self, score: f64) -> f64 {
        self.at(score, 2.0)
    }

    /// The score of two rows of norm 1 and of this closeness, or the nearest that there is.
    pub(super) fn score_at(self, closeness: f64) -> f64 {
        match self {
            Self::Score => closeness,
            Self::Distance(power) => 1.0 - (-closeness).max(0.0).powf(2.0 / power) / 2.0,
        }
    }

    /// The closeness at a score, of rows whose squares add up to this.
    fn at(self, score: f64, squares: f64) -> f64 {
        let Self::Distance(power) = self else { return score };
        // 0 is added so that no distance is −0: equal numbers are equal bits.
        0.0 - raised((squares - 2.0 * score).max(0.0), power)
    }
}

/// The square root of a number to this power.
fn raised(square: f64, power: f64) -> f64 {
    match power {
        1.0 => square.sqrt(),
        2.0 => square,
        _ => square.powf(power / 2.0),
    }
}
