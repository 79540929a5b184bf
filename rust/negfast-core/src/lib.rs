//! Mining the negatives of contrastive training.
//!
//! For every anchor, the hardest rows of a corpus that are *allowed* negatives: a [`search`] that is exact, or has the
//! recall that was asked for; guard rails that it applies while it scans ([`rules`]), draws over what is left ([`draw`]),
//! and a cap on how often a row may serve ([`exposure`]). [`mine`] is the whole pipeline. The same search finds the
//! near-copies of a corpus in itself ([`duplicates`]). [`tiered`] draws the negatives of a training step.
//! A [`reservoir`] is a sample of a stream.
//!
//! One function decides what a [`score`] is. Searches multiply all pairs in `f32`, or estimate them from [`codes`] in lists
//! of near rows ([`clusters`]); either only nominates. [`search::Engine`] chooses, and measures recall where it is not proven.
//!
//! Exact results are a function of the arguments alone: the same bits for any number of threads and any SIMD level.
//! Approximate ones are the same for any number of threads.
//!
//! # Limitations
//!
//! What an approximate search finds for an anchor may depend on the level, and on the other anchors of the call, on which its
//! effort is fitted. What it counts is of rows that it met.

#![deny(missing_docs)]

pub mod accept;
pub mod aligned;
pub mod anchors;
pub mod bank;
pub mod batches;
pub mod clusters;
pub mod codes;
pub mod copies;
pub mod draw;
pub mod duplicates;
pub mod error;
pub mod exposure;
pub mod kernel;
pub mod lists;
pub mod mine;
pub mod nearest;
pub mod pool;
pub mod refresh;
pub mod reservoir;
pub mod rng;
pub mod rows;
pub mod rules;
pub mod score;
pub mod search;
pub mod tensors;
pub mod threads;
pub mod tiered;
pub mod topk;
pub mod tuples;
