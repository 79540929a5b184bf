//! Which classes are in which step.

/// What an empty place holds; no pair of a class and a step reaches it.
const EMPTY: u64 = u64::MAX;

/// A set of (class, step) pairs: a table with linear probing, because it is asked once or twice for every row that is
/// placed, and one cache line is all that an answer should take.
#[derive(Debug)]
pub(super) struct Occupied {
    places: Vec<u64>,
    mask: usize,
}

impl Occupied {
    /// Room for `most` pairs.
    pub(super) fn new(most: usize) -> Self {
        let capacity = (most * 2).next_power_of_two().max(16);
        Self { places: vec![EMPTY; capacity], mask: capacity - 1 }
    }

    /// Whether `class` is in `step`.
    pub(super) fn holds(&self, class: u32, step: u32) -> bool {
        self.places[self.find(pair(class, step))] != EMPTY
    }

    /// Puts `class` into `step`.
    pub(super) fn insert(&mut self, class: u32, step: u32) {
        let entry = pair(class, step);
        let place = self.find(entry);
        self.places[place] = entry;
    }

    /// Takes `class` out of `step`.
    pub(super) fn remove(&mut self, class: u32, step: u32) {
        let mut hole = self.find(pair(class, step));
        let mut next = hole;
        // Entries behind the hole move up where they could not be found past it.
        loop {
            self.places[hole] = EMPTY;
            loop {
                next = (next + 1) & self.mask;
                if self.places[next] == EMPTY {
                    return;
                }
                let home = self.home(self.places[next]);
                let stays = if hole <= next { hole < home && home <= next } else { hole < home || home <= next };
                if !stays {
                    break;
                }
            }
            self.places[hole] = self.places[next];
            hole = next;
        }
    }

    /// Where `entry` is, or the empty place where it would go.
    fn find(&self, entry: u64) -> usize {
        let mut place = self.home(entry);
        while self.places[place] != entry && self.places[place] != EMPTY {
            place = (place + 1) & self.mask;
        }
        place
    }

    fn home(&self, entry: u64) -> usize {
        // The odd multiplier spreads neighbours; the high bits depend on all of the entry.
        let mixed = (entry ^ (entry >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 32) as usize & self.mask
    }
}

fn pair(class: u32, step: u32) -> u64 {
    u64::from(class) << 32 | u64::from(step)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::rng::stream;

    #[test]
    fn it_is_a_set() {
        let (mut ours, mut truth) = (Occupied::new(64), HashSet::new());
        let mut random = stream(0, 0, 0, 0);
        for _ in 0..20_000 {
            let (class, step) = (random.below(12) as u32, random.below(8) as u32);
            if truth.len() < 64 && random.below(2) == 0 {
                ours.insert(class, step);
                truth.insert((class, step));
            } else if truth.remove(&(class, step)) {
                ours.remove(class, step);
            }
            let (class, step) = (random.below(12) as u32, random.below(8) as u32);
            assert_eq!(ours.holds(class, step), truth.contains(&(class, step)));
        }
    }
}
