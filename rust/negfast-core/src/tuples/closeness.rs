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
        let Self::Distance(power) = self else { return score };
        let square = |norm: f64| f64::from(u8::from(norm > 0.0));
        let squares = square(scorer.queries.norm(anchor)) + square(scorer.corpus.norm(row));
        let distance = (squares - 2.0 * f64::from(score)).max(0.0);
        // 0 is added so that no distance is −0: equal numbers are equal bits.
        -raised(distance, power) as f32 + 0.0
    }
}

/// The square root of a number to this power.
fn raised(square: f64, power: f64) -> f64 {
    if power == 1.0 {
        square.sqrt()
    } else if power == 2.0 {
        square
    } else {
        square.powf(power / 2.0)
    }
}
