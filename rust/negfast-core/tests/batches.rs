//! Batches against plain code: every pair looked at, every edge looked for.

use std::collections::{BTreeMap, BTreeSet};

use negfast_core::batches::communities::communities;
use negfast_core::batches::compose::{compose, shape};
use negfast_core::batches::conflicts::Conflicts;
use negfast_core::batches::graph::Neighbours;
use negfast_core::batches::pour::Together;
use negfast_core::rules::Labels;
use negfast_core::threads::{Unwatched, Workers};
use proptest::prelude::*;

/// Rows that share a label, by looking at every pair.
fn sharing(labels: &[Vec<i64>]) -> BTreeSet<(usize, usize)> {
    let meets = |a: &[i64], b: &[i64]| a.iter().any(|label| *label >= 0 && b.contains(label));
    let pairs = (0..labels.len()).flat_map(|a| (a + 1..labels.len()).map(move |b| (a, b)));
    pairs.filter(|&(a, b)| meets(&labels[a], &labels[b])).collect()
}

fn conflicts(labels: &[Vec<i64>]) -> Conflicts {
    let columns = labels.first().map_or(1, Vec::len);
    let values = labels.concat();
    Conflicts::new(&[Labels::new("keys", &values, columns, labels.len()).expect("labels")], labels.len())
}

fn labels() -> impl Strategy<Value = Vec<Vec<i64>>> {
    (0usize..50, 0i64..40)
        .prop_flat_map(|(rows, most)| proptest::collection::vec(proptest::collection::vec(-1..=most, 2), rows))
}

/// Mutual edges within a window and below a bound, by looking at every pair of entries.
fn edges(lists: &[Vec<(usize, f32)>], caps: &[f32]) -> BTreeMap<(usize, usize), f32> {
    let mut found = BTreeMap::new();
    for (a, list) in lists.iter().enumerate() {
        for &(b, there) in list.iter().filter(|entry| entry.1 <= caps[a]) {
            let back = lists[b].iter().find(|entry| entry.0 == a && entry.1 <= caps[b]);
            if let Some(&(_, back)) = back.filter(|_| a < b) {
                found.insert((a, b), 0.5 * (there + back));
            }
        }
    }
    found
}

proptest! {
    #[test]
    fn classes_say_who_conflicts(labels in labels()) {
        let (conflicts, truth) = (conflicts(&labels), sharing(&labels));
        for a in 0..labels.len() {
            for b in a + 1..labels.len() {
                prop_assert_eq!(conflicts.between(a as u32, b as u32), truth.contains(&(a, b)));
            }
        }
    }

    #[test]
    fn epochs_are_clean_and_of_one_shape(
        labels in labels(),
        batch_size in 1usize..7,
        ranks in 1usize..4,
        drop_last: bool,
        seed: u64,
        share in 0.0f64..1.0,
    ) {
        let (conflicts, truth) = (conflicts(&labels), sharing(&labels));
        let rows = labels.len();
        let mut unwatched = Unwatched;
        let mut workers = Workers::new(1, &mut unwatched);
        let shape = shape(&conflicts, batch_size, ranks, drop_last, seed, &mut workers).expect("a shape");
        // Neighbouring numbers make communities of 4, whatever their labels.
        let community: Vec<u32> = (0..rows as u32).map(|row| row / 4).collect();
        let mut first = Vec::new();
        for epoch in 0..3 {
            let together = Together { community: &community, random_share: share };
            let together = (epoch > 0).then_some(&together);
            let made = compose(&conflicts, &shape, &first, together, (seed, epoch), &mut workers).expect("an epoch");
            prop_assert_eq!(made.rows.len(), shape.rows());
            let all: BTreeSet<u32> = made.rows.iter().chain(&made.left_out).copied().collect();
            prop_assert_eq!(all, (0..rows as u32).collect());
            prop_assert_eq!(made.rows.len() + made.left_out.len(), rows);
            let mut begin = 0;
            for step in shape.sizes().chunks(ranks) {
                let end = begin + step.iter().sum::<usize>();
                let mut step: Vec<usize> = made.rows[begin..end].iter().map(|&row| row as usize).collect();
                step.sort_unstable();
                for (i, &a) in step.iter().enumerate() {
                    prop_assert!(step[i + 1..].iter().all(|&b| !truth.contains(&(a, b))));
                }
                begin = end;
            }
            first = made.left_out;
        }
    }

    #[test]
    fn communities_hold_what_edges_join(
        seed in 0u64..1000,
        labels in proptest::collection::vec(-1i64..12, 40),
        most in 1usize..9,
        window in 1usize..8,
    ) {
        let mut random = negfast_core::rng::stream(seed, 0, 0, 0);
        let rows = labels.len();
        // Scores of both directions are drawn apart, so which entries are mutual has no pattern.
        let width = 8;
        let lists: Vec<Vec<(usize, f32)>> = (0..rows).map(|row| {
            let mut others: Vec<usize> = (0..rows).filter(|&other| other != row).collect();
            random.shuffle(&mut others);
            others.truncate(width);
            others.into_iter().map(|other| (other, random.uniform() as f32)).collect()
        }).collect();
        let indices: Vec<i64> = lists.iter().flatten().map(|entry| entry.0 as i64).collect();
        let scores: Vec<f32> = lists.iter().flatten().map(|entry| entry.1).collect();
        let anchors: Vec<i64> = (0..rows as i64).collect();
        let positives: Vec<f32> = (0..rows).map(|_| 0.5 + 0.6 * random.uniform() as f32).collect();
        let labels: Vec<Vec<i64>> = labels.into_iter().map(|label| vec![label]).collect();
        let conflicts = conflicts(&labels);
        let caps: Vec<f32> = positives.iter().map(|&p| (f64::from(p) * 0.95) as f32).collect();
        let seen: Vec<Vec<_>> = lists.iter().map(|list| list[..window].to_vec()).collect();
        let mut expected = edges(&seen, &caps);
        expected.retain(|&(a, b), _| !conflicts.between(a as u32, b as u32));

        let found: Vec<_> = [1, 2, 7].into_iter().map(|threads| {
            let mut unwatched = Unwatched;
            let mut workers = Workers::new(threads, &mut unwatched);
            let lists = (&indices[..], &scores[..], width);
            let lists = Neighbours::new(lists, &anchors, &positives, 0.05, 0..window, rows).expect("lists");
            communities(&lists, &conflicts, most, &mut workers).expect("communities")
        }).collect();
        prop_assert!(found[0] == found[1] && found[0] == found[2]);
        let (of, truth) = (&found[0].of, sharing(&labels));
        let all: f64 = expected.values().map(|&weight| f64::from(weight)).sum();
        let inside = expected.iter().filter(|((a, b), _)| of[*a] == of[*b]);
        let within: f64 = inside.map(|(_, &weight)| f64::from(weight)).sum();
        prop_assert!((found[0].all - all).abs() < 1e-4 && (found[0].within - within).abs() < 1e-4);
        for community in 0..rows as u32 {
            let members: Vec<usize> = (0..rows).filter(|&row| of[row] == community).collect();
            prop_assert!(members.len() <= most);
            for (i, &a) in members.iter().enumerate() {
                prop_assert!(members[i + 1..].iter().all(|&b| !truth.contains(&(a, b))));
            }
        }
    }
}

#[test]
fn two_cliques_are_two_communities() {
    let width = 5;
    // Rows 0, 2, 4, … and rows 1, 3, 5, … know each other; one row of each lists one of the other kind last.
    let lists: Vec<Vec<i64>> = (0..12)
        .map(|row| {
            let own = (0..12).filter(|other| other % 2 == row % 2 && *other != row).take(4);
            own.chain([if row < 2 { 1 - row } else { -1 }]).collect()
        })
        .collect();
    let full: Vec<Vec<i64>> = lists
        .iter()
        .enumerate()
        .map(|(row, list)| {
            let others = (0..12i64).filter(|other| other % 2 == row as i64 % 2 && *other != row as i64);
            if row < 2 { list.clone() } else { others.collect() }
        })
        .collect();
    let (indices, scores) = (full.concat(), vec![0.5f32; 12 * width]);
    let anchors: Vec<i64> = (0..12).collect();
    let lists = (&indices[..], &scores[..], width);
    let lists = Neighbours::new(lists, &anchors, &[f32::NAN; 12], 0.05, 0..width, 12).expect("lists");
    let mut unwatched = Unwatched;
    let none = conflicts(&vec![vec![-1]; 12]);
    let found = communities(&lists, &none, 6, &mut Workers::new(2, &mut unwatched)).expect("communities");
    assert_eq!(found.of, [0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1]);
}
