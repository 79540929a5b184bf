//! Index tuples against tuples by hand: every triplet looked at, every list sorted whole.

mod making;
mod naive;

use std::collections::BTreeSet;

use making::shapes::{LOOKS, Look, rows};
use making::{Dice, Kind, Stored, THREADS};
use negfast_core::error::{Error, Result};
use negfast_core::kernel::Level;
use negfast_core::lists::Lists;
use negfast_core::rules::{Known, Labels, Rules};
use negfast_core::score::{Matrix, Metric, Scorer};
use negfast_core::threads::{Monitor, Unwatched, Workers};
use negfast_core::tuples::{Asked, Band, Closeness, Positives, Shape, Tuples, tuples};
use proptest::prelude::*;

/// A batch and what is wanted of it.
struct Case {
    dim: usize,
    metric: Metric,
    closeness: Closeness,
    anchors: Stored,
    rows: Stored,
    positives: Vec<Vec<u32>>,
    /// Keys, one a row; −1 is none.
    keys: Option<(Vec<i64>, Vec<i64>)>,
    rules: Rules,
    band: Band,
    used: Positives,
    shape: Shape,
    most: Option<usize>,
}

impl Case {
    fn new((n, m, dim): (usize, usize, usize), (look, kind): (Look, Kind), dice: &mut Dice) -> Self {
        let stored = Stored::new(&rows(dice, m, dim, look, kind), kind);
        let same = n <= m && dice.below(2) == 0;
        let anchors = if same {
            Stored::new(&stored.widened(dim)[..n], kind)
        } else {
            Stored::new(&rows(dice, n, dim, look, kind), kind)
        };
        let classes = 1 + dice.below(8);
        let labels: Vec<usize> = (0..m).map(|_| dice.below(classes)).collect();
        let own = |dice: &mut Dice, i: usize| if same { labels[i] } else { dice.below(classes) };
        let positives = (0..n).map(|i| {
            let label = own(dice, i);
            (0..m).filter(|&row| labels[row] == label && !(same && row == i)).map(|row| row as u32).collect()
        });
        let positives = positives.collect();
        let keys = |dice: &mut Dice, n: usize| (0..n).map(|_| dice.below(20) as i64 - 1).collect();
        let power = dice.one_of(&[None, None, Some(1.0), Some(2.0), Some(0.5), Some(3.0)]);
        let mut case = Self {
            dim,
            metric: if power.is_none() && dice.below(2) == 0 { Metric::Dot } else { Metric::Cosine },
            closeness: power.map_or(Closeness::Score, Closeness::Distance),
            anchors,
            rows: stored,
            positives,
            keys: (dice.below(3) == 0).then(|| (keys(dice, n), keys(dice, m))),
            rules: Rules { exclude_self: same, ..Rules::default() },
            band: Band::default(),
            used: dice.one_of(&[Positives::All, Positives::Hardest, Positives::Easiest]),
            shape: dice.one_of(&[Shape::Triplets, Shape::Pairs]),
            most: dice.one_of(&[None, Some(1), Some(3), Some(1000)]),
        };
        if dice.below(2) == 0 {
            let chosen = Rules {
                relative_margin: dice.one_of(&[None, Some(0.0), Some(0.05)]),
                absolute_margin: dice.one_of(&[None, Some(0.0), Some(0.1)]),
                max_score: (dice.below(3) == 0).then(|| f64::from(case.some(dice))),
                min_score: (dice.below(3) == 0).then(|| f64::from(case.some(dice))),
                duplicate_of_positive: dice.one_of(&[None, None, Some(0.999_999)]),
                ..case.rules.clone()
            };
            case.rules = chosen;
        }
        // An edge that is the margin of some triplet, and 0 as often.
        let edge = |case: &Self, dice: &mut Dice| {
            (dice.below(3) > 0).then(|| if dice.below(2) == 0 { 0.0 } else { case.some(dice) - case.some(dice) })
        };
        case.band = Band { above: edge(&case, dice), up_to: edge(&case, dice) };
        case
    }

    fn close(&self, anchor: &[f32], row: &[f32]) -> f32 {
        let score = naive::score(self.metric, anchor, row);
        let Closeness::Distance(power) = self.closeness else { return score };
        let square = |row: &[f32]| if row.iter().any(|&x| x != 0.0) { 1.0 } else { 0.0 };
        let distance = (square(anchor) + square(row) - 2.0 * f64::from(score)).max(0.0);
        let raised = match power {
            1.0 => distance.sqrt(),
            2.0 => distance,
            _ => distance.powf(power / 2.0),
        };
        -raised as f32 + 0.0
    }

    /// How close some anchor and row are.
    fn some(&self, dice: &mut Dice) -> f32 {
        let (anchors, rows) = (self.anchors.widened(self.dim), self.rows.widened(self.dim));
        if anchors.is_empty() || rows.is_empty() {
            return 0.1;
        }
        // One anchor for both numbers of a margin, often.
        self.close(&anchors[dice.below(2).min(anchors.len() - 1)], &rows[dice.below(rows.len())])
    }

    fn allowed(&self, anchor: usize, row: u32, close: f32, lowest: f32) -> bool {
        let positives = &self.positives[anchor];
        let rows = self.rows.widened(self.dim);
        let (close, lowest) = (f64::from(close), f64::from(lowest));
        let banned = self.keys.as_ref().is_some_and(|(own, all)| {
            let key = all[row as usize];
            key >= 0 && (own[anchor] == key || positives.iter().any(|&p| all[p as usize] == key))
        });
        let rules = &self.rules;
        let copies =
            |bound| positives.iter().any(|&p| f64::from(naive::cosine(&rows[p as usize], &rows[row as usize])) > bound);
        !(positives.contains(&row)
            || banned
            || rules.exclude_self && anchor == row as usize
            || rules.relative_margin.is_some_and(|m| close > lowest - lowest.abs() * m)
            || rules.absolute_margin.is_some_and(|m| close > lowest - m)
            || rules.max_score.is_some_and(|most| close > most)
            || rules.min_score.is_some_and(|least| close < least)
            || rules.duplicate_of_positive.is_some_and(copies))
    }

    fn naive(&self) -> Tuples {
        let (anchors, rows) = (self.anchors.widened(self.dim), self.rows.widened(self.dim));
        let mut found = Tuples::default();
        for (anchor, own) in anchors.iter().enumerate() {
            let close: Vec<f32> = rows.iter().map(|row| self.close(own, row)).collect();
            let mut used = self.positives[anchor].clone();
            let lowest = used.iter().map(|&p| close[p as usize]).fold(f32::NAN, f32::min);
            let by = |&a: &u32, &b: &u32| close[a as usize].total_cmp(&close[b as usize]).then(b.cmp(&a));
            match self.used {
                Positives::All => {}
                Positives::Easiest => used = used.into_iter().max_by(by).into_iter().collect(),
                Positives::Hardest => {
                    let by = |&a: &u32, &b: &u32| close[a as usize].total_cmp(&close[b as usize]).then(a.cmp(&b));
                    used = used.into_iter().min_by(by).into_iter().collect();
                }
            }
            let allowed: Vec<u32> = if used.is_empty() {
                Vec::new()
            } else {
                (0..rows.len() as u32).filter(|&row| self.allowed(anchor, row, close[row as usize], lowest)).collect()
            };
            found.all.triplets += (used.len() * allowed.len()) as u64;
            for &p in &used {
                for &n in &allowed {
                    found.all.positives += f64::from(close[p as usize]);
                    found.all.negatives += f64::from(close[n as usize]);
                }
            }
            let holds = |p: u32, n: u32| {
                let margin = close[p as usize] - close[n as usize];
                self.band.above.is_none_or(|above| margin > above) && self.band.up_to.is_none_or(|up| margin <= up)
            };
            let cut = |mut list: Vec<u32>| {
                if let Some(most) = self.most {
                    list.sort_by(|&a, &b| close[b as usize].total_cmp(&close[a as usize]).then(a.cmp(&b)));
                    list.truncate(most);
                }
                list
            };
            match self.shape {
                Shape::Triplets => {
                    for &p in &used {
                        let list = cut(allowed.iter().copied().filter(|&n| holds(p, n)).collect());
                        if !list.is_empty() {
                            found.anchors.push(anchor as i64);
                            found.positives.push(i64::from(p));
                            found.counts.push(list.len() as i64);
                            found.negatives.extend(list.iter().map(|&n| i64::from(n)));
                        }
                    }
                }
                Shape::Pairs => {
                    let some = |&n: &u32| used.iter().any(|&p| holds(p, n));
                    let list = cut(allowed.iter().copied().filter(some).collect());
                    found.counts.push(list.len() as i64);
                    for &p in used.iter().filter(|&&p| list.iter().any(|&n| holds(p, n))) {
                        found.anchors.push(anchor as i64);
                        found.positives.push(i64::from(p));
                    }
                    found.negatives.extend(list.iter().map(|&n| i64::from(n)));
                }
            }
        }
        found
    }

    fn found(&self, level: Level, threads: usize, monitor: &mut dyn Monitor) -> Result<Tuples> {
        let mut workers = Workers::new(threads, monitor);
        let queries = Matrix::measure("embeddings", self.anchors.rows(self.dim), level, &mut workers)?;
        let corpus = Matrix::measure("ref_emb", self.rows.rows(self.dim), level, &mut workers)?;
        let scorer = Scorer::new(&queries, &corpus, self.metric, level)?;
        let starts = self.positives.iter().scan(0, |sum, list| {
            *sum += list.len() as i64;
            Some(*sum)
        });
        let starts: Vec<i64> = std::iter::once(0).chain(starts).collect();
        let flat: Vec<i64> = self.positives.iter().flatten().map(|&row| i64::from(row)).collect();
        let keys = self.keys.as_ref().map(|(own, all)| -> Result<_> {
            Ok((Labels::new("keys", own, 1, queries.len())?, Labels::new("keys", all, 1, corpus.len())?))
        });
        let known = Known {
            positives: Lists::new("labels", &starts, &flat, queries.len(), corpus.len())?,
            keys: keys.transpose()?,
            ..Known::default()
        };
        let asked = Asked {
            scorer: &scorer,
            known: &known,
            rules: &self.rules,
            closeness: self.closeness,
            band: self.band,
            positives: self.used,
            shape: self.shape,
            most: self.most,
        };
        tuples(&asked, &mut workers)
    }

    fn check(&self) {
        let expected = self.naive();
        for level in Level::available() {
            let mut first: Option<Tuples> = None;
            for threads in THREADS {
                let found = self.found(level, threads, &mut Unwatched).expect("the sizes are fine");
                let sums =
                    [(found.all.positives, expected.all.positives), (found.all.negatives, expected.all.negatives)];
                let scale = self.scale() * (expected.all.triplets as f64 + 1.0);
                assert!(sums.iter().all(|(a, b)| (a - b).abs() <= 1e-4 * scale), "{sums:?} of {scale}");
                assert_eq!(found.all.triplets, expected.all.triplets);
                let same = Tuples { all: expected.all, ..found.clone() };
                assert_eq!(same, expected, "{level:?}, {threads} threads");
                assert_eq!(*first.get_or_insert_with(|| found.clone()), found);
            }
        }
    }

    /// The largest score that rows of these norms can have.
    fn scale(&self) -> f64 {
        let largest = |rows: &Stored| {
            rows.widened(self.dim).iter().map(|row| naive::product(row, row).sqrt()).fold(1.0, f64::max)
        };
        // The square root of a distance of rounding errors is much larger than they are.
        if self.metric == Metric::Dot { largest(&self.anchors) * largest(&self.rows) } else { 1e3 }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn tuples_equal_brute_force(
        look in prop::sample::select(&LOOKS[..]),
        kind in prop_oneof![3 => Just(Kind::F32), 1 => Just(Kind::F16), 1 => Just(Kind::Bf16)],
        sizes in (0usize..20, 0usize..70, 1usize..40),
        seed: u64,
    ) {
        Case::new(sizes, (look, kind), &mut Dice(seed)).check();
    }
}

/// Rows of 2 dimensions at these angles, in degrees.
fn on_a_circle(angles: &[f32]) -> Stored {
    Stored::F32(angles.iter().flat_map(|angle| [angle.to_radians().cos(), angle.to_radians().sin()]).collect())
}

/// An anchor at 0°, positives at 10° and 40°, negatives at 5°, 20°, 50° and 120°.
fn circle(band: Band, shape: Shape, most: Option<usize>) -> (Vec<i64>, Vec<i64>, Vec<i64>) {
    let case = Case {
        dim: 2,
        metric: Metric::Cosine,
        closeness: Closeness::Distance(1.0),
        anchors: on_a_circle(&[0.0]),
        rows: on_a_circle(&[10.0, 40.0, 5.0, 20.0, 50.0, 120.0]),
        positives: vec![vec![0, 1]],
        keys: None,
        rules: Rules::default(),
        band,
        used: Positives::All,
        shape,
        most,
    };
    let found = case.found(Level::Scalar, 1, &mut Unwatched).expect("the sizes are fine");
    (found.positives, found.counts, found.negatives)
}

#[test]
fn tuples_on_a_circle_are_those_by_hand() {
    // A chord of d degrees is 2 sin(d / 2) long: .17 and .68 to the positives; .09, .35, .85 and 1.73 to the negatives.
    let semi_hard = Band { above: Some(0.0), up_to: Some(0.2) };
    assert_eq!(circle(semi_hard, Shape::Triplets, None), (vec![0, 1], vec![1, 1], vec![3, 4]));
    let hard = Band { above: None, up_to: Some(0.0) };
    assert_eq!(circle(hard, Shape::Triplets, None), (vec![0, 1], vec![1, 2], vec![2, 2, 3]));
    assert_eq!(circle(hard, Shape::Triplets, Some(1)), (vec![0, 1], vec![1, 1], vec![2, 2]));
    let easy = Band { above: Some(0.2), up_to: None };
    assert_eq!(circle(easy, Shape::Triplets, None), (vec![0, 1], vec![2, 1], vec![4, 5, 5]));
    assert_eq!(circle(easy, Shape::Pairs, Some(1)), (vec![0], vec![1], vec![4]));
    assert_eq!(circle(semi_hard, Shape::Pairs, None), (vec![0, 1], vec![2], vec![3, 4]));
}

#[test]
fn edges_of_a_band_are_within_the_tiers_that_they_belong_to() {
    let band = Band { above: Some(0.0), up_to: Some(0.5) };
    assert!(!band.holds(0.0) && band.holds(f32::MIN_POSITIVE) && band.holds(0.5) && !band.holds(0.5f32.next_up()));
    assert!(Band::default().holds(f32::NEG_INFINITY) && Band::default().holds(f32::INFINITY));
}

#[test]
fn a_call_can_be_stopped() {
    struct Stop;
    impl Monitor for Stop {
        fn turn(&mut self, _: u64, _: u64) -> bool {
            false
        }
    }
    let dice = &mut Dice(1);
    let mut case = Case::new((600, 3000, 64), (Look::Plain, Kind::F32), dice);
    case.most = None;
    let labels: BTreeSet<_> = case.positives.iter().map(Vec::len).collect();
    assert!(!labels.is_empty());
    assert!(matches!(case.found(Level::Scalar, 2, &mut Stop), Err(Error::Cancelled)));
}
