//! What a search remembers, and how a later one uses it after the vectors have moved.
//!
//! A *reserve* holds, for each anchor, more candidates than it was served: those that no identity rule rejects and that score
//! at least a *ceiling*, up to a *floor* above the cap of the score rules. Whatever is not listed scored the ceiling or less,
//! or more than the floor. Rows and anchors then move; how far is measured ([`drift`]), and so is how far any score can have
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
use crate::topk::Candidate;

/// How far above its cap rows are remembered: caps move with the scores of positives.
pub(crate) const BAND: f64 = 0.05;

/// What is remembered of one anchor.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// Candidates, best first.
    pub(crate) rows: Vec<u32>,
    /// Those that follow, where they stand in the reserve that came before: most are not copied twice.
    pub(crate) rest: Range<usize>,
    /// What no unlisted row below the floor scores more than: proven if there is a floor, else a guess.
    pub(crate) ceiling: f32,
    /// What every other unlisted row scores more than; −∞ where nothing is proven.
    pub(crate) floor: f32,
}

impl Default for Kept {
    fn default() -> Self {
        Self { rows: Vec::new(), rest: 0..0, ceiling: f32::INFINITY, floor: f32::NEG_INFINITY }
    }
}

impl Kept {
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
        let cap = guard.cap(anchor);
        let band = if found.tally.crowded { 0.0 } else { BAND };
        let proven = proven && !found.overflowed;
        Self {
            rows: found.tally.near.iter().copied().chain(listed.iter().map(|c| c.row)).collect(),
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

/// What is remembered of all anchors.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reserve<'a> {
    starts: Vec<usize>,
    rows: Cow<'a, [u32]>,
    ceilings: Cow<'a, [f32]>,
    floors: Cow<'a, [f32]>,
}

impl<'a> Reserve<'a> {
    /// Joins what is remembered of each anchor; `past` is what the rests are of.
    pub(crate) fn new(kept: Vec<Kept>, past: &[u32]) -> Self {
        let mut starts = vec![0];
        let mut rows = Vec::with_capacity(kept.iter().map(|kept| kept.rows.len() + kept.rest.len()).sum());
        let (mut ceilings, mut floors) = (Vec::with_capacity(kept.len()), Vec::with_capacity(kept.len()));
        for kept in kept {
            rows.extend_from_slice(&kept.rows);
            rows.extend_from_slice(&past[kept.rest]);
            starts.push(rows.len());
            ceilings.push(kept.ceiling);
            floors.push(kept.floor);
        }
        Self { starts, rows: rows.into(), ceilings: ceilings.into(), floors: floors.into() }
    }

    /// A reserve from its [parts](Self::into_parts), for so many `anchors` and rows of a `corpus`.
    ///
    /// # Errors
    /// If they do not fit together.
    pub fn from_parts(
        (indptr, rows): (&[i64], &'a [u32]),
        (ceilings, floors): (&'a [f32], &'a [f32]),
        anchors: usize,
        corpus: usize,
    ) -> Result<Self> {
        let starts = crate::lists::starts("reserve", indptr, rows.len(), anchors, "queries")?;
        let sound = rows.iter().all(|&row| (row as usize) < corpus) && ceilings.len() == anchors;
        if !sound || floors.len() != anchors || ceilings.iter().chain(floors).any(|bound| bound.is_nan()) {
            return Err(Error::invalid(
                "reserve",
                format!("lists of rows of the corpus (0 to {corpus}) and two bounds for each of {anchors} anchors"),
                "something else",
                "mine again, or load the state that was saved",
            ));
        }
        Ok(Self { starts, rows: rows.into(), ceilings: ceilings.into(), floors: floors.into() })
    }

    /// Where each list starts and the total, all lists one after the other, ceilings and floors.
    pub fn into_parts(self) -> (Vec<usize>, Vec<u32>, Vec<f32>, Vec<f32>) {
        (self.starts, self.rows.into_owned(), self.ceilings.into_owned(), self.floors.into_owned())
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
