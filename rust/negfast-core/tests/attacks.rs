//! Inputs made to be slow, to overflow, or to fall between two bounds. Each has to be right, and done in time.

mod making;
mod naive;

use std::sync::mpsc::channel;
use std::time::Duration;

use making::{Dice, Kind, Posed, Way, problem, settings, ways};
use naive::Problem;
use negfast_core::kernel::Level;
use negfast_core::rules::{Rule, Rules};
use negfast_core::score::Metric;
use negfast_core::search::Method;

/// Far more than any attack takes: what is caught is time that grows with the square of the attack.
const DEADLINE: Duration = Duration::from_secs(60);

/// Runs `attack` on a thread of its own and gives up waiting after the deadline.
fn in_time(attack: impl FnOnce() + Send + 'static) {
    let (done, wait) = channel();
    let running = std::thread::spawn(move || {
        attack();
        let _ = done.send(());
    });
    let ended = wait.recv_timeout(DEADLINE);
    assert!(ended.is_ok() || running.is_finished(), "still running after {DEADLINE:?}");
    running.join().expect("the attack is survived");
}

fn fast(threads: usize) -> Way {
    Way::new(Level::detect(), threads, Method::Auto)
}

fn coded(threads: usize) -> Way {
    Way::new(Level::detect(), threads, Method::Certified)
}

fn posed(queries: Vec<Vec<f32>>, corpus: Vec<Vec<f32>>, metric: Metric, rules: Rules) -> Posed {
    let dim = corpus.first().or(queries.first()).map_or(1, Vec::len);
    let mut settings = settings(5);
    settings.rules = rules;
    Posed::new(problem(queries, corpus, metric, settings), dim, Kind::F32)
}

#[test]
fn a_flood_of_ties() {
    in_time(|| {
        let mut dice = Dice(1);
        let (queries, row) = (dice.rows(40, 24), dice.row(24));
        let posed = posed(queries, vec![row; 20_000], Metric::Cosine, Rules::default());
        posed.check_nearest(100, &[fast(1), fast(2), fast(7), coded(1), coded(2)]);
        posed.check_mine(&[fast(1), fast(2), coded(2)]);
    });
}

/// Twenty thousand copies of one row, and `distinct` that lets one of them pass.
#[test]
fn a_flood_of_copies() {
    in_time(|| {
        let mut dice = Dice(2);
        let (queries, row, others) = (dice.rows(40, 24), dice.row(24), dice.rows(9, 24));
        let mut corpus = vec![row; 20_000];
        for (i, other) in others.into_iter().enumerate() {
            corpus[i * 2000 + 77] = other;
        }
        let rules = Rules { distinct: Some(0.98), ..Rules::default() };
        posed(queries, corpus, Metric::Cosine, rules).check_mine(&[fast(1), fast(2), coded(2)]);
    });
}

/// Links in their millions, each at the threshold itself, and a chain through all rows.
#[test]
fn a_flood_of_links() {
    in_time(|| {
        let mut dice = Dice(13);
        let (row, others) = (dice.row(24), dice.rows(100, 24));
        let mut copies = others;
        copies.extend(vec![row; 20_000]);
        let posed = posed(Vec::new(), copies, Metric::Cosine, Rules::default());
        posed.check_near_duplicates(1.0, &[fast(1), fast(2), fast(7)]);
    });
    in_time(|| {
        let angle = |i: usize| (i as f32 * 1e-3).sin_cos();
        let chain = (0..3000).map(|i| <[f32; 2]>::from(angle(i * 1009 % 3000)).to_vec()).collect();
        let posed = posed(Vec::new(), chain, Metric::Cosine, Rules::default());
        posed.check_near_duplicates(f64::from(1.1e-3f32.cos()), &[fast(1), fast(7)]);
    });
}

/// A zero row scores 0 with everything: nothing but ties.
#[test]
fn zero_anchors() {
    in_time(|| {
        let mut dice = Dice(3);
        for metric in [Metric::Cosine, Metric::Dot] {
            let rules = Rules { distinct: Some(0.98), range_min: 3, ..Rules::default() };
            let posed = posed(vec![vec![0.0; 16], vec![-0.0; 16]], dice.rows(20_000, 16), metric, rules);
            posed.check_nearest(50, &[fast(1), fast(2), coded(2)]);
            posed.check_mine(&[fast(1), coded(1)]);
        }
    });
}

#[test]
fn constant_rows() {
    in_time(|| {
        for value in [0.7, -1e-30, 1e15] {
            let posed = posed(vec![vec![0.3; 33]; 9], vec![vec![value; 33]; 900], Metric::Dot, Rules::default());
            posed.check_nearest(950, &ways());
            posed.check_mine(&ways());
        }
    });
}

/// The packed corpus is scaled by its largest row; beside a giant all others look alike to the tile.
#[test]
fn one_giant_row() {
    in_time(|| {
        let mut dice = Dice(4);
        for size in [1e6, 1e15, 1e30] {
            let (queries, mut corpus) = (dice.rows(20, 20), dice.rows(9000, 20));
            corpus[4567] = dice.row(20).iter().map(|x| x * size).collect();
            let rules = Rules { relative_margin: Some(0.05), min_score: Some(0.0), ..Rules::default() };
            let mut posed = posed(queries, corpus, Metric::Dot, rules);
            posed.problem.positives = (0..20).map(|i| vec![i * 3, i * 4 + 1]).collect();
            posed.check_nearest(30, &[fast(1), fast(2), coded(2)]);
            posed.check_mine(&[fast(1), fast(7), coded(7)]);
        }
    });
}

/// Caps and floors that are scores which occur: the bound itself passes, the next number does not.
#[test]
fn bounds_that_are_scores() {
    let mut dice = Dice(5);
    for metric in [Metric::Cosine, Metric::Dot] {
        let (queries, corpus) = (dice.rows(6, 19), dice.rows(200, 19));
        for pair in 0..12 {
            let score = f64::from(naive::score(metric, &queries[pair % 6], &corpus[pair * 13]));
            let all = [
                Rules { max_score: Some(score), ..Rules::default() },
                Rules { min_score: Some(score), ..Rules::default() },
                Rules { max_score: Some(score), min_score: Some(score), ..Rules::default() },
                Rules { max_score: Some(f64::from((score as f32).next_down())), ..Rules::default() },
                Rules { relative_margin: Some(0.0), absolute_margin: Some(0.0), ..Rules::default() },
            ];
            for rules in all {
                let mut posed = posed(queries.clone(), corpus.clone(), metric, rules);
                posed.problem.positives = (0..6).map(|i| vec![i as u32 * 31]).collect();
                posed.check_mine(&ways());
            }
        }
    }
}

/// No score passes; what lies between is counted all the same.
#[test]
fn a_floor_above_the_cap() {
    let mut dice = Dice(6);
    let (queries, corpus) = (dice.rows(11, 8), dice.rows(700, 8));
    for (max_score, min_score) in [(-0.2, 0.3), (0.3, 0.300_001), (-2.0, 2.0), (2.0, 3.0)] {
        let duplicate_of_positive = Some(0.8);
        let (max_score, min_score) = (Some(max_score), Some(min_score));
        let rules = Rules { max_score, min_score, duplicate_of_positive, ..Rules::default() };
        let mut posed = posed(queries.clone(), corpus.clone(), Metric::Cosine, rules);
        posed.problem.positives = (0..11).map(|i| vec![i * 9]).collect();
        posed.problem.groups = Some((vec![vec![1]; 11], (0..700).map(|row| vec![row % 4]).collect()));
        posed.check_mine(&ways());
    }
}

fn grouped(queries: Vec<Vec<f32>>, corpus: Vec<Vec<f32>>, members: impl Fn(usize) -> bool) -> Posed {
    let groups = (0..corpus.len()).map(|row| vec![i64::from(members(row))]).collect();
    let sides = (vec![vec![1]; queries.len()], groups);
    let mut posed = posed(queries, corpus, Metric::Cosine, Rules::default());
    posed.problem = Problem { groups: Some(sides), ..posed.problem };
    posed
}

/// One group holds all rows: no anchor gets any.
#[test]
fn every_row_refused() {
    in_time(|| {
        let mut dice = Dice(7);
        for n in [300, 9000] {
            let posed = grouped(dice.rows(100, 12), dice.rows(n, 12), |_| true);
            posed.check_mine(&[fast(1), fast(2), coded(2)]);
            assert_eq!(posed.problem.mine().removed[Rule::Group as usize], 100 * n as u64);
        }
    });
}

/// The best 5,000 rows are refused, more than a search remembers: they are counted by judging every row again.
/// They stand in the first part of the corpus, in the last, or in both.
#[test]
fn more_refused_rows_than_are_remembered() {
    in_time(|| {
        for shift in [0, 2500, 7000] {
            let mut corpus = Dice(8).rows(12_000, 10);
            let mut members: Vec<bool> = (0..12_000usize).map(|row| row < 5000 || row.is_multiple_of(97)).collect();
            for x in corpus.iter_mut().take(5000).flatten() {
                *x = *x * 0.1 + 1.0;
            }
            corpus.rotate_right(shift);
            members.rotate_right(shift);
            let posed = grouped(vec![vec![1.0; 10]; 30], corpus, |row| members[row]);
            posed.check_mine(&[fast(1), fast(2), fast(7), coded(1), coded(2)]);
        }
    });
}

#[test]
fn lists_as_deep_as_the_corpus() {
    let mut dice = Dice(9);
    for rows in [0, 1, 31, 32, 33, 100] {
        let (queries, corpus) = (dice.rows(13, 5), dice.rows(rows, 5));
        let posed = posed(queries, corpus, Metric::Dot, Rules { distinct: Some(0.9), ..Rules::default() });
        for k in [rows, rows + 1, 3 * rows + 7] {
            posed.check_nearest(k, &ways());
            let mut problem = posed.problem.clone();
            problem.settings.num_negatives = k.max(1);
            Posed::new(problem, 5, Kind::F32).check_mine(&ways());
        }
    }
}

#[test]
fn a_positive_with_many_copies() {
    in_time(|| {
        let mut dice = Dice(10);
        let (queries, mut corpus) = (dice.rows(50, 16), dice.rows(10_000, 16));
        for row in 0..8000 {
            corpus[row] = corpus[8000 + row % 3].iter().map(|x| x * (1.0 + dice.number() * 1e-6)).collect();
        }
        let rules = Rules { duplicate_of_positive: Some(0.98), ..Rules::default() };
        let mut posed = posed(queries, corpus, Metric::Cosine, rules);
        posed.problem.positives = (0..50).map(|i| vec![8000 + i % 3, 9000 + i]).collect();
        posed.check_mine(&[fast(1), fast(2), coded(2)]);
    });
}

/// Nothing asked for: nothing returned, everything removed counted, and an end to it.
#[test]
fn no_negatives_wanted() {
    in_time(|| {
        let mut dice = Dice(11);
        let (queries, corpus) = (dice.rows(4, 6), dice.rows(50, 6));
        for (distinct, max_exposure) in [(None, None), (Some(0.9), None), (None, Some(1)), (Some(0.9), Some(1))] {
            let rules = Rules { distinct, max_exposure, exclude_self: true, ..Rules::default() };
            let mut problem = posed(queries.clone(), corpus.clone(), Metric::Cosine, rules).problem;
            problem.settings.num_negatives = 0;
            let posed = Posed::new(problem, 6, Kind::F32);
            let mined = posed.mine(fast(1)).expect("a legal problem");
            assert!(mined.indices.is_empty());
            assert_eq!(mined.removed[Rule::Itself as usize], 4);
        }
    });
}

#[test]
fn nothing_to_search() {
    for (anchors, rows) in [(0, 0), (0, 9), (9, 0)] {
        let mut dice = Dice(12);
        let posed = posed(dice.rows(anchors, 3), dice.rows(rows, 3), Metric::Cosine, Rules::default());
        posed.check_nearest(4, &ways());
        posed.check_mine(&ways());
    }
}

fn coded_everywhere() -> Vec<Way> {
    let levels = Level::available().into_iter().zip([7, 2, 1]);
    levels.map(|(level, threads)| Way::new(level, threads, Method::Certified)).collect()
}

/// Few directions hold nearly all of the norm and are the same for many rows, which differ in the rest alone.
#[test]
fn rows_that_differ_in_what_a_projection_leaves_out() {
    in_time(|| {
        const DIM: usize = 64;
        let mut dice = Dice(14);
        for rest in [0.3, 1e-2, 1e-4, 1e-6] {
            let directions = dice.rows(20, DIM / 4);
            let mut side = |n: usize| -> Vec<Vec<f32>> {
                let mut row = || {
                    let mut row = directions[dice.below(directions.len())].clone();
                    row.extend((DIM / 4..DIM).map(|_| dice.number() * rest));
                    row
                };
                (0..n).map(|_| row()).collect()
            };
            let (queries, corpus) = (side(100), side(2000));
            for metric in [Metric::Cosine, Metric::Dot] {
                let posed = posed(queries.clone(), corpus.clone(), metric, Rules::default());
                posed.check_nearest(20, &coded_everywhere());
            }
        }
    });
}

/// Lists of copies have no radius, and one of them may still hold what has to be found or counted.
#[test]
fn lists_of_copies() {
    in_time(|| {
        let mut dice = Dice(15);
        for dim in [3, 40] {
            let (queries, distinct) = (dice.rows(90, dim), dice.rows(24, dim));
            let corpus: Vec<_> = (0..2400).map(|row| distinct[row % 24].clone()).collect();
            for metric in [Metric::Cosine, Metric::Dot] {
                let mut posed = posed(queries.clone(), corpus.clone(), metric, Rules::default());
                posed.problem.positives = (0..90).map(|i| vec![i, i * 7 + 3]).collect();
                posed.problem.settings.suspect_rank = 100;
                posed.check_nearest(150, &coded_everywhere());
                posed.check_mine(&coded_everywhere());
            }
        }
    });
}

/// One row beside which all others vanish, in the codes and in 16 bits; and rows of all sizes.
#[test]
fn codes_beside_a_giant() {
    in_time(|| {
        let mut dice = Dice(16);
        for size in [1e3, 1e6, 1e15] {
            let (queries, mut corpus) = (dice.rows(80, 48), dice.rows(1500, 48));
            corpus[777] = dice.row(48).iter().map(|x| x * size).collect();
            for (row, x) in corpus.iter_mut().enumerate().flat_map(|(row, x)| x.iter_mut().map(move |x| (row, x))) {
                *x *= if row % 3 == 0 { (row as f32).exp2().sqrt().clamp(1e-3, size) } else { 1.0 };
            }
            let rules = Rules { relative_margin: Some(0.05), min_score: Some(0.0), ..Rules::default() };
            let mut posed = posed(queries, corpus, Metric::Dot, rules);
            posed.problem.positives = (0..80).map(|i| vec![i * 3, i * 4 + 1]).collect();
            posed.check_nearest(30, &coded_everywhere());
            posed.check_mine(&coded_everywhere());
        }
    });
}

/// Scores that tie where lists end, in great numbers, over all lists.
#[test]
fn codes_and_a_flood_of_ties() {
    in_time(|| {
        let mut dice = Dice(17);
        let corpus: Vec<Vec<f32>> = (0..3000).map(|_| (0..12).map(|_| dice.one_of(&[-1.0, 1.0])).collect()).collect();
        let posed = posed(corpus[..100].to_vec(), corpus, Metric::Cosine, Rules::default());
        for k in [1, 30, 700] {
            posed.check_nearest(k, &coded_everywhere());
        }
    });
}
