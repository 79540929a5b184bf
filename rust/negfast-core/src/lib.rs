//! Mining the negatives of contrastive training.
//!
//! For every anchor, the hardest rows of a corpus that are *allowed* negatives: an exact search in fused tiles
//! ([`search`]), guard rails that it applies while it scans ([`rules`]), draws over what is left ([`draw`]), and a cap
//! on how often a row may serve ([`exposure`]). [`mine`] is the whole pipeline. The same search finds the near-copies
//! of a corpus in itself ([`duplicates`]).
//!
//! Results are a function of the arguments alone: the same bits for any number of threads and any SIMD level.

#![deny(missing_docs)]

pub mod accept;
pub mod anchors;
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
pub mod rng;
pub mod rows;
pub mod rules;
pub mod score;
pub mod search;
pub mod tensors;
pub mod threads;
pub mod topk;
