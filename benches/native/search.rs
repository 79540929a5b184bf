//! What selection and rules cost over the bare tile, by difference.
//!
//! Three searches of the same rows with the same tiles, in turn, round after round:
//!
//! * *bare*: nothing reaches its threshold, so it packs and multiplies and does no more;
//! * *nearest*: the 100 best rows of each query;
//! * *mine*: eight negatives of each query under the default rules, with groups.
//!
//! A cost is the ratio of two times of one round; medians and extremes over the rounds are printed. The environment
//! sets `NEGFAST_BENCH_ROWS` (20,000), `NEGFAST_BENCH_ROUNDS` (7), `NEGFAST_BENCH_THREADS` (all) and
//! `NEGFAST_BENCH_DATA` (a folder of real embeddings).

#![allow(clippy::print_stdout, reason = "a bench prints")]

#[allow(dead_code, reason = "each bench uses a part of it")]
mod rows;

use std::time::Instant;

use negfast_core::accept::Accept;
use negfast_core::anchors::Anchors;
use negfast_core::draw::Draw;
use negfast_core::error::Result;
use negfast_core::kernel::Level;
use negfast_core::mine::{Settings, Tiers, mine};
use negfast_core::nearest::nearest;
use negfast_core::rows::{Data, Rows};
use negfast_core::rules::{Known, Labels, Rules};
use negfast_core::score::{Matrix, Metric, Scorer, Scratch};
use negfast_core::search::{Asked, Engine, Job, Method, Work};
use negfast_core::threads::{Unwatched, Workers};
use rows::Pairs;

/// The length of plain lists.
const K: usize = 100;

/// A floor that nothing reaches.
struct Nothing;

impl Accept for Nothing {
    type Tally = ();

    fn cap(&self, _: usize) -> f64 {
        f64::INFINITY
    }

    fn floor(&self, _: usize) -> f64 {
        f64::INFINITY
    }

    fn watch(&self, _: usize) -> f64 {
        f64::INFINITY
    }

    fn allow(&self, _: usize, _: u32, _: &mut Scratch) -> bool {
        false
    }

    fn over_cap(&self, _: usize, _: u32, _: &mut dyn FnMut(f64) -> bool, (): &mut ()) {}

    fn merge(&self, (): &mut (), (): ()) {}
}

/// Every pair in `f32`: what is compared is the work around one and the same scan.
fn exactly() -> Asked {
    Asked { method: Method::Exact, ..Asked::exactly(None) }
}

struct Contest<'a> {
    scorer: Scorer<'a>,
    known: Known<'a>,
    threads: usize,
}

impl Contest<'_> {
    fn bare(&self, depth: usize) -> Result<f64> {
        self.timed(|workers| {
            let anchors: Vec<u32> = (0..self.scorer.queries.len() as u32).collect();
            let job =
                Job { scorer: &self.scorer, anchors: &anchors, depth, scored: depth, audited: depth, max_memory: None };
            let (mut engine, work) = (Engine::new(&self.scorer, exactly())?, Work::default());
            let plan = engine.plan(&job, &Nothing, workers, &work)?;
            let outputs = vec![(); plan.blocks.len()];
            engine.search(&job, &plan, &Nothing, workers, &work, outputs, |(), _| Ok(()))
        })
    }

    fn nearest(&self) -> Result<f64> {
        let slots = self.scorer.queries.len() * K;
        let (mut indices, mut scores) = (vec![0; slots], vec![0.0; slots]);
        self.timed(|workers| {
            let mut engine = Engine::new(&self.scorer, exactly())?;
            nearest(&mut engine, K, workers, &Work::default(), &mut indices, &mut scores)
        })
    }

    fn mine(&self, settings: &Settings) -> Result<f64> {
        let anchors = Anchors::all(self.scorer.queries.len());
        self.timed(|workers| {
            mine(&self.scorer, &self.known, &anchors, settings, None, workers, &Work::default()).map(drop)
        })
    }

    fn timed(&self, call: impl FnOnce(&mut Workers<'_>) -> Result<()>) -> Result<f64> {
        let mut monitor = Unwatched;
        let mut workers = Workers::new(self.threads, &mut monitor);
        let clock = Instant::now();
        call(&mut workers)?;
        Ok(clock.elapsed().as_secs_f64())
    }
}

fn main() -> Result<()> {
    // `cargo test --benches` runs benches too; there, one look that it works is enough.
    let testing = !std::env::args().any(|argument| argument == "--bench");
    let rows = number("NEGFAST_BENCH_ROWS", if testing { 300 } else { 20_000 });
    let rounds = number("NEGFAST_BENCH_ROUNDS", if testing { 1 } else { 7 });
    let threads = number("NEGFAST_BENCH_THREADS", std::thread::available_parallelism().map_or(1, usize::from));
    let pairs = rows::pairs(rows);
    let (queries, corpus) = (measured(&pairs, &pairs.queries)?, measured(&pairs, &pairs.passages)?);
    let labels = |side| Labels::new(side, &pairs.groups, 1, pairs.len());
    let groups = Some((labels("queries")?, labels("corpus")?));
    let contest = Contest {
        scorer: Scorer::new(&queries, &corpus, Metric::Cosine, Level::chosen()?)?,
        known: Known { positives: pairs.positives(), groups, ..Known::default() },
        threads,
    };
    println!("{} x {}, dim {}, {}", pairs.len(), pairs.len(), pairs.dim, pairs.source);
    println!("level {}, {threads} threads, {rounds} rounds, k = {K}", contest.scorer.level.name());
    run(&contest, rounds, (pairs.len() * pairs.len() * pairs.dim) as f64)
}

fn run(contest: &Contest<'_>, rounds: usize, operations: f64) -> Result<()> {
    let settings = Settings {
        num_negatives: 8,
        rules: Rules { relative_margin: Some(0.05), ..Rules::default() },
        tiers: Tiers { hard: -0.05, semi_hard: -0.15 },
        draw: Draw::Top,
        suspect_rank: 1000,
        seed: 0,
        epoch: 0,
        search: exactly(),
        reserve: 0,
    };
    let mut times: [Vec<f64>; 3] = Default::default();
    for _ in 0..rounds {
        times[0].push(contest.bare(K)?);
        times[1].push(contest.nearest()?);
        times[2].push(contest.mine(&settings)?);
    }
    let ratio = |i: usize| -> Vec<f64> { times[i].iter().zip(&times[0]).map(|(t, bare)| t / bare).collect() };
    let speed: Vec<f64> = times[0].iter().map(|t| operations / t / 1e9).collect();
    println!("bare     {} s, {} Gmultiply-adds/s", spread(&times[0], 3), spread(&speed, 1));
    for (i, name) in [(1, "nearest"), (2, "mine   ")] {
        let cost: Vec<f64> = ratio(i).iter().map(|r| (r - 1.0) * 100.0).collect();
        println!("{name}  {} s, over bare {} %", spread(&times[i], 3), spread(&cost, 1));
    }
    Ok(())
}

fn measured<'a>(pairs: &Pairs, values: &'a [f32]) -> Result<Matrix<'a>> {
    let mut monitor = Unwatched;
    let rows = Rows::new("rows", Data::F32(values), pairs.len(), pairs.dim)?;
    Matrix::measure("rows", rows, Level::chosen()?, &mut Workers::new(1, &mut monitor))
}

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Median and extremes.
fn spread(values: &[f64], digits: usize) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (first, last) = (sorted[0], sorted[sorted.len() - 1]);
    format!("{:.digits$} ({first:.digits$} to {last:.digits$})", sorted[sorted.len() / 2])
}
