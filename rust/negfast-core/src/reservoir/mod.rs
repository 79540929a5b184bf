//! Samples of bounded size from streams of ids.
//!
//! * [`Keyed`] gives every id a key and keeps the smallest: a sample of *distinct ids* that depends on neither order nor
//!   repetition, so that reservoirs of parts are merged into that of the whole.
//! * [`Skip`] samples *occurrences*, and passes over what it does not take without looking at it.
//! * [`Aged`] forgets: how likely an occurrence is still held falls exponentially with what came after it.
//!
//! Ids are numbers from 0 on; the negative ones are padding elsewhere in this crate. A stream may be cut into calls in any
//! way: the sample is the same.

mod aged;
mod filter;
mod jumps;
mod keyed;
mod mixer;
mod skip;

use crate::error::{Error, Result};
use crate::threads::{Monitor, Unwatched};

pub use aged::Aged;
pub use jumps::Jumps;
pub use keyed::{Keyed, Parts, Threshold};
pub use mixer::Mixer;
pub use skip::{Equal, Skip, State};

/// The most ids that a reservoir can hold.
pub const MAX_CAPACITY: usize = (1 << 31) - 1;
/// The heaviest item. Keys are −ln u / weight, and stay far inside of the normal numbers of `f64`.
pub const MAX_WEIGHT: f64 = 1e280;
/// An item lighter than this counts as one without weight.
const LEAST_WEIGHT: f64 = 1e-280;
/// Items, or other steps of a few nanoseconds, between two looks at the monitor.
const TURN: u64 = 1 << 22;
/// A call of fewer items is over before anybody would stop it.
const SHORT: u64 = 1 << 20;

/// Ids on their way into a reservoir.
#[derive(Debug, Clone, Copy)]
pub enum Ids<'a> {
    /// As they are listed.
    Listed(&'a [i64]),
    /// `start`, `start + step` and so on, `len` of them.
    Range {
        /// The first.
        start: i64,
        /// From each to the next.
        step: i64,
        /// How many.
        len: u64,
    },
}

impl<'a> Ids<'a> {
    /// Ids that are listed.
    ///
    /// # Errors
    /// If one is negative.
    pub fn listed(argument: &str, ids: &'a [i64]) -> Result<Self> {
        // One pass without a branch; where it fails, another finds the place.
        if ids.iter().fold(0, |all, &id| all | id) >= 0 {
            return Ok(Self::Listed(ids));
        }
        let at = ids.iter().position(|&id| id < 0).unwrap_or_default();
        let got = format!("{} at position {at}", ids[at]);
        Err(Error::invalid(argument, "at least 0", got, format!("drop padding, {argument}[{argument} >= 0]")))
    }

    /// Ids at even distances.
    ///
    /// # Errors
    /// If one is negative or above `i64::MAX`.
    pub fn range(argument: &str, start: i64, step: i64, len: u64) -> Result<Self> {
        let last = i128::from(start) + i128::from(step) * i128::from(len.saturating_sub(1));
        if len > 0 && (start < 0 || !(0..=i128::from(i64::MAX)).contains(&last)) {
            let got = format!("a range from {start} to {last}");
            return Err(Error::invalid(argument, "from 0 to 2**63 - 1", got, "shift or cut the range"));
        }
        Ok(Self::Range { start, step, len })
    }

    /// How many there are.
    pub fn len(self) -> u64 {
        match self {
            Self::Listed(ids) => ids.len() as u64,
            Self::Range { len, .. } => len,
        }
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The one at a position.
    fn at(self, position: u64) -> i64 {
        match self {
            Self::Listed(ids) => ids[position as usize],
            // Inside of `i64`, as `range` made sure, whatever the product does on the way.
            Self::Range { start, step, .. } => start.wrapping_add(step.wrapping_mul(position as i64)),
        }
    }

    /// Those from a position on, at most as many as `room` holds, which is where a range is written.
    fn block<'b>(self, begin: u64, room: &'b mut [i64]) -> &'b [i64]
    where
        'a: 'b,
    {
        let count = (self.len() - begin).min(room.len() as u64) as usize;
        if let Self::Listed(ids) = self {
            return &ids[begin as usize..][..count];
        }
        for (i, slot) in room[..count].iter_mut().enumerate() {
            *slot = self.at(begin + i as u64);
        }
        &room[..count]
    }
}

/// Weights of as many items as there are ids.
#[derive(Debug, Clone, Copy)]
pub struct Weights<'a>(&'a [f64]);

impl<'a> Weights<'a> {
    /// Weights that are listed.
    ///
    /// # Errors
    /// If there are more or fewer than ids, or one is negative, not finite or above [`MAX_WEIGHT`].
    pub fn new(argument: &str, weights: &'a [f64], ids: Ids<'_>) -> Result<Self> {
        if weights.len() as u64 != ids.len() {
            let expected = format!("one number for each of the {} ids", ids.len());
            return Err(Error::invalid(argument, expected, weights.len().to_string(), "pass as many"));
        }
        if let Some(at) = weights.iter().position(|weight| !(0.0..=MAX_WEIGHT).contains(weight)) {
            let got = format!("{} at position {at}", weights[at]);
            return Err(Error::invalid(
                argument,
                format!("from 0 to {MAX_WEIGHT:e}"),
                got,
                "drop the item, or scale all weights: only their ratios count",
            ));
        }
        Ok(Self(weights))
    }

    /// The weight at a position, 0 where it is next to nothing.
    fn at(self, position: usize) -> f64 {
        counted(self.0[position])
    }

    /// Those from a position on, as many as there is room for.
    fn block(self, begin: u64, room: &mut [f64]) -> &[f64] {
        for (slot, &weight) in room.iter_mut().zip(&self.0[begin as usize..]) {
            *slot = counted(weight);
        }
        room
    }
}

/// The weight that an item counts with.
#[inline]
fn counted(weight: f64) -> f64 {
    if weight < LEAST_WEIGHT { 0.0 } else { weight }
}

/// Counts the steps of a call and asks now and then whether it should stop.
pub(crate) struct Pace<'a> {
    monitor: &'a mut dyn Monitor,
    steps: u64,
    done: u64,
    total: u64,
}

impl Pace<'_> {
    fn spend(&mut self, steps: u64) -> Result<()> {
        self.steps += steps;
        self.done += steps;
        if self.steps < TURN {
            return Ok(());
        }
        self.steps = 0;
        if self.monitor.turn(self.done.min(self.total), self.total) { Ok(()) } else { Err(Error::Cancelled) }
    }
}

/// A reservoir of any kind.
#[derive(Debug, Clone)]
pub enum Reservoir {
    /// Distinct ids with the smallest keys.
    Keyed(Keyed),
    /// Occurrences, all alike or by weight.
    Skip(Skip),
    /// Occurrences, late ones rather than early ones.
    Aged(Aged),
}

impl Reservoir {
    /// Offers items in their order. Where it fails or is stopped, the reservoir is as before.
    ///
    /// # Errors
    /// If the kind takes no weights and some are given, more items come than can be counted, or the call is cancelled.
    pub fn add(&mut self, ids: Ids<'_>, weights: Option<Weights<'_>>, monitor: &mut dyn Monitor) -> Result<()> {
        self.check_count(ids.len())?;
        let total = ids.len();
        if total < SHORT {
            return self.offer(ids, weights, &mut Pace { monitor: &mut Unwatched, steps: 0, done: 0, total });
        }
        // What is stopped in the middle is thrown away.
        let mut pace = Pace { monitor, steps: 0, done: 0, total };
        let mut next = self.clone();
        next.offer(ids, weights, &mut pace)?;
        *self = next;
        Ok(())
    }

    fn offer(&mut self, ids: Ids<'_>, weights: Option<Weights<'_>>, pace: &mut Pace<'_>) -> Result<()> {
        match (self, weights) {
            (Self::Keyed(keyed), weights) => keyed.add(ids, weights, pace),
            (Self::Skip(skip), weights) => skip.add(ids, weights, pace),
            (Self::Aged(aged), None) => aged.add(ids, pace),
            (Self::Aged(_), Some(_)) => Err(Error::invalid(
                "weights",
                "None for method \"aged\", which prefers items by their age alone",
                "weights",
                "leave them out, or use method \"keyed\" or \"skip\"",
            )),
        }
    }

    /// Takes in what another reservoir of the same capacity and seed holds, as if its items had come after this one's.
    ///
    /// # Errors
    /// If not both are keyed, or capacities or seeds differ.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        self.check_count(other.seen())?;
        match (&mut *self, other) {
            (Self::Keyed(keyed), Self::Keyed(other)) => keyed.merge(other),
            (Self::Keyed(_), _) => Err(other.unmergeable("other", "a reservoir of method \"keyed\"")),
            _ => Err(self.unmergeable("method", "\"keyed\" for a merge")),
        }
    }

    /// For each id of the sample, how likely it was to be in it, given the keys of all others.
    ///
    /// # Errors
    /// If this is no keyed reservoir.
    pub fn probabilities(&self) -> Result<Vec<f64>> {
        match self {
            Self::Keyed(keyed) => Ok(keyed.probabilities()),
            Self::Skip(_) | Self::Aged(_) => Err(Error::invalid(
                "method",
                "\"keyed\" for probabilities",
                "another: it keeps no keys to tell them from",
                "sample with method \"keyed\"",
            )),
        }
    }

    fn unmergeable(&self, argument: &str, expected: &str) -> Error {
        let (name, why) = match self {
            Self::Keyed(_) => ("keyed", "both have to be of one method"),
            Self::Skip(_) => {
                ("skip", "its sample depends on the order of one stream, and its items keep no keys to compare")
            }
            Self::Aged(_) => ("aged", "the ages of items in two streams have no common clock"),
        };
        Error::invalid(argument, expected, format!("{name:?}: {why}"), "sample both streams with method \"keyed\"")
    }

    fn check_count(&self, more: u64) -> Result<()> {
        if i64::try_from(self.seen().saturating_add(more)).is_ok() {
            return Ok(());
        }
        let got = format!("{more} more after {}", self.seen());
        Err(Error::invalid("ids", "fewer than 2**63 in all", got, "start another reservoir"))
    }

    /// How many items were offered, repeated ones included.
    pub fn seen(&self) -> u64 {
        match self {
            Self::Keyed(keyed) => keyed.seen(),
            Self::Skip(skip) => skip.seen(),
            Self::Aged(aged) => aged.seen(),
        }
    }

    /// How many ids are in the sample.
    pub fn len(&self) -> usize {
        match self {
            Self::Keyed(keyed) => keyed.len(),
            Self::Skip(skip) => skip.len(),
            Self::Aged(aged) => aged.len(),
        }
    }

    /// Whether the sample is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sample: keyed by key, so that its beginning is a smaller sample; skip in no order; aged the latest first.
    pub fn ids(&self) -> Vec<i64> {
        match self {
            Self::Keyed(keyed) => keyed.ids(),
            Self::Skip(skip) => skip.ids(),
            Self::Aged(aged) => aged.ids(),
        }
    }
}

/// The error for a capacity that is 0 or more than can be held.
fn check_capacity(capacity: usize) -> Result<()> {
    if (1..=MAX_CAPACITY).contains(&capacity) {
        return Ok(());
    }
    Err(Error::invalid("capacity", format!("from 1 to {MAX_CAPACITY}"), capacity.to_string(), "correct it"))
}

/// The error for saved parts that no reservoir can have.
fn damaged(what: &str, why: impl std::fmt::Display) -> Error {
    Error::Corrupt { why: format!("{what} of the state is damaged: {why}; save it again") }
}
