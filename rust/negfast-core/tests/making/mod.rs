//! Makes inputs, hands them to the crate, and compares what comes back with the oracle.

// Each test binary uses a part of this.
#![allow(dead_code)]

pub(crate) mod shapes;

use half::{bf16, f16};
use negfast_core::anchors::Anchors;
use negfast_core::draw::Draw;
use negfast_core::duplicates::near_duplicates;
use negfast_core::error::Result;
use negfast_core::kernel::Level;
use negfast_core::lists::Lists;
use negfast_core::mine::{Mined, Settings, Tiers, mine};
use negfast_core::nearest::nearest;
use negfast_core::refresh::drift::drift;
use negfast_core::refresh::{Past, Reserve};
use negfast_core::rows::{Data, Rows};
use negfast_core::rules::{Known, Labels, Rules};
use negfast_core::score::{Matrix, Metric, Scorer};
use negfast_core::search::{Account, Asked, Engine, Method, Work};
use negfast_core::threads::{Unwatched, Workers};

use crate::naive::{self, Expected, Problem, Sides};

/// Thread counts that every result has to be independent of.
pub(crate) const THREADS: [usize; 3] = [1, 2, 7];

/// A small generator of its own, so that inputs do not hang on the crate's.
#[derive(Debug, Clone)]
pub(crate) struct Dice(pub u64);

impl Dice {
    /// S. Vigna's splitmix64.
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.roll() % n.max(1) as u64) as usize
    }

    pub(crate) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// Uniform on [−1, 1).
    pub(crate) fn number(&mut self) -> f32 {
        (self.roll() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub(crate) fn row(&mut self, dim: usize) -> Vec<f32> {
        (0..dim).map(|_| self.number()).collect()
    }

    pub(crate) fn rows(&mut self, n: usize, dim: usize) -> Vec<Vec<f32>> {
        (0..n).map(|_| self.row(dim)).collect()
    }
}

/// How the elements are stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    F32,
    F16,
    Bf16,
}

/// A matrix as a caller would hold it.
#[derive(Debug)]
pub(crate) enum Stored {
    F32(Vec<f32>),
    F16(Vec<f16>),
    Bf16(Vec<bf16>),
}

impl Stored {
    pub(crate) fn new(rows: &[Vec<f32>], kind: Kind) -> Self {
        let all = rows.iter().flatten().copied();
        match kind {
            Kind::F32 => Self::F32(all.collect()),
            Kind::F16 => Self::F16(all.map(f16::from_f32).collect()),
            Kind::Bf16 => Self::Bf16(all.map(bf16::from_f32).collect()),
        }
    }

    /// The rows as `f32`, which the oracle reads.
    pub(crate) fn widened(&self, dim: usize) -> Vec<Vec<f32>> {
        let all: Vec<f32> = match self {
            Self::F32(x) => x.clone(),
            Self::F16(x) => x.iter().map(|x| x.to_f32()).collect(),
            Self::Bf16(x) => x.iter().map(|x| x.to_f32()).collect(),
        };
        all.chunks_exact(dim).map(<[f32]>::to_vec).collect()
    }

    fn data(&self) -> Data<'_> {
        match self {
            Self::F32(x) => Data::F32(x),
            Self::F16(x) => Data::F16(x),
            Self::Bf16(x) => Data::Bf16(x),
        }
    }

    pub(crate) fn rows(&self, dim: usize) -> Rows<'_> {
        let elements = match self {
            Self::F32(x) => x.len(),
            Self::F16(x) => x.len(),
            Self::Bf16(x) => x.len(),
        };
        Rows::new("rows", self.data(), elements / dim, dim).expect("whole rows")
    }
}

/// How a call is made; nothing of it may change the result.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    pub(crate) level: Level,
    pub(crate) threads: usize,
    pub(crate) max_memory: Option<usize>,
    pub(crate) method: Method,
}

impl Way {
    pub(crate) fn new(level: Level, threads: usize, method: Method) -> Self {
        Self { level, threads, max_memory: None, method }
    }

    pub(crate) fn asked(self) -> Asked {
        Asked { method: self.method, ..Asked::exactly(self.max_memory) }
    }
}

/// Every level and number of threads; and codes at every level, whatever the job.
pub(crate) fn ways() -> Vec<Way> {
    let level = |level| THREADS.map(|threads| Way::new(level, threads, Method::Auto));
    let plain = Level::available().into_iter().flat_map(level);
    let coded = Level::available().into_iter().zip([2, 7, 1]);
    plain.chain(coded.map(|(level, threads)| Way::new(level, threads, Method::Certified))).collect()
}

/// Settings without any rule.
pub(crate) fn settings(num_negatives: usize) -> Settings {
    Settings {
        num_negatives,
        rules: Rules::default(),
        tiers: Tiers { hard: -0.05, semi_hard: -0.15 },
        draw: Draw::Top,
        suspect_rank: 1000,
        seed: 7,
        epoch: 3,
        search: Asked::exactly(None),
        reserve: 0,
    }
}

/// A problem without any rule, its rows as given.
pub(crate) fn problem(queries: Vec<Vec<f32>>, corpus: Vec<Vec<f32>>, metric: Metric, settings: Settings) -> Problem {
    let positives = vec![Vec::new(); queries.len()];
    Problem { queries, corpus, metric, positives, keys: None, groups: None, exclude: None, forbidden: None, settings }
}

/// What a search tells about itself.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) account: Account,
    pub(crate) bytes: usize,
}

/// A problem whose vectors are stored for the crate to read.
#[derive(Debug)]
pub(crate) struct Posed {
    pub(crate) problem: Problem,
    pub(crate) dim: usize,
    queries: Stored,
    corpus: Stored,
}

impl Posed {
    /// Stores the vectors of `problem`, rounded to `kind`; the problem is then that of the rounded ones.
    pub(crate) fn new(mut problem: Problem, dim: usize, kind: Kind) -> Self {
        let (queries, corpus) = (Stored::new(&problem.queries, kind), Stored::new(&problem.corpus, kind));
        (problem.queries, problem.corpus) = (queries.widened(dim), corpus.widened(dim));
        Self { problem, dim, queries, corpus }
    }

    pub(crate) fn mine(&self, way: Way) -> Result<Mined> {
        self.mine_for(&Anchors::all(self.problem.queries.len()), way)
    }

    pub(crate) fn mine_for(&self, anchors: &Anchors, way: Way) -> Result<Mined> {
        self.mine_asked(anchors, way, way.asked())
    }

    pub(crate) fn mine_asked(&self, anchors: &Anchors, way: Way, asked: Asked) -> Result<Mined> {
        self.with_known(way, asked, |scorer, known, settings, workers| {
            mine(scorer, known, anchors, settings, None, workers, &Work::default())
        })
    }

    /// Mines again what was mined `before`, with vectors that have moved since; `pending` rows are looked at in any case.
    pub(crate) fn refresh(
        &self,
        (before, reserve): (&Self, &Reserve<'_>),
        pending: &[u32],
        way: Way,
        asked: Asked,
    ) -> Result<Mined> {
        self.with_known(way, asked, |scorer, known, settings, workers| {
            let mut drift = |name, old: &Stored, new| {
                let old = Matrix::measure(name, old.rows(self.dim), way.level, workers)?;
                drift(name, (&old, new), scorer.metric, workers)
            };
            let queries = drift("queries", &before.queries, scorer.queries)?;
            let corpus = drift("corpus", &before.corpus, scorer.corpus)?;
            let past = Past { reserve, queries: &queries, corpus: &corpus, pending };
            let all = Anchors::all(scorer.queries.len());
            mine(scorer, known, &all, settings, Some(&past), workers, &Work::default())
        })
    }

    fn with_known<T>(
        &self,
        way: Way,
        asked: Asked,
        call: impl FnOnce(&Scorer<'_>, &Known<'_>, &Settings, &mut Workers<'_>) -> Result<T>,
    ) -> Result<T> {
        let Problem { keys, groups, exclude, forbidden, .. } = &self.problem;
        let corpus = self.problem.corpus.len();
        let (key_values, group_values) = (keys.as_ref().map(flat), groups.as_ref().map(flat));
        let mask: Option<Vec<u8>> = forbidden.as_ref().map(|m| m.iter().map(|&f| u8::from(f)).collect());
        let known = Known {
            positives: lists(&self.problem.positives, corpus),
            keys: labels(keys.as_ref(), key_values.as_ref()),
            groups: labels(groups.as_ref(), group_values.as_ref()),
            exclude: exclude.as_ref().map(|e| lists(e, corpus)),
            forbidden: mask.as_deref(),
        };
        let settings = Settings { search: asked, ..self.problem.settings.clone() };
        self.with_scorer(way, |scorer, workers| call(scorer, &known, &settings, workers))
    }

    pub(crate) fn nearest(&self, k: usize, way: Way) -> Result<(Vec<i64>, Vec<f32>)> {
        self.nearest_asked(k, way, way.asked()).map(|(indices, scores, _)| (indices, scores))
    }

    /// The nearest rows with their scores, and what the search tells about itself.
    pub(crate) fn nearest_asked(&self, k: usize, way: Way, asked: Asked) -> Result<(Vec<i64>, Vec<f32>, Told)> {
        let slots = self.problem.queries.len() * k;
        let (mut indices, mut scores) = (vec![0; slots], vec![0.0; slots]);
        let told = self.with_scorer(way, |scorer, workers| {
            let (mut engine, work) = (Engine::new(scorer, asked)?, Work::default());
            nearest(&mut engine, k, workers, &work, &mut indices, &mut scores)?;
            Ok(Told { account: engine.account(), bytes: work.bytes() as usize })
        })?;
        Ok((indices, scores, told))
    }

    /// Compares the near-duplicates of the corpus in each of `ways` with the oracle's.
    pub(crate) fn check_near_duplicates(&self, threshold: f64, ways: &[Way]) {
        let expected = naive::near_duplicates(&self.problem.corpus, threshold);
        for &way in ways {
            let found = self.with_scorer(way, |scorer, workers| {
                near_duplicates(scorer.corpus, threshold, way.level, workers, &Work::default())
            });
            assert_eq!(found.as_ref(), Ok(&expected), "{threshold}, {way:?}");
        }
    }

    fn with_scorer<T>(&self, way: Way, call: impl FnOnce(&Scorer<'_>, &mut Workers<'_>) -> Result<T>) -> Result<T> {
        let mut monitor = Unwatched;
        let mut workers = Workers::new(way.threads, &mut monitor);
        let queries = Matrix::measure("queries", self.queries.rows(self.dim), way.level, &mut workers)?;
        let corpus = Matrix::measure("corpus", self.corpus.rows(self.dim), way.level, &mut workers)?;
        call(&Scorer::new(&queries, &corpus, self.problem.metric, way.level)?, &mut workers)
    }

    /// The smallest bound on memory that the search accepts: what its refusal of one byte says.
    pub(crate) fn least_memory(&self, way: Way) -> Option<usize> {
        let refusal = self.mine(Way { max_memory: Some(1), ..way }).err()?.to_string();
        let words = refusal.split("at least ").nth(1)?;
        words.split(' ').next()?.parse().ok()
    }

    /// Compares a mining run in each of `ways` with the oracle.
    pub(crate) fn check_mine(&self, ways: &[Way]) {
        let expected = self.problem.mine();
        for &way in ways {
            let mined = self.mine(way).expect("a legal problem");
            same(&mined, &expected, way);
        }
    }

    /// Compares a plain search in each of `ways` with the oracle.
    pub(crate) fn check_nearest(&self, k: usize, ways: &[Way]) {
        let Problem { queries, corpus, metric, .. } = &self.problem;
        let (indices, scores) = naive::nearest(queries, corpus, *metric, k);
        for &way in ways {
            let found = self.nearest(k, way).expect("a legal problem");
            assert_eq!(found.0, indices, "indices, {way:?}");
            assert_eq!(bits(&found.1), bits(&scores), "scores, {way:?}");
        }
    }
}

/// Compares two runs in everything but how they were made.
pub(crate) fn identical(mined: &Mined, other: &Mined, way: Way) {
    assert_eq!(mined.indices, other.indices, "indices, {way:?}");
    assert_eq!(bits(&mined.scores), bits(&other.scores), "scores, {way:?}");
    assert_eq!(mined.tiers, other.tiers, "tiers, {way:?}");
    assert_eq!(mined.removed, other.removed, "removed, {way:?}");
    assert_eq!(bits(&mined.positive_scores), bits(&other.positive_scores), "positive scores, {way:?}");
    assert_eq!(mined.positive_ranks, other.positive_ranks, "positive ranks, {way:?}");
    assert_eq!(mined.suspects, other.suspects, "suspects, {way:?}");
    assert_eq!(mined.false_negatives, other.false_negatives, "false negatives, {way:?}");
    assert_eq!(mined.deepened, other.deepened, "deepened, {way:?}");
}

fn same(mined: &Mined, expected: &Expected, way: Way) {
    assert_eq!(mined.indices, expected.indices, "indices, {way:?}");
    assert_eq!(bits(&mined.scores), bits(&expected.scores), "scores, {way:?}");
    assert_eq!(mined.tiers, expected.tiers, "tiers, {way:?}");
    assert_eq!(mined.removed, expected.removed, "removed, {way:?}");
    assert_eq!(bits(&mined.positive_scores), bits(&expected.positive_scores), "positive scores, {way:?}");
    assert_eq!(mined.positive_ranks, expected.positive_ranks, "positive ranks, {way:?}");
    assert_eq!(mined.suspects, expected.suspects, "suspects, {way:?}");
    assert_eq!(mined.false_negatives, expected.false_negatives, "false negatives, {way:?}");
}

/// Bits of scores, all NaNs alike.
pub(crate) fn bits(scores: &[f32]) -> Vec<u32> {
    scores.iter().map(|s| if s.is_nan() { f32::NAN.to_bits() } else { s.to_bits() }).collect()
}

fn lists(lists: &[Vec<u32>], corpus: usize) -> Lists {
    let mut starts = vec![0];
    let mut indices = Vec::new();
    for list in lists {
        indices.extend(list.iter().map(|&row| i64::from(row)));
        starts.push(indices.len() as i64);
    }
    Lists::new("lists", &starts, &indices, lists.len(), corpus).expect("legal lists")
}

/// Labels in CSR form, which borrowed ones are read from.
type Flat = [(Vec<i64>, Vec<i64>); 2];

fn flat(sides: &Sides) -> Flat {
    let one = |rows: &[Vec<i64>]| {
        let mut starts = vec![0];
        starts.extend(rows.iter().scan(0, |total, row| {
            *total += row.len() as i64;
            Some(*total)
        }));
        (starts, rows.concat())
    };
    [one(&sides.0), one(&sides.1)]
}

/// Labels in columns where all rows have as many, and ragged ones elsewhere.
fn labels<'a>(sides: Option<&Sides>, flat: Option<&'a Flat>) -> Option<(Labels<'a>, Labels<'a>)> {
    let one = |rows: &[Vec<i64>], (starts, values): &'a (Vec<i64>, Vec<i64>)| {
        let columns = rows.first().map_or(1, Vec::len);
        let even = rows.iter().all(|row| row.len() == columns);
        let labels = if even {
            Labels::new("labels", values, columns, rows.len())
        } else {
            Labels::ragged("labels", starts, values, rows.len())
        };
        labels.expect("whole labels")
    };
    sides.zip(flat).map(|(sides, flat)| (one(&sides.0, &flat[0]), one(&sides.1, &flat[1])))
}
