//! Batches while they are filled: who sits where, which places are free, and which classes are in which step.

use crate::batches::conflicts::Conflicts;
use crate::batches::occupied::Occupied;
use crate::batches::shape::Shape;
use crate::rng::Stream;

/// Free places that a row tries at random before it looks at all steps.
const PROBES: usize = 24;
/// Looks at steps, over all rows that found none, after which such rows are given up at once.
const PATIENCE: usize = 1 << 26;
/// Pairs of rows that are tried before a free place is given up; of fewer rows, as many pairs as find most of what there is.
const TRIES: usize = 20_000;
/// Where a row is that has no place, and who is in a place that is free.
const NONE: u32 = u32::MAX;

/// The places of one epoch, batch by batch.
#[derive(Debug)]
pub(super) struct Table<'a> {
    conflicts: &'a Conflicts,
    /// Steps whose places can be taken, and all of them.
    n_steps: usize,
    all_steps: usize,
    step_of: Vec<u32>,
    row_at: Vec<u32>,
    place_of: Vec<u32>,
    free: Vec<u32>,
    /// Places below this one can be taken.
    open: usize,
    occupied: Occupied,
    /// In how many steps each class is.
    spread: Vec<u32>,
    /// How many places of each step are empty.
    empty: Vec<u32>,
    patience: usize,
}

impl<'a> Table<'a> {
    /// A table with the places of the full steps, all of them free.
    pub(super) fn new(conflicts: &'a Conflicts, shape: &Shape) -> Self {
        let steps = (0..shape.batches()).flat_map(|batch| {
            let step = batch / shape.ranks();
            std::iter::repeat_n(step as u32, shape.sizes()[batch])
        });
        let mut empty = vec![0; shape.steps()];
        for (batch, &size) in shape.sizes().iter().enumerate() {
            empty[batch / shape.ranks()] += size as u32;
        }
        Self {
            conflicts,
            n_steps: shape.full_steps(),
            all_steps: shape.steps(),
            step_of: steps.collect(),
            row_at: vec![NONE; shape.rows()],
            place_of: vec![NONE; conflicts.len()],
            free: (0..shape.full_rows() as u32).collect(),
            open: shape.full_rows(),
            occupied: Occupied::new(conflicts.n_entries()),
            spread: vec![0; conflicts.n_classes()],
            empty,
            patience: PATIENCE,
        }
    }

    /// What keeps rows apart.
    pub(super) fn conflicts(&self) -> &'a Conflicts {
        self.conflicts
    }

    /// Places where nobody sits.
    pub(super) fn free(&self) -> &[u32] {
        &self.free
    }

    /// Number of rows, with and without a place.
    pub(super) fn n_rows(&self) -> usize {
        self.place_of.len()
    }

    /// Whether `row` has a place.
    pub(super) fn seated(&self, row: u32) -> bool {
        self.place_of[row as usize] != NONE
    }

    /// Who sits where, once no place is free.
    pub(super) fn into_rows(self) -> Vec<u32> {
        self.row_at
    }

    /// Gives `row` a free place, each as likely as the other, where it meets no row that it conflicts with.
    ///
    /// Returns whether there was one.
    pub(super) fn seat(&mut self, row: u32, random: &mut Stream) -> bool {
        if self.free.is_empty() || self.in_every_step(row) {
            return false;
        }
        let probed = (0..PROBES).map(|_| random.below(self.free.len())).find(|&index| self.fits(row, self.free[index]));
        match probed.or_else(|| self.search(row, random)) {
            Some(index) => {
                let place = self.free.swap_remove(index);
                self.enter(row, place);
                true
            }
            None => false,
        }
    }

    /// A free place in the first step from one at random on where `row` fits. Steps are looked at, and not places, because
    /// they are fewer by the size of a batch.
    fn search(&mut self, row: u32, random: &mut Stream) -> Option<usize> {
        let (begin, n) = (random.below(self.n_steps), self.n_steps);
        if self.patience < n {
            return None;
        }
        let room = |&step: &usize| self.empty[step] > 0 && self.fits_step(row, step as u32);
        let Some(step) = (begin..n).chain(0..begin).find(room) else {
            self.patience -= n;
            return None;
        };
        let (begin, n) = (random.below(self.free.len()), self.free.len());
        (begin..n).chain(0..begin).find(|&index| self.step_of[self.free[index] as usize] as usize == step)
    }

    /// Puts a row into a free place of the caller's choice, if it fits. Places have to be [`cleared`](Self::clear) then.
    pub(super) fn put(&mut self, row: u32, place: u32) -> bool {
        let fits = self.fits(row, place);
        if fits {
            self.enter(row, place);
        }
        fits
    }

    /// Opens the places of the short steps too.
    pub(super) fn open_all(&mut self) {
        self.free.extend(self.open as u32..self.row_at.len() as u32);
        self.open = self.row_at.len();
        self.n_steps = self.all_steps;
    }

    /// Finds out which places are free.
    pub(super) fn clear(&mut self) {
        self.free.retain(|&place| self.row_at[place as usize] == NONE);
    }

    /// Fills free places whose step no waiting row fits into, by letting a row that does change over to them and giving
    /// its place to a waiting one.
    pub(super) fn mend(&mut self, waiting: &mut Vec<u32>, random: &mut Stream) {
        waiting.retain(|&row| !self.in_every_step(row));
        let most = TRIES.min(4 * self.open * waiting.len());
        while let Some(&place) = self.free.last()
            && !waiting.is_empty()
            && (0..most).any(|_| self.change_over(place, waiting, random))
        {
            self.free.pop();
        }
    }

    fn change_over(&mut self, place: u32, waiting: &mut Vec<u32>, random: &mut Stream) -> bool {
        let (index, from) = (random.below(waiting.len()), random.below(self.open) as u32);
        let (row, mover) = (waiting[index], self.row_at[from as usize]);
        if mover == NONE || !self.fits(mover, place) || !self.fits_without(row, from, mover) {
            return false;
        }
        self.leave(mover);
        self.enter(row, from);
        // Where both places are of one step, the row that came may be what the mover conflicts with.
        if !self.fits(mover, place) {
            self.leave(row);
            self.enter(mover, from);
            return false;
        }
        self.enter(mover, place);
        waiting.swap_remove(index);
        true
    }

    /// Lets two rows change places, of which one may have none, if both fit.
    pub(super) fn exchange(&mut self, a: u32, b: u32) -> bool {
        let (from_a, from_b) = (self.place_of[a as usize], self.place_of[b as usize]);
        if from_a == from_b {
            return false;
        }
        for (row, place) in [(a, from_a), (b, from_b)] {
            if place != NONE {
                self.leave(row);
            }
        }
        let fits = (from_b == NONE || self.fits(a, from_b)) && (from_a == NONE || self.fits(b, from_a));
        // Two rows of one step stay beside each other, which they were before.
        let (to_a, to_b) = if fits { (from_b, from_a) } else { (from_a, from_b) };
        for (row, place) in [(a, to_a), (b, to_b)] {
            if place != NONE {
                self.enter(row, place);
            }
        }
        fits
    }

    /// Whether no row of the step of `place` conflicts with `row`.
    fn fits(&self, row: u32, place: u32) -> bool {
        self.fits_step(row, self.step_of[place as usize])
    }

    /// Whether no row of a step conflicts with `row`.
    fn fits_step(&self, row: u32, step: u32) -> bool {
        self.conflicts.of(row).iter().all(|&class| !self.occupied.holds(class, step))
    }

    /// Whether no row of the step of `place`, but for `leaving` who sits there, conflicts with `row`.
    fn fits_without(&self, row: u32, place: u32, leaving: u32) -> bool {
        let step = self.step_of[place as usize];
        let left = self.conflicts.of(leaving);
        self.conflicts.of(row).iter().all(|class| left.contains(class) || !self.occupied.holds(*class, step))
    }

    /// Whether a class of `row` is in every step already.
    fn in_every_step(&self, row: u32) -> bool {
        self.conflicts.of(row).iter().any(|&class| self.spread[class as usize] as usize == self.n_steps)
    }

    fn enter(&mut self, row: u32, place: u32) {
        let step = self.step_of[place as usize];
        for &class in self.conflicts.of(row) {
            self.occupied.insert(class, step);
            self.spread[class as usize] += 1;
        }
        self.empty[step as usize] -= 1;
        self.row_at[place as usize] = row;
        self.place_of[row as usize] = place;
    }

    fn leave(&mut self, row: u32) {
        let place = std::mem::replace(&mut self.place_of[row as usize], NONE);
        let step = self.step_of[place as usize];
        for &class in self.conflicts.of(row) {
            self.occupied.remove(class, step);
            self.spread[class as usize] -= 1;
        }
        self.empty[step as usize] += 1;
        self.row_at[place as usize] = NONE;
    }
}
