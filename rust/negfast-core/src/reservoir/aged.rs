//! A sample that forgets exponentially.
//!
//! Every item enters; if m of k slots are taken, it replaces any of those with probability m / k, and takes a free one
//! otherwise (C. Aggarwal, *On biased reservoir sampling in the presence of stream evolution*, 2006, algorithm 2.1, with
//! λ = 1 / k). That is: each item goes to one of k slots, all alike, and an item that is in it already goes. So the item
//! that a others have followed is held with probability (1 − 1/k)^a, which is about exp(−a / k).
//!
//! The slot of an item is a hash of seed and place in the stream, so a call can look at its last item first, and stop where
//! every slot has been taken: after about k ln k items, however many there are.

use super::{Ids, Mixer, Pace, check_capacity, damaged};
use crate::error::Result;
use crate::topk::table;

/// Sets the slots of items apart from other random numbers of a seed.
const PURPOSE: u64 = 0x6167_6564;
/// Items between two looks at the pace.
const BLOCK: u64 = 1 << 12;

/// What a slot holds: the number of an item in the stream, from 1 on, and its id. 0 is a free slot.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Slot {
    number: u64,
    id: i64,
}

/// A sample of occurrences, late ones rather than early ones.
#[derive(Debug, Clone)]
pub struct Aged {
    mixer: Mixer,
    seen: u64,
    slots: Vec<Slot>,
    taken: usize,
}

impl Aged {
    /// A reservoir that nothing was added to.
    ///
    /// # Errors
    /// If the capacity is 0, above [`MAX_CAPACITY`](super::MAX_CAPACITY), or too large for memory.
    pub fn new(capacity: usize, seed: u64) -> Result<Self> {
        check_capacity(capacity)?;
        let slots = table("capacity", 1, capacity, Slot::default())?;
        Ok(Self { mixer: Mixer::new(seed, PURPOSE), seen: 0, slots, taken: 0 })
    }

    /// A reservoir from what [`seen`](Self::seen) and [`parts`](Self::parts) returned.
    ///
    /// # Errors
    /// If no reservoir of this capacity and seed can hold these.
    pub fn from_parts(capacity: usize, seed: u64, seen: u64, ids: &[i64], numbers: &[i64]) -> Result<Self> {
        let mut aged = Self::new(capacity, seed)?;
        Ids::listed("ids", ids).map_err(|error| damaged("ids", error))?;
        if ids.len() != numbers.len() {
            return Err(damaged("numbers", format!("{} of them for {} ids", numbers.len(), ids.len())));
        }
        for (&id, &number) in ids.iter().zip(numbers) {
            let number = number.max(0) as u64;
            let slot = aged.slot(number);
            if number == 0 || number > seen || aged.slots[slot].number != 0 {
                return Err(damaged("numbers", format!("{number} of {seen}")));
            }
            aged.slots[slot] = Slot { number, id };
        }
        (aged.seen, aged.taken) = (seen, ids.len());
        Ok(aged)
    }

    pub(crate) fn add(&mut self, ids: Ids<'_>, pace: &mut Pace<'_>) -> Result<()> {
        let (before, mut fresh) = (self.seen, 0);
        self.seen += ids.len();
        for i in (0..ids.len()).rev() {
            let number = before + i + 1;
            let slot = self.slot(number);
            let held = &mut self.slots[slot];
            if held.number <= before {
                self.taken += usize::from(held.number == 0);
                *held = Slot { number, id: ids.at(i) };
                fresh += 1;
                if fresh == self.slots.len() {
                    break;
                }
            }
            if i % BLOCK == 0 {
                pace.spend(BLOCK)?;
            }
        }
        Ok(())
    }

    fn slot(&self, number: u64) -> usize {
        self.mixer.below(number, self.slots.len() as u64) as usize
    }

    /// How many items were offered.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// How many ids are in the sample.
    pub fn len(&self) -> usize {
        self.taken
    }

    /// Whether the sample is empty.
    pub fn is_empty(&self) -> bool {
        self.taken == 0
    }

    /// Ids and their numbers in the stream, the latest first.
    pub fn parts(&self) -> (Vec<i64>, Vec<i64>) {
        let mut sorted: Vec<_> = self.slots.iter().filter(|slot| slot.number != 0).collect();
        sorted.sort_unstable_by_key(|slot| std::cmp::Reverse(slot.number));
        (sorted.iter().map(|slot| slot.id).collect(), sorted.iter().map(|slot| slot.number as i64).collect())
    }

    /// The sample, the latest first.
    pub fn ids(&self) -> Vec<i64> {
        self.parts().0
    }
}
