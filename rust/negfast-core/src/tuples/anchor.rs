//! What one anchor gets.

use crate::rules::Guard;
use crate::score::Scratch;
use crate::topk::{Candidate, select_best, sort_best_first};
use crate::tuples::{Asked, Part, Positives, Shape};

/// Room for one anchor. One per thread.
pub(super) struct Room {
    /// Closeness of every row.
    closeness: Vec<f32>,
    positives: Vec<Candidate>,
    /// Negatives that rules allow, later those that are chosen.
    negatives: Vec<Candidate>,
    /// Closeness of the positives, ascending.
    ascending: Vec<f32>,
    scratch: Scratch,
}

impl Room {
    pub(super) fn new(rows: usize, dim: usize) -> Self {
        Self {
            closeness: vec![0.0; rows],
            positives: Vec::new(),
            negatives: Vec::new(),
            ascending: Vec::new(),
            scratch: Scratch::new(dim),
        }
    }
}

/// What all anchors share.
pub(super) struct Chooser<'a> {
    asked: &'a Asked<'a>,
    guard: &'a Guard<'a>,
    rows: Vec<u32>,
}

impl<'a> Chooser<'a> {
    pub(super) fn new(asked: &'a Asked<'a>, guard: &'a Guard<'a>) -> Self {
        Self { asked, guard, rows: (0..asked.scorer.corpus.len() as u32).collect() }
    }

    /// Adds the tuples of an anchor to `part`.
    pub(super) fn choose(&self, anchor: usize, room: &mut Room, part: &mut Part) {
        self.positives(anchor, room);
        room.negatives.clear();
        if !room.positives.is_empty() {
            self.measure(anchor, room);
            self.negatives(anchor, room);
        }
        tally(room, part);
        match self.asked.shape {
            Shape::Triplets => self.triplets(anchor, room, part),
            Shape::Pairs => self.pairs(anchor, room, part),
        }
    }

    /// Finds the positives that are used.
    fn positives(&self, anchor: usize, room: &mut Room) {
        let Asked { scorer, known, closeness, .. } = self.asked;
        let rows = known.positives.of(anchor);
        let scores = &mut room.closeness[..rows.len()];
        scorer.score_all(anchor, rows, scores, &mut room.scratch);
        let close = |(&row, &mut score): (&u32, &mut f32)| Candidate {
            score: closeness.of(scorer, anchor, row as usize, score),
            row,
        };
        let mut all = rows.iter().zip(scores).map(close);
        room.positives.clear();
        match self.asked.positives {
            Positives::All => room.positives.extend(all),
            Positives::Easiest => {
                room.positives.extend(all.reduce(|a, b| if b.score > a.score { b } else { a }));
            }
            Positives::Hardest => {
                room.positives.extend(all.by_ref().reduce(|a, b| if b.score < a.score { b } else { a }));
            }
        }
    }

    /// Tells how close every row is.
    fn measure(&self, anchor: usize, room: &mut Room) {
        let Asked { scorer, closeness, .. } = self.asked;
        scorer.score_all(anchor, &self.rows, &mut room.closeness, &mut room.scratch);
        for (row, value) in room.closeness.iter_mut().enumerate() {
            *value = closeness.of(scorer, anchor, row, *value);
        }
    }

    /// Finds the rows that may be negatives, in their order.
    fn negatives(&self, anchor: usize, room: &mut Room) {
        let guard = self.guard;
        let Room { closeness, negatives, scratch, .. } = room;
        let all = closeness.iter().zip(&self.rows).map(|(&score, &row)| Candidate { score, row });
        negatives.extend(all.filter(|&Candidate { score, row }| guard.judge(anchor, row, score, scratch).is_none()));
    }

    /// For each positive the negatives in the band.
    fn triplets(&self, anchor: usize, room: &mut Room, part: &mut Part) {
        let Asked { band, most, .. } = *self.asked;
        if let Some(most) = most {
            self.rank(room, most);
        }
        for positive in &room.positives {
            let before = part.negatives.len();
            let margin = |negative: &Candidate| positive.score - negative.score;
            if let Some(most) = most {
                let first = room.negatives.partition_point(|negative| band.too_hard(margin(negative)));
                let run = room.negatives[first..].iter().take_while(|negative| !band.too_easy(margin(negative)));
                part.negatives.extend(run.take(most).map(|negative| negative.row));
            } else {
                let inside = room.negatives.iter().filter(|negative| band.holds(margin(negative)));
                part.negatives.extend(inside.map(|negative| negative.row));
            }
            let count = part.negatives.len() - before;
            if count > 0 {
                part.anchors.push(anchor as u32);
                part.positives.push(positive.row);
                part.counts.push(count as u32);
            }
        }
    }

    /// Keeps the negatives that some positive may need, best first.
    fn rank(&self, room: &mut Room, most: usize) {
        let band = self.asked.band;
        let lowest = room.positives.iter().map(|positive| positive.score).fold(f32::INFINITY, f32::min);
        let highest = room.positives.iter().map(|positive| positive.score).fold(f32::NEG_INFINITY, f32::max);
        room.negatives.retain(|&Candidate { score, .. }| {
            !band.too_easy(lowest - score) && !band.too_hard(highest - score)
        });
        // The run of every positive begins at the best, or there is one positive: so many serve all of them.
        if band.above.is_none() || room.positives.len() == 1 {
            keep_best(&mut room.negatives, most);
        }
        sort_best_first(&mut room.negatives);
    }

    /// Each positive and each negative that is in some triplet.
    fn pairs(&self, anchor: usize, room: &mut Room, part: &mut Part) {
        let Asked { band, most, .. } = *self.asked;
        let Room { positives, negatives, ascending, .. } = room;
        ascending.clear();
        ascending.extend(positives.iter().map(|positive| positive.score));
        ascending.sort_unstable_by(f32::total_cmp);
        negatives.retain(|negative| {
            // The least close positive that it is not too hard for: it is too easy for that one least of all.
            let first = ascending.partition_point(|positive| band.too_hard(positive - negative.score));
            ascending.get(first).is_some_and(|positive| !band.too_easy(positive - negative.score))
        });
        if let Some(most) = most {
            keep_best(negatives, most);
            sort_best_first(negatives);
        }
        part.negatives.extend(negatives.iter().map(|negative| negative.row));
        part.counts.push(negatives.len() as u32);
        sort_best_first(negatives);
        for positive in positives {
            let first = negatives.partition_point(|negative| band.too_hard(positive.score - negative.score));
            if negatives.get(first).is_some_and(|negative| !band.too_easy(positive.score - negative.score)) {
                part.anchors.push(anchor as u32);
                part.positives.push(positive.row);
            }
        }
    }
}

fn keep_best(candidates: &mut Vec<Candidate>, most: usize) {
    if candidates.len() > most {
        select_best(candidates, most);
        candidates.truncate(most);
    }
}

/// Counts the triplets that could be made.
fn tally(room: &Room, part: &mut Part) {
    let sum = |of: &[Candidate]| of.iter().map(|candidate| f64::from(candidate.score)).sum::<f64>();
    let (positives, negatives) = (&room.positives, &room.negatives);
    part.all.triplets += (positives.len() * negatives.len()) as u64;
    part.all.positives += sum(positives) * negatives.len() as f64;
    part.all.negatives += sum(negatives) * positives.len() as f64;
}
