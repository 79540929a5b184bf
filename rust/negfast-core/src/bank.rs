//! A bank of rows of late steps: which rows it holds, and which of them come nearest to an anchor.
//!
//! The rows themselves belong to the caller. [`Places`] says which slot each row of a stream goes to, so that no id is
//! held twice and a batch of any size ends as if its rows had come one by one. A [`Shelf`] keeps small codes beside the
//! rows, renewed where a row is written; [`hardest()`] scans those instead of the rows, and its result is the exact one.

mod excluded;
mod hardest;
mod places;
mod shelf;

pub use excluded::Excluded;
pub use hardest::{Asked, Found, hardest};
pub use places::{Placed, Places, Policy, Write};
pub use shelf::Shelf;
