//! Refreshes against the naive oracle: vectors on their way, under rules drawn at random.
//!
//! `PROPTEST_CASES` sets how many ways are tried, as for the other property tests; one of 4 of these is walked.

mod making;
mod naive;

use making::shapes::{Look, Shape, shapes};
use making::{Dice, Kind, Posed, Way, bits, problem, settings, ways};
use naive::{Problem, product};
use negfast_core::kernel::Level;
use negfast_core::mine::{Mined, Settings};
use negfast_core::refresh::drift::drift;
use negfast_core::refresh::{Parts, Reserve};
use negfast_core::rules::Rules;
use negfast_core::score::{Matrix, Metric};
use negfast_core::search::{Asked, Method};
use negfast_core::threads::{Unwatched, Workers};
use proptest::prelude::*;

/// What becomes of vectors from one call to the next.
#[derive(Debug, Clone, Copy)]
enum Move {
    /// All move, by about this share of their length.
    Noise(f32),
    Queries(f32),
    Corpus(f32),
    /// One row goes elsewhere, the others move a little.
    Jump,
    /// All turn together.
    Turn,
    /// Half of the corpus is replaced.
    Half,
    /// One or two rows are replaced, and nothing else moves.
    Few,
    /// Some rows become zeros, and some queries.
    Vanish,
    /// Some rows become copies of others, one that of a query.
    Copy,
    /// Positives turn away from their anchors.
    Fall,
    Nothing,
}

const STEPS: [f32; 6] = [1e-7, 1e-5, 1e-4, 1e-3, 1e-2, 0.3];

impl Move {
    fn any(dice: &mut Dice) -> Self {
        let step = dice.one_of(&STEPS);
        let others = [
            Self::Queries(step),
            Self::Corpus(step),
            Self::Jump,
            Self::Turn,
            Self::Half,
            Self::Few,
            Self::Few,
            Self::Vanish,
            Self::Copy,
            Self::Fall,
            Self::Nothing,
        ];
        if dice.below(2) == 0 { Self::Noise(step) } else { dice.one_of(&others) }
    }

    fn of(self, problem: &Problem, dice: &mut Dice) -> Problem {
        let mut moved = problem.clone();
        let Problem { queries, corpus, positives, .. } = &mut moved;
        match self {
            Self::Noise(step) => {
                shake(queries, step, dice);
                shake(corpus, step, dice);
            }
            Self::Queries(step) => shake(queries, step, dice),
            Self::Corpus(step) => shake(corpus, step, dice),
            Self::Jump => {
                shake(corpus, 1e-5, dice);
                replace(corpus, 1, dice);
            }
            Self::Turn => turn(queries.iter_mut().chain(corpus), dice),
            Self::Half => {
                let half = corpus.len() / 2;
                replace(corpus, half, dice);
            }
            Self::Few => replace(corpus, 1 + dice.below(2), dice),
            Self::Vanish => {
                for rows in [corpus, queries] {
                    let row = dice.below(rows.len());
                    rows.iter_mut().skip(row).take(1).for_each(|row| row.fill(0.0));
                }
            }
            Self::Copy => copy(queries, corpus, dice),
            Self::Fall => {
                for &row in positives.iter().take(3).flatten() {
                    corpus[row as usize].iter_mut().for_each(|x| *x = -*x);
                }
            }
            Self::Nothing => {}
        }
        moved
    }
}

fn shake(rows: &mut [Vec<f32>], step: f32, dice: &mut Dice) {
    for row in rows {
        let largest = row.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        for x in row {
            *x += step * largest * dice.number();
        }
    }
}

fn replace(rows: &mut [Vec<f32>], count: usize, dice: &mut Dice) {
    for _ in 0..count {
        let at = dice.below(rows.len());
        let Some(row) = rows.get_mut(at) else { return };
        *row = dice.row(row.len());
    }
}

/// Turns all rows in the plane of two coordinates; the only one of a line changes its sign.
fn turn<'a>(rows: impl Iterator<Item = &'a mut Vec<f32>>, dice: &mut Dice) {
    let (seed, angle) = (dice.roll(), dice.number() * 3.0);
    for row in rows {
        let mut dice = Dice(seed);
        let (i, j) = (dice.below(row.len()), dice.below(row.len()));
        let (x, y) = (row[i], row[j]);
        (row[i], row[j]) = (x * angle.cos() - y * angle.sin(), x * angle.sin() + y * angle.cos());
        if i == j {
            row[i] = -x;
        }
    }
}

fn copy(queries: &[Vec<f32>], corpus: &mut [Vec<f32>], dice: &mut Dice) {
    for _ in 0..corpus.len().min(3) {
        let (from, to) = (dice.below(corpus.len()), dice.below(corpus.len()));
        let row = corpus[from].clone();
        corpus[to] = row;
    }
    let (from, to) = (dice.below(queries.len()), dice.below(corpus.len()));
    if let (Some(query), Some(row)) = (queries.get(from), corpus.get_mut(to)) {
        row.clone_from(query);
    }
}

/// A miner on its way.
struct Trip {
    posed: Posed,
    kind: Kind,
    reserve: Reserve<'static>,
}

impl Trip {
    fn new(posed: Posed, kind: Kind, way: Way) -> Self {
        let mined = posed.mine(way).expect("a legal problem");
        check_lists(&posed, &mined);
        let trip = Self { reserve: reserve(mined), posed, kind };
        trip.check_bounds();
        trip
    }

    /// Goes on to other vectors; returns what was found there.
    fn go(&mut self, problem: Problem, pending: &[u32], way: Way) -> Mined {
        let next = Posed::new(problem, self.posed.dim, self.kind);
        let mined = next.refresh((&self.posed, &self.reserve), pending, way, way.asked()).expect("a legal problem");
        check_lists(&next, &mined);
        self.reserve = mined.reserve.clone().expect("it was asked for");
        self.posed = next;
        self.check_bounds();
        mined
    }

    fn walk(&mut self, step: Move, dice: &mut Dice, way: Way) -> Mined {
        let mut problem = step.of(&self.posed.problem, dice);
        problem.settings.epoch += 1;
        self.go(problem, &[], way)
    }

    /// Where anything is proven, no unlisted row that could ever be allowed lies between ceiling and floor.
    fn check_bounds(&self) {
        let Parts { starts, rows, scores, ceilings, floors } = self.reserve.clone().into_parts();
        let Problem { queries, corpus, metric, .. } = &self.posed.problem;
        for (anchor, query) in queries.iter().enumerate() {
            let (ceiling, floor) = (ceilings[anchor], floors[anchor]);
            let listed = &rows[starts[anchor]..starts[anchor + 1]];
            self.check_scores(anchor, (listed, &scores[starts[anchor]..starts[anchor + 1]]), floor > f32::NEG_INFINITY);
            for row in (0..corpus.len() as u32).filter(|_| floor > f32::NEG_INFINITY) {
                let score = naive::score(*metric, query, &corpus[row as usize]);
                let outside = score <= ceiling || score > floor;
                let told =
                    || format!("anchor {anchor}, row {row}: {score} between {ceiling} and {floor}, listed {listed:?}");
                assert!(outside || listed.contains(&row) || self.posed.problem.bars(anchor, row), "{}", told());
            }
        }
    }

    /// Known scores are scores; where the list is proven, none that follows the last of them is higher.
    fn check_scores(&self, anchor: usize, (listed, known): (&[u32], &[f32]), proven: bool) {
        let Problem { queries, corpus, metric, .. } = &self.posed.problem;
        let true_score = |row: u32| naive::score(*metric, &queries[anchor], &corpus[row as usize]);
        for (&row, &score) in listed.iter().zip(known).filter(|(_, score)| !score.is_nan()) {
            assert_eq!(score.to_bits(), true_score(row).to_bits(), "anchor {anchor}, row {row}");
        }
        let Some(last) = known.iter().rposition(|score| !score.is_nan()).filter(|_| proven) else { return };
        for &row in &listed[last + 1..] {
            assert!(true_score(row) <= known[last], "anchor {anchor}, row {row} after a score of {}", known[last]);
        }
    }
}

fn reserve(mined: Mined) -> Reserve<'static> {
    mined.reserve.expect("it was asked for")
}

/// What a refresh promises: the lists. What it counts is among the candidates that it looked at.
fn check_lists(posed: &Posed, mined: &Mined) {
    let expected = posed.problem.mine();
    assert_eq!(mined.indices, expected.indices, "indices, {:?}", mined.refreshed);
    assert_eq!(bits(&mined.scores), bits(&expected.scores), "scores, {:?}", mined.refreshed);
    assert_eq!(mined.tiers, expected.tiers, "tiers, {:?}", mined.refreshed);
    assert_eq!(bits(&mined.positive_scores), bits(&expected.positive_scores), "positives, {:?}", mined.refreshed);
}

fn proven(mined: &Mined) -> u64 {
    mined.refreshed.as_ref().expect("a refresh").proven
}

fn fast(threads: usize) -> Way {
    Way::new(Level::detect(), threads, Method::Auto)
}

/// A problem on the sphere, whose first anchors have a positive that is close.
fn plain(anchors: usize, rows: usize, dim: usize, rules: Rules) -> Posed {
    let mut dice = Dice(17);
    let corpus = dice.rows(rows, dim);
    let mut queries = corpus[..anchors].to_vec();
    shake(&mut queries, 0.4, &mut dice);
    let settings = Settings { rules, reserve: 64, ..settings(6) };
    let positives = (0..anchors as u32).map(|row| vec![row]).collect();
    Posed::new(Problem { positives, ..problem(queries, corpus, Metric::Cosine, settings) }, dim, Kind::F32)
}

fn margin() -> Rules {
    Rules { relative_margin: Some(0.05), distinct: Some(0.9), ..Rules::default() }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: ProptestConfig::default().cases / 4,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_refresh_equals_brute_force(shape in shapes(), steps in 1usize..7) {
        let mut dice = Dice(shape.seed ^ 2);
        let ways = ways();
        let mut posed = shape.with_rules();
        posed.problem.settings.reserve = dice.one_of(&[1, 5, 30, 1000]);
        let mut trip = Trip::new(posed, shape.kind, dice.one_of(&ways));
        for _ in 0..steps {
            let (step, way) = (Move::any(&mut dice), dice.one_of(&ways));
            trip.walk(step, &mut dice, way);
        }
    }
}

#[test]
fn proofs_compose_over_many_small_steps() {
    let mut trip = Trip::new(plain(40, 400, 24, margin()), Kind::F32, fast(1));
    let mut dice = Dice(5);
    let proofs: Vec<u64> = (0..30).map(|_| proven(&trip.walk(Move::Noise(1e-4), &mut dice, fast(2)))).collect();
    // Searches set the bounds again where proofs have run out.
    assert!(proofs.iter().all(|&proofs| proofs >= 20), "{proofs:?}");
    assert!(proofs[..3].iter().all(|&proofs| proofs >= 38), "{proofs:?}");
}

/// Caps sink and rise with the positives; what lay above one comes below it.
#[test]
fn floors_hold_where_caps_move() {
    for metric in [Metric::Cosine, Metric::Dot] {
        let mut posed = plain(40, 400, 24, margin());
        posed.problem.metric = metric;
        let mut trip = Trip::new(posed, Kind::F32, fast(1));
        let mut dice = Dice(6);
        let mut proofs = 0;
        for step in 0..24 {
            let mut problem = trip.posed.problem.clone();
            for (query, row) in problem.queries.iter().zip(&mut problem.corpus) {
                // Towards the anchor and away from it, in turns.
                let share = if step % 8 < 4 { 0.02 } else { -0.02 };
                row.iter_mut().zip(query).for_each(|(x, q)| *x += share * (q - *x));
            }
            shake(&mut problem.queries, 1e-5, &mut dice);
            proofs += proven(&trip.go(problem, &[], fast(1)));
        }
        assert!(proofs > 24 * 10, "{metric:?}: {proofs}");
    }
}

#[test]
fn threads_and_levels_refresh_alike() {
    let mut dice = Dice(7);
    let before = plain(300, 900, 24, Rules { max_exposure: Some(9), ..margin() });
    let mined = before.mine(fast(1)).expect("a legal problem");
    let problem = Move::Noise(1e-3).of(&before.problem, &mut dice);
    let after = Posed::new(problem, 24, Kind::F32);
    let lists = reserve(mined);
    let refresh = |way: Way| after.refresh((&before, &lists), &[], way, way.asked()).expect("a legal problem");
    let first = refresh(ways()[0]);
    assert!(proven(&first) > 0);
    for way in ways() {
        making::identical(&refresh(way), &first, way);
        assert_eq!(proven(&refresh(way)), proven(&first), "{way:?}");
    }
}

/// Rows that jump are compared with every anchor, and the others' lists stay proven.
#[test]
fn few_rows_that_jump_spoil_no_proof() {
    let mut trip = Trip::new(plain(40, 400, 24, margin()), Kind::F32, fast(1));
    let mut dice = Dice(8);
    for _ in 0..5 {
        let mined = trip.walk(Move::Jump, &mut dice, fast(1));
        assert!(mined.refreshed.as_ref().is_some_and(|told| told.movers > 0));
        assert!(proven(&mined) >= 30, "{:?}", mined.refreshed);
    }
}

/// Of lists that are trusted only some rows are scored; what is said about the unlisted has to hold all the same.
#[test]
fn trusted_lists_keep_their_bounds() {
    let mut trip = Trip::new(plain(200, 600, 16, margin()), Kind::F32, fast(1));
    let mut dice = Dice(15);
    let (mut trusted, mut whole) = (0, 0);
    for _ in 0..12 {
        let step = dice.one_of(&[Move::Noise(1e-4), Move::Noise(1e-2), Move::Jump]);
        let next = Posed::new(step.of(&trip.posed.problem, &mut dice), 16, Kind::F32);
        let asked = Asked { recall: 0.9, ..Asked::exactly(None) };
        let mined = next.refresh((&trip.posed, &trip.reserve), &[], fast(2), asked).expect("a legal problem");
        let told = mined.refreshed.clone().expect("a refresh");
        if told.proven == 200 {
            check_lists(&next, &mined);
            whole += 1;
        }
        trusted += told.estimated;
        trip = Trip { posed: next, kind: Kind::F32, reserve: reserve(mined) };
        trip.check_bounds();
    }
    assert!(trusted > 200, "{trusted} trusted, {whole} times all proven");
}

/// Rows so short that the units of a tile hold them for zeros: cosine looks at their direction all the same.
#[test]
fn tiny_rows_that_jump_are_met() {
    let mut posed = plain(40, 400, 24, margin());
    posed.problem.corpus[300..].iter_mut().flatten().for_each(|x| *x *= 1e-30);
    let mut trip = Trip::new(Posed::new(posed.problem, 24, Kind::F32), Kind::F32, fast(1));
    let mut problem = trip.posed.problem.clone();
    for row in 300..310 {
        problem.corpus[row] = problem.queries[row - 300].iter().map(|x| x * 1e-30).collect();
        shake(&mut problem.corpus[row..=row], 0.9, &mut Dice(row as u64));
    }
    let mined = trip.go(problem, &[], fast(1));
    assert!(proven(&mined) >= 30, "{:?}", mined.refreshed);
    assert!(mined.indices.iter().any(|row| (300..310).contains(row)));
}

/// Rows that no list can know, because they came after it: the only trace of them is that they are pending.
#[test]
fn pending_rows_are_met() {
    let mut trip = Trip::new(plain(40, 400, 24, margin()), Kind::F32, fast(1));
    let mut problem = trip.posed.problem.clone();
    for (row, query) in [(390, 3), (391, 4), (399, 5)] {
        problem.corpus[row].clone_from(&problem.queries[query]);
        shake(&mut problem.corpus[row..=row], 0.9, &mut Dice(row as u64));
    }
    trip.posed = Posed::new(problem.clone(), 24, Kind::F32);
    let mined = trip.go(problem, &[390, 391, 399], fast(1));
    assert!(proven(&mined) >= 30, "{:?}", mined.refreshed);
}

/// Nothing but what is listed can be allowed, so anchors get what they can and need no search.
#[test]
fn lists_of_everything_stay_proven() {
    let rules = Rules { relative_margin: Some(0.05), ..Rules::default() };
    let mut posed = plain(20, 30, 12, rules);
    posed.problem.settings.num_negatives = 40;
    let mut trip = Trip::new(posed, Kind::F32, fast(1));
    let mined = trip.walk(Move::Corpus(1e-4), &mut Dice(9), fast(1));
    assert_eq!(proven(&mined), 20, "{:?}", mined.refreshed);
}

/// Both moved further than `f32` can hold, while the corpus did not move at all.
#[test]
fn distances_beyond_the_type_prove_nothing() {
    let mut dice = Dice(10);
    let mut queries = dice.rows(8, 4);
    for row in &mut queries {
        row[0] = 3e38;
    }
    let mut corpus = dice.rows(60, 4);
    corpus.iter_mut().flatten().for_each(|x| *x *= 1e-4);
    let settings = Settings { reserve: 5, ..settings(2) };
    let posed = Posed::new(problem(queries, corpus, Metric::Dot, settings), 4, Kind::F32);
    let mut trip = Trip::new(posed, Kind::F32, fast(1));
    let mut problem = trip.posed.problem.clone();
    problem.queries.iter_mut().flatten().for_each(|x| *x = -*x);
    trip.go(problem, &[], fast(1));
}

/// Scores next to −1, where an angle hangs on the last bits of its cosine.
#[test]
fn bounds_hold_for_rows_that_face_away() {
    let mut dice = Dice(11);
    for dim in [1, 2, 3] {
        let queries = vec![vec![1.0; dim]; 3];
        let away = |dice: &mut Dice| (0..dim).map(|_| -1.0 + 1e-4 * dice.number()).collect::<Vec<f32>>();
        let corpus: Vec<_> = (0..80).map(|_| away(&mut dice)).collect();
        let settings = Settings { reserve: 7, ..settings(2) };
        let posed = Posed::new(problem(queries, corpus, Metric::Cosine, settings), dim, Kind::F32);
        let mut trip = Trip::new(posed, Kind::F32, fast(1));
        for step in [1e-6, 1e-4, 0.01, 0.3, 0.01] {
            trip.walk(Move::Corpus(step), &mut dice, fast(1));
        }
    }
}

#[test]
fn drift_is_no_less_than_the_distance() {
    let (n, dim) = (1500, 19);
    let mut dice = Dice(12);
    let old = dice.rows(n, dim);
    let mut new = old.clone();
    for row in &mut new {
        let step = dice.one_of(&STEPS);
        shake(std::slice::from_mut(row), step, &mut dice);
    }
    new[3].fill(0.0);
    for (metric, threads) in [(Metric::Cosine, 1), (Metric::Dot, 2), (Metric::Cosine, 7)] {
        let lengths = measure(&old, &new, metric, threads);
        for (i, &length) in lengths.iter().enumerate() {
            let exact = distance(&old[i], &new[i], metric);
            let told = format!("{metric:?}, row {i}: {length} for {exact}");
            assert!(f64::from(length) >= exact && f64::from(length) <= exact * (1.0 + 1e-6) + 1e-12, "{told}");
        }
        assert_eq!(measure(&old, &old, metric, threads), vec![0.0; n]);
    }
    // A direction that was none before, and one that is none any more, are as far away as can be.
    assert_eq!(measure(&new, &old, Metric::Cosine, 1)[3].to_bits(), 2.0f32.to_bits());
    assert_eq!(measure(&old, &new, Metric::Cosine, 1)[3].to_bits(), 2.0f32.to_bits());
}

fn measure(old: &[Vec<f32>], new: &[Vec<f32>], metric: Metric, threads: usize) -> Vec<f32> {
    let dim = old[0].len();
    let (old, new) = (making::Stored::new(old, Kind::F32), making::Stored::new(new, Kind::F32));
    let mut monitor = Unwatched;
    let mut workers = Workers::new(threads, &mut monitor);
    let old = Matrix::measure("old", old.rows(dim), Level::detect(), &mut workers).expect("finite");
    let new = Matrix::measure("new", new.rows(dim), Level::detect(), &mut workers).expect("finite");
    drift("new", (&old, &new), metric, &mut workers).expect("rows of one shape")
}

fn distance(a: &[f32], b: &[f32], metric: Metric) -> f64 {
    let norm = |x: &[f32]| if metric == Metric::Dot { 1.0 } else { product(x, x).sqrt() };
    let (fa, fb) = (norm(a), norm(b));
    match [fa, fb].into_iter().filter(|norm| *norm == 0.0).count() {
        0 => {}
        1 => return 2.0,
        _ => return 0.0,
    }
    a.iter().zip(b).map(|(x, y)| (f64::from(*x) / fa - f64::from(*y) / fb).powi(2)).sum::<f64>().sqrt()
}

#[test]
fn a_reserve_that_does_not_fit_is_refused() {
    let (anchors, corpus) = (2, 5);
    let check = |indptr: &[i64], rows: &[u32], ceilings: &[f32], floors: &[f32]| {
        Reserve::from_parts((indptr, rows, &[0.5, f32::NAN, 0.1]), (ceilings, floors), anchors, corpus).is_ok()
    };
    assert!(check(&[0, 1, 3], &[4, 0, 1], &[0.5; 2], &[f32::NEG_INFINITY; 2]));
    assert!(!check(&[0, 1, 3], &[5, 0, 1], &[0.5; 2], &[0.9; 2]), "a row that does not exist");
    assert!(!check(&[0, 1, 2], &[4, 0, 1], &[0.5; 2], &[0.9; 2]), "lists that leave rows out");
    assert!(!check(&[0, 3], &[4, 0, 1], &[0.5; 2], &[0.9; 2]), "too few lists");
    assert!(!check(&[0, 1, 3], &[4, 0, 1], &[0.5; 1], &[0.9; 2]), "too few ceilings");
    assert!(!check(&[0, 1, 3], &[4, 0, 1], &[0.5; 2], &[0.9; 3]), "too many floors");
    assert!(!check(&[0, 1, 3], &[4, 0, 1], &[f32::NAN; 2], &[0.9; 2]), "a bound that is no number");
    let scores = |scores: &[f32]| {
        Reserve::from_parts((&[0, 1, 3], &[4, 0, 1], scores), (&[0.5; 2], &[0.9; 2]), anchors, corpus).is_ok()
    };
    assert!(!scores(&[0.5; 2]), "too few scores");
    assert!(!scores(&[0.5, f32::INFINITY, 0.1]), "a score that is infinite");
}

/// Lists of another miner, for one that remembers nothing.
#[test]
fn lists_serve_where_none_are_to_be_remembered() {
    let before = plain(40, 400, 24, margin());
    let lists = reserve(before.mine(fast(1)).expect("a legal problem"));
    let mut after = plain(40, 400, 24, margin());
    after.problem.settings.reserve = 0;
    let mined = after.refresh((&before, &lists), &[], fast(1), fast(1).asked()).expect("a legal problem");
    check_lists(&after, &mined);
    assert_eq!((proven(&mined), mined.reserve.is_some()), (40, false));
}

/// The smallest and the emptiest of problems.
#[test]
fn nothing_is_refreshed_to_nothing() {
    for (anchors, rows, negatives) in [(0, 9, 2), (3, 0, 2), (0, 0, 2), (3, 9, 0), (3, 1, 2)] {
        for reserve in [1, 1000] {
            let shape =
                Shape { anchors, rows, dim: 3, look: Look::Plain, kind: Kind::F32, metric: Metric::Dot, seed: 13 };
            let mut posed = Posed::new(shape.bare(&mut Dice(13)), 3, Kind::F32);
            posed.problem.settings = Settings { reserve, ..settings(negatives) };
            let mut trip = Trip::new(posed, Kind::F32, fast(1));
            for step in [Move::Nothing, Move::Noise(0.01), Move::Half] {
                trip.walk(step, &mut Dice(14), fast(1));
            }
        }
    }
}
