//! The first pass of a refresh: remembered lists judged again, as far as they are proven or trusted.

use std::ops::Range;
use std::sync::Mutex;
use std::time::Instant;

use super::trial::{is_hopeless, sample, trial};
use super::{Books, Miner, Page, open};
use crate::error::Result;
use crate::pool::Pool;
use crate::refresh::bounds::{Bound, Bounds};
use crate::refresh::movers::{self, Met};
use crate::refresh::{Kept, Past, Refreshed, forget_after};
use crate::rules::Rule;
use crate::score::{Scratch, Together};
use crate::search::Recall;
use crate::threads::{Workers, cut, split};
use crate::topk::{Candidate, sort_best_first};

/// Anchors that a task judges at most: as many as stay in the cache while their rows are read; and about as many candidates.
const SPAN: usize = 512;
const CANDIDATES: usize = 1 << 20;
/// Anchors that tell whether proving pays, and the share of them that has to be proven.
const TRIED: usize = 192;
const WORTH: f64 = 0.6;
/// Mean distances that rows may have moved since the last time for a reserve to be worth making: where proof is asked for,
/// and where it is not.
const USEFUL: [f32; 2] = [0.015, 0.2];
/// A mean distance up to which lists are as good as never hopeless.
const HARMLESS: f32 = 0.1;

/// What the first pass leaves to do.
pub(super) struct Outcome {
    /// Anchors to search again, ascending.
    pub(super) unserved: Vec<u32>,
    /// Candidates to remember of those.
    pub(super) reserve: usize,
    pub(super) refreshed: Refreshed,
}

/// How lists are used.
struct Use<'a> {
    past: &'a Past<'a>,
    bounds: Bounds<'a>,
    met: Met,
    /// Candidates of each list that are scored.
    prefix: usize,
    /// Whether only what is proven counts.
    proof: bool,
    /// Whether, of rows that are not compared with every anchor, none has moved.
    still: bool,
    /// Which rows of the corpus may score something else than they did.
    moved: Vec<bool>,
}

/// What became of one list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Proven,
    Estimated,
    Searched,
    /// More of the list has to be scored.
    Open,
}

/// Judges what lists may be used, and fills `books` from them.
///
/// # Errors
/// [`crate::error::Error::Cancelled`].
pub(super) fn pass(
    miner: &Miner<'_>,
    past: &Past<'_>,
    books: &Mutex<Books>,
    workers: &mut Workers<'_>,
) -> Result<Outcome> {
    let clock = Instant::now();
    let proof = miner.settings.search.recall >= 1.0;
    let (plan, told) = decide(miner, past, proof, workers)?;
    let useful = mean(past) <= USEFUL[usize::from(!proof)];
    let mut outcome = Outcome {
        unserved: miner.anchors.rows().to_vec(),
        reserve: if useful || plan.is_some() && !proof { miner.settings.reserve } else { 0 },
        refreshed: Refreshed { seconds: [clock.elapsed().as_secs_f64(), 0.0], ..told },
    };
    if let Some(plan) = plan {
        let clock = Instant::now();
        let mut fates = judge(miner, &plan, books, workers)?;
        outcome.refreshed.seconds[1] = clock.elapsed().as_secs_f64();
        outcome.unserved = miner.unserved(&mut open(books));
        open(books).mined.deepened = 0;
        // Lists that near-copies or a cap on exposure use up are searched again after all.
        outcome.unserved.iter().for_each(|&anchor| fates[anchor as usize] = Fate::Searched);
        let count = |fate| fates.iter().filter(|&&other| other == fate).count() as u64;
        (outcome.refreshed.proven, outcome.refreshed.estimated) = (count(Fate::Proven), count(Fate::Estimated));
    }
    outcome.refreshed.searched = outcome.unserved.len() as u64;
    Ok(outcome)
}

/// How lists are to be used, if at all, and why.
fn decide<'a>(
    miner: &Miner<'_>,
    past: &'a Past<'a>,
    proof: bool,
    workers: &mut Workers<'_>,
) -> Result<(Option<Use<'a>>, Refreshed)> {
    let mut told = Refreshed::nothing();
    let none = |why: String| Ok((None, Refreshed { why, ..Refreshed::nothing() }));
    if past.reserve.rows().is_empty() {
        return none("nothing was remembered".into());
    }
    let short = |recall: Recall| {
        format!("remembered lists hold {:.4} of what a sample should have, so all are searched again", recall.value)
    };
    let doubtful = !proof && mean(past) > HARMLESS;
    if let Some(recall) = if doubtful { is_hopeless(miner, past.reserve, workers)? } else { None } {
        return none(short(recall));
    }
    let (scorer, guard) = (miner.chooser.scorer, miner.chooser.guard);
    let (movers, farthest) = movers::choose(past, proof);
    let bounds = Bounds::new(past, scorer, farthest);
    let mut moved: Vec<bool> = past.corpus.iter().map(|&length| length > 0.0).collect();
    for &row in &movers {
        moved[row as usize] = true;
    }
    let (met, still) = (Met::nothing(past.reserve.len()), farthest == 0.0);
    let whole = Use { past, bounds, met, prefix: usize::MAX, proof, still, moved };
    if proof && !pays(miner, &whole) {
        return none("rows moved too far for proofs".into());
    }
    let marks: Vec<f32> = (0..past.reserve.len()).map(|anchor| whole.mark(anchor)).collect();
    let met = movers::meet((scorer, guard), &movers, &marks, miner.chooser.depth(), workers, miner.work)?;
    told.movers = movers.len() as u64;
    let mut plan = Use { met, ..whole };
    if proof {
        told.why = "lists that drift cannot have changed are kept".into();
        told.prefix = miner.settings.reserve as u64;
        return Ok((Some(plan), told));
    }
    let verdict = trial(miner, past.reserve, &plan.met.rows, workers)?;
    if !verdict.enough {
        return none(short(verdict.recall));
    }
    told.why = format!("the first {} of each list hold what was asked for", verdict.prefix);
    (told.prefix, told.recall) = (verdict.prefix as u64, verdict.recall);
    plan.prefix = verdict.prefix;
    Ok((Some(plan), told))
}

fn mean(past: &Past<'_>) -> f32 {
    let sum: f64 = past.queries.iter().chain(past.corpus).map(|&length| f64::from(length)).sum();
    (sum / (past.queries.len() + past.corpus.len()).max(1) as f64) as f32
}

/// Whether enough lists of a sample can be proven.
fn pays(miner: &Miner<'_>, plan: &Use<'_>) -> bool {
    let anchors = sample(plan.past.reserve.len(), TRIED, miner.settings.epoch);
    let mut scratch = Scratch::new(miner.chooser.scorer.corpus.rows().dim());
    let mut proven = |&anchor: &u32| {
        let lists = Span::new(plan, &[anchor], true);
        let mut scores = vec![0.0; lists.rows.len()];
        miner.chooser.scorer.score_all(anchor as usize, &lists.rows, &mut scores, &mut scratch);
        plan.used(miner, anchor as usize, (&lists.rows, &scores, &[]), &mut scratch).1 == Fate::Proven
    };
    let count = anchors.len();
    anchors.iter().filter(|anchor| proven(anchor)).count() as f64 >= WORTH * count as f64
}

/// Fills `books` from lists; returns what becomes of each.
fn judge(miner: &Miner<'_>, plan: &Use<'_>, books: &Mutex<Books>, workers: &mut Workers<'_>) -> Result<Vec<Fate>> {
    let n = plan.past.reserve.len();
    let dim = miner.chooser.scorer.corpus.rows().dim();
    let candidates = plan.past.reserve.rows().len().min(n.saturating_mul(plan.prefix));
    workers.progress().expect(candidates as u64);
    let mut fates = vec![Fate::Searched; n];
    let spans = split(n, n.div_ceil(SPAN).max(candidates.div_ceil(CANDIDATES)).max(4 * workers.threads()));
    let parts = cut(&mut fates, spans.iter().map(ExactSizeIterator::len));
    let tasks: Vec<_> = spans.into_iter().zip(parts).collect();
    workers.run(
        (candidates * dim) as u64,
        tasks,
        || (Scratch::new(dim), Together::default()),
        |room, (span, fates), progress| {
            let (mut page, anchors) = (Page::default(), span.clone().map(|anchor| anchor as u32).collect::<Vec<_>>());
            let mut set = |anchor: u32, fate| fates[anchor as usize - span.start] = fate;
            let (mut judged, open_ones) = judge_some(miner, plan, (&anchors, false), &mut page, room, &mut set);
            judged += judge_some(miner, plan, (&open_ones, true), &mut page, room, &mut set).0;
            miner.enter(page, &mut open(books));
            progress.advance(judged as u64)
        },
    )?;
    Ok(fates)
}

/// Judges the lists of some anchors, from as much of them as is likely enough, or `whole`; returns how many candidates that
/// are, and for which anchors they were not enough.
fn judge_some(
    miner: &Miner<'_>,
    plan: &Use<'_>,
    (anchors, whole): (&[u32], bool),
    page: &mut Page,
    (scratch, together): &mut (Scratch, Together),
    set: &mut impl FnMut(u32, Fate),
) -> (usize, Vec<u32>) {
    let mut lists = Span::new(plan, anchors, whole);
    together.score(miner.chooser.scorer, anchors, (&lists.ends, &lists.rows), &mut lists.scores);
    let mut open_ones = Vec::new();
    for (slot, &anchor) in anchors.iter().enumerate() {
        let list = lists.of(slot);
        let (rows, scores) = (&lists.rows[list.clone()], &lists.scores[list]);
        let (pool, fate, kept) = plan.used(miner, anchor as usize, (rows, scores, lists.rests[slot]), scratch);
        match fate {
            Fate::Open => open_ones.push(anchor),
            Fate::Searched => page.short.push(anchor),
            Fate::Proven | Fate::Estimated => {
                miner.rank_among(anchor as usize, scores, page);
                if miner.settings.reserve > 0 {
                    page.kept.push((anchor, kept));
                }
                miner.file(pool, miner.chooser.enough(miner.chooser.depth()), page, scratch);
            }
        }
        set(anchor, fate);
    }
    (lists.rows.len(), open_ones)
}

/// The candidates of some anchors, list by list.
struct Span<'a> {
    rows: Vec<u32>,
    /// NaN where a score is not known.
    scores: Vec<f32>,
    ends: Vec<usize>,
    /// What stays listed as it is.
    rests: Vec<&'a [u32]>,
}

impl<'a> Span<'a> {
    /// So much of each list as is likely enough, or the `whole` of it.
    fn new(plan: &'a Use<'_>, anchors: &[u32], whole: bool) -> Self {
        let mut span = Self { rows: Vec::new(), scores: Vec::new(), ends: Vec::new(), rests: Vec::new() };
        for &anchor in anchors {
            let anchor = anchor as usize;
            let length = if whole { plan.prefix } else { plan.prefix.min(plan.enough(anchor)) };
            span.add(plan, anchor, length);
        }
        span
    }

    fn add(&mut self, plan: &'a Use<'_>, anchor: usize, length: usize) {
        let Past { reserve, queries, .. } = *plan.past;
        let (list, known) = (reserve.of(anchor), reserve.scores(anchor));
        let (first, rest) = list.split_at(length.min(list.len()));
        let met = plan.met.rows[anchor].iter().filter(|row| !first.contains(row));
        let holds = |row: u32| queries[anchor] == 0.0 && !plan.moved[row as usize];
        let scores = first.iter().zip(known).map(|(&row, &score)| if holds(row) { score } else { f32::NAN });
        self.rows.extend(first);
        self.scores.extend(scores);
        self.rows.extend(met);
        self.scores.resize(self.rows.len(), f32::NAN);
        self.ends.push(self.rows.len());
        self.rests.push(rest);
    }

    fn of(&self, slot: usize) -> Range<usize> {
        slot.checked_sub(1).map_or(0, |before| self.ends[before])..self.ends[slot]
    }
}

impl Use<'_> {
    /// What `anchor` wants of movers: those that could be in its list.
    fn mark(&self, anchor: usize) -> f32 {
        let reserve = self.past.reserve;
        if reserve.is_proven(anchor) { self.bounds.of(anchor).ceiling } else { reserve.ceiling(anchor) }
    }

    /// What unlisted rows can score, if that is known.
    fn bound(&self, anchor: usize) -> Option<Bound> {
        let bound = self.past.reserve.is_proven(anchor).then(|| self.bounds.of(anchor))?;
        Some(Bound { ceiling: bound.ceiling.max(self.met.ceilings[anchor]), ..bound })
    }

    /// What the list of `anchor` says now, whether that may be used, and what to remember, from the scores of its candidates
    /// and from the rest of its list.
    fn used(
        &self,
        miner: &Miner<'_>,
        anchor: usize,
        (rows, scores, rest): (&[u32], &[f32], &[u32]),
        scratch: &mut Scratch,
    ) -> (Pool, Fate, Kept) {
        let (mut pool, listed) = judged(miner, anchor, (rows, scores), scratch);
        let kept = self.remembered(anchor, &listed, rest, miner.settings.reserve);
        let (depth, wanted) = (miner.chooser.depth(), miner.wanted());
        let guard = miner.chooser.guard;
        // A bound says nothing about rows that are listed; where some were not scored, one of them may belong to the list.
        if let Some((bound, most)) = self.bound(anchor).zip(self.most(anchor, rest)) {
            let ceiling = bound.ceiling.max(most);
            let certain = pool.kept.partition_point(|c| c.score > ceiling);
            // Nothing that was above the cap can have come below it, nothing that is not listed be allowed at all.
            let whole = f64::from(ceiling) < guard.floor(anchor) || ceiling == f32::NEG_INFINITY;
            if f64::from(bound.floor) >= guard.cap(anchor) && (certain >= wanted || whole) {
                pool.complete = whole && pool.kept.len() <= depth;
                pool.kept.truncate(if whole { depth } else { certain.min(depth) });
                return (pool, Fate::Proven, kept);
            }
        }
        let fate = match (self.proof, pool.kept.len() < wanted) {
            (true, _) if !rest.is_empty() => Fate::Open,
            (true, _) | (false, true) => Fate::Searched,
            (false, false) => Fate::Estimated,
        };
        pool.kept.truncate(depth);
        (pool, fate, kept)
    }

    /// How much of the list of `anchor` tells what it gets, if few rows have left it: where nothing has moved, those whose
    /// scores are known are better than the others.
    fn enough(&self, anchor: usize) -> usize {
        if !(self.proof && self.still && self.past.queries[anchor] == 0.0) {
            return usize::MAX;
        }
        self.past.reserve.scores(anchor).iter().rposition(|score| !score.is_nan()).map_or(usize::MAX, |last| last + 1)
    }

    /// What rows of the `rest` of a list can score, if that is known.
    fn most(&self, anchor: usize, rest: &[u32]) -> Option<f32> {
        let scores = self.past.reserve.scores(anchor);
        let last = scores.len() - rest.len();
        match rest {
            [] => Some(f32::NEG_INFINITY),
            // Those of the rest that have moved are among the movers.
            _ if self.enough(anchor) == last => Some(scores[last - 1]),
            _ => None,
        }
    }

    /// What is remembered of `anchor`, whose scored candidates are `listed`, best first.
    fn remembered(&self, anchor: usize, listed: &[Candidate], rest: &[u32], most: usize) -> Kept {
        let (bound, reserve, met) = (self.bound(anchor), self.past.reserve, &self.met.rows[anchor]);
        let last = listed.last().map_or(f32::NEG_INFINITY, |c| c.score);
        let guess = if rest.is_empty() { last } else { reserve.ceiling(anchor) };
        let end = reserve.end(anchor);
        let mut kept = Kept {
            ceiling: bound.map_or(guess, |bound| bound.ceiling),
            floor: bound.map_or(f32::NEG_INFINITY, |bound| bound.floor),
            listed: listed.to_vec(),
            rest: end - rest.len()..end,
        };
        let below = self.most(anchor, rest);
        match below {
            Some(below) => forget_after(&mut kept.listed, below),
            // The rest of a trusted list may have come to score anything.
            None if bound.is_some() => forget_after(&mut kept.listed, f32::INFINITY),
            None => {}
        }
        if !met.is_empty() {
            let others = rest.iter().filter(|row| !met.contains(row));
            kept.listed.extend(others.map(|&row| Candidate { score: f32::NAN, row }));
            kept.rest = 0..0;
        }
        if kept.listed.len() + kept.rest.len() > 2 * most {
            let dropped = listed.get(2 * most).map_or(f32::NEG_INFINITY, |c| c.score.next_up());
            kept.rest = 0..0;
            kept.listed.truncate(2 * most);
            match below {
                Some(below) => kept.ceiling = kept.ceiling.max(below).max(dropped),
                None => kept.floor = f32::NEG_INFINITY,
            }
        }
        kept
    }
}

/// The pool of scored candidates, and those that no identity rule rejects, best first.
fn judged(
    miner: &Miner<'_>,
    anchor: usize,
    (rows, scores): (&[u32], &[f32]),
    scratch: &mut Scratch,
) -> (Pool, Vec<Candidate>) {
    let guard = miner.chooser.guard;
    let cap = guard.cap(anchor);
    let mut pool = Pool { anchor, judged: true, ..Pool::default() };
    let mut listed: Vec<Candidate> = rows.iter().zip(scores).map(|(&row, &score)| Candidate { score, row }).collect();
    sort_best_first(&mut listed);
    listed.retain(|&c| {
        let rule = guard.identity(anchor, c.row);
        match rule.or_else(|| guard.score_rule(anchor, c.score)) {
            Some(rule) if f64::from(c.score) > cap => pool.over[rule as usize] += 1,
            Some(rule) => pool.refused.push((c.score, rule)),
            None if guard.duplicates_positive(anchor, c.row, scratch) => {
                pool.refused.push((c.score, Rule::DuplicateOfPositive));
            }
            None => pool.kept.push(c),
        }
        rule.is_none()
    });
    (pool, listed)
}
