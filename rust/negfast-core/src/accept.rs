//! The seam between a search and the rules: what a search may keep.

use std::ops::Range;

use crate::score::Scratch;

/// What a search may keep for each anchor.
///
/// A search asks by *slot*, the anchor's place among the anchors searched. It consults the rules only for rows that
/// already reach the anchor's threshold, so a rejected row never takes the place of an allowed one, and rules cost
/// nothing for the rest.
pub trait Accept: Sync {
    /// What is counted about rows above the cap.
    type Tally: Default + Send;

    /// The first row of the corpus that can matter to the anchors of these slots; those before are not searched.
    fn first_row(&self, _slots: &Range<usize>) -> usize {
        0
    }

    /// Whether a row that may reach the floor is dealt with and the search has nothing to do with it;
    /// `exceeds(x)` tells whether its score is above `x`.
    fn take(&self, _slot: usize, _row: u32, _exceeds: &mut dyn FnMut(f64) -> bool) -> bool {
        false
    }

    /// Only rows that score this or less are kept.
    fn cap(&self, _slot: usize) -> f64 {
        f64::INFINITY
    }

    /// Only rows that score this or more are kept.
    fn floor(&self, _slot: usize) -> f64 {
        f64::NEG_INFINITY
    }

    /// Rows that score more than this are counted, whatever becomes of them; infinity for none.
    fn watch(&self, _slot: usize) -> f64 {
        f64::INFINITY
    }

    /// Whether a row between floor and cap is kept.
    fn allow(&self, _slot: usize, _row: u32, _scratch: &mut Scratch) -> bool {
        true
    }

    /// Hears of each row above the cap; `exceeds(x)` tells whether its score is above `x`.
    fn over_cap(&self, _slot: usize, _row: u32, _exceeds: &mut dyn FnMut(f64) -> bool, _tally: &mut Self::Tally) {}

    /// Adds `other`, counted over other rows, to `tally`.
    fn merge(&self, _tally: &mut Self::Tally, _other: Self::Tally) {}
}

/// Keeps everything: plain nearest rows.
#[derive(Debug, Clone, Copy)]
pub struct Everything;

impl Accept for Everything {
    type Tally = ();
}
