//! Tiered draws against a naive oracle: what is never drawn, how slots are shared, and how probable each row is.

// Only its dice are used here.
mod making;
mod naive;

use std::collections::{HashMap, HashSet};

use making::{Dice, THREADS};
use negfast_core::lists::Lists;
use negfast_core::rules::Labels;
use negfast_core::threads::{Unwatched, Workers};
use negfast_core::tiered::allotment::Allotment;
use negfast_core::tiered::identity::Identity;
use negfast_core::tiered::{Draw, Drawn, Edges, Proposals, SHARES, Settings, draw};
use proptest::prelude::*;

/// A whole problem, as plain as can be.
#[derive(Debug)]
struct Case {
    rows: usize,
    anchors: usize,
    copies: Option<Vec<i64>>,
    positives: Vec<Vec<i64>>,
    groups: Option<(Vec<i64>, Vec<i64>)>,
    listed: Vec<i64>,
    width: usize,
    scores: Vec<f32>,
    positive_scores: Vec<f32>,
    sampled: Vec<i64>,
    sampled_width: usize,
    usefulness: Vec<f32>,
    most: Option<u32>,
    settings: Settings,
}

fn distinct(dice: &mut Dice, n: usize, width: usize) -> Vec<i64> {
    let mut all: Vec<i64> = (0..n as i64).collect();
    for i in 0..width {
        let other = i + dice.below(n - i);
        all.swap(i, other);
    }
    all.truncate(width);
    all
}

impl Case {
    fn any(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let (rows, anchors) = (8 + dice.below(40), 1 + dice.below(12));
        let (width, sampled_width) = (dice.below(rows.min(20)), 1 + dice.below(rows.min(12)));
        let copies = (dice.below(2) == 0).then(|| (0..rows).map(|_| dice.below(rows) as i64 - 2).collect());
        let groups = (dice.below(2) == 0).then(|| {
            let mut labels = |n: usize| (0..n).map(|_| dice.below(40) as i64 - 4).collect();
            (labels(anchors), labels(rows))
        });
        let positives = (0..anchors).map(|_| (0..dice.below(3)).map(|_| dice.below(rows) as i64).collect()).collect();
        let mut listed: Vec<i64> = (0..anchors).flat_map(|_| distinct(&mut dice, rows, width)).collect();
        for id in &mut listed {
            if dice.below(10) == 0 {
                *id = -1;
            }
        }
        let sampled = (0..anchors).flat_map(|_| distinct(&mut dice, rows, sampled_width)).collect();
        let mut scores: Vec<f32> = (0..listed.len()).map(|_| dice.number()).collect();
        for list in scores.chunks_mut(width.max(1)) {
            list.sort_by(|a, b| b.total_cmp(a));
        }
        let num_negatives = 1 + dice.below(9);
        let (hard, semi_hard, easy) = (dice.below(4) as f64, dice.below(4) as f64, dice.below(3) as f64);
        let part = num_negatives as f64 / (hard + semi_hard + easy + 1.0);
        Self {
            rows,
            anchors,
            copies,
            positives,
            groups,
            listed,
            width,
            scores,
            positive_scores: (0..anchors).map(|_| dice.number()).collect(),
            sampled,
            sampled_width,
            usefulness: (0..rows).map(|_| 0.3 + dice.number().abs()).collect(),
            most: (dice.below(2) == 0).then(|| 1 + dice.below(4) as u32),
            settings: Settings {
                num_negatives,
                edges: Edges { hard: 0.0, semi_hard: -0.5 },
                slots: [hard * part, semi_hard * part, easy * part, part],
                temperature: (dice.below(2) == 0).then_some(0.3),
                seed: dice.roll(),
                epoch: dice.roll() % 9,
                step: dice.roll(),
            },
        }
    }

    fn identity(&self) -> Identity {
        let (mut starts, mut values) = (vec![0], Vec::new());
        for list in &self.positives {
            values.extend(list);
            starts.push(values.len() as i64);
        }
        let positives = Lists::new("positives", &starts, &values, self.anchors, self.rows).expect("legal lists");
        let pair = self.groups.as_ref().map(|(anchors, rows)| {
            let labels = |values| Labels::new("groups", values, 1, <[i64]>::len(values)).expect("a label each");
            (labels(anchors), labels(rows))
        });
        let pairs: Vec<_> = pair.into_iter().collect();
        Identity::new(self.rows, self.copies.as_deref(), &positives, &pairs).expect("legal labels")
    }

    fn proposals(&self) -> [Proposals<'_>; 2] {
        [
            Proposals {
                name: "listed",
                ids: &self.listed,
                width: self.width,
                scores: Some(&self.scores),
                positive_scores: Some(&self.positive_scores),
                log_inclusion: None,
            },
            Proposals {
                name: "sampled",
                ids: &self.sampled,
                width: self.sampled_width,
                scores: None,
                positive_scores: None,
                log_inclusion: Some(&ZEROS[..self.sampled.len()]),
            },
        ]
    }

    fn allotment(&self, identity: &Identity) -> Option<Allotment> {
        let Settings { seed, epoch, .. } = self.settings;
        let made = |most| Allotment::new(identity, &self.proposals()[..1], most, (seed, epoch)).expect("legal lists");
        self.most.map(made)
    }

    fn draw(&self, step: u64, threads: usize) -> Drawn {
        let (identity, proposals) = (self.identity(), self.proposals());
        let allotment = self.allotment(&identity);
        let anchors: Vec<u32> = (0..self.anchors as u32).collect();
        let asked = Draw {
            identity: &identity,
            allotment: allotment.as_ref(),
            usefulness: &self.usefulness,
            proposals: &proposals,
            anchors: &anchors,
            settings: Settings { step, ..self.settings },
        };
        draw(&asked, &mut Workers::new(threads, &mut Unwatched)).expect("legal proposals")
    }

    fn alike(&self, a: usize, b: usize) -> bool {
        a == b || self.copies.as_ref().is_some_and(|labels| labels[a] >= 0 && labels[a] == labels[b])
    }

    /// Whether a row, or a copy of it, is a positive of the anchor or shares a group with it or with one of these.
    fn refused(&self, anchor: usize, row: usize) -> bool {
        let copies = |of: usize| (0..self.rows).filter(move |&other| self.alike(of, other));
        let positives: HashSet<usize> = self.positives[anchor].iter().flat_map(|&row| copies(row as usize)).collect();
        let group = |labels: &[i64], i: usize| Some(labels[i]).filter(|&label| label >= 0);
        let shares = |row: usize| {
            self.groups.as_ref().is_some_and(|(anchors, rows)| {
                let own = positives.iter().filter_map(|&positive| group(rows, positive));
                let banned: HashSet<i64> = own.chain(group(anchors, anchor)).collect();
                group(rows, row).is_some_and(|label| banned.contains(&label))
            })
        };
        copies(row).any(|copy| positives.contains(&copy) || shares(copy))
    }

    /// How probable each row is to be drawn, where there are no copies and no cap.
    fn probabilities(&self, anchor: usize) -> HashMap<usize, f64> {
        let mut tiers: [Vec<(usize, f64)>; 3] = Default::default();
        let listed: Vec<(usize, f32)> = (anchor * self.width..(anchor + 1) * self.width)
            .filter(|&at| self.listed[at] >= 0 && !self.refused(anchor, self.listed[at] as usize))
            .map(|at| (self.listed[at] as usize, self.scores[at]))
            .collect();
        for &(row, score) in &listed {
            let hardness = f64::from(score) - f64::from(self.positive_scores[anchor]);
            let Edges { hard, semi_hard } = self.settings.edges;
            let tier = if hardness >= hard { 0 } else { 1 + usize::from(hardness < semi_hard) };
            let tilt = self.settings.temperature.map_or(1.0, |temperature| (f64::from(score) / temperature).exp());
            tiers[tier].push((row, f64::from(self.usefulness[row]) * tilt));
        }
        let (mut found, mut carried) = (HashMap::new(), 0.0);
        let mut open_rows = HashSet::new();
        for (tier, slots) in tiers.iter().zip(self.settings.slots) {
            let wanted = slots + carried;
            if wanted > 1e-6 {
                found.extend(in_proportion(tier, wanted));
                open_rows.extend(tier.iter().map(|&(row, _)| row));
            }
            carried = (wanted - tier.len() as f64).max(0.0);
        }
        let sampled = &self.sampled[anchor * self.sampled_width..(anchor + 1) * self.sampled_width];
        let rest: Vec<(usize, f64)> = sampled
            .iter()
            .map(|&row| row as usize)
            .filter(|row| !self.refused(anchor, *row) && !open_rows.contains(row))
            .map(|row| (row, 1.0))
            .collect();
        found.extend(in_proportion(&rest, self.settings.slots[3] + carried));
        found
    }
}

const ZEROS: [f32; 1024] = [0.0; 1024];

/// Probabilities in proportion to weights, none above 1, that add up to `slots`: by bisection of the factor.
fn in_proportion(weights: &[(usize, f64)], slots: f64) -> Vec<(usize, f64)> {
    let sum = |factor: f64| weights.iter().map(|(_, weight)| (weight * factor).min(1.0)).sum::<f64>();
    if slots >= weights.len() as f64 {
        return weights.iter().map(|&(row, _)| (row, 1.0)).collect();
    }
    let (mut low, mut high) = (0.0, 1.0);
    while sum(high) < slots {
        high *= 2.0;
    }
    for _ in 0..200 {
        let middle = f64::midpoint(low, high);
        if sum(middle) < slots { low = middle } else { high = middle }
    }
    weights.iter().map(|&(row, weight)| (row, (weight * high).min(1.0))).collect()
}

fn bits(drawn: &Drawn) -> (Vec<i64>, Vec<u32>, Vec<u32>) {
    let bits = |numbers: &[f32]| numbers.iter().map(|number| number.to_bits()).collect();
    (drawn.ids.clone(), bits(&drawn.log_weights), bits(&drawn.scores))
}

proptest! {
    #[test]
    fn no_rule_is_broken(seed in any::<u64>()) {
        let case = Case::any(seed);
        let k = case.settings.num_negatives;
        let mut served: HashMap<i64, HashSet<usize>> = HashMap::new();
        for step in 0..6 {
            let drawn = case.draw(step, 1);
            for anchor in 0..case.anchors {
                let cells = anchor * k..(anchor + 1) * k;
                let rows: Vec<usize> = drawn.ids[cells.clone()].iter().filter(|&&id| id >= 0).map(|&id| id as usize).collect();
                for (i, &row) in rows.iter().enumerate() {
                    prop_assert!(!case.refused(anchor, row));
                    prop_assert!(rows[..i].iter().all(|&other| !case.alike(row, other)));
                }
                for at in cells {
                    let places = [
                        &case.listed[anchor * case.width..(anchor + 1) * case.width],
                        &case.sampled[anchor * case.sampled_width..(anchor + 1) * case.sampled_width],
                    ];
                    prop_assert_eq!(drawn.ids[at] >= 0, drawn.sources[at] >= 0);
                    if drawn.ids[at] >= 0 {
                        prop_assert!(places[drawn.sources[at] as usize].contains(&drawn.ids[at]));
                    }
                    if drawn.sources[at] == 0 {
                        served.entry(drawn.ids[at]).or_default().insert(anchor);
                    }
                }
            }
        }
        if let Some(most) = case.most {
            prop_assert!(served.values().all(|anchors| anchors.len() <= most as usize));
        }
    }

    #[test]
    fn rows_are_as_probable_as_their_weights_say(seed in any::<u64>()) {
        let case = Case { copies: None, most: None, ..Case::any(seed) };
        let (k, drawn) = (case.settings.num_negatives, case.draw(3, 1));
        for anchor in 0..case.anchors {
            let probabilities = case.probabilities(anchor);
            let cells = anchor * k..(anchor + 1) * k;
            let total: f64 = probabilities.values().sum();
            let found = drawn.ids[cells.clone()].iter().filter(|&&id| id >= 0).count() as f64;
            prop_assert!((found - total).abs() < 1.0 - 1e-9 || (found - total).abs() < 1e-6, "{found} of {total}");
            for at in cells.filter(|&at| drawn.ids[at] >= 0) {
                let expected = -probabilities[&(drawn.ids[at] as usize)].ln();
                prop_assert!((f64::from(drawn.log_weights[at]) - expected).abs() < 1e-4, "{expected}");
            }
            for (tier, wanted) in [3, 2, 1].into_iter().zip(case.settings.slots) {
                // A tier that lacks nothing, and is handed nothing, gets its slots rounded.
                let lacks = &drawn.shortfall[anchor * SHARES..(anchor + 1) * SHARES];
                if lacks.iter().all(|&lack| lack == 0.0) {
                    let got = (anchor * k..(anchor + 1) * k)
                        .filter(|&at| drawn.sources[at] == 0 && drawn.tiers[at] == tier)
                        .count() as f64;
                    prop_assert!((got - wanted).abs() < 1.0 + 1e-6, "{got} of {wanted}");
                }
            }
        }
    }
}

#[test]
fn rows_are_drawn_as_often_as_they_are_probable() {
    // Six standard deviations of 20,000 draws: a false alarm in 10^9 a row, of a few hundred.
    let steps = 20_000;
    for seed in 0..4 {
        let mut case = Case { copies: None, most: None, ..Case::any(seed) };
        case.anchors = 1;
        case.listed.truncate(case.width);
        case.scores.truncate(case.width);
        case.sampled.truncate(case.sampled_width);
        case.positives.truncate(1);
        case.positive_scores.truncate(1);
        case.groups = None;
        let mut counts: HashMap<i64, f64> = HashMap::new();
        for step in 0..steps {
            for id in case.draw(step, 1).ids {
                *counts.entry(id).or_default() += 1.0;
            }
        }
        for (row, p) in case.probabilities(0) {
            let count = counts.get(&(row as i64)).copied().unwrap_or_default();
            let (mean, sd) = (steps as f64 * p, (steps as f64 * p * (1.0 - p)).sqrt());
            assert!((count - mean).abs() <= 6.0 * sd + 1e-6, "row {row}: {count}, not {mean}");
        }
    }
}

#[test]
fn threads_do_not_matter() {
    let case = Case { most: Some(3), ..Case::any(11) };
    let (identity, proposals) = (case.identity(), case.proposals());
    let allotment = case.allotment(&identity);
    let (times, own) = (4000, |values: &[i64], width: usize| values[..width].to_vec());
    // One anchor many times: enough work for threads, and all that it is asked for has to be the same.
    let (listed, sampled) = (own(&case.listed, case.width), own(&case.sampled, case.sampled_width));
    let (listed, sampled) = (listed.repeat(times), sampled.repeat(times));
    let (scores, certain) = (case.scores[..case.width].repeat(times), vec![0.0; sampled.len()]);
    let positive_scores = vec![case.positive_scores[0]; times];
    let [first, second] = proposals;
    let many = [
        Proposals { ids: &listed, scores: Some(&scores), positive_scores: Some(&positive_scores), ..first },
        Proposals { ids: &sampled, log_inclusion: Some(&certain), ..second },
    ];
    let asked = Draw {
        identity: &identity,
        allotment: allotment.as_ref(),
        usefulness: &case.usefulness,
        proposals: &many,
        anchors: &vec![0; times],
        settings: case.settings,
    };
    let alone = bits(&case.draw(case.settings.step, 1));
    let k = case.settings.num_negatives;
    for threads in THREADS {
        let drawn = bits(&draw(&asked, &mut Workers::new(threads, &mut Unwatched)).expect("legal proposals"));
        for i in 0..times {
            assert_eq!(drawn.0[i * k..(i + 1) * k], alone.0[..k]);
            assert_eq!(drawn.1[i * k..(i + 1) * k], alone.1[..k]);
            assert_eq!(drawn.2[i * k..(i + 1) * k], alone.2[..k]);
        }
    }
}
