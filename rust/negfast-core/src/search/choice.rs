//! Chooses a search from sizes, what is asked, and a sample of the rows.
//!
//! The costs are cycles of one core, counted from what the kernels do; only their ratios matter.

use super::block::unit;
use super::engine::{Asked, Method};
use super::index::Index;
use super::{Job, coded, signatures};
use crate::accept::Accept;
use crate::codes::basis::{Basis, Leading, product};
use crate::error::{Error, Result};
use crate::kernel::{CodeTile, Level};
use crate::score::{Matrix, Scale};
use crate::threads::Workers;

/// Anchors and rows whose scores the choice looks at.
const ANCHORS: usize = 64;
const ROWS: usize = 1536;
/// Jobs of fewer cycles (about a quarter of a second) are not worth a choice.
const SMALL: f64 = 1e9;
/// Cycles that choosing, fitting and auditing take whatever the job.
const CHOOSING: f64 = 3e8;
/// Cycles for an element of a row that is read, scaled and coded.
const CODING: f64 = 2.0;
/// Fewer anchors than this are not worth a measured recall.
pub(super) const FEW: usize = 1000;
/// Multiples of this many coordinates are tried.
const STEP: usize = 32;
/// Cycles for a pair that the codes cannot settle.
pub(super) const CHECK: f64 = 200.0;

/// What a level's kernels take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rates {
    /// Cycles for a multiply-add in `f32`.
    pub(super) plain: f64,
    /// Cycles for a multiply-add in codes.
    pub(super) coded: f64,
    /// Cycles for testing a pair.
    pub(super) test: f64,
}

impl Rates {
    /// Those of `level` on this machine.
    pub(super) fn of(level: Level) -> Self {
        let level = level.min(Level::detect());
        let plain = if level == Level::Scalar { 1.0 / 3.6 } else { 1.0 / 16.0 };
        let tile = CodeTile::new(level);
        let (coded, test) = match (level, tile.narrow()) {
            (Level::Scalar, _) => (1.0, 3.0),
            (_, true) => (1.0 / 40.0, 0.7),
            (_, false) => (1.0 / 62.0, 0.35),
        };
        Self { plain, coded, test }
    }
}

/// The outcome.
pub(super) enum Choice {
    /// Every pair in `f32`.
    Exact { why: String },
    /// Signatures.
    Signs { why: String },
    /// Codes.
    Coded { basis: Option<Basis>, lists: usize, why: String, certified: bool },
}

/// What codes of some width would do.
#[derive(Debug, Clone, Copy)]
struct Prospect {
    width: usize,
    /// Cycles for a pair of anchor and row.
    cycles: f64,
    /// Share of the pairs that have to be checked.
    checked: f64,
}

/// Chooses a search for `job`.
///
/// # Errors
/// If a method was named that does not fit into `max_memory`, or the call is cancelled.
pub(super) fn choose<A: Accept>(job: &Job<'_>, asked: Asked, accept: &A, workers: &mut Workers<'_>) -> Result<Choice> {
    let rates = &Rates::of(job.scorer.level);
    let (anchors, rows, dim) = (job.anchors.len(), job.scorer.corpus.len(), job.scorer.corpus.rows().dim());
    let exact = |why: &str| Ok(Choice::Exact { why: why.into() });
    let pairs = anchors as f64 * rows as f64;
    let named = asked.method != Method::Auto;
    if asked.method == Method::Exact {
        return exact("it was asked for");
    }
    if anchors == 0 || rows == 0 {
        return exact("there is nothing to find");
    }
    if !named && pairs * dim as f64 * rates.plain < SMALL {
        return exact("the job is small");
    }
    if asked.method == Method::Signatures {
        fits(asked, signatures::bytes(job, workers.threads()))?;
        return Ok(Choice::Signs { why: "they were asked for".into() });
    }
    let (leading, sampled) = look(job, accept, workers)?;
    let proof = best(&sampled, rates, Goal::Proof);
    let share = Goal::Recall(asked.recall);
    let lists = |per: f64| if asked.in_order { 1 } else { lists(anchors, rows, per) };
    let rough = (asked.recall < 1.0 && asked.method != Method::Certified && (anchors >= FEW || named))
        .then(|| best(&sampled, rates, share));
    let setup = |width: usize, lists: usize| {
        let coordinates = if width < dim { dim * width } else { 0 };
        let assigned = if lists > 1 { lists * width } else { 0 };
        let operations = (coordinates + assigned) as f64 * rates.plain + dim as f64 * CODING;
        CHOOSING + (anchors + rows) as f64 * operations
    };
    let cost = |p: Prospect, lists: usize| setup(p.width, lists) + pairs * p.cycles;
    let plain = pairs * dim as f64 * rates.plain;
    let (proof_cost, proof_lists) = (cost(proof, lists(1.0)), lists(1.0));
    let (prospect, lists, certified, taken) = match rough.map(|p| (p, lists(2.0), cost(p, lists(2.0)))) {
        Some((p, lists, taken)) if asked.method == Method::Clusters || taken < proof_cost => (p, lists, false, taken),
        _ => (proof, proof_lists, true, proof_cost),
    };
    if !named && plain <= taken {
        return exact("codes would leave too much to check");
    }
    let [kept, more] = Index::bytes(rows, prospect.width, lists);
    let needed = kept + more.max(workers.threads() * coded::least_bytes(job, prospect.width, lists));
    match fits(asked, needed) {
        Err(_) if !named => return exact("an index would not fit into max_memory"),
        checked => checked?,
    }
    let why = format!(
        "codes of {} coordinates leave about {:.2} % of the pairs to check; about {:.2} of the cost of the exact search",
        prospect.width,
        prospect.checked * 100.0,
        taken / plain
    );
    let basis = (prospect.width < dim).then(|| Basis::of(&leading, prospect.width));
    Ok(Choice::Coded { basis, lists, why, certified })
}

/// Refuses what needs more bytes than it may have.
fn fits(asked: Asked, needed: usize) -> Result<()> {
    match asked.max_memory {
        Some(bound) if needed > bound => Err(Error::invalid(
            "search.max_memory",
            format!("at least {needed} bytes for method {:?}", asked.method.name()),
            bound.to_string(),
            "raise it, or use method \"exact\", whose memory does not grow with the corpus",
        )),
        _ => Ok(()),
    }
}

/// Lists for a corpus: more cost more to make and to choose from.
fn lists(anchors: usize, rows: usize, per: f64) -> usize {
    let lists = (per * (rows as f64).sqrt()) as usize;
    let most = (rows / 64).min(anchors / 4);
    if most < 16 { 1 } else { lists.min(most) }
}

#[derive(Debug, Clone, Copy)]
enum Goal {
    Proof,
    Recall(f64),
}

/// A sample of pairs: what is known of them from ever more coordinates.
struct Sampled {
    dim: usize,
    widths: Vec<usize>,
    /// For each width, for each pair, how far its score lies below its anchor's threshold as estimated, and the bound on
    /// the error: the pair has to be checked if the first is at most the second.
    pairs: Vec<Vec<(f32, f32)>>,
    /// Whether the pair reaches its anchor's threshold.
    found: Vec<bool>,
}

fn look<A: Accept>(job: &Job<'_>, accept: &A, workers: &mut Workers<'_>) -> Result<(Leading, Sampled)> {
    let scorer = job.scorer;
    let dim = scorer.corpus.rows().dim();
    let sides = [(scorer.queries, Scale::Unit), (scorer.corpus, scorer.corpus_factor())];
    let widths: Vec<usize> = (1..=8).map(|twelfths| (dim * twelfths / 12).next_multiple_of(STEP)).collect();
    let mut widths: Vec<usize> = widths.into_iter().filter(|width| (1..dim).contains(width)).collect();
    widths.dedup();
    let leading = Leading::fit(sides, widths.last().copied().unwrap_or(1).max(1), scorer.level, workers)?;
    widths.push(dim);
    let queries = gathered(scorer.queries, Scale::Unit, job.anchors.len().min(ANCHORS), |i, n| {
        job.anchors[i * job.anchors.len() / n] as usize
    });
    let rows = scorer.corpus.len();
    let corpus = gathered(scorer.corpus, scorer.corpus_factor(), rows.min(ROWS), |i, n| i * rows / n);
    let scores = product(&queries, &corpus, dim, scorer.level);
    let n = corpus.len() / dim;
    let rank = (job.depth as f64 / rows as f64 * n as f64).ceil().clamp(1.0, n as f64) as usize;
    let sampled = queries.len() / dim;
    // What a search has to look at: its best rows, those above a floor, those that are counted.
    let threshold = |(i, scores): (usize, &[f32])| {
        let slot = i * job.anchors.len() / sampled;
        let unit = unit(scorer, job.anchors[slot] as usize, scorer.corpus_scale());
        let [floor, watch] = [accept.floor(slot), accept.watch(slot)].map(|mark| (mark / unit) as f32);
        let kept =
            if job.depth == 0 { f32::INFINITY } else { coded::nth_largest(&mut scores.to_vec(), rank).max(floor) };
        kept.min(watch)
    };
    let thresholds: Vec<f32> = scores.chunks_exact(n).enumerate().map(threshold).collect();
    let (y, x) = (leading.project(&queries), leading.project(&corpus));
    // The usual error of a code, as a share of the row's norm: the largest of many coordinates is a little over three
    // times the usual one, and rounding to whole numbers is off by 1/√12.
    let error = |limit: i8| 3.3 / (f32::from(limit) * 12f32.sqrt());
    let errors = error(CodeTile::new(scorer.level).limit()) + error(crate::kernel::WIDE);
    let pairs = widths.iter().map(|&width| {
        if width == dim {
            let deficits = scores.chunks_exact(n).zip(&thresholds);
            return deficits.flat_map(|(s, t)| s.iter().map(move |s| (t - s, errors))).collect();
        }
        let (q, c) = (cut(&y, leading.width(), width), cut(&x, leading.width(), width));
        let estimates = product(&q, &c, width, scorer.level);
        let (tq, tc) = (tails(&queries, &q, dim, width), tails(&corpus, &c, dim, width));
        let rows = estimates.chunks_exact(n).zip(tq.iter().zip(&thresholds));
        rows.flat_map(|(e, (tq, t))| e.iter().zip(&tc).map(move |(e, tc)| (t - e, tq * tc + errors))).collect()
    });
    let pairs = pairs.collect();
    let found = scores.chunks_exact(n).zip(&thresholds).flat_map(|(s, t)| s.iter().map(move |s| s >= t)).collect();
    Ok((leading, Sampled { dim, widths, pairs, found }))
}

fn gathered(matrix: &Matrix<'_>, scale: Scale, count: usize, row: impl Fn(usize, usize) -> usize) -> Vec<f32> {
    let dim = matrix.rows().dim();
    let mut out = vec![0.0; count * dim];
    for (i, out) in out.chunks_exact_mut(dim).enumerate() {
        matrix.scaled(row(i, count), scale, out);
    }
    out
}

/// The first `width` numbers of each row of `from`.
fn cut(rows: &[f32], from: usize, width: usize) -> Vec<f32> {
    rows.chunks_exact(from).flat_map(|row| &row[..width]).copied().collect()
}

/// Norms of what coordinates leave out of rows.
fn tails(rows: &[f32], coordinates: &[f32], dim: usize, width: usize) -> Vec<f32> {
    let square = |row: &[f32]| row.iter().map(|x| x * x).sum::<f32>();
    let pairs = rows.chunks_exact(dim).zip(coordinates.chunks_exact(width));
    pairs.map(|(row, y)| (square(row) - square(y)).max(0.0).sqrt()).collect()
}

/// The width that costs least.
fn best(sampled: &Sampled, rates: &Rates, goal: Goal) -> Prospect {
    let prospects = sampled.widths.iter().zip(&sampled.pairs).map(|(&width, pairs)| {
        let share = match goal {
            Goal::Proof => 1.0,
            Goal::Recall(recall) => share_for(pairs, &sampled.found, 1.0 - (1.0 - recall) / 2.0),
        };
        let checked = pairs.iter().filter(|(deficit, bound)| deficit <= &(bound * share)).count();
        let checked = checked as f64 / pairs.len().max(1) as f64;
        // Of the lists, many are left out; the rest is a guess that the calibration replaces.
        let scanned = match goal {
            Goal::Proof => 1.0,
            Goal::Recall(recall) if recall > 0.97 => 0.5,
            Goal::Recall(_) => 0.3,
        };
        let cycles = scanned * (width as f64 * rates.coded + rates.test) + checked * CHECK;
        Prospect { width, cycles, checked }
    });
    let nothing = Prospect { width: sampled.dim, cycles: f64::INFINITY, checked: 1.0 };
    prospects.fold(nothing, |best, next| if next.cycles < best.cycles { next } else { best })
}

/// The share of the bound that keeps this share of the pairs that matter.
fn share_for(pairs: &[(f32, f32)], found: &[bool], kept: f64) -> f32 {
    let mut needed: Vec<f32> = pairs.iter().zip(found).filter(|(_, found)| **found).map(|((d, b), _)| d / b).collect();
    needed.sort_unstable_by(f32::total_cmp);
    let at = (kept * needed.len() as f64) as usize;
    needed.get(at.min(needed.len().saturating_sub(1))).map_or(1.0, |share| share.clamp(0.0, 1.0))
}
