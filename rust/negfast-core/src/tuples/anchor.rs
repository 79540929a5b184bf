//! What one anchor gets.
//!
//! # Why the result is exact
//!
//! Closeness grows with the score, so each thing that is decided about a row (whether a margin lies in the band, whether a
//! rule lets the row pass) changes at one score. Rows whose estimate is within its error of such a score, [`Zone`], are
//! scored by the one function of the crate before anything is decided; for the others both scores decide alike. Where only
//! the closest count, all rows that may be among them are scored so, and then ordered.

use crate::rules::Guard;
use crate::score::Scratch;
use crate::topk::{Candidate, select_best, sort_best_first};
use crate::tuples::estimate::{Estimator, Table};
use crate::tuples::{Asked, Part, Positives, Shape};

/// Bounds the relative error of what is computed in `f32` from a closeness, with room to spare.
const ROUNDING: f64 = 4.0 / (1u32 << 24) as f64;

/// Estimates between which a decision has to wait for the score.
#[derive(Debug, Clone, Copy)]
struct Zone {
    low: f32,
    high: f32,
}

/// Room for one anchor. One per thread.
pub(super) struct Room {
    pub(super) table: Table,
    /// Closeness of every row.
    closeness: Vec<f32>,
    unsure: Vec<bool>,
    zones: Vec<Zone>,
    positives: Vec<Candidate>,
    /// Negatives that rules allow, later those that are chosen.
    negatives: Vec<Candidate>,
    /// Closeness of the positives, ascending.
    ascending: Vec<f32>,
    rows: Vec<u32>,
    scores: Vec<f32>,
    scratch: Scratch,
}

impl Room {
    pub(super) fn new(rows: usize, dim: usize) -> Self {
        Self {
            table: Table::default(),
            closeness: vec![0.0; rows],
            unsure: vec![false; rows],
            zones: Vec::new(),
            positives: Vec::new(),
            negatives: Vec::new(),
            ascending: Vec::new(),
            rows: Vec::new(),
            scores: Vec::new(),
            scratch: Scratch::new(dim),
        }
    }
}

/// What all anchors share.
pub(super) struct Chooser<'a> {
    asked: &'a Asked<'a>,
    guard: &'a Guard<'a>,
    estimator: &'a Estimator<'a>,
    /// Whether positives and the anchor itself are all that is refused.
    plain: bool,
}

impl<'a> Chooser<'a> {
    pub(super) fn new(asked: &'a Asked<'a>, guard: &'a Guard<'a>, estimator: &'a Estimator<'a>) -> Self {
        let (known, rules) = (asked.known, asked.rules);
        let bounds = [
            rules.relative_margin,
            rules.absolute_margin,
            rules.max_score,
            rules.min_score,
            rules.duplicate_of_positive,
        ];
        let plain = known.keys.is_none()
            && known.groups.is_none()
            && known.exclude.is_none()
            && known.forbidden.is_none()
            && bounds.iter().all(Option::is_none);
        Self { asked, guard, estimator, plain }
    }

    /// Adds the tuples of the `i`-th anchor of the table to `part`.
    pub(super) fn choose(&self, i: usize, anchor: usize, room: &mut Room, part: &mut Part) {
        self.positives(anchor, room);
        room.negatives.clear();
        if !room.positives.is_empty() {
            self.measure(i, anchor, room);
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
        let rows = self.asked.known.positives.of(anchor);
        let mut all = std::mem::take(&mut room.positives);
        all.clear();
        all.extend(rows.iter().map(|&row| Candidate { score: 0.0, row }));
        self.rescore(anchor, &mut all, room);
        let one = match self.asked.positives {
            Positives::All => None,
            Positives::Easiest => all.iter().copied().reduce(|a, b| if b.score > a.score { b } else { a }),
            Positives::Hardest => all.iter().copied().reduce(|a, b| if b.score < a.score { b } else { a }),
        };
        if let Some(one) = one {
            all.clear();
            all.push(one);
        }
        room.positives = all;
    }

    /// Replaces the closeness of some rows by what their scores say.
    fn rescore(&self, anchor: usize, candidates: &mut [Candidate], room: &mut Room) {
        let Asked { scorer, closeness, .. } = self.asked;
        room.rows.clear();
        room.rows.extend(candidates.iter().map(|candidate| candidate.row));
        room.scores.resize(candidates.len(), 0.0);
        scorer.score_all(anchor, &room.rows, &mut room.scores, &mut room.scratch);
        for (candidate, &score) in candidates.iter_mut().zip(&room.scores) {
            candidate.score = closeness.of(scorer, anchor, candidate.row as usize, score);
        }
    }

    /// Tells how close every row is, near enough for every decision.
    fn measure(&self, i: usize, anchor: usize, room: &mut Room) {
        let Asked { scorer, closeness, .. } = self.asked;
        self.estimator.read(&room.table, i, anchor, &mut room.closeness);
        self.find_zones(anchor, room);
        let Room { closeness: values, unsure, zones, rows, scores, scratch, .. } = room;
        unsure.fill(false);
        for zone in zones {
            for (unsure, &estimate) in unsure.iter_mut().zip(&*values) {
                *unsure |= estimate >= zone.low && estimate <= zone.high;
            }
        }
        rows.clear();
        rows.extend(unsure.iter().enumerate().filter(|&(_, &unsure)| unsure).map(|(row, _)| row as u32));
        scores.resize(rows.len(), 0.0);
        scorer.score_all(anchor, rows, scores, scratch);
        for (&row, &score) in rows.iter().zip(&*scores) {
            values[row as usize] = score;
        }
        for (row, value) in values.iter_mut().enumerate() {
            *value = closeness.of(scorer, anchor, row, *value);
        }
    }

    /// Finds where something is decided: at both ends of each positive's band, and at the bounds of rules.
    fn find_zones(&self, anchor: usize, room: &mut Room) {
        let (asked, error) = (self.asked, self.estimator.error(anchor));
        let Room { zones, positives, .. } = room;
        let zone = |at: f64, size: f64| {
            let around = size * ROUNDING + f64::from(f32::MIN_POSITIVE);
            let low = asked.closeness.score_at(at - around) - error;
            Zone { low: low as f32, high: (asked.closeness.score_at(at + around) + error) as f32 }
        };
        zones.clear();
        for edge in [asked.band.above, asked.band.up_to].into_iter().flatten().filter(|edge| edge.is_finite()) {
            let (edge, positives) = (f64::from(edge), positives.iter().map(|positive| f64::from(positive.score)));
            zones.extend(positives.map(|positive| zone(positive - edge, positive.abs() + edge.abs())));
        }
        let bounds = [self.guard.cap(anchor), self.guard.floor(anchor)].into_iter().filter(|bound| bound.is_finite());
        zones.extend(bounds.map(|bound| zone(bound, bound.abs())));
    }

    /// Finds the rows that may be negatives, in their order.
    fn negatives(&self, anchor: usize, room: &mut Room) {
        let (guard, known) = (self.guard, self.asked.known);
        let Room { closeness, unsure: refused, negatives, scratch, .. } = room;
        let all = closeness.iter().zip(0..).map(|(&score, row)| Candidate { score, row });
        if self.plain {
            refused.fill(false);
            known.positives.of(anchor).iter().for_each(|&row| refused[row as usize] = true);
            if self.asked.rules.exclude_self {
                refused[anchor] = true;
            }
            negatives.extend(all.zip(&*refused).filter(|&(_, &refused)| !refused).map(|(candidate, _)| candidate));
        } else {
            negatives
                .extend(all.filter(|&Candidate { score, row }| guard.judge(anchor, row, score, scratch).is_none()));
        }
    }

    /// For each positive the negatives in the band.
    fn triplets(&self, anchor: usize, room: &mut Room, part: &mut Part) {
        let Asked { band, most, .. } = *self.asked;
        if let Some(most) = most {
            self.rank(anchor, room, most);
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

    /// Keeps the negatives that some positive may need, best first, by their scores.
    fn rank(&self, anchor: usize, room: &mut Room, most: usize) {
        let band = self.asked.band;
        let lowest = room.positives.iter().map(|positive| positive.score).fold(f32::INFINITY, f32::min);
        let highest = room.positives.iter().map(|positive| positive.score).fold(f32::NEG_INFINITY, f32::max);
        room.negatives
            .retain(|&Candidate { score, .. }| !band.too_easy(lowest - score) && !band.too_hard(highest - score));
        if band.above.is_none() || room.positives.len() == 1 {
            // The run of every positive begins at the best, or there is one positive: so many serve all of them.
            self.best(anchor, room, most);
        } else {
            self.keep_runs(anchor, room, most);
            self.best(anchor, room, usize::MAX);
        }
    }

    /// Keeps the negatives that may be among the best `most` in the band of some positive.
    fn keep_runs(&self, anchor: usize, room: &mut Room, most: usize) {
        let Room { positives, negatives, unsure: kept, .. } = room;
        sort_best_first(negatives);
        kept.fill(false);
        for positive in positives {
            let first = negatives.partition_point(|negative| self.asked.band.too_hard(positive.score - negative.score));
            let run = &negatives[first..];
            let length = run.get(most - 1).map_or(run.len(), |last| {
                let least = self.least(anchor, last.score);
                run.partition_point(|negative| f64::from(negative.score) >= least)
            });
            kept[first..first + length].fill(true);
        }
        let mut kept = kept.iter();
        negatives.retain(|_| kept.next() == Some(&true));
    }

    /// Keeps the best `most` negatives, best first, by their scores.
    fn best(&self, anchor: usize, room: &mut Room, most: usize) {
        let mut negatives = std::mem::take(&mut room.negatives);
        if let Some(last) = select_best(&mut negatives, most) {
            let least = self.least(anchor, last.score);
            negatives.retain(|negative| f64::from(negative.score) >= least);
        }
        self.rescore(anchor, &mut negatives, room);
        sort_best_first(&mut negatives);
        negatives.truncate(most);
        room.negatives = negatives;
    }

    /// An estimate of less is not among the best, of which the last is estimated at `last`: so many are at most one error
    /// below that, and it is more than one error below them.
    fn least(&self, anchor: usize, last: f32) -> f64 {
        let (closeness, last) = (self.asked.closeness, f64::from(last));
        let rounded = |value: f64| value - value.abs() * ROUNDING - f64::from(f32::MIN_POSITIVE);
        rounded(closeness.at_score(closeness.score_at(rounded(last)) - 2.0 * self.estimator.error(anchor)))
    }

    /// Each positive and each negative that is in some triplet.
    fn pairs(&self, anchor: usize, room: &mut Room, part: &mut Part) {
        let Asked { band, most, .. } = *self.asked;
        let Room { positives, negatives, ascending, .. } = room;
        ascending.clear();
        ascending.extend(positives.iter().map(|positive| positive.score));
        ascending.sort_unstable_by(f32::total_cmp);
        negatives.retain(|negative| {
            // Of the positives that it is not too hard for, it is least easy for the one that is least close.
            let first = ascending.partition_point(|positive| band.too_hard(positive - negative.score));
            ascending.get(first).is_some_and(|positive| !band.too_easy(positive - negative.score))
        });
        if let Some(most) = most {
            self.best(anchor, room, most);
        }
        let Room { positives, negatives, .. } = room;
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

/// Counts the triplets that could be made.
fn tally(room: &Room, part: &mut Part) {
    let sum = |of: &[Candidate]| of.iter().map(|candidate| f64::from(candidate.score)).sum::<f64>();
    let (positives, negatives) = (&room.positives, &room.negatives);
    part.all.triplets += (positives.len() * negatives.len()) as u64;
    part.all.positives += sum(positives) * negatives.len() as f64;
    part.all.negatives += sum(negatives) * positives.len() as f64;
}
