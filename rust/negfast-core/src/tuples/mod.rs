//! Index tuples: which pairs and triplets of a labelled batch a loss is computed from.
//!
//! Of an anchor the positives are known, and every other row that rules allow is a negative. A [`Band`] of margins tells
//! which negatives go with which positive; of these all are taken, or the closest. What comes out are lists of row numbers
//! in the form that losses over pairs and triplets take them.
//!
//! # Cost
//!
//! Every anchor is multiplied with all rows, once, in `f32`; what that does not decide is scored. A thread holds a table of
//! [`BLOCK`] anchors and all rows, all of them share a packed copy of the rows. Beyond that memory grows with the positives
//! and with what is chosen, never with anchors × positives × negatives.

mod anchor;
mod band;
mod closeness;
mod estimate;

pub use band::Band;
pub use closeness::Closeness;

use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::rules::{Guard, Known, Rules};
use crate::score::{Scorer, score_lists};
use crate::threads::Workers;
use crate::tuples::anchor::{Chooser, Room};
use crate::tuples::estimate::Estimator;

/// Anchors of a task: whole tiles at every level. A constant, so that sums are added in the same order on any number of
/// threads.
const BLOCK: usize = 48;

/// Which positives of an anchor are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Positives {
    /// All of them.
    All,
    /// The one that is least close, the lowest row of several.
    Hardest,
    /// The closest one, the lowest row of several.
    Easiest,
}

/// What is made of the positives and negatives of an anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// For each positive its own negatives.
    Triplets,
    /// The positives and the negatives that are in some triplet, each once.
    Pairs,
}

/// What tuples are made of. The scorer's queries are the anchors, its corpus the rows that positives and negatives are of.
#[derive(Debug)]
pub struct Asked<'a> {
    /// Scores the rows.
    pub scorer: &'a Scorer<'a>,
    /// The positives, and labels that keep rows from being negatives.
    pub known: &'a Known<'a>,
    /// Guard rails. Rules over lists are not asked: those of rank, distinctness and exposure.
    pub rules: &'a Rules,
    /// What margins and rules are measured in.
    pub closeness: Closeness,
    /// Margins of the triplets that are chosen.
    pub band: Band,
    /// Which positives are used.
    pub positives: Positives,
    /// What is returned.
    pub shape: Shape,
    /// The most negatives of a positive, for pairs of an anchor; the closest come first. `None`: all, by row.
    pub most: Option<usize>,
}

/// Chosen rows, and sums over all triplets that could have been.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tuples {
    /// The anchor of each positive pair.
    pub anchors: Vec<i64>,
    /// The positive of each positive pair.
    pub positives: Vec<i64>,
    /// How many negatives belong to each positive pair; with [`Shape::Pairs`], to each anchor.
    pub counts: Vec<i64>,
    /// The negatives, one list after the other.
    pub negatives: Vec<i64>,
    /// What there was to choose from.
    pub all: Sums,
}

/// Sums over all triplets of a positive that is used and a negative that is allowed. What negatives add is estimated to
/// within the error of a product in `f32`, which depends on the SIMD level.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sums {
    /// How many they are.
    pub triplets: u64,
    /// Closeness of their positives.
    pub positives: f64,
    /// Closeness of their negatives.
    pub negatives: f64,
}

/// What a block of anchors got.
#[derive(Debug, Default)]
pub(crate) struct Part {
    anchors: Vec<u32>,
    positives: Vec<u32>,
    counts: Vec<u32>,
    negatives: Vec<u32>,
    all: Sums,
}

/// Chooses the tuples of every anchor.
///
/// # Errors
/// If there is no memory for the result, or [`Error::Cancelled`].
pub fn tuples(asked: &Asked<'_>, workers: &mut Workers<'_>) -> Result<Tuples> {
    let (n, rows) = (asked.scorer.queries.len(), asked.scorer.corpus.len());
    let anchors: Vec<u32> = (0..n as u32).collect();
    let lowest = lowest_positives(asked, &anchors, workers)?;
    let guard = Guard::new(asked.scorer, asked.rules, asked.known, &anchors, &lowest);
    let estimator = Estimator::new(asked.scorer);
    let chooser = Chooser::new(asked, &guard, &estimator);
    let parts = Mutex::new(Vec::new());
    workers.progress().expect((n * rows) as u64);
    let work = (n * rows * asked.scorer.corpus.rows().dim()) as u64;
    let blocks: Vec<_> = (0..n).step_by(BLOCK).map(|start| start..(start + BLOCK).min(n)).collect();
    workers.run(
        work,
        blocks,
        || Room::new(rows, asked.scorer.corpus.rows().dim()),
        |room, block, progress| {
            let (start, mut part) = (block.start, Part::default());
            estimator.fill(block.clone(), &mut room.table);
            for (i, anchor) in block.enumerate() {
                chooser.choose(i, anchor, room, &mut part);
                progress.advance(rows as u64)?;
            }
            parts.lock().unwrap_or_else(PoisonError::into_inner).push((start, part));
            Ok(())
        },
    )?;
    let mut parts = parts.into_inner().unwrap_or_else(PoisonError::into_inner);
    parts.sort_unstable_by_key(|(start, _)| *start);
    joined(parts.into_iter().map(|(_, part)| part).collect())
}

/// The closeness of each anchor's least close positive, NaN where it has none or no rule asks.
fn lowest_positives(asked: &Asked<'_>, anchors: &[u32], workers: &mut Workers<'_>) -> Result<Vec<f32>> {
    let mut lowest = vec![f32::NAN; anchors.len()];
    if asked.rules.relative_margin.is_none() && asked.rules.absolute_margin.is_none() {
        return Ok(lowest);
    }
    let positives = &asked.known.positives;
    let scores = score_lists(asked.scorer, anchors, positives, workers)?;
    for (anchor, lowest) in lowest.iter_mut().enumerate() {
        let list = positives.starts()[anchor]..positives.starts()[anchor + 1];
        let close = |at: usize| asked.closeness.of(asked.scorer, anchor, positives.rows()[at] as usize, scores[at]);
        *lowest = list.map(close).fold(f32::NAN, f32::min);
    }
    Ok(lowest)
}

/// Joins what blocks got; each is dropped as soon as it is copied.
fn joined(parts: Vec<Part>) -> Result<Tuples> {
    let total = |of: fn(&Part) -> usize| parts.iter().map(of).sum::<usize>();
    let mut all = Tuples {
        anchors: room(total(|part| part.anchors.len()))?,
        positives: room(total(|part| part.positives.len()))?,
        counts: room(total(|part| part.counts.len()))?,
        negatives: room(total(|part| part.negatives.len()))?,
        all: Sums::default(),
    };
    for part in parts {
        all.anchors.extend(part.anchors.iter().map(|&row| i64::from(row)));
        all.positives.extend(part.positives.iter().map(|&row| i64::from(row)));
        all.counts.extend(part.counts.iter().map(|&count| i64::from(count)));
        all.negatives.extend(part.negatives.iter().map(|&row| i64::from(row)));
        all.all.triplets += part.all.triplets;
        all.all.positives += part.all.positives;
        all.all.negatives += part.all.negatives;
    }
    Ok(all)
}

fn room(n: usize) -> Result<Vec<i64>> {
    let mut values = Vec::new();
    values.try_reserve_exact(n).map_err(|_| {
        Error::invalid("num_negatives", "small enough for all tuples in memory", n.to_string(), "ask for fewer")
    })?;
    Ok(values)
}
