//! Draws have the distribution they claim.
//!
//! Seeds are fixed, so a test that passes always passes. Had the seeds been drawn afresh, each statistic would
//! exceed its bound with a probability of 1e-7 if the draws are right; there are fewer than ten, so a correct program
//! would raise a false alarm with a probability below 1e-6 in all. A bound is the quantile of the χ² distribution
//! that Wilson and Hilferty's approximation gives (*The Distribution of Chi-Square*, 1931), good to a percent here.

use std::collections::HashMap;

use negfast_core::draw::Draw;
use negfast_core::rng::stream;
use negfast_core::topk::Candidate;

/// The standard normal quantile of 1 − 1e-7.
const Z: f64 = 5.199_337_6;

fn bound(degrees: f64) -> f64 {
    let h = 2.0 / (9.0 * degrees);
    degrees * (1.0 - h + Z * h.sqrt()).powi(3)
}

fn candidates(n: u32) -> Vec<Candidate> {
    (0..n).map(|row| Candidate { score: 0.9 - 0.05 * row as f32, row }).collect()
}

/// The order in which `draw` takes `n` candidates, in the `run`-th of many runs.
fn drawn(draw: Draw, n: u32, positive: Option<f64>, run: u64) -> Vec<u32> {
    let mut rows = candidates(n);
    draw.order(&mut rows, positive, &mut stream(20_240_607, run / 1000, run % 1000, 1));
    rows.iter().map(|c| c.row).collect()
}

fn chi_square(counts: &[f64], expected: impl Fn(usize) -> f64) -> f64 {
    counts.iter().enumerate().map(|(i, count)| (count - expected(i)).powi(2) / expected(i)).sum()
}

/// Counts of drawn items are negatively correlated, because every run draws exactly k: the plain statistic would be
/// too small and never fail. Times (n − 1)/n over the variance R p (1 − p) it is χ² with n − 1 degrees.
#[test]
fn random_includes_every_row_alike() {
    const RUNS: u64 = 20_000;
    for (n, k) in [(50, 10), (12, 1), (9, 8)] {
        let mut counts = vec![0.0; n];
        for run in 0..RUNS {
            drawn(Draw::Random, n as u32, None, run).iter().take(k).for_each(|&row| counts[row as usize] += 1.0);
        }
        let (runs, n, p) = (RUNS as f64, n as f64, k as f64 / n as f64);
        let squares: f64 = counts.iter().map(|count| (count - runs * p).powi(2)).sum();
        let statistic = (n - 1.0) / n * squares / (runs * p * (1.0 - p));
        assert!(statistic < bound(n - 1.0), "n = {n}, k = {k}: {statistic}");
        assert!(statistic > 0.05 * (n - 1.0), "n = {n}, k = {k}: {statistic}, too even to be chance");
    }
}

/// All 20 subsets of three out of six come up alike: more than inclusion counts can tell.
#[test]
fn random_includes_every_subset_alike() {
    const RUNS: u64 = 20_000;
    let mut subsets: HashMap<Vec<u32>, f64> = HashMap::new();
    for run in 0..RUNS {
        let mut subset = drawn(Draw::Random, 6, None, run);
        subset.truncate(3);
        subset.sort_unstable();
        *subsets.entry(subset).or_default() += 1.0;
    }
    assert_eq!(subsets.len(), 20);
    let counts: Vec<f64> = subsets.into_values().collect();
    let statistic = chi_square(&counts, |_| RUNS as f64 / 20.0);
    assert!(statistic < bound(19.0), "{statistic}");
}

/// How many candidates the weighted draws draw from.
const FEW: usize = 7;

/// The first row drawn has probability w / Σw, and the second, given the first, w / (Σw − w₁).
#[test]
fn weighted_draws_have_their_exact_probabilities() {
    let scores: Vec<f64> = candidates(FEW as u32).iter().map(|c| f64::from(c.score)).collect();
    let (temperature, a, b, p) = (0.1, 30.0, -0.1, 0.8);
    let softmax = |row: usize| (scores[row] / temperature).exp();
    let simans = |row: usize| (-a * (scores[row] - p - b).powi(2)).exp();
    first_two(Draw::Softmax { temperature }, Some(p), &softmax);
    first_two(Draw::SimAns { a, b }, Some(p), &simans);
    first_two(Draw::SimAns { a, b }, None, &|_| 1.0);
}

fn first_two(draw: Draw, positive: Option<f64>, weight: &dyn Fn(usize) -> f64) {
    const RUNS: u64 = 40_000;
    let total: f64 = (0..FEW).map(weight).sum();
    let mut pairs = vec![0.0; FEW * FEW];
    for run in 0..RUNS {
        let order = drawn(draw, FEW as u32, positive, run);
        pairs[order[0] as usize * FEW + order[1] as usize] += 1.0;
    }
    let first: Vec<f64> = pairs.chunks_exact(FEW).map(|row| row.iter().sum()).collect();
    let alone = chi_square(&first, |i| RUNS as f64 * weight(i) / total);
    assert!(alone < bound(FEW as f64 - 1.0), "{draw:?}, first: {alone}");
    let expected = |i: usize, j: usize| RUNS as f64 * weight(i) / total * weight(j) / (total - weight(i));
    // Cells that are too rare for the approximation are taken together.
    let (mut counts, mut means, mut rare) = (Vec::new(), Vec::new(), (0.0, 0.0));
    for (cell, &count) in pairs.iter().enumerate().filter(|(cell, _)| cell / FEW != cell % FEW) {
        let mean = expected(cell / FEW, cell % FEW);
        if mean < 10.0 {
            rare = (rare.0 + count, rare.1 + mean);
        } else {
            counts.push(count);
            means.push(mean);
        }
    }
    if rare.1 > 10.0 {
        counts.push(rare.0);
        means.push(rare.1);
    }
    let statistic = chi_square(&counts, |i| means[i]);
    assert!(statistic < bound(counts.len() as f64 - 1.0), "{draw:?}, first two: {statistic}");
}

/// A longer draw extends a shorter one, and streams of other coordinates draw otherwise.
#[test]
fn a_draw_is_an_order() {
    let draw = |seed, epoch, row| {
        let mut rows = candidates(30);
        Draw::Random.order(&mut rows, None, &mut stream(seed, epoch, row, 1));
        rows.iter().map(|c| c.row).collect::<Vec<_>>()
    };
    let base = draw(1, 2, 3);
    assert_eq!(base, draw(1, 2, 3));
    assert!([draw(2, 2, 3), draw(1, 3, 3), draw(1, 2, 4)].iter().all(|other| *other != base));
    let mut sorted = base;
    sorted.sort_unstable();
    assert_eq!(sorted, (0..30).collect::<Vec<_>>());
}
