//! Problems of every shape, with rules drawn at random.

use negfast_core::draw::Draw;
use negfast_core::mine::Settings;
use negfast_core::rules::Rules;
use negfast_core::score::Metric;
use proptest::prelude::*;

use super::{Dice, Kind, Posed, problem, settings};
use crate::naive::{self, Problem, Sides};

/// What the rows look like.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Look {
    Plain,
    /// Few values, so many scores tie exactly.
    Quantised,
    /// Few distinct rows.
    Copies,
    /// Rows that differ in the last bits.
    NearCopies,
    /// Zero rows and negative zeros.
    Zeros,
    /// Norms far apart.
    Scales,
    Constant,
}

pub(crate) const LOOKS: [Look; 7] =
    [Look::Plain, Look::Quantised, Look::Copies, Look::NearCopies, Look::Zeros, Look::Scales, Look::Constant];

pub(crate) fn rows(dice: &mut Dice, n: usize, dim: usize, look: Look, kind: Kind) -> Vec<Vec<f32>> {
    let pool = dice.rows(4, dim);
    let scales = if kind == Kind::F16 { [1e-4, 1.0, 1e3] } else { [1e-30, 1.0, 1e15] };
    let mut row = || match look {
        Look::Plain => dice.row(dim),
        Look::Quantised => (0..dim).map(|_| dice.one_of(&[-1.0, -0.5, 0.0, 0.5, 1.0])).collect(),
        Look::Copies => pool[dice.below(4)].clone(),
        Look::NearCopies => pool[dice.below(4)].iter().map(|x| x * (1.0 + dice.number() * 2e-7)).collect(),
        Look::Zeros if dice.below(3) == 0 => vec![dice.one_of(&[0.0, -0.0]); dim],
        Look::Zeros => (0..dim).map(|_| dice.one_of(&[0.0, -0.0, 1.0, -0.25])).collect(),
        Look::Scales => {
            let scale = dice.one_of(&scales);
            dice.row(dim).iter().map(|x| x * scale).collect()
        }
        Look::Constant => vec![0.7; dim],
    };
    (0..n).map(|_| row()).collect()
}

#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) anchors: usize,
    pub(crate) rows: usize,
    pub(crate) dim: usize,
    pub(crate) look: Look,
    pub(crate) kind: Kind,
    pub(crate) metric: Metric,
    pub(crate) seed: u64,
}

pub(crate) fn shapes() -> impl Strategy<Value = Shape> {
    let dims = prop_oneof![1usize..10, 10usize..71];
    let counts = (0usize..30, prop_oneof![0usize..40, 40usize..300]);
    let kinds = prop_oneof![3 => Just(Kind::F32), 1 => Just(Kind::F16), 1 => Just(Kind::Bf16)];
    let metrics = prop_oneof![Just(Metric::Cosine), Just(Metric::Dot)];
    (counts, dims, prop::sample::select(&LOOKS[..]), kinds, metrics, any::<u64>()).prop_map(
        |((anchors, rows), dim, look, kind, metric, seed)| Shape { anchors, rows, dim, look, kind, metric, seed },
    )
}

impl Shape {
    pub(crate) fn bare(&self, dice: &mut Dice) -> Problem {
        let corpus = rows(dice, self.rows, self.dim, self.look, self.kind);
        let queries = if dice.below(3) == 0 && self.anchors <= self.rows {
            corpus[..self.anchors].to_vec()
        } else {
            rows(dice, self.anchors, self.dim, self.look, self.kind)
        };
        problem(queries, corpus, self.metric, settings(1 + dice.below(6)))
    }

    /// A problem with rules drawn at random, their bounds often equal to a score that occurs.
    pub(crate) fn with_rules(&self) -> Posed {
        let mut dice = Dice(self.seed);
        let bare = Posed::new(self.bare(&mut dice), self.dim, self.kind).problem;
        let dice = &mut dice;
        let settings = Settings {
            rules: self.rules(&bare, dice),
            suspect_rank: dice.one_of(&[0, 1, 5, 1000]),
            seed: dice.roll(),
            ..bare.settings.clone()
        };
        let settings = Settings { draw: draw(&settings.rules, dice), ..settings };
        let lists = |dice: &mut Dice, most: usize| -> Vec<Vec<u32>> {
            let list = |dice: &mut Dice| -> Vec<u32> {
                (0..dice.below(most + 1)).map(|_| dice.below(self.rows) as u32).collect()
            };
            (0..self.anchors).map(|_| if self.rows == 0 { Vec::new() } else { list(dice) }).collect()
        };
        let problem = Problem {
            positives: lists(dice, 3),
            keys: self.labels(dice, 40),
            groups: self.labels(dice, 8),
            exclude: (dice.below(2) == 0).then(|| lists(dice, 12)),
            forbidden: (dice.below(3) == 0).then(|| (0..self.rows).map(|_| dice.below(5) == 0).collect()),
            settings,
            ..bare
        };
        Posed::new(problem, self.dim, self.kind)
    }

    fn labels(&self, dice: &mut Dice, most: usize) -> Option<Sides> {
        let (columns, ragged) = (1 + dice.below(2), dice.below(3) == 0);
        let row = |dice: &mut Dice| -> Vec<i64> {
            let labels = if ragged { dice.below(4) } else { columns };
            (0..labels).map(|_| dice.below(most) as i64 - 1).collect()
        };
        let side = |dice: &mut Dice, n: usize| -> Vec<Vec<i64>> { (0..n).map(|_| row(dice)).collect() };
        (dice.below(2) == 0).then(|| (side(dice, self.anchors), side(dice, self.rows)))
    }

    fn rules(&self, bare: &Problem, dice: &mut Dice) -> Rules {
        let occurring = |dice: &mut Dice| -> f64 {
            if self.anchors == 0 || self.rows == 0 || dice.below(4) == 0 {
                return f64::from(dice.number());
            }
            let (a, b) = (&bare.queries[dice.below(self.anchors)], &bare.corpus[dice.below(self.rows)]);
            f64::from(naive::score(self.metric, a, b))
        };
        let cosine = |dice: &mut Dice| -> f64 {
            if self.rows == 0 || dice.below(2) == 0 {
                return dice.one_of(&[0.3, 0.95, 0.999_999]);
            }
            let (a, b) = (&bare.corpus[dice.below(self.rows)], &bare.corpus[dice.below(self.rows)]);
            f64::from(naive::cosine(a, b))
        };
        let range_min = dice.one_of(&[0, 0, 0, 1, 4, 50]);
        Rules {
            relative_margin: dice.one_of(&[None, Some(0.0), Some(0.05), Some(0.5)]),
            absolute_margin: dice.one_of(&[None, None, Some(0.0), Some(0.1)]),
            max_score: (dice.below(4) == 0).then(|| occurring(dice)),
            min_score: (dice.below(4) == 0).then(|| occurring(dice)),
            range_min,
            range_max: (dice.below(3) == 0)
                .then(|| range_min + dice.below(20))
                .map(|end| end + dice.one_of(&[0, 0, 150])),
            duplicate_of_positive: (dice.below(3) == 0).then(|| cosine(dice)),
            distinct: (dice.below(3) == 0).then(|| cosine(dice)),
            max_exposure: (dice.below(3) == 0).then(|| 1 + dice.below(3)),
            exclude_self: dice.below(2) == 0,
            transitive: dice.below(3) == 0,
        }
    }
}

/// Draws other than the top need a window that has an end.
pub(crate) fn draw(rules: &Rules, dice: &mut Dice) -> Draw {
    let all = [Draw::Top, Draw::Random, Draw::Softmax { temperature: 0.1 }, Draw::SimAns { a: 5.0, b: -0.1 }];
    if rules.range_max.is_some() { dice.one_of(&all) } else { Draw::Top }
}
