//! Searches and mining runs against the naive oracle, for problems of every shape.

mod making;
mod naive;

use making::shapes::{LOOKS, Look, Shape, shapes};
use making::{Dice, Kind, Posed, Way, bits, ways};
use negfast_core::anchors::Anchors;
use negfast_core::draw::Draw;
use negfast_core::kernel::Level;
use negfast_core::mine::{Mined, Suspect};
use negfast_core::pool::FalseNegatives;
use negfast_core::rules::{Counts, Rules};
use negfast_core::score::Metric;
use negfast_core::search::Method;
use negfast_core::threads::split;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nearest_equals_brute_force(shape in shapes(), k in prop_oneof![0usize..4, 4usize..400]) {
        let posed = Posed::new(shape.bare(&mut Dice(shape.seed)), shape.dim, shape.kind);
        posed.check_nearest(k, &ways());
    }

    #[test]
    fn near_duplicates_equal_brute_force(shape in shapes(), level in 0.0f64..1.0) {
        let mut dice = Dice(shape.seed);
        let mut posed = Posed::new(shape.bare(&mut dice), shape.dim, shape.kind);
        posed.problem.metric = Metric::Cosine;
        let some = |dice: &mut Dice| -> f64 {
            let corpus = &posed.problem.corpus;
            f64::from(naive::cosine(&corpus[dice.below(shape.rows)], &corpus[dice.below(shape.rows)]))
        };
        let thresholds = if shape.rows == 0 { [level; 2] } else { [some(&mut dice), some(&mut dice).next_up()] };
        for threshold in thresholds.into_iter().chain([level, 1.0]).filter(|t| *t > 0.0) {
            posed.check_near_duplicates(threshold, &ways());
        }
    }

    #[test]
    fn mining_equals_brute_force(shape in shapes()) {
        shape.with_rules().check_mine(&ways());
    }

    #[test]
    fn parts_put_together_are_the_whole(shape in shapes(), parts in 1usize..5) {
        let mut posed = shape.with_rules();
        posed.problem.settings.rules.max_exposure = None;
        let dice = &mut Dice(shape.seed ^ 1);
        let mut order: Vec<i64> = (0..shape.anchors as i64).collect();
        (1..order.len()).for_each(|i| order.swap(i, dice.below(i + 1)));
        let cuts = split(order.len(), parts);
        check_parts(&posed, cuts.into_iter().map(|span| &order[span]), ways()[dice.below(ways().len())]);
    }

    #[test]
    fn the_order_of_anchors_is_that_of_the_result_alone(shape in shapes()) {
        let mut posed = shape.with_rules();
        posed.problem.settings.rules.max_exposure = Some(1);
        let turned: Vec<i64> = (0..shape.anchors as i64).rev().collect();
        check_parts(&posed, [&turned[..]].into_iter(), ways()[0]);
    }
}

/// Mines for each part of the anchors and compares what comes together with what mining for all gives.
fn check_parts<'a>(posed: &Posed, parts: impl Iterator<Item = &'a [i64]>, way: Way) {
    let anchors = posed.problem.queries.len();
    let k = posed.problem.settings.num_negatives;
    let whole = posed.mine(way).expect("a legal problem");
    let (mut removed, mut deepened, mut false_negatives) = Default::default();
    let mut suspects: Vec<Suspect> = Vec::new();
    for part in parts {
        let asked = Anchors::new("anchors", part, anchors).expect("distinct rows");
        let mined = posed.mine_for(&asked, way).expect("a legal problem");
        for (place, &anchor) in part.iter().enumerate() {
            let (here, there) = (place * k..(place + 1) * k, anchor as usize * k..(anchor as usize + 1) * k);
            assert_eq!(mined.indices[here.clone()], whole.indices[there.clone()], "indices, {way:?}");
            assert_eq!(bits(&mined.scores[here.clone()]), bits(&whole.scores[there.clone()]), "scores, {way:?}");
            assert_eq!(mined.tiers[here], whole.tiers[there], "tiers, {way:?}");
            assert_eq!(mined.positive_ranks[place], whole.positive_ranks[anchor as usize], "ranks, {way:?}");
        }
        let scores: Vec<f32> = part.iter().map(|&anchor| whole.positive_scores[anchor as usize]).collect();
        assert_eq!(bits(&mined.positive_scores), bits(&scores), "positive scores, {way:?}");
        add(&mut removed, &mut false_negatives, &mined);
        suspects.extend(mined.suspects);
        deepened += mined.deepened;
    }
    suspects.sort_by_key(|s| (s.anchor, s.row));
    let sums = (removed, deepened, false_negatives);
    assert_eq!(sums, (whole.removed, whole.deepened, whole.false_negatives), "counts, {way:?}");
    assert_eq!(suspects, whole.suspects, "suspects, {way:?}");
}

fn add(removed: &mut Counts, false_negatives: &mut FalseNegatives, mined: &Mined) {
    removed.iter_mut().zip(mined.removed).for_each(|(sum, count)| *sum += count);
    let more = mined.false_negatives;
    false_negatives.rows += more.rows;
    false_negatives.known += more.known;
    false_negatives.rows_within += more.rows_within;
    false_negatives.known_within += more.known_within;
}

/// Rules of every kind at once, for fixed shapes too large for the property tests.
fn everything(anchors: usize, rows: usize, dim: usize, look: Look) -> Posed {
    let shape = Shape { anchors, rows, dim, look, kind: Kind::F32, metric: Metric::Cosine, seed: 11 };
    let mut posed = shape.with_rules();
    posed.problem.positives = (0..anchors).map(|i| vec![(i * 7 % rows) as u32, (i * 5 % rows) as u32]).collect();
    posed.problem.settings.rules = Rules {
        relative_margin: Some(0.05),
        range_min: 2,
        duplicate_of_positive: Some(0.95),
        distinct: Some(0.9),
        exclude_self: true,
        ..Rules::default()
    };
    posed.problem.settings.draw = Draw::Top;
    posed
}

/// Large enough that threads are really started, and several blocks of anchors exist.
#[test]
fn threads_share_blocks() {
    for look in [Look::Plain, Look::Quantised] {
        let posed = everything(2100, 700, 21, look);
        let level = Level::detect();
        let ways = making::THREADS.map(|threads| Way::new(level, threads, Method::Auto));
        posed.check_mine(&ways);
        posed.check_nearest(9, &ways);
    }
}

/// Few anchors and many rows: the corpus is cut into ranges and the parts are merged.
#[test]
fn threads_share_the_corpus() {
    for (look, anchors) in [(Look::Plain, 3), (Look::Quantised, 3), (Look::NearCopies, 40), (Look::Plain, 130)] {
        let posed = everything(anchors, 30_011, 7, look);
        posed.check_mine(&ways());
        posed.check_nearest(100, &ways());
    }
}

/// Links within blocks of anchors and between them, from several threads at once.
#[test]
fn threads_join_the_same_rows() {
    for look in [Look::Plain, Look::Quantised, Look::Copies, Look::NearCopies] {
        let posed = everything(1, 2500, 9, look);
        for threshold in [0.7, 0.9, 1.0] {
            posed.check_near_duplicates(threshold, &ways());
        }
    }
}

/// The smallest legal bound on memory leaves one panel of anchors in a block.
#[test]
fn a_bound_on_memory_changes_nothing() {
    let posed = everything(150, 2500, 64, Look::Plain);
    let bounded: Vec<Way> = ways()
        .into_iter()
        .map(|way| {
            // Ranks and copies are found by exact searches, which need what they need beside any method.
            let least = |way| posed.least_memory(way).expect("a bound in the message");
            Way { max_memory: Some(least(way).max(least(Way { method: Method::Exact, ..way }))), ..way }
        })
        .collect();
    posed.check_mine(&bounded);
    assert!(posed.mine(Way { max_memory: bounded[0].max_memory.map(|m| m - 1), ..bounded[0] }).is_err());
}

/// A cap on exposure that makes many anchors search deeper.
#[test]
fn exposure_searches_deeper() {
    for look in [Look::Plain, Look::Quantised, Look::NearCopies] {
        let mut posed = everything(120, 400, 12, look);
        posed.problem.settings.rules.max_exposure = Some(2);
        posed.check_mine(&ways());
    }
}

/// Codes at every level and number of threads.
fn coded_ways() -> Vec<Way> {
    let level = |level| making::THREADS.map(|threads| Way::new(level, threads, Method::Certified));
    Level::available().into_iter().flat_map(level).collect()
}

/// Sizes that give several lists. What the exact search finds (itself compared with the oracle above), codes find.
#[test]
fn codes_in_lists_find_what_the_exact_search_finds() {
    let mut seed = 0;
    for look in LOOKS {
        for metric in [Metric::Cosine, Metric::Dot] {
            for kind in [Kind::F32, Kind::F16, Kind::Bf16] {
                seed += 1;
                let mut dice = Dice(seed);
                let (anchors, rows, dim) = (70 + dice.below(60), 1100 + dice.below(900), 1 + dice.below(70));
                let posed = Shape { anchors, rows, dim, look, kind, metric, seed }.with_rules();
                let ways = coded_ways();
                let exact = posed.mine(Way { method: Method::Exact, ..ways[0] }).expect("a legal problem");
                for way in (0..3).map(|i| ways[(seed as usize + 4 * i) % ways.len()]) {
                    let mined = posed.mine(way).expect("a legal problem");
                    assert_eq!(mined.account.as_ref().map(|told| told.method), Some(Method::Certified));
                    making::identical(&mined, &exact, way);
                }
            }
        }
    }
}

/// The same against the oracle, and in as many lists as it can sort out in a test.
#[test]
fn codes_in_many_lists_equal_brute_force() {
    for (look, metric) in
        [(Look::Plain, Metric::Cosine), (Look::Copies, Metric::Cosine), (Look::NearCopies, Metric::Dot)]
    {
        let mut posed = everything(260, 4000, 45, look);
        posed.problem.metric = metric;
        posed.problem.settings.suspect_rank = 40;
        let ways = coded_ways();
        posed.check_mine(&ways[ways.len() - 3..]);
        posed.check_nearest(9, &ways[..1]);
        posed.check_nearest(150, &ways[ways.len() - 2..]);
    }
}

/// Lists that get deeper than they were planned for, drawn from, and shared out.
#[test]
fn codes_serve_deeper_searches() {
    for look in [Look::Quantised, Look::NearCopies] {
        let mut posed = everything(90, 1300, 40, look);
        posed.problem.settings.rules.max_exposure = Some(3);
        posed.problem.settings.rules.distinct = Some(0.6);
        posed.check_mine(&coded_ways()[2..5]);
    }
}
