//! The naive oracle: what a search and a mining run have to return, written for reading.
//!
//! Every score is computed, every list is sorted whole, every rule is asked for every row. Nothing here is shared
//! with the crate but plain data types, and the uniform numbers of `stream`, which have pinned values of their own.

// Each test binary uses a part of this.
#![allow(dead_code)]

use std::cmp::Ordering;
use std::collections::BTreeSet;

use negfast_core::draw::Draw;
use negfast_core::mine::{Settings, Suspect};
use negfast_core::pool::FalseNegatives;
use negfast_core::rng::stream;
use negfast_core::rules::{Counts, Rule};
use negfast_core::score::Metric;

/// The fourth coordinate of the streams that draw.
const DRAWING: u64 = 0x6472_6177;

/// Labels of queries and of corpus rows; a row has any number of them.
pub(crate) type Sides = (Vec<Vec<i64>>, Vec<Vec<i64>>);

/// Everything that a result may depend on.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    pub(crate) queries: Vec<Vec<f32>>,
    pub(crate) corpus: Vec<Vec<f32>>,
    pub(crate) metric: Metric,
    pub(crate) positives: Vec<Vec<u32>>,
    pub(crate) keys: Option<Sides>,
    pub(crate) groups: Option<Sides>,
    pub(crate) exclude: Option<Vec<Vec<u32>>>,
    pub(crate) forbidden: Option<Vec<bool>>,
    pub(crate) settings: Settings,
}

/// What is to come out, in the words of `Mined`.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    pub(crate) indices: Vec<i64>,
    pub(crate) scores: Vec<f32>,
    pub(crate) tiers: Vec<u8>,
    pub(crate) positive_scores: Vec<f32>,
    pub(crate) positive_ranks: Vec<u64>,
    pub(crate) removed: Counts,
    pub(crate) suspects: Vec<Suspect>,
    pub(crate) false_negatives: FalseNegatives,
}

/// The sum of products in eight lanes: the definition.
pub(crate) fn product(a: &[f32], b: &[f32]) -> f64 {
    let mut lanes = [0.0f64; 8];
    for (i, (x, y)) in a.iter().zip(b).enumerate() {
        lanes[i % 8] += f64::from(*x) * f64::from(*y);
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let norms = product(a, a).sqrt() * product(b, b).sqrt();
    if norms == 0.0 { 0.0 } else { (product(a, b) / norms) as f32 + 0.0 }
}

pub(crate) fn score(metric: Metric, a: &[f32], b: &[f32]) -> f32 {
    match metric {
        Metric::Dot => product(a, b) as f32 + 0.0,
        Metric::Cosine => cosine(a, b),
    }
}

/// Score descending, then the lower row.
fn best_first(a: (f32, u32), b: (f32, u32)) -> Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

/// The `k` nearest rows of each query, padded.
pub(crate) fn nearest(queries: &[Vec<f32>], corpus: &[Vec<f32>], metric: Metric, k: usize) -> (Vec<i64>, Vec<f32>) {
    let (mut indices, mut scores) = (Vec::new(), Vec::new());
    for query in queries {
        let mut all: Vec<_> = corpus.iter().zip(0u32..).map(|(row, i)| (score(metric, query, row), i)).collect();
        all.sort_by(|a, b| best_first(*a, *b));
        for rank in 0..k {
            let found = all.get(rank);
            indices.push(found.map_or(-1, |f| i64::from(f.1)));
            scores.push(found.map_or(f32::NEG_INFINITY, |f| f.0));
        }
    }
    (indices, scores)
}

/// The number of each row's component, rows being linked that score at least `threshold` with each other.
pub(crate) fn near_duplicates(corpus: &[Vec<f32>], threshold: f64) -> Vec<i64> {
    let mut numbers = vec![-1; corpus.len()];
    let mut next = 0;
    for first in 0..corpus.len() {
        if numbers[first] >= 0 {
            continue;
        }
        numbers[first] = next;
        let mut reached = vec![first];
        while let Some(row) = reached.pop() {
            for other in 0..corpus.len() {
                if numbers[other] < 0 && f64::from(cosine(&corpus[row], &corpus[other])) >= threshold {
                    numbers[other] = next;
                    reached.push(other);
                }
            }
        }
        next += 1;
    }
    numbers
}

/// One anchor on its way through the rules.
#[derive(Debug, Default)]
struct Anchor {
    lowest: Option<f64>,
    /// Rows that identity and score rules let pass, best first.
    allowed: Vec<(f32, u32)>,
    /// Rows that a rule removed, the list rules' among them.
    removed: Vec<((f32, u32), Rule)>,
    /// What list rules and draw leave, most wanted first.
    wishes: Vec<(f32, u32)>,
    chosen: Vec<(f32, u32)>,
}

impl Problem {
    /// The whole job.
    pub(crate) fn mine(&self) -> Expected {
        let mut anchors: Vec<Anchor> = (0..self.queries.len()).map(|i| self.anchor(i)).collect();
        self.choose(&mut anchors);
        let mut expected = Expected::default();
        for (i, anchor) in anchors.iter().enumerate() {
            self.report(i, anchor, &mut expected);
        }
        expected
    }

    fn score(&self, anchor: usize, row: u32) -> f32 {
        score(self.metric, &self.queries[anchor], &self.corpus[row as usize])
    }

    fn anchor(&self, i: usize) -> Anchor {
        let scores: Vec<f32> = (0..self.corpus.len() as u32).map(|row| self.score(i, row)).collect();
        let lowest = self.positives[i].iter().map(|&p| scores[p as usize]).min_by(f32::total_cmp).map(f64::from);
        let mut anchor = Anchor { lowest, ..Anchor::default() };
        for (&score, row) in scores.iter().zip(0..) {
            match self.first_rule(i, row, f64::from(score), lowest) {
                Some(rule) => anchor.removed.push(((score, row), rule)),
                None => anchor.allowed.push((score, row)),
            }
        }
        anchor.allowed.sort_by(|a, b| best_first(*a, *b));
        self.list_rules(i, &mut anchor);
        anchor
    }

    /// Whether a rule removes a row from an anchor's candidates whatever its vector is.
    pub(crate) fn bars(&self, anchor: usize, row: u32) -> bool {
        self.first_rule(anchor, row, f64::NAN, None).is_some_and(|rule| rule < Rule::RelativeMargin)
    }

    /// The first rule, in the documented order, that removes a row from an anchor's candidates.
    fn first_rule(&self, anchor: usize, row: u32, score: f64, lowest: Option<f64>) -> Option<Rule> {
        let rules = &self.settings.rules;
        let own = &self.positives[anchor];
        let shares_one = |other: &Vec<u32>| other.iter().any(|p| own.contains(p));
        let transitive = || rules.transitive && self.positives.iter().any(|o| shares_one(o) && o.contains(&row));
        let exceeds = |bound: Option<f64>| bound.is_some_and(|bound| score > bound);
        let relative = lowest.zip(rules.relative_margin).map(|(p, m)| p - p.abs() * m);
        let absolute = lowest.zip(rules.absolute_margin).map(|(p, m)| p - m);
        let copies = |bound: f64| {
            let row = &self.corpus[row as usize];
            own.iter().any(|&p| f64::from(cosine(&self.corpus[p as usize], row)) > bound)
        };
        let answers = [
            (own.contains(&row) || transitive(), Rule::Positive),
            (rules.exclude_self && anchor == row as usize, Rule::Itself),
            (self.labelled_alike(self.keys.as_ref(), anchor, row), Rule::Key),
            (self.labelled_alike(self.groups.as_ref(), anchor, row), Rule::Group),
            (self.exclude.as_ref().is_some_and(|lists| lists[anchor].contains(&row)), Rule::Exclude),
            (self.forbidden.as_ref().is_some_and(|mask| mask[row as usize]), Rule::Forbidden),
            (exceeds(relative), Rule::RelativeMargin),
            (exceeds(absolute), Rule::AbsoluteMargin),
            (exceeds(rules.max_score), Rule::MaxScore),
            (rules.min_score.is_some_and(|bound| score < bound), Rule::MinScore),
            (rules.duplicate_of_positive.is_some_and(copies), Rule::DuplicateOfPositive),
        ];
        answers.into_iter().find(|(removes, _)| *removes).map(|(_, rule)| rule)
    }

    fn labelled_alike(&self, sides: Option<&Sides>, anchor: usize, row: u32) -> bool {
        let Some((queries, corpus)) = sides else { return false };
        let mut banned: BTreeSet<i64> = queries[anchor].iter().copied().collect();
        banned.extend(self.positives[anchor].iter().flat_map(|&p| &corpus[p as usize]));
        corpus[row as usize].iter().any(|&label| label >= 0 && banned.contains(&label))
    }

    /// Window, distinct and draw: what is left, in the order in which the anchor wants it.
    fn list_rules(&self, i: usize, anchor: &mut Anchor) {
        let Settings { rules, num_negatives, draw, .. } = &self.settings;
        // What ranks after the last negative does not count; where the best become negatives, nothing after them matters.
        let best = *draw == Draw::Top && rules.max_exposure.is_none();
        let enough = if best { *num_negatives } else { usize::MAX };
        let mut left: Vec<(f32, u32)> = Vec::new();
        for (rank, &(score, row)) in anchor.allowed.iter().enumerate() {
            if rank < rules.range_min {
                anchor.removed.push(((score, row), Rule::RangeMin));
                continue;
            }
            if rules.range_max.is_some_and(|end| rank >= end) || left.len() >= enough {
                break;
            }
            let copies = |bound: f64| {
                let row = &self.corpus[row as usize];
                left.iter().any(|&(_, other)| f64::from(cosine(row, &self.corpus[other as usize])) > bound)
            };
            if rules.distinct.is_some_and(copies) {
                anchor.removed.push(((score, row), Rule::Distinct));
            } else {
                left.push((score, row));
            }
        }
        anchor.wishes = self.draw(i, left, anchor.lowest);
    }

    fn draw(&self, i: usize, rows: Vec<(f32, u32)>, positive: Option<f64>) -> Vec<(f32, u32)> {
        let Settings { draw, seed, epoch, .. } = self.settings;
        if draw == Draw::Top {
            return rows;
        }
        let mut stream = stream(seed, epoch, i as u64, DRAWING);
        let mut keyed: Vec<_> = rows
            .into_iter()
            .map(|c| {
                let s = f64::from(c.0);
                let log_weight = match (draw, positive) {
                    (Draw::Softmax { temperature }, _) => s / temperature,
                    (Draw::SimAns { a, b }, Some(p)) => -a * (s - p - b) * (s - p - b),
                    _ => 0.0,
                };
                (log_weight + stream.gumbel(), c)
            })
            .collect();
        keyed.sort_by(|a, b| b.0.total_cmp(&a.0));
        keyed.into_iter().map(|(_, c)| c).collect()
    }

    fn choose(&self, anchors: &mut [Anchor]) {
        let k = self.settings.num_negatives;
        let held = match self.settings.rules.max_exposure {
            None => anchors.iter().map(|a| a.wishes.iter().copied().take(k).collect()).collect(),
            Some(most) => propose(anchors, k, most),
        };
        for (anchor, mut chosen) in anchors.iter_mut().zip::<Vec<Vec<_>>>(held) {
            chosen.sort_by(|a, b| best_first(*a, *b));
            anchor.chosen = chosen;
        }
    }

    fn report(&self, i: usize, anchor: &Anchor, out: &mut Expected) {
        let Settings { num_negatives, tiers, suspect_rank, .. } = self.settings;
        for slot in 0..num_negatives {
            let chosen = anchor.chosen.get(slot);
            out.indices.push(chosen.map_or(-1, |c| i64::from(c.1)));
            out.scores.push(chosen.map_or(f32::NEG_INFINITY, |c| c.0));
            out.tiers.push(match chosen.zip(anchor.lowest).map(|(c, p)| f64::from(c.0) - p) {
                None => 0,
                Some(hardness) if hardness >= tiers.hard => 3,
                Some(hardness) if hardness >= tiers.semi_hard => 2,
                Some(_) => 1,
            });
        }
        let rank =
            |p: f64| 1 + (0..self.corpus.len() as u32).filter(|&r| f64::from(self.score(i, r)) > p).count() as u64;
        out.positive_scores.push(anchor.lowest.map_or(f32::NAN, |p| p as f32));
        out.positive_ranks.push(anchor.lowest.map_or(0, rank));
        let positives: BTreeSet<u32> = self.positives[i].iter().copied().collect();
        for row in positives {
            let score = self.score(i, row);
            let rank = rank(f64::from(score));
            if rank > suspect_rank {
                out.suspects.push(Suspect { anchor: i as u32, row, score, rank });
            }
        }
        self.count(anchor, out);
    }

    /// Removed rows that score at least the last returned negative, or, removed by a list rule, rank before it; all of
    /// them where there is none.
    fn count(&self, anchor: &Anchor, out: &mut Expected) {
        let last = anchor.chosen.last();
        let bound = last.map_or(f32::NEG_INFINITY, |c| c.0);
        let cap = self.cap(anchor.lowest);
        let shares = &mut out.false_negatives;
        for &((score, row), rule) in anchor.removed.iter().filter(|((score, _), _)| *score >= bound) {
            let listed = matches!(rule, Rule::RangeMin | Rule::Distinct | Rule::MaxExposure);
            if listed && last.is_some_and(|last| best_first((score, row), *last) == Ordering::Greater) {
                continue;
            }
            out.removed[rule as usize] += 1;
            if !listed && !matches!(rule, Rule::Positive | Rule::Itself) {
                let (known, within) = (matches!(rule, Rule::Key | Rule::Group), f64::from(score) <= cap);
                shares.rows += 1;
                shares.known += u64::from(known);
                shares.rows_within += u64::from(within);
                shares.known_within += u64::from(within && known);
            }
        }
        // Of the allowed rows that tie with the last returned one, those after it are left out.
        let up_to_last = |c: &&(f32, u32)| last.is_none_or(|last| best_first(**c, *last) != Ordering::Greater);
        let allowed = anchor.allowed.iter().filter(up_to_last).count() as u64;
        shares.rows += allowed;
        shares.rows_within += allowed;
    }

    fn cap(&self, lowest: Option<f64>) -> f64 {
        let rules = &self.settings.rules;
        let relative = lowest.zip(rules.relative_margin).map(|(p, m)| p - p.abs() * m);
        let absolute = lowest.zip(rules.absolute_margin).map(|(p, m)| p - m);
        [relative, absolute, rules.max_score].into_iter().flatten().fold(f64::INFINITY, f64::min)
    }
}

/// Deferred acceptance, one proposal at a time.
fn propose(anchors: &mut [Anchor], wanted: usize, most: usize) -> Vec<Vec<(f32, u32)>> {
    let mut asked = vec![0; anchors.len()];
    let mut held: Vec<Vec<(f32, u32)>> = vec![Vec::new(); anchors.len()];
    while let Some(i) = (0..anchors.len()).find(|&i| held[i].len() < wanted && asked[i] < anchors[i].wishes.len()) {
        let wish = anchors[i].wishes[asked[i]];
        asked[i] += 1;
        held[i].push(wish);
        let mut rivals: Vec<(f32, usize)> = Vec::new();
        for (other, rows) in held.iter().enumerate() {
            rivals.extend(rows.iter().filter(|c| c.1 == wish.1).map(|c| (c.0, other)));
        }
        if rivals.len() > most {
            // The row keeps its highest scores, then the lower anchors.
            rivals.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            let (score, refused) = rivals[most];
            held[refused].retain(|c| c.1 != wish.1);
            anchors[refused].removed.push(((score, wish.1), Rule::MaxExposure));
        }
    }
    held
}
