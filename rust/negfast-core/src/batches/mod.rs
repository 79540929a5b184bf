//! Composition of batches for losses that take the other rows of a batch for negatives.
//!
//! A batch is *clean* if no two of its rows [`conflict`](conflicts). [`compose`] deals all rows into clean batches at random.

pub mod communities;
pub mod compose;
pub mod conflicts;
mod exchange;
pub mod graph;
mod merge;
mod occupied;
pub mod pour;
pub mod shape;
mod table;
