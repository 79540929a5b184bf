//! Recall: measured on anchors that are solved exactly, first to fit the effort of a search, then to audit it.
//!
//! An anchor's recall is the share of its true best rows for which the search returned a row that scores as much as the
//! last of them: copies may stand in for each other. The anchors that an effort was fitted on are not those it is
//! audited on. Anchors are independent, the rows of one anchor are not; the interval is that of E. Korn and B. Graubard,
//! *Confidence intervals for proportions with small expected number of positive counts estimated from survey data*
//! (1998): Clopper and Pearson's with the number of rows that would leave the mean as unsure as it is.

use std::sync::{Mutex, PoisonError};

use statrs::function::beta::inv_beta_reg;

use super::coded::{self, Effort};
use super::engine::Means;
use super::index::Index;
use super::sweep::Room;
use super::trial::Trial;
use super::{Job, Work};
use crate::accept::Accept;
use crate::error::Result;
use crate::rng::stream;
use crate::score::Scratch;
use crate::threads::{Workers, cut, split};
use crate::topk::Candidate;

/// Keeps the choice of anchors apart from other uses of a seed.
const PURPOSE: u64 = 0x6175_6469;
/// Anchors that an effort is fitted on, and that it is audited on at least; and rows to be sought for in an audit, for
/// which short lists take more anchors.
const FITTED: usize = 128;
const AUDITED: usize = 256;
const SOUGHT: usize = 4096;
/// Standard errors of the mean that the fitted recall lies above the asked one, so that the audit mostly agrees: 1.96
/// for its interval, the rest for the difference of the two samples.
const MARGIN: f64 = 1.96;
/// Pairs of an anchor with random rows from which the cost of an effort is known.
const RANDOM: usize = 256;
/// Anchors that are tried at a time.
const TRIAL: usize = 16;

/// Recall of a search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recall {
    /// The mean over anchors.
    pub value: f64,
    /// 95 % interval of what the mean over all anchors would be.
    pub interval: (f64, f64),
    /// Anchors that it was measured on; 0 if it is proven.
    pub anchors: usize,
}

impl Recall {
    /// That of an exact result.
    pub fn proven() -> Self {
        Self { value: 1.0, interval: (1.0, 1.0), anchors: 0 }
    }

    /// From the rows found and sought of each anchor.
    pub fn measured(anchors: &[(usize, usize)]) -> Self {
        let shares: Vec<f64> = anchors.iter().filter(|a| a.1 > 0).map(|&(f, s)| f as f64 / s as f64).collect();
        if shares.is_empty() {
            return Self::proven();
        }
        let (value, deviation) = moments(&shares);
        let n = shares.len() as f64;
        let variance = deviation * deviation / n;
        // Without any variation but that of rounding, an anchor counts as one row: nothing is known about how its rows hang
        // together. They never count as more rows than were sought.
        let sought: usize = anchors.iter().map(|a| a.1).sum();
        let even = deviation <= 1e-12;
        let rows = if even { n } else { (value * (1.0 - value) / variance).clamp(n, sought as f64) };
        let (hits, misses) = (value * rows, (1.0 - value) * rows);
        let low = if hits <= 0.0 { 0.0 } else { inv_beta_reg(hits, misses + 1.0, 0.025) };
        let high = if misses <= 0.0 { 1.0 } else { inv_beta_reg(hits + 1.0, misses, 0.975) };
        Self { value, interval: (low.min(value), high.max(value)), anchors: shares.len() }
    }
}

fn moments(shares: &[f64]) -> (f64, f64) {
    let n = shares.len() as f64;
    let mean = shares.iter().sum::<f64>() / n;
    let squares = shares.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>();
    (mean, (squares / (n - 1.0).max(1.0)).sqrt())
}

/// The anchors of a job that its recall is measured on.
pub(super) struct Sample {
    /// Slots in random order, not yet used.
    fresh: Vec<usize>,
    /// Anchors of an audit, and those that an effort is fitted on first.
    audited: usize,
    to_fit: usize,
    fitted: Solved,
}

/// Some slots of a job with what an exact search found.
#[derive(Default)]
struct Solved {
    slots: Vec<usize>,
    lists: Vec<Vec<Candidate>>,
}

/// A pair of an anchor and a row: whether its list is visited, and what it takes to notice the pair there.
#[derive(Debug, Clone, Copy)]
struct Demand {
    /// Radii that an effort has to reach; −∞ if the list is among the first.
    reach: f32,
    /// The share of the bound that has to be allowed for.
    share: f32,
}

impl Sample {
    /// Chooses anchors of `job`.
    pub(super) fn draw(job: &Job<'_>) -> Self {
        let mut slots: Vec<usize> = (0..job.anchors.len()).collect();
        let mut random = stream(0, 0, slots.len() as u64, PURPOSE);
        let audited = (SOUGHT / job.depth.max(1)).clamp(AUDITED, 4 * AUDITED);
        let most = (FITTED + 2 * audited).min(slots.len());
        for i in 0..most {
            let other = i + ((random.uniform() * (slots.len() - i) as f64) as usize).min(slots.len() - i - 1);
            slots.swap(i, other);
        }
        slots.truncate(most);
        let fitted = FITTED.min(most.div_ceil(3));
        Self { audited: (most - fitted) / 2, fresh: slots, to_fit: fitted, fitted: Solved::default() }
    }

    /// The cheapest effort whose recall on fresh anchors is that `asked`, with a margin.
    pub(super) fn calibrate<A: Accept>(
        &mut self,
        job: &Job<'_>,
        means: &Means,
        accept: &A,
        asked: f64,
        workers: &mut Workers<'_>,
        work: &Work,
    ) -> Result<Effort> {
        let solved = self.solve(job, means, accept, self.to_fit, workers, work)?;
        self.fitted = solved;
        self.fit(job, means, accept, asked, workers, work)
    }

    /// A greater effort, fitted on all anchors solved so far, after an audit found `found` instead of what was `asked`.
    pub(super) fn widen<A: Accept>(
        &mut self,
        job: &Job<'_>,
        means: &Means,
        accept: &A,
        (asked, found): (f64, f64),
        workers: &mut Workers<'_>,
        work: &Work,
    ) -> Result<Effort> {
        // Half of what is missing on top, and no less than what the audit was short of.
        let target = asked + ((1.0 - asked) / 2.0).max(asked - found).min((1.0 - asked) * 0.8);
        self.fit(job, means, accept, target, workers, work)
    }

    /// Measures the recall of an effort on anchors that nothing was fitted on.
    pub(super) fn audit<A: Accept>(
        &mut self,
        job: &Job<'_>,
        means: &Means,
        effort: Effort,
        accept: &A,
        workers: &mut Workers<'_>,
        work: &Work,
    ) -> Result<Recall> {
        let solved = self.solve(job, means, accept, self.audited, workers, work)?;
        let sampled = Sampled { inner: accept, slots: &solved.slots };
        let anchors: Vec<u32> = solved.slots.iter().map(|&slot| job.anchors[slot]).collect();
        let part = Job { anchors: &anchors, ..*job };
        let lists = found(&part, means, effort, &sampled, workers, work)?;
        let counted: Vec<_> = solved.lists.iter().zip(&lists).map(|(truth, found)| counted(truth, found)).collect();
        self.fitted.slots.extend(solved.slots);
        self.fitted.lists.extend(solved.lists);
        Ok(Recall::measured(&counted))
    }

    /// Solves the next `count` fresh anchors exactly.
    fn solve<A: Accept>(
        &mut self,
        job: &Job<'_>,
        means: &Means,
        accept: &A,
        count: usize,
        workers: &mut Workers<'_>,
        work: &Work,
    ) -> Result<Solved> {
        // With too few to be fresh, those audited first serve again.
        let mut slots = self.fresh.split_off(self.fresh.len() - count.min(self.fresh.len()));
        if slots.is_empty() {
            slots = std::mem::take(&mut self.fitted).slots;
        }
        let anchors: Vec<u32> = slots.iter().map(|&slot| job.anchors[slot]).collect();
        let part = Job { anchors: &anchors, ..*job };
        let sampled = Sampled { inner: accept, slots: &slots };
        let lists = match means {
            Means::Codes(index) => found(&part, means, Effort::proof(index, job.depth), &sampled, workers, work)?,
            _ => found(&part, &Means::Plain, Effort::all(), &sampled, workers, work)?,
        };
        Ok(Solved { slots, lists })
    }

    fn fit<A: Accept>(
        &self,
        job: &Job<'_>,
        means: &Means,
        accept: &A,
        asked: f64,
        workers: &mut Workers<'_>,
        work: &Work,
    ) -> Result<Effort> {
        let demands = match means {
            Means::Codes(index) => self.of_codes(job, index, accept, workers, work)?,
            Means::Signs(index) => {
                let anchors: Vec<u32> = self.fitted.slots.iter().map(|&slot| job.anchors[slot]).collect();
                let part = Job { anchors: &anchors, ..*job };
                let random = |i: usize| self.random(i, job.scorer.corpus.len());
                let needed = index.demands(&part, &self.fitted.lists, random, workers)?;
                let demand = |share: f32| Demand { reach: f32::NEG_INFINITY, share };
                let both = |(sought, random): (Vec<f32>, Vec<f32>)| {
                    (sought.into_iter().map(demand).collect(), random.into_iter().map(demand).collect())
                };
                needed.into_iter().map(both).collect()
            }
            Means::Plain => Vec::new(),
        };
        let (mut sought, mut random) = (Vec::new(), Vec::new());
        for (list, others) in demands {
            if !list.is_empty() {
                sought.push(list);
            }
            random.extend(others);
        }
        let effort = match means {
            Means::Codes(index) => {
                let cheapest = cheapest(&sought, &random, asked, index.coder.width(), job.scorer.level);
                cheapest.map_or(Effort::proof(index, job.depth), |d| Effort {
                    share: f64::from(d.share).clamp(0.0, 1.0),
                    reach: f64::from(d.reach),
                    first: coded::first_lists(index, job.depth),
                })
            }
            Means::Signs(index) => {
                let cheapest = cheapest(&sought, &random, asked, index.bits() / 2, job.scorer.level);
                cheapest.map_or(Effort::all(), |d| Effort { share: f64::from(d.share), ..Effort::all() })
            }
            Means::Plain => Effort::all(),
        };
        Ok(effort)
    }

    /// Random rows of a corpus for the fitted anchor `i`.
    fn random(&self, i: usize, rows: usize) -> Vec<u32> {
        let mut stream = stream(1, 0, self.fitted.slots[i] as u64, PURPOSE);
        (0..RANDOM).map(|_| ((stream.uniform() * rows as f64) as usize).min(rows - 1) as u32).collect()
    }

    /// What the fitted anchors demand of a search over codes: for the rows sought, and for random ones.
    fn of_codes<A: Accept>(
        &self,
        job: &Job<'_>,
        index: &Index,
        accept: &A,
        workers: &mut Workers<'_>,
        work: &Work,
    ) -> Result<Vec<(Vec<Demand>, Vec<Demand>)>> {
        let Solved { slots, lists } = &self.fitted;
        let rows = job.scorer.corpus.len();
        let places = index.places_of_rows(rows);
        let mut out = vec![(Vec::new(), Vec::new()); slots.len()];
        let spans = split(slots.len(), slots.len().div_ceil(TRIAL));
        let parts = cut(&mut out, spans.iter().map(ExactSizeIterator::len));
        let operations = (slots.len() * rows / 50 * index.coder.width()) as u64;
        let start = || Room::new(job.scorer.corpus.rows().dim());
        workers.run(operations, spans.into_iter().zip(parts).collect(), start, |room, (span, out), progress| {
            let sampled = Sampled { inner: accept, slots: &slots[span.clone()] };
            let anchors: Vec<u32> = sampled.slots.iter().map(|&slot| job.anchors[slot]).collect();
            let part = Job { anchors: &anchors, ..*job };
            let trial = Trial::run(&part, index, &sampled, work, (room, progress))?;
            for (i, (out, at)) in out.iter_mut().zip(span).enumerate() {
                let Some(last) = lists[at].last() else { continue };
                let threshold = trial.in_units(i, last.score);
                let demand = |row: u32| demand(&trial, i, places[row as usize] as usize, threshold);
                let sought = lists[at].iter().map(|c| demand(c.row)).collect();
                *out = (sought, self.random(at, rows).into_iter().map(demand).collect());
            }
            progress.advance(0)
        })?;
        Ok(out)
    }
}

/// What it takes to find the row at `place` for the trial's anchor `i`, whose list ends at `threshold`.
fn demand(trial: &Trial<'_>, i: usize, place: usize, threshold: f32) -> Demand {
    Demand { reach: trial.reach(i, place), share: trial.share(i, place, threshold) }
}

/// The cheapest pair of reach and share with which the rows sought are found often enough.
fn cheapest(
    sought: &[Vec<Demand>],
    random: &[Demand],
    asked: f64,
    width: usize,
    level: crate::kernel::Level,
) -> Option<Demand> {
    let mut shares: Vec<f32> = sought.iter().flatten().map(|d| d.share).collect();
    let mut reaches: Vec<f32> = sought.iter().flatten().map(|d| d.reach).collect();
    shares.sort_unstable_by(f32::total_cmp);
    reaches.sort_unstable_by(f32::total_cmp);
    let rates = super::choice::Rates::of(level);
    let scan = width as f64 * rates.coded + rates.test;
    // From the quantile at which nothing else is lost to nearly all.
    let steps = 12;
    let quantiles = (0..steps).map(|step| 1.0 - (1.0 - asked) * f64::from(steps - step) / f64::from(steps));
    let mut best: Option<(f64, Demand)> = None;
    for share in quantiles.map(|q| quantile(&shares, q)).chain([quantile(&shares, 1.0)]) {
        let enough = |reach: f32| lower(sought, Demand { reach, share }) >= asked;
        // Recall grows with reach: the smallest that is enough is found by halving.
        let at = reaches.partition_point(|&reach| !enough(reach));
        let Some(&reach) = reaches.get(at) else { continue };
        let visited = random.iter().filter(|d| d.reach <= reach);
        let (mut scanned, mut checked) = (0, 0);
        for d in visited {
            scanned += 1;
            checked += usize::from(d.share <= share);
        }
        let cost = f64::from(scanned) * scan + checked as f64 * super::choice::CHECK;
        if best.is_none_or(|(least, _)| cost < least) {
            best = Some((cost, Demand { reach, share }));
        }
    }
    best.map(|(_, demand)| demand)
}

fn quantile(sorted: &[f32], q: f64) -> f32 {
    let at = ((sorted.len() as f64 * q).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
    sorted.get(at).copied().unwrap_or(1.0)
}

/// The recall of an effort on the rows sought, less a margin.
fn lower(sought: &[Vec<Demand>], effort: Demand) -> f64 {
    let found = |list: &Vec<Demand>| {
        list.iter().filter(|d| d.reach <= effort.reach && d.share <= effort.share).count() as f64 / list.len() as f64
    };
    let shares: Vec<f64> = sought.iter().map(found).collect();
    let (mean, deviation) = moments(&shares);
    mean - MARGIN * deviation * (1.0 / AUDITED as f64 + 0.5 / shares.len() as f64).sqrt()
}

fn counted(truth: &[Candidate], found: &[Candidate]) -> (usize, usize) {
    let Some(last) = truth.last() else { return (0, 0) };
    (found.iter().filter(|c| c.score >= last.score).count().min(truth.len()), truth.len())
}

/// The lists that a search with this effort keeps.
fn found<A: Accept>(
    job: &Job<'_>,
    means: &Means,
    effort: Effort,
    accept: &A,
    workers: &mut Workers<'_>,
    work: &Work,
) -> Result<Vec<Vec<Candidate>>> {
    let plan = means.plan(job, effort, workers)?;
    let lists = Mutex::new(vec![Vec::new(); job.anchors.len()]);
    let outputs = vec![(); plan.blocks.len()];
    means.search(job, &plan, effort, accept, workers, work, outputs, |(), finished| {
        finished.each(|found, _| lists.lock().unwrap_or_else(PoisonError::into_inner)[found.slot] = found.kept)
    })?;
    Ok(lists.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// The rules of some slots; what else they would count is of no interest.
struct Sampled<'a, A> {
    inner: &'a A,
    slots: &'a [usize],
}

impl<A: Accept> Accept for Sampled<'_, A> {
    type Tally = ();

    fn cap(&self, slot: usize) -> f64 {
        self.inner.cap(self.slots[slot])
    }

    fn floor(&self, slot: usize) -> f64 {
        self.inner.floor(self.slots[slot])
    }

    fn allow(&self, slot: usize, row: u32, scratch: &mut Scratch) -> bool {
        self.inner.allow(self.slots[slot], row, scratch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_hold_what_they_should() {
        let recall = Recall::measured(&[(10, 10); 100]);
        assert!((recall.value - 1.0).abs() < 1e-12 && recall.interval.1 >= 1.0);
        // Clopper and Pearson for 100 of 100.
        assert!((recall.interval.0 - 0.025f64.powf(0.01)).abs() < 1e-6);
        let mixed: Vec<_> = (0..400).map(|i| (90 + i % 11, 100)).collect();
        let recall = Recall::measured(&mixed);
        assert!(recall.interval.0 < recall.value && recall.value < recall.interval.1);
        assert!(recall.interval.1 - recall.interval.0 < 0.05);
        assert_eq!(Recall::measured(&[]), Recall::proven());
        assert_eq!(Recall::measured(&[(0, 5), (0, 5)]).value.to_bits(), 0f64.to_bits());
    }

    #[test]
    fn anchors_that_agree_leave_the_mean_unsure() {
        for (found, sought) in [(1, 3), (1, 7), (2, 3), (9, 10)] {
            for n in 1..200 {
                let Recall { value, interval: (low, high), .. } = Recall::measured(&vec![(found, sought); n]);
                assert!(low < value - 1e-3 && value + 1e-3 < high && high <= 1.0, "{found} of {sought}, {n} times");
            }
        }
    }
}
