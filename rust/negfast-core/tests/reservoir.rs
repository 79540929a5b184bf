//! Reservoirs against naive ones, however their streams are cut, saved and merged.

use std::collections::HashMap;

use negfast_core::error::Error;
use negfast_core::reservoir::{Aged, Equal, Ids, Jumps, Keyed, MAX_WEIGHT, Reservoir, Skip, State, Weights};
use negfast_core::threads::{Monitor, Unwatched};
use proptest::prelude::*;

/// Items of a stream: ids with weights, or without.
type Part = (Vec<i64>, Option<Vec<f64>>);

fn add(reservoir: &mut Reservoir, ids: &[i64], weights: Option<&[f64]>) {
    let ids = Ids::listed("ids", ids).expect("ids are not negative");
    let weights = weights.map(|weights| Weights::new("weights", weights, ids).expect("weights are fine"));
    reservoir.add(ids, weights, &mut Unwatched).expect("nobody stops it");
}

fn add_range(reservoir: &mut Reservoir, start: i64, step: i64, len: u64) {
    let ids = Ids::range("ids", start, step, len).expect("the range is fine");
    reservoir.add(ids, None, &mut Unwatched).expect("nobody stops it");
}

fn keyed(capacity: usize, seed: u64) -> Reservoir {
    Reservoir::Keyed(Keyed::new(capacity, seed).expect("the capacity is fine"))
}

fn skip(capacity: usize, seed: u64) -> Reservoir {
    Reservoir::Skip(Skip::new(capacity, seed).expect("the capacity is fine"))
}

fn aged(capacity: usize, seed: u64) -> Reservoir {
    Reservoir::Aged(Aged::new(capacity, seed).expect("the capacity is fine"))
}

/// Saves and loads.
fn copied(reservoir: &Reservoir, capacity: usize, seed: u64) -> Reservoir {
    let seen = reservoir.seen();
    let made = match reservoir {
        Reservoir::Keyed(keyed) => Keyed::from_parts(capacity, seed, seen, &keyed.parts()).map(Reservoir::Keyed),
        Reservoir::Skip(skip) => {
            let state = match skip.state() {
                State::Equal(equal) => State::Equal(equal.clone()),
                State::Weighted(jumps) => {
                    let (ids, keys, left, ones) = jumps.parts();
                    State::Weighted(Jumps::from_parts(&ids, &keys, left, ones).expect("as many"))
                }
            };
            Skip::from_parts(capacity, seed, seen, skip.taken(), state).map(Reservoir::Skip)
        }
        Reservoir::Aged(aged) => {
            let (ids, numbers) = aged.parts();
            Aged::from_parts(capacity, seed, seen, &ids, &numbers).map(Reservoir::Aged)
        }
    };
    made.expect("the state is whole")
}

/// The key of an id, from a reservoir that holds nothing else.
fn key(seed: u64, id: i64, weight: f64) -> Option<f64> {
    let mut alone = keyed(1, seed);
    add(&mut alone, &[id], Some(&[weight]));
    let Reservoir::Keyed(alone) = alone else { unreachable!() };
    alone.parts().keys.first().copied()
}

/// All ids that have a key by their last weight, in the order of keys.
fn in_order<'a>(seed: u64, parts: impl IntoIterator<Item = &'a Part>) -> Vec<i64> {
    let mut last = HashMap::new();
    for (ids, weights) in parts {
        for (i, &id) in ids.iter().enumerate() {
            last.insert(id, weights.as_ref().map_or(1.0, |weights| weights[i]));
        }
    }
    let mut all: Vec<_> = last.into_iter().filter_map(|(id, weight)| Some((key(seed, id, weight)?, id))).collect();
    all.sort_by(|a, b| a.partial_cmp(b).expect("keys are numbers"));
    all.into_iter().map(|(_, id)| id).collect()
}

/// Weights of one kind: of wild ones, the heaviest make that every id is looked for.
fn weight(wild: bool) -> BoxedStrategy<f64> {
    let tame = prop_oneof![Just(0.0), Just(1.0), 0.5..2.0, Just(1e-6)];
    if wild { prop_oneof![tame, Just(1e6), Just(1e-300), Just(MAX_WEIGHT)].boxed() } else { tame.boxed() }
}

fn part(ids: i64, wild: bool) -> impl Strategy<Value = Part> {
    prop::collection::vec((0..ids, weight(wild)), 0..300).prop_flat_map(|items| {
        let (ids, weights): (Vec<_>, Vec<_>) = items.into_iter().unzip();
        (Just(ids), prop_oneof![Just(None), Just(Some(weights))])
    })
}

fn parts() -> impl Strategy<Value = Vec<Part>> {
    any::<bool>().prop_flat_map(|wild| prop::collection::vec(part(400, wild), 0..8))
}

/// The weight that an id always has.
fn own_weight(id: i64) -> f64 {
    [0.0, 1.0, 0.3, 2.5, 1e-9, 1e9][(id % 6) as usize]
}

/// Adds parts as they come; item by item; or with a save after each.
fn three_ways(mut make: impl FnMut() -> Reservoir, parts: &[Part], capacity: usize, seed: u64) -> [Reservoir; 3] {
    let [mut whole, mut single, mut saved] = [make(), make(), make()];
    for (ids, weights) in parts {
        add(&mut whole, ids, weights.as_deref());
        for (i, id) in ids.iter().enumerate() {
            add(&mut single, std::slice::from_ref(id), weights.as_ref().map(|weights| &weights[i..=i]));
        }
        add(&mut saved, ids, weights.as_deref());
        saved = copied(&saved, capacity, seed);
    }
    [whole, single, saved]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn keyed_holds_the_first_ids_by_their_last_weights(parts in parts(), capacity in 1usize..70, seed: u64) {
        let [whole, single, saved] = three_ways(|| keyed(capacity, seed), &parts, capacity, seed);
        let truth = in_order(seed, &parts);
        let ids = whole.ids();
        prop_assert_eq!(&ids[..], &truth[..ids.len()]);
        prop_assert_eq!(&single.ids(), &ids);
        prop_assert_eq!(&saved.ids(), &ids);
        let (Reservoir::Keyed(a), Reservoir::Keyed(b), Reservoir::Keyed(c)) = (&whole, &single, &saved) else { unreachable!() };
        prop_assert_eq!((a.parts().ids, a.parts().keys), (b.parts().ids, b.parts().keys));
        prop_assert_eq!((a.parts().ids, a.parts().keys), (c.parts().ids, c.parts().keys));
        prop_assert_eq!(a.parts().threshold, c.parts().threshold);
    }

    #[test]
    fn keyed_knows_no_order_no_repetition_and_no_shards(
        ids in prop::collection::vec(0i64..500, 0..600),
        order in prop::collection::vec(any::<u64>(), 600),
        capacity in 1usize..70,
        seed: u64,
        weighted: bool,
    ) {
        let weights = |ids: &[i64]| weighted.then(|| ids.iter().map(|&id| own_weight(id)).collect::<Vec<_>>());
        let part = (ids.clone(), weights(&ids));
        let truth: Vec<_> = in_order(seed, [&part]).into_iter().take(capacity).collect();
        let mut shuffled: Vec<_> = ids.iter().copied().zip(order).collect();
        shuffled.sort_by_key(|&(_, place)| place);
        let shuffled: Vec<_> = shuffled.into_iter().map(|(id, _)| id).chain(ids.iter().copied()).collect();
        let mut one = keyed(capacity, seed);
        add(&mut one, &shuffled, weights(&shuffled).as_deref());
        prop_assert_eq!(&one.ids(), &truth);
        // Shards that overlap, merged from either end.
        let mut shards: Vec<_> = shuffled.chunks(97).map(|some| {
            let mut shard = keyed(capacity, seed);
            add(&mut shard, some, weights(some).as_deref());
            shard
        }).collect();
        let (mut forth, mut back) = (keyed(capacity, seed), keyed(capacity, seed));
        for shard in &shards {
            forth.merge(shard).expect("both are alike");
        }
        shards.reverse();
        for shard in &shards {
            back.merge(shard).expect("both are alike");
        }
        prop_assert_eq!(&forth.ids(), &truth);
        prop_assert_eq!(&back.ids(), &truth);
        prop_assert_eq!(forth.seen(), shuffled.len() as u64);
        let again = forth.clone();
        forth.merge(&again).expect("both are alike");
        prop_assert_eq!(&forth.ids(), &truth);
    }

    #[test]
    fn skip_does_not_depend_on_cuts(parts in parts(), capacity in 1usize..70, seed: u64) {
        let [whole, single, saved] = three_ways(|| skip(capacity, seed), &parts, capacity, seed);
        prop_assert_eq!(&single.ids(), &whole.ids());
        prop_assert_eq!(&saved.ids(), &whole.ids());
        let given: usize = parts.iter().map(|(ids, _)| ids.len()).sum();
        prop_assert_eq!(whole.seen(), given as u64);
        let positive: usize = parts
            .iter()
            .map(|(ids, weights)| weights.as_ref().map_or(ids.len(), |w| w.iter().filter(|&&w| w >= 1e-280).count()))
            .sum();
        prop_assert_eq!(whole.len(), positive.min(capacity));
    }

    #[test]
    fn aged_keeps_the_last_of_each_slot(ids in prop::collection::vec(0i64..50, 0..400), cut in 0usize..400, capacity in 1usize..70, seed: u64) {
        let parts: Vec<Part> = [&ids[..cut.min(ids.len())], &ids[cut.min(ids.len())..]].map(|ids| (ids.to_vec(), None)).to_vec();
        let [whole, single, saved] = three_ways(|| aged(capacity, seed), &parts, capacity, seed);
        let mut at_once = aged(capacity, seed);
        add(&mut at_once, &ids, None);
        prop_assert_eq!(&single.ids(), &whole.ids());
        prop_assert_eq!(&saved.ids(), &whole.ids());
        prop_assert_eq!(&at_once.ids(), &whole.ids());
        prop_assert_eq!(whole.ids().first().copied(), ids.last().copied());
        prop_assert_eq!(whole.len(), whole.ids().len());
    }

    #[test]
    fn a_range_is_its_numbers(start in 0i64..1000, step in -3i64..9, len in 0u64..3000, capacity in 1usize..50) {
        prop_assume!(start + step * len as i64 >= 0);
        let listed: Vec<_> = (0..len as i64).map(|i| start + step * i).collect();
        for make in [keyed, skip, aged] {
            let [mut range, mut list] = [make(capacity, 5), make(capacity, 5)];
            add_range(&mut range, start, step, len);
            add(&mut list, &listed, None);
            prop_assert_eq!(range.ids(), list.ids());
        }
    }
}

#[test]
fn a_weight_that_falls_makes_room_for_spare_ids_first() {
    let ids: Vec<i64> = (0..100_000).collect();
    let mut reservoir = keyed(1000, 3);
    add(&mut reservoir, &ids, None);
    let light = reservoir.ids();
    add(&mut reservoir, &light[..500], Some(&[1e-9; 500]));
    let parts = [(ids, None), (light[..500].to_vec(), Some(vec![1e-9; 500]))];
    let truth = in_order(3, &parts);
    let held = reservoir.ids();
    assert!((500..=1000).contains(&held.len()));
    assert_eq!(held, truth[..held.len()]);
    // Those that were forgotten count again when they come again.
    add(&mut reservoir, &light, None);
    assert_eq!(reservoir.ids(), light);
    // Weight 0 takes an id out.
    add(&mut reservoir, &light[..1], Some(&[0.0]));
    assert_eq!(reservoir.ids()[0], light[1]);
}

#[test]
fn a_merge_takes_the_weights_of_the_other() {
    let (mut a, mut b) = (keyed(3, 1), keyed(3, 1));
    add(&mut a, &[1, 2, 3, 4], Some(&[1.0, 1.0, 1.0, 1.0]));
    add(&mut b, &[2, 3], Some(&[1e-12, 1e12]));
    a.merge(&b).expect("both are alike");
    assert_eq!(a.ids()[0], 3);
    assert!(!a.ids().contains(&2));
}

#[test]
fn a_merge_knows_what_the_other_forgot() {
    let (few, many): (Vec<i64>, Vec<i64>) = ((0..40).collect(), (40..4000).collect());
    let (mut a, mut b) = (keyed(5, 1), keyed(5, 1));
    add(&mut a, &few, None);
    add(&mut b, &many, None);
    a.merge(&b).expect("both are alike");
    let mut parts = vec![(few, None), (many, None)];
    // Ids are taken out until nothing is left: no id may take the place of one that was forgotten.
    while !a.is_empty() {
        let held = a.ids();
        assert_eq!(held, in_order(1, &parts)[..held.len()]);
        parts.push((held.clone(), Some(vec![0.0; held.len()])));
        add(&mut a, &held, parts[parts.len() - 1].1.as_deref());
    }
}

#[test]
fn only_keyed_ones_of_one_seed_and_capacity_are_merged() {
    let refused = |mut a: Reservoir, b: &Reservoir| match a.merge(b) {
        Err(error @ Error::Invalid { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(refused(keyed(3, 1), &keyed(3, 2)).contains("seed"));
    assert!(refused(keyed(3, 1), &keyed(4, 1)).contains("capacity"));
    assert!(refused(keyed(3, 1), &skip(3, 1)).contains("order"));
    assert!(refused(skip(3, 1), &skip(3, 1)).contains("order"));
    assert!(refused(aged(3, 1), &aged(3, 1)).contains("ages"));
}

#[test]
fn streams_without_end_are_passed_over() {
    let mut reservoir = skip(10, 1);
    for part in 0..4 {
        add_range(&mut reservoir, part, 1, 1 << 60);
    }
    assert_eq!(reservoir.seen(), 1 << 62);
    assert!(reservoir.ids().iter().all(|&id| id > 1 << 40));
    let Reservoir::Skip(state) = &reservoir else { unreachable!() };
    let State::Equal(Equal { log_largest, .. }) = state.state() else { unreachable!() };
    // W is about k / N.
    assert!((log_largest - (10.0f64 / (1u64 << 62) as f64).ln()).abs() < 2.0, "{log_largest}");
    let mut reservoir = aged(10, 1);
    add_range(&mut reservoir, 0, 1, i64::MAX as u64);
    assert_eq!(reservoir.ids()[0], i64::MAX - 1);
    assert_eq!(reservoir.len(), 10);
    let more = reservoir.add(Ids::Listed(&[1]), None, &mut Unwatched);
    assert!(matches!(more, Err(Error::Invalid { .. })));
}

#[test]
fn weights_at_the_ends_of_the_range_are_told_apart() {
    for make in [keyed, skip] {
        let ids: Vec<i64> = (0..100).collect();
        let weights: Vec<f64> = ids.iter().map(|&id| if id < 3 { MAX_WEIGHT } else { 1e-279 }).collect();
        let mut reservoir = make(3, 7);
        for _ in 0..2 {
            add(&mut reservoir, &ids, Some(&weights));
            let mut found = reservoir.ids();
            found.sort_unstable();
            assert!(found.iter().all(|&id| id < 3), "{found:?}");
        }
        let mut nothing = make(3, 7);
        add(&mut nothing, &ids, Some(&[0.0; 100]));
        add(&mut nothing, &ids, Some(&[1e-290; 100]));
        assert!(nothing.is_empty());
        assert_eq!(nothing.seen(), 200);
    }
}

/// Stops a call at its second look.
struct Impatient(u32);

impl Monitor for Impatient {
    fn turn(&mut self, _done: u64, _total: u64) -> bool {
        self.0 += 1;
        self.0 < 2
    }
}

#[test]
fn what_is_stopped_changes_nothing() {
    for make in [keyed, skip] {
        let mut reservoir = make(100, 1);
        add_range(&mut reservoir, 0, 1, 1000);
        let before = reservoir.ids();
        let weights = vec![1.0; 10 << 20];
        let ids = Ids::range("ids", 0, 1, 10 << 20).expect("the range is fine");
        let weights = Weights::new("weights", &weights, ids).expect("weights are fine");
        let stopped = reservoir.add(ids, Some(weights), &mut Impatient(0));
        assert_eq!(stopped, Err(Error::Cancelled));
        assert_eq!((reservoir.ids(), reservoir.seen()), (before, 1000));
    }
}

#[test]
fn bad_ids_and_weights_are_refused() {
    let message = |error: Error| error.to_string();
    assert!(message(Ids::listed("ids", &[3, -1]).expect_err("one is negative")).contains("-1 at position 1"));
    assert!(Ids::range("ids", 5, -1, 7).is_err() && Ids::range("ids", 5, -1, 6).is_ok());
    assert!(Ids::range("ids", i64::MAX, 1, 2).is_err() && Ids::range("ids", -5, 1, 0).is_ok());
    for weight in [-1.0, f64::NAN, f64::INFINITY, 1e281] {
        assert!(Weights::new("weights", &[1.0, weight], Ids::Listed(&[1, 2])).is_err(), "{weight}");
    }
    assert!(Weights::new("weights", &[1.0], Ids::Listed(&[1, 2])).is_err());
    let mut reservoir = aged(3, 0);
    let weights = Weights::new("weights", &[1.0], Ids::Listed(&[1])).expect("weights are fine");
    assert!(
        message(reservoir.add(Ids::Listed(&[1]), Some(weights), &mut Unwatched).expect_err("no weights"))
            .contains("age")
    );
    assert_eq!(reservoir.seen(), 0);
    assert!(Keyed::new(0, 0).is_err() && Skip::new(1 << 31, 0).is_err() && Aged::new(0, 0).is_err());
}
