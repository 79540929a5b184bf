//! What a search remembers, and how a later one uses it after the vectors have moved.
//!
//! A *reserve* holds, for each anchor, more candidates than it was served: those that no identity rule rejects and that score
//! at least a *ceiling*, up to a *floor* above the cap of the score rules. Whatever is not listed scored the ceiling or less,
//! or more than the floor. Candidates stand best first, with their scores as far as these are known: none of those that follow
//! the last known score scores more than that, so where an anchor and its rows have not moved, they need not be looked at.
//! Rows and anchors then move; how far is measured ([`drift`]), and so is how far any score can have
//! moved. If the new scores of the listed rows decide what an anchor gets above what any unlisted row can reach, its list is
//! *proven*, and the bounds that were used are the ceiling and floor of the next time: proofs compose.
//!
//! Real drift is mostly too large for proof. Where a recall below 1 is asked for, lists are trusted as far as a sample of
//! anchors, solved exactly, says they may be; `mine` draws it.

pub(crate) mod bounds;
pub mod drift;
pub(crate) mod movers;

use std::borrow::Cow;
use std::ops::Range;

use crate::error::{Error, Result};
use crate::rules::{Above, Guard};
use crate::search::{Found, Recall};
use crate::threads::{Workers, cut, split};
use crate::topk::Candidate;

/// How far above its cap rows are remembered: caps move with the scores of positives.
pub(crate) const BAND: f64 = 0.05;

/// What is remembered of one anchor.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// Candidates, best first; NaN where a score is not known.
    pub(crate) listed: Vec<Candidate>,
    /// Those that follow, where they stand in the reserve that came before: most are not copied twice.
    pub(crate) rest: Range<usize>,
    /// What no unlisted row below the floor scores more than: proven if there is a floor, else a guess.
    pub(crate) ceiling: f32,
    /// What every other unlisted row scores more than; −∞ where nothing is proven.
    pub(crate) floor: f32,
}

impl Default for Kept {
    fn default() -> Self {
        Self { listed: Vec::new(), rest: 0..0, ceiling: f32::INFINITY, floor: f32::NEG_INFINITY }
    }
}

impl Kept {
    /// Writes rows and scores where all are joined.
    fn write(&self, past: &[u32], (rows, scores): (&mut [u32], &mut [f32])) {
        for ((row, score), listed) in rows.iter_mut().zip(scores.iter_mut()).zip(&self.listed) {
            (*row, *score) = (listed.row, listed.score);
        }
        rows[self.listed.len()..].copy_from_slice(&past[self.rest.clone()]);
        scores[self.listed.len()..].fill(f32::NAN);
    }

    /// The best `reserve` candidates of what a search to `depth` found, `proven` or not.
    pub(crate) fn from_search(
        found: &Found<'_, Above>,
        (depth, reserve, proven): (usize, usize, bool),
        guard: &Guard<'_>,
    ) -> Self {
        let anchor = found.anchor as usize;
        let refused = found.refused.iter().filter(|c| guard.identity(anchor, c.row).is_none());
        let mut listed: Vec<Candidate> = found.kept.iter().chain(refused).copied().collect();
        crate::topk::sort_best_first(&mut listed);
        let lowest = match found.kept.last() {
            // It may be an estimate, and so may those be that it left behind.
            Some(last) if found.kept.len() >= depth => (f64::from(last.score) + 2.0 * found.error) as f32,
            // All that the rules let pass was found.
            _ => guard.floor(anchor) as f32,
        };
        let dropped =
            listed.get(reserve).map_or(f32::NEG_INFINITY, |c| (f64::from(c.score) + 2.0 * found.error) as f32);
        let highest = lowest.max(dropped);
        listed.truncate(reserve);
        if let Some(last) = found.known.checked_sub(1).filter(|_| found.known < found.kept.len()) {
            forget_after(&mut listed, found.kept[last].score);
        }
        let cap = guard.cap(anchor);
        let band = if found.tally.crowded { 0.0 } else { BAND };
        let proven = proven && !found.overflowed;
        Self {
            listed: found.tally.near.iter().map(|&row| Candidate { score: f32::NAN, row }).chain(listed).collect(),
            rest: 0..0,
            // Where all is listed it stays that: nothing can come from elsewhere.
            ceiling: if highest == f32::NEG_INFINITY { highest } else { highest.next_up() },
            floor: match (proven, cap == f64::INFINITY) {
                (true, true) => f32::INFINITY,
                (true, false) => ((cap + band) as f32).next_down(),
                (false, _) => f32::NEG_INFINITY,
            },
        }
    }
}

/// Takes scores below `last` for unknown.
pub(crate) fn forget_after(listed: &mut [Candidate], last: f32) {
    let first = listed.partition_point(|c| c.score >= last);
    listed[first..].iter_mut().for_each(|c| c.score = f32::NAN);
}

/// What is remembered of all anchors.
#[derive(Debug, Clone, Default)]
pub struct Reserve<'a> {
    starts: Vec<usize>,
    rows: Cow<'a, [u32]>,
    scores: Cow<'a, [f32]>,
    ceilings: Cow<'a, [f32]>,
    floors: Cow<'a, [f32]>,
}

/// What a [`Reserve`] consists of.
#[expect(missing_docs, reason = "Reserve::into_parts says it")]
#[derive(Debug, Clone)]
pub struct Parts {
    pub starts: Vec<usize>,
    pub rows: Vec<u32>,
    pub scores: Vec<f32>,
    pub ceilings: Vec<f32>,
    pub floors: Vec<f32>,
}

impl<'a> Reserve<'a> {
    /// Joins what is remembered of each anchor; `past` is what the rests are of.
    ///
    /// # Errors
    /// [`Error::Cancelled`].
    pub(crate) fn new(kept: &[Kept], past: &[u32], workers: &mut Workers<'_>) -> Result<Self> {
        let mut starts = vec![0];
        let mut total = 0;
        starts.extend(kept.iter().map(|kept| {
            total += kept.listed.len() + kept.rest.len();
            total
        }));
        let (mut rows, mut scores) = (vec![0; total], vec![0.0; total]);
        let spans = split(kept.len(), workers.threads() * 8);
        let lengths = || spans.iter().map(|span| starts[span.end] - starts[span.start]);
        let parts = cut(&mut rows, lengths()).into_iter().zip(cut(&mut scores, lengths()));
        let tasks: Vec<_> = spans.iter().cloned().zip(parts).collect();
        workers.run(
            total as u64,
            tasks,
            || (),
            |(), (span, (mut rows, mut scores)), progress| {
                for kept in &kept[span] {
                    let length = kept.listed.len() + kept.rest.len();
                    kept.write(past, (&mut rows[..length], &mut scores[..length]));
                    (rows, scores) = (&mut rows[length..], &mut scores[length..]);
                }
                progress.advance(0)
            },
        )?;
        Ok(Self {
            starts,
            rows: rows.into(),
            scores: scores.into(),
            ceilings: kept.iter().map(|kept| kept.ceiling).collect(),
            floors: kept.iter().map(|kept| kept.floor).collect(),
        })
    }

    /// A reserve from its [parts](Self::into_parts) for so many `anchors` and rows of a `corpus`.
    ///
    /// # Errors
    /// If they do not fit together.
    pub fn from_parts(
        (indptr, rows, scores): (&[i64], &'a [u32], &'a [f32]),
        (ceilings, floors): (&'a [f32], &'a [f32]),
        anchors: usize,
        corpus: usize,
    ) -> Result<Self> {
        let starts = crate::lists::starts("reserve", indptr, rows.len(), anchors, "queries")?;
        let sound = rows.iter().all(|&row| (row as usize) < corpus)
            && ceilings.len() == anchors
            && scores.len() == rows.len()
            && !scores.iter().any(|score| score.is_infinite());
        if !sound || floors.len() != anchors || ceilings.iter().chain(floors).any(|bound| bound.is_nan()) {
            return Err(Error::invalid(
                "reserve",
                format!(
                    "lists of rows of the corpus (0 to {corpus}), their scores, and two bounds for each of {anchors} anchors"
                ),
                "something else",
                "mine again, or load the state that was saved",
            ));
        }
        Ok(Self { starts, rows: rows.into(), scores: scores.into(), ceilings: ceilings.into(), floors: floors.into() })
    }

    /// Where each list starts and the total; all lists one after the other, and the scores, NaN where they are not known;
    /// ceilings and floors.
    pub fn into_parts(self) -> Parts {
        Parts {
            starts: self.starts,
            rows: self.rows.into_owned(),
            scores: self.scores.into_owned(),
            ceilings: self.ceilings.into_owned(),
            floors: self.floors.into_owned(),
        }
    }

    /// How many anchors there are.
    pub fn len(&self) -> usize {
        self.ceilings.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ceilings.is_empty()
    }

    /// All lists, one after the other.
    pub(crate) fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// What no unlisted row of `anchor` below the floor scores more than.
    pub(crate) fn ceiling(&self, anchor: usize) -> f32 {
        self.ceilings[anchor]
    }

    /// Where the list of `anchor` ends among all [`rows`](Self::rows).
    pub(crate) fn end(&self, anchor: usize) -> usize {
        self.starts[anchor + 1]
    }

    /// The list of `anchor`.
    pub fn of(&self, anchor: usize) -> &[u32] {
        &self.rows[self.starts[anchor]..self.starts[anchor + 1]]
    }

    /// The scores of the list of `anchor`, NaN where they are not known.
    pub(crate) fn scores(&self, anchor: usize) -> &[f32] {
        &self.scores[self.starts[anchor]..self.starts[anchor + 1]]
    }

    /// Whether the bounds of `anchor` are proven.
    pub(crate) fn is_proven(&self, anchor: usize) -> bool {
        self.floors[anchor] > f32::NEG_INFINITY
    }
}

/// What an earlier call remembered, and how far everything has moved since.
#[derive(Debug)]
pub struct Past<'a> {
    /// The candidates.
    pub reserve: &'a Reserve<'a>,
    /// How far each query has moved.
    pub queries: &'a [f32],
    /// How far each row of the corpus has moved.
    pub corpus: &'a [f32],
    /// Rows that are to be looked at whatever they have moved.
    pub pending: &'a [u32],
}

/// What became of the lists that were remembered.
#[derive(Debug, Clone)]
pub struct Refreshed {
    /// Lists proven to be exact.
    pub proven: u64,
    /// Lists trusted because a sample says so.
    pub estimated: u64,
    /// Lists searched again.
    pub searched: u64,
    /// Rows of the corpus that were compared with every anchor because they moved most.
    pub movers: u64,
    /// Candidates of each list that were scored again; 0 if all were searched again.
    pub prefix: u64,
    /// What was decided, and why.
    pub why: String,
    /// The recall of trusted lists.
    pub recall: Recall,
    /// Wall-clock seconds of the decision and of the lists.
    pub seconds: [f64; 2],
}

impl Refreshed {
    /// Nothing was kept so far.
    pub(crate) fn nothing() -> Self {
        Self {
            proven: 0,
            estimated: 0,
            searched: 0,
            movers: 0,
            prefix: 0,
            why: String::new(),
            recall: Recall::proven(),
            seconds: [0.0; 2],
        }
    }
}
