//! The seam between a search and the rules: what a search may keep.

use crate::score::Scratch;

/// What a search may keep for each anchor.
///
/// A search asks by *slot*, the anchor's place among the anchors searched. It consults the rules only for rows that
/// already reach the anchor's threshold, so a rejected row never takes the place of an allowed one, and rules cost
/// nothing for the rest.
pub trait Accept: Sync {
    /// What is counted about rows above the cap.
    type Tally: Default + Send;

    /// Only rows that score this or less are kept.
    fn cap(&self, slot: usize) -> f64;

    /// Only rows that score this or more are kept.
    fn floor(&self, slot: usize) -> f64;

    /// Rows that score more than this are counted, whatever becomes of them; infinity for none.
    fn watch(&self, slot: usize) -> f64;

    /// Whether a row between floor and cap is kept.
    fn allow(&self, slot: usize, row: u32, scratch: &mut Scratch) -> bool;

    /// Hears of each row above the cap; `exceeds(x)` tells whether its score is above `x`.
    fn over_cap(&self, slot: usize, row: u32, exceeds: &mut dyn FnMut(f64) -> bool, tally: &mut Self::Tally);

    /// Adds `other`, counted over other rows, to `tally`.
    fn merge(&self, tally: &mut Self::Tally, other: Self::Tally);
}

/// Keeps everything: plain nearest rows.
#[derive(Debug, Clone, Copy)]
pub struct Everything;

impl Accept for Everything {
    type Tally = ();

    fn cap(&self, _: usize) -> f64 {
        f64::INFINITY
    }

    fn floor(&self, _: usize) -> f64 {
        f64::NEG_INFINITY
    }

    fn watch(&self, _: usize) -> f64 {
        f64::INFINITY
    }

    fn allow(&self, _: usize, _: u32, _: &mut Scratch) -> bool {
        true
    }

    fn over_cap(&self, _: usize, _: u32, _: &mut dyn FnMut(f64) -> bool, (): &mut ()) {}

    fn merge(&self, (): &mut (), (): ()) {}
}
