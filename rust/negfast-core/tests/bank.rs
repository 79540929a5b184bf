//! Banks against naive ones: which rows they hold, and which of them come nearest.

mod making;
mod naive;

use std::collections::HashMap;

use making::shapes::{LOOKS, Look, rows};
use making::{Dice, Kind, Stored, THREADS, bits};
use negfast_core::bank::{Asked, Excluded, Found, Places, Policy, Shelf, hardest};
use negfast_core::error::Error;
use negfast_core::kernel::Level;
use negfast_core::reservoir::Mixer;
use negfast_core::score::{Matrix, Metric};
use negfast_core::threads::{Unwatched, Workers};
use proptest::prelude::*;

const POLICIES: [Policy; 3] = [Policy::Fifo, Policy::Reservoir, Policy::Aged];
/// "bank", the purpose of its random numbers.
const PURPOSE: u64 = 0x6261_6e6b;

/// A bank that looks at every slot for every row; in each slot the id, the rows that were mixed there, and the number.
#[derive(Debug, Clone)]
struct Naive {
    policy: Policy,
    mixer: Mixer,
    seen: u64,
    slots: Vec<Option<(i64, Vec<u64>, u64)>>,
}

impl Naive {
    fn new(policy: Policy, capacity: usize, seed: u64) -> Self {
        Self { policy, mixer: Mixer::new(seed, PURPOSE), seen: 0, slots: vec![None; capacity] }
    }

    fn key(&self, number: u64) -> u64 {
        self.mixer.bits(number)
    }

    fn add(&mut self, id: i64, mixes: bool) {
        let number = self.seen;
        self.seen += 1;
        let same = self.slots.iter().position(|slot| id >= 0 && slot.as_ref().is_some_and(|held| held.0 == id));
        if let Some(slot) = same {
            let (_, mut rows, chosen) = self.slots[slot].clone().expect("it is held");
            rows = if mixes { [rows, vec![number]].concat() } else { vec![number] };
            let larger = self.policy == Policy::Reservoir && self.key(chosen) < self.key(number);
            self.slots[slot] = Some((id, rows, if larger { chosen } else { number }));
            return;
        }
        let free = self.slots.iter().position(Option::is_none);
        let chosen = |slot: &usize| self.slots[*slot].as_ref().map_or(0, |held| held.2);
        let slot = match self.policy {
            Policy::Fifo => free.or_else(|| (0..self.slots.len()).min_by_key(chosen)),
            Policy::Reservoir => free.or_else(|| {
                let last = (0..self.slots.len()).max_by_key(|slot| self.key(chosen(slot)));
                last.filter(|slot| self.key(number) < self.key(chosen(slot)))
            }),
            Policy::Aged => Some(self.mixer.below(number, self.slots.len() as u64) as usize),
        };
        if let Some(slot) = slot {
            self.slots[slot] = Some((id, vec![number], number));
        }
    }
}

/// What a bank holds when its caller writes what it is told to.
#[derive(Debug)]
struct Held {
    places: Places,
    policy: Policy,
    seed: u64,
    /// For each slot the rows that were mixed.
    rows: Vec<Vec<u64>>,
    chosen: Vec<i64>,
}

impl Held {
    fn new(policy: Policy, capacity: usize, seed: u64) -> Self {
        let places = Places::new(policy, capacity, seed).expect("the capacity is fine");
        Self { places, policy, seed, rows: vec![Vec::new(); capacity], chosen: vec![-1; capacity] }
    }

    fn add(&mut self, ids: &[i64], mixes: bool) {
        let first = self.places.seen();
        let placed = self.places.place(ids, mixes).expect("the ids are fine");
        for write in &placed.writes {
            let (rows, number) = (&mut self.rows[write.slot as usize], first + u64::from(write.row));
            if !write.mixes {
                assert_eq!(write.round, 0, "only the first write replaces");
                rows.clear();
            }
            rows.push(number);
        }
        for &(slot, row, chosen) in &placed.last {
            assert_eq!(self.rows[slot as usize].last(), Some(&(first + u64::from(row))));
            self.chosen[slot as usize] = chosen;
        }
        assert!(placed.last.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    fn saved(&mut self) {
        let (seen, ids) = (self.places.seen(), self.places.ids().to_vec());
        self.places = Places::from_parts(self.policy, self.seed, seen, &ids, &self.chosen).expect("the state is whole");
    }

    fn check(&self, naive: &Naive) {
        assert_eq!(self.places.seen(), naive.seen);
        assert_eq!(self.places.len(), naive.slots.iter().flatten().count());
        for (slot, held) in naive.slots.iter().enumerate() {
            let (id, rows, chosen) = held.clone().unwrap_or((-1, Vec::new(), u64::MAX));
            assert_eq!(self.places.ids()[slot], id);
            assert_eq!(self.rows[slot], rows);
            assert_eq!(self.places.chosen()[slot], chosen as i64);
            assert_eq!(self.chosen[slot], chosen as i64);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn batches_of_any_size_end_as_rows_one_by_one(
        (capacity, ids) in (1usize..20, prop::collection::vec(-1i64..30, 0..150)),
        batch in 1usize..60,
        mixes: bool,
        seed: u64,
    ) {
        for policy in POLICIES {
            let (mut held, mut naive) = (Held::new(policy, capacity, seed), Naive::new(policy, capacity, seed));
            for ids in ids.chunks(batch) {
                held.add(ids, mixes);
                for &id in ids {
                    naive.add(id, mixes);
                }
                held.check(&naive);
                held.saved();
                held.check(&naive);
            }
        }
    }

    #[test]
    fn hardest_equals_brute_force(
        look in prop::sample::select(&LOOKS[..]),
        kind in prop_oneof![Just(Kind::F32), Just(Kind::F16), Just(Kind::Bf16)],
        metric in prop_oneof![Just(Metric::Cosine), Just(Metric::Dot)],
        (anchors, slots, dim) in (0usize..30, 1usize..400, 1usize..40),
        k in prop_oneof![1usize..5, 5usize..500],
        seed: u64,
    ) {
        Case::new((anchors, slots, dim), (look, kind, metric), k, &mut Dice(seed)).check();
    }
}

/// A bank and what is looked up in it.
struct Case {
    dim: usize,
    k: usize,
    metric: Metric,
    kind: Kind,
    rows: Stored,
    anchors: Stored,
    /// −1 for free slots.
    numbers: Vec<i64>,
    labels: [Vec<i64>; 2],
    refused: [Vec<i64>; 2],
    caps: Option<Vec<f64>>,
}

impl Case {
    fn new(
        (anchors, slots, dim): (usize, usize, usize),
        (look, kind, metric): (Look, Kind, Metric),
        k: usize,
        dice: &mut Dice,
    ) -> Self {
        let mut numbers: Vec<i64> = (0..slots as i64).collect();
        (1..slots).for_each(|i| numbers.swap(i, dice.below(i + 1)));
        let full = dice.below(3);
        numbers.iter_mut().filter(|_| full == 0 && dice.below(3) == 0).for_each(|number| *number = -1);
        let mut label = |n: usize, most: usize| (0..n).map(|_| dice.below(most) as i64 - 1).collect();
        let labels = [label(slots, 5), label(slots, 400)];
        let refused = [label(anchors, 7), label(anchors * 20, 400)];
        let [rows, anchors] = [slots, anchors].map(|n| Stored::new(&rows(dice, n, dim, look, kind), kind));
        let mut case = Self { dim, k, metric, kind, rows, anchors, numbers, labels, refused, caps: None };
        if dice.below(2) == 0 {
            case.caps = Some(case.some_scores(dice));
        }
        case
    }

    /// For each anchor the score of some row, or a little less: caps that are hard to tell.
    fn some_scores(&self, dice: &mut Dice) -> Vec<f64> {
        let (rows, anchors) = (self.rows.widened(self.dim), self.anchors.widened(self.dim));
        let some = |anchor: &Vec<f32>| {
            let score = naive::score(self.metric, anchor, &rows[dice.below(rows.len())]);
            f64::from(if dice.below(2) == 0 { score } else { score.next_down() })
        };
        anchors.iter().map(some).collect()
    }

    fn naive(&self) -> (Vec<i64>, Vec<f32>) {
        let (rows, anchors) = (self.rows.widened(self.dim), self.anchors.widened(self.dim));
        let (mut slots, mut scores) = (Vec::new(), Vec::new());
        for (i, anchor) in anchors.iter().enumerate() {
            let allowed = |slot: &usize| {
                let bars = |(labels, refused): (&Vec<i64>, &Vec<i64>)| {
                    let width = refused.len() / anchors.len();
                    labels[*slot] >= 0 && refused[i * width..(i + 1) * width].contains(&labels[*slot])
                };
                self.numbers[*slot] >= 0 && !self.labels.iter().zip(&self.refused).any(bars)
            };
            let score = |slot: usize| (naive::score(self.metric, anchor, &rows[slot]), slot);
            let under = |found: &(f32, usize)| self.caps.as_ref().is_none_or(|caps| f64::from(found.0) <= caps[i]);
            let mut found: Vec<_> = (0..rows.len()).filter(allowed).map(score).filter(under).collect();
            found.sort_by(|a, b| b.0.total_cmp(&a.0).then(self.numbers[a.1].cmp(&self.numbers[b.1])));
            let padded = found.iter().map(|&(score, slot)| (slot as i64, score));
            for (slot, score) in padded.chain(std::iter::repeat((-1, f32::NEG_INFINITY))).take(self.k) {
                slots.push(slot);
                scores.push(score);
            }
        }
        (slots, scores)
    }

    /// Writes the rows in two calls, the second of which renews some, and looks up.
    fn found(&self, level: Level, threads: usize) -> Found {
        let mut monitor = Unwatched;
        let mut workers = Workers::new(threads, &mut monitor);
        let held: Vec<u32> = (0..self.numbers.len() as u32).filter(|&slot| self.numbers[slot as usize] >= 0).collect();
        let mut shelf = Shelf::new(self.metric, self.numbers.len(), self.dim).expect("the sizes are fine");
        let others = Stored::new(&vec![vec![0.5; self.dim]; self.numbers.len()], self.kind);
        shelf.write(&others.rows(self.dim), &held[..held.len() / 2], level, &mut workers).expect("rows are finite");
        shelf.write(&self.rows.rows(self.dim), &held, level, &mut workers).expect("rows are finite");
        let anchors = Matrix::measure("anchors", self.anchors.rows(self.dim), level, &mut workers).expect("finite");
        let excluded: Vec<_> = (self.labels.iter().zip(&self.refused))
            .map(|(rows, refused)| Excluded::new("labels", rows, refused, anchors.len()).expect("as many"))
            .collect();
        let asked = Asked {
            rows: self.rows.rows(self.dim),
            shelf: &shelf,
            numbers: &self.numbers,
            anchors: &anchors,
            k: self.k,
            excluded: &excluded,
            max_scores: self.caps.as_deref(),
            level,
        };
        hardest(&asked, &mut workers).expect("nothing is wrong")
    }

    fn check(&self) {
        let (slots, scores) = self.naive();
        for level in Level::available() {
            for threads in THREADS {
                let found = self.found(level, threads);
                assert_eq!(found.slots, slots, "{level:?}, {threads} threads");
                assert_eq!(bits(&found.scores), bits(&scores), "{level:?}, {threads} threads");
            }
        }
    }
}

#[test]
fn banks_that_are_worth_a_first_look_are_searched_exactly() {
    let dice = &mut Dice(1);
    for look in [Look::Plain, Look::Quantised, Look::NearCopies, Look::Constant] {
        Case::new((40, 3000, 24), (look, Kind::F32, Metric::Cosine), 7, dice).check();
        Case::new((13, 2050, 16), (look, Kind::F16, Metric::Dot), 64, dice).check();
    }
}

#[test]
fn free_slots_are_never_found() {
    // All rows are alike and opposite to the anchors, so that zeros would come first, and codes tell nothing.
    let (slots, dim) = (300, 8);
    let stored = |n: usize, x: f32| Stored::new(&vec![vec![x; dim]; n], Kind::F32);
    let case = Case {
        dim,
        k: 5,
        metric: Metric::Cosine,
        kind: Kind::F32,
        rows: stored(slots, 0.7),
        anchors: stored(3, -0.7),
        numbers: (0..slots as i64).map(|i| if i % 3 == 0 { -1 } else { i }).collect(),
        labels: [vec![-1; slots], vec![-1; slots]],
        refused: [vec![-1; 3], vec![-1; 3]],
        caps: None,
    };
    case.check();
}

#[test]
fn pinned_places() {
    let held = POLICIES.map(|policy| {
        let mut held = Held::new(policy, 5, 42);
        held.add(&(0..40).collect::<Vec<_>>(), false);
        held.places.ids().to_vec()
    });
    assert_eq!(held[0], [35, 36, 37, 38, 39]);
    assert_eq!(held[1], [12, 20, 10, 6, 8]);
    assert_eq!(held[2], [31, 34, 39, 35, 38]);
}

#[test]
fn a_full_bank_keeps_the_age_of_what_comes_again() {
    let mut held = Held::new(Policy::Fifo, 3, 0);
    held.add(&[1, 2, 3, 1, 4], false);
    let mut ids = held.places.ids().to_vec();
    ids.sort_unstable();
    assert_eq!(ids, [1, 3, 4], "2 was written longest ago");
}

#[test]
fn rows_without_an_id_are_never_the_same() {
    for policy in POLICIES {
        let mut held = Held::new(policy, 400, 0);
        held.add(&[-1; 100], true);
        let mut counts = HashMap::new();
        held.rows.iter().for_each(|rows| *counts.entry(rows.len()).or_insert(0) += 1);
        assert!(counts.keys().all(|&mixed| mixed <= 1), "none was mixed with another");
        assert!(policy == Policy::Aged || held.places.len() == 100);
    }
}

#[test]
fn wrong_ids_change_nothing() {
    let mut held = Held::new(Policy::Fifo, 3, 0);
    let before = format!("{:?}", held.places);
    assert!(matches!(held.places.place(&[1, -2], false), Err(Error::Invalid { argument, .. }) if argument == "ids"));
    assert_eq!(format!("{:?}", held.places), before);
}

#[test]
fn damaged_parts_are_refused() {
    let from = |seen, ids: &[i64], chosen: &[i64]| Places::from_parts(Policy::Reservoir, 0, seen, ids, chosen);
    assert!(from(3, &[7, -1, -1], &[2, 0, -1]).is_ok());
    let wrong: [(u64, &[i64], &[i64]); 8] = [
        (3, &[7, 7, -1], &[2, 0, -1]),
        (3, &[7, -1, -1], &[2, 2, -1]),
        (2, &[7, -1, -1], &[2, 0, -1]),
        (3, &[7, -1, 4], &[2, 0, -1]),
        (3, &[7, -2, -1], &[2, 0, -1]),
        (3, &[7, -1, -1], &[2, 0, -2]),
        (3, &[7, -1], &[2, 0, -1]),
        (3, &[], &[]),
    ];
    for (seen, ids, chosen) in wrong {
        assert!(matches!(from(seen, ids, chosen), Err(Error::Corrupt { .. })), "{ids:?} {chosen:?}");
    }
    assert!(matches!(Places::new(Policy::Fifo, 0, 0), Err(Error::Invalid { .. })));
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let dice = &mut Dice(3);
    let whole = || Case::new((4, 40, 8), (Look::Plain, Kind::F32, Metric::Dot), 3, &mut Dice(3));
    let refuses = |case: Case| std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case.found(Level::Scalar, 1)));
    assert!(refuses(whole()).is_ok());
    assert!(refuses(Case { caps: Some(vec![0.0; 3]), ..whole() }).is_err());
    let labels = [vec![0; 40], vec![0; 39]];
    assert!(refuses(Case { labels, ..whole() }).is_err());
    let large = Stored::new(&vec![vec![1e30; 8]; 4], Kind::F32);
    let rows = Stored::new(&vec![vec![1e30; 8]; 40], Kind::F32);
    assert!(refuses(Case { anchors: large, rows, ..whole() }).is_err());
    assert!(Shelf::new(Metric::Dot, 4, 0).is_err() && Shelf::new(Metric::Dot, 4, 1 << 17).is_err());
    let mut shelf = Shelf::new(Metric::Cosine, 2, 3).expect("the sizes are fine");
    let mut monitor = Unwatched;
    let mut workers = Workers::new(1, &mut monitor);
    let nan = Stored::F32(vec![0.0, 1.0, f32::NAN, 0.0, 0.0, 0.0]);
    let wrote = shelf.write(&nan.rows(3), &[0, 1], Level::Scalar, &mut workers);
    assert!(matches!(wrote, Err(Error::NonFinite { row: 0, .. })));
    let fine = Stored::new(&dice.rows(2, 3), Kind::F32);
    assert!(shelf.write(&fine.rows(3), &[0, 2], Level::Scalar, &mut workers).is_err());
    assert!(shelf.write(&fine.rows(3), &[1, 0], Level::Scalar, &mut workers).is_err());
    assert!(Excluded::new("labels", &[0, 1], &[1, 2, 3], 2).is_err());
}
