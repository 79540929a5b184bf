//! What is known about one anchor once its candidates are judged, and what becomes of them.

use std::collections::HashSet;
use std::sync::OnceLock;

use crate::copies::Copies;
use crate::draw::Draw;
use crate::rng::stream;
use crate::rules::{Above, Counts, Guard, Rule, Rules};
use crate::score::{Scorer, Scratch};
use crate::search::Found;
use crate::topk::Candidate;

/// Keeps the draws of a row apart from other uses of its seed.
const DRAWING: u64 = 0x6472_6177;

/// The judged candidates of one anchor.
#[derive(Debug, Default)]
pub struct Pool {
    /// The anchor.
    pub anchor: usize,
    /// Allowed by identity and score rules; best first.
    pub kept: Vec<Candidate>,
    /// Rejected by them, with the first rule that did. Every rejected row that scores at least the last of `kept` is
    /// here or in `over`.
    pub refused: Vec<(f32, Rule)>,
    /// Rows above the cap, by the first rule that rejected them.
    pub over: Counts,
    /// Whether `refused` could not hold them all.
    pub overflowed: bool,
    /// Whether `kept` holds every allowed row there is.
    pub complete: bool,
    /// Whether `refused` holds every rejected one: so among given candidates, but not after a search.
    pub judged: bool,
}

impl Pool {
    /// The pool of what a search to `depth` found, of which so many as `wanted` are taken.
    pub fn from_search(found: Found<'_, Above>, (depth, wanted): (usize, usize), guard: &Guard<'_>) -> Self {
        let anchor = found.anchor as usize;
        let first_rule = |c: &Candidate| {
            let rule = guard.identity(anchor, c.row).or_else(|| guard.score_rule(anchor, c.score));
            (c.score, rule.unwrap_or(Rule::DuplicateOfPositive))
        };
        let whole = found.kept.len() < depth || depth >= guard.corpus_rows();
        let mut pool = Self {
            anchor,
            complete: whole && found.kept.len() <= wanted,
            refused: found.refused.iter().map(first_rule).collect(),
            kept: found.kept,
            over: found.tally.counts,
            overflowed: found.overflowed,
            judged: false,
        };
        pool.kept.truncate(wanted);
        pool
    }
}

/// A pool after the list rules: the anchor's wishes, in the order of the draw.
#[derive(Debug, Default)]
pub struct Wishes {
    /// Rows the anchor may get, most wanted first.
    pub rows: Vec<Candidate>,
    /// Rows that list rules removed.
    pub removed: Vec<(Candidate, Rule)>,
    /// Whether a deeper search could add to `rows`.
    pub open: bool,
}

/// Where negatives that keys or groups prove false were met, among rows at least as hard as the last returned.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct FalseNegatives {
    /// Rows that are no positive and not the anchor itself.
    pub rows: u64,
    /// How many of them a key or a group rejected.
    pub known: u64,
    /// The same, of those that the score rules would let pass.
    pub rows_within: u64,
    /// How many of them a key or a group rejected.
    pub known_within: u64,
}

/// The settings that turn a pool into negatives.
#[derive(Debug, Clone, Copy)]
pub struct Chooser<'a> {
    /// Scores and cosines.
    pub scorer: &'a Scorer<'a>,
    /// Identity and score rules.
    pub guard: &'a Guard<'a>,
    /// The list rules.
    pub rules: &'a Rules,
    /// How to choose among what they leave.
    pub draw: Draw,
    /// How many to choose.
    pub num_negatives: usize,
    /// Names the draws.
    pub seed: u64,
    /// Names the draws.
    pub epoch: u64,
    /// Near-copies among the rows of the corpus, once it is worth knowing them all.
    pub copies: &'a OnceLock<Copies>,
}

/// The most allowed rows of a corpus of so many `rows` that can matter to an anchor.
fn deepest(rules: &Rules, rows: usize) -> usize {
    rules.range_max.unwrap_or(usize::MAX).min(rows)
}

/// How many allowed rows the first search has to keep, of a corpus of so many `rows`.
pub fn first_depth(rules: &Rules, draw: Draw, num_negatives: usize, rows: usize) -> usize {
    let Rules { range_min, range_max, distinct, max_exposure, .. } = *rules;
    let deepest = deepest(rules, rows);
    if num_negatives == 0 {
        return 0;
    }
    // Other draws choose from the whole window.
    if let Some(range_max) = range_max.filter(|_| draw != Draw::Top) {
        return range_max.min(deepest);
    }
    let more = |spare: usize| num_negatives.saturating_mul(spare).saturating_add(16);
    let spare = distinct.map_or(0, |_| more(1)).saturating_add(max_exposure.map_or(0, |_| more(3)));
    range_min.saturating_add(num_negatives).saturating_add(spare).min(deepest)
}

impl Chooser<'_> {
    /// How many allowed rows the first search has to keep.
    pub fn depth(&self) -> usize {
        first_depth(self.rules, self.draw, self.num_negatives, self.scorer.corpus.len())
    }

    /// The most allowed rows that can matter to an anchor.
    pub fn deepest(&self) -> usize {
        deepest(self.rules, self.scorer.corpus.len())
    }

    /// How many wishes are worth working out after a search to `depth`.
    ///
    /// With a cap on exposure an anchor may be turned away many times, but few are; telling copies apart takes time
    /// that grows with the square of the wishes, so a list is lengthened only for those who use it up.
    pub fn enough(&self, depth: usize) -> usize {
        let capped = self.rules.max_exposure.is_some();
        if self.draw != Draw::Top || capped && depth >= self.deepest() {
            usize::MAX
        } else if capped {
            self.num_negatives.max(depth / 2)
        } else {
            self.num_negatives
        }
    }

    /// Applies the list rules and the draw; stops at `enough` wishes.
    pub fn wishes(&self, pool: &Pool, enough: usize, scratch: &mut Scratch) -> Wishes {
        let Rules { range_min, range_max, .. } = *self.rules;
        let start = range_min.min(pool.kept.len());
        let end = range_max.unwrap_or(usize::MAX).min(pool.kept.len());
        let before = pool.kept[..start].iter().map(|&c| (c, Rule::RangeMin));
        let open = !pool.complete && pool.kept.len() < self.deepest();
        let mut wishes = Wishes { removed: before.collect(), open, ..Wishes::default() };
        let window = pool.kept.get(start..end).unwrap_or_default();
        let whole = self.spread_out(window, enough, &mut wishes, scratch);
        wishes.open |= !whole;
        let positive = self.guard.lowest_positive(pool.anchor);
        self.draw.order(&mut wishes.rows, positive, &mut stream(self.seed, self.epoch, pool.anchor as u64, DRAWING));
        wishes
    }

    /// Takes rows of `window` until there are `enough`, leaving out near-copies of those already taken; returns
    /// whether it came to the end.
    fn spread_out(&self, window: &[Candidate], enough: usize, wishes: &mut Wishes, scratch: &mut Scratch) -> bool {
        let mut members = HashSet::new();
        for &candidate in window {
            if wishes.rows.len() >= enough {
                return false;
            }
            if self.is_copy(candidate.row, &wishes.rows, &members, scratch) {
                wishes.removed.push((candidate, Rule::Distinct));
            } else {
                wishes.rows.push(candidate);
                if self.copies.get().is_some() {
                    members.insert(candidate.row);
                }
            }
        }
        true
    }

    /// Whether `row` is a near-copy of one of the rows `taken`.
    fn is_copy(&self, row: u32, taken: &[Candidate], members: &HashSet<u32>, scratch: &mut Scratch) -> bool {
        let Some(bound) = self.rules.distinct else { return false };
        let mut compare = |other| self.scorer.nearer(row, other, bound, scratch);
        match self.copies.get() {
            Some(copies) => copies.any(row, taken, members, compare),
            None => taken.iter().any(|other| compare(other.row)),
        }
    }

    /// Whether lists of this depth for so many anchors make it cheaper to find all copies in the corpus once.
    pub fn wants_copies(&self, anchors: usize, depth: usize) -> bool {
        // Comparing two rows takes as long as about this many pairs in a tile.
        const COMPARISON: usize = 4;
        let length = self.enough(depth).min(depth) as u128;
        let corpus = self.scorer.corpus.len() as u128;
        let comparisons = anchors as u128 * length * length / 2 * COMPARISON as u128;
        self.rules.distinct.is_some() && self.copies.get().is_none() && comparisons > corpus * corpus
    }

    /// Counts the rows that rules removed: those that identity and score rules removed and that score at least as much
    /// as `last`, the last returned negative; those that list rules removed and that rank before it. All of them, if
    /// there is no such negative.
    pub fn count(
        &self,
        pool: &Pool,
        listed: impl Iterator<Item = (Candidate, Rule)>,
        last: Option<Candidate>,
        scratch: &mut Scratch,
    ) -> (Counts, FalseNegatives) {
        let bound = last.map(|c| c.score);
        let reaches = |score: f32| bound.is_none_or(|bound| score >= bound);
        let unseen = !pool.judged && bound.is_none();
        let (within, over) = if pool.overflowed || (unseen && !pool.complete) {
            self.recount(pool.anchor, bound, scratch)
        } else {
            let mut within = Counts::default();
            for &(_, rule) in pool.refused.iter().filter(|(score, _)| reaches(*score)) {
                within[rule as usize] += 1;
            }
            if unseen {
                self.count_below_floor(pool, &mut within);
            }
            (within, pool.over)
        };
        // Allowed rows count up to the last returned one: how many more tie with it, a search need not know.
        let allowed = match last {
            Some(last) => pool.kept.iter().position(|c| c.row == last.row).map_or(0, |place| place as u64 + 1),
            None if pool.judged => pool.kept.len() as u64,
            None => self.scorer.corpus.len() as u64 - within.iter().sum::<u64>() - over.iter().sum::<u64>(),
        };
        let known = false_negatives(&within, &over, allowed);
        let mut counts = within;
        for (count, over) in counts.iter_mut().zip(over) {
            *count += over;
        }
        for (_, rule) in listed.filter(|(c, _)| last.is_none_or(|last| c.ranks_before(last))) {
            counts[rule as usize] += 1;
        }
        (counts, known)
    }

    /// Judges every row anew; for the rare anchor about which the search remembers too little.
    #[cold]
    fn recount(&self, anchor: usize, bound: Option<f32>, scratch: &mut Scratch) -> (Counts, Counts) {
        const AT_ONCE: usize = 1024;
        let (mut within, mut over) = (Counts::default(), Counts::default());
        let cap = self.guard.cap(anchor);
        let all: Vec<u32> = (0..self.scorer.corpus.len() as u32).collect();
        let mut scores = [0.0; AT_ONCE];
        for rows in all.chunks(AT_ONCE) {
            self.scorer.score_all(anchor, rows, &mut scores, scratch);
            for (&row, &score) in rows.iter().zip(&scores) {
                if bound.is_some_and(|bound| score < bound) {
                    continue;
                }
                if let Some(rule) = self.guard.judge(anchor, row, score, scratch) {
                    let counts = if f64::from(score) > cap { &mut over } else { &mut within };
                    counts[rule as usize] += 1;
                }
            }
        }
        (within, over)
    }

    /// An anchor without negatives counts every removed row, but a search never meets those below the floor.
    fn count_below_floor(&self, pool: &Pool, within: &mut Counts) {
        if self.rules.min_score.is_none() {
            return;
        }
        let mut all = Counts::default();
        for row in 0..self.scorer.corpus.len() as u32 {
            if let Some(rule) = self.guard.identity(pool.anchor, row) {
                all[rule as usize] += 1;
            }
        }
        for rule in 0..Rule::RelativeMargin as usize {
            within[rule] = all[rule] - pool.over[rule];
        }
        within[Rule::MinScore as usize] = 0;
        let accounted = within.iter().sum::<u64>() + pool.over.iter().sum::<u64>() + pool.kept.len() as u64;
        within[Rule::MinScore as usize] = self.scorer.corpus.len() as u64 - accounted;
    }
}

fn false_negatives(within: &Counts, over: &Counts, allowed: u64) -> FalseNegatives {
    let known = |counts: &Counts| counts[Rule::Key as usize] + counts[Rule::Group as usize];
    let others = |counts: &Counts| {
        let own = counts[Rule::Positive as usize] + counts[Rule::Itself as usize];
        counts.iter().sum::<u64>() - own
    };
    FalseNegatives {
        rows: allowed + others(within) + others(over),
        known: known(within) + known(over),
        rows_within: allowed + others(within),
        known_within: known(within),
    }
}
