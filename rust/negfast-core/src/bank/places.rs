//! Which slot of a bank each row of a stream goes to.
//!
//! Every row that comes has a number, its place in the stream. An id that is held already keeps its slot: the new row
//! replaces the old one, or is mixed with it. A row of another id, or without one, takes a slot as the policy says:
//!
//! * *fifo*: that of the row that was written longest ago. A row that was written again counts as young.
//! * *reservoir*: a row has a key, random bits of seed and number, and an id the smallest of the keys it came with. The
//!   `capacity` smallest are held. So the sample is uniform over all that came as long as ids differ, and an id that came
//!   m times counts as m that came once. What is not held has a key above all that is: nothing else has to be known of it.
//! * *aged*: a slot is drawn, and what is in it goes (C. Aggarwal, *On biased reservoir sampling in the presence of stream
//!   evolution*, 2006, algorithm 2.1). A row is still held after n others took a slot with probability (1 − 1/capacity)^n.
//!   That is the same for an old row and a young one, so a row that is written again needs no new slot.

use std::collections::{BTreeSet, HashMap};

use crate::error::{Error, Result};
use crate::reservoir::{MAX_CAPACITY, Mixer};

/// Sets the random numbers of banks apart from others of a seed.
const PURPOSE: u64 = 0x6261_6e6b;
/// The end of a chain of slots.
const NONE: u32 = u32::MAX;

/// Which rows a bank holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Those written last.
    Fifo,
    /// A uniform sample of all that came.
    Reservoir,
    /// A sample that forgets.
    Aged,
}

impl Policy {
    /// The policy of that name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "fifo" => Some(Self::Fifo),
            "reservoir" => Some(Self::Reservoir),
            "aged" => Some(Self::Aged),
            _ => None,
        }
    }
}

/// A row that is written to a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Write {
    /// Where to.
    pub slot: u32,
    /// Its place in the batch.
    pub row: u32,
    /// How many writes of the batch to this slot come before.
    pub round: u32,
    /// Whether it is mixed with the row that is there, which has its id.
    pub mixes: bool,
}

/// What a batch does to a bank.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Placed {
    /// All that is written, by round and slot; to a slot only what it ends up with depends on.
    pub writes: Vec<Write>,
    /// For each slot that is written, in their order: the slot, the last row, and the number that decides about it.
    pub last: Vec<(u32, u32, i64)>,
}

/// The slots of a bank, and what is known of the rows in them.
#[derive(Debug, Clone)]
pub struct Places {
    policy: Policy,
    mixer: Mixer,
    seen: u64,
    ids: Vec<i64>,
    /// The number that decides how long a row stays: of its last write, in a reservoir that of its smallest key; −1 where
    /// a slot is free.
    chosen: Vec<i64>,
    slots: HashMap<i64, u32>,
    /// Free slots, the lowest last; nobody asks where slots are drawn.
    free: Vec<u32>,
    taken: usize,
    order: Order,
}

/// Who has to go.
#[derive(Debug, Clone)]
enum Order {
    /// The first of a chain.
    Chain(Chain),
    /// Who has the largest key.
    Keys(BTreeSet<(u64, u32)>),
    /// Whoever has the slot.
    Drawn,
}

/// Slots from the one written longest ago to the last.
#[derive(Debug, Clone)]
struct Chain {
    before: Vec<u32>,
    after: Vec<u32>,
    first: u32,
    last: u32,
}

impl Places {
    /// The places of a bank that nothing was written to.
    ///
    /// # Errors
    /// If the capacity is 0 or above [`MAX_CAPACITY`].
    pub fn new(policy: Policy, capacity: usize, seed: u64) -> Result<Self> {
        if !(1..=MAX_CAPACITY).contains(&capacity) {
            let expected = format!("from 1 to {MAX_CAPACITY}");
            return Err(Error::invalid("capacity", expected, capacity.to_string(), "correct it"));
        }
        Self::from_parts(policy, seed, 0, &vec![-1; capacity], &vec![-1; capacity])
    }

    /// Places from what [`seen`](Self::seen), [`ids`](Self::ids) and [`chosen`](Self::chosen) returned.
    ///
    /// # Errors
    /// If no bank can be in that state.
    pub fn from_parts(policy: Policy, seed: u64, seen: u64, ids: &[i64], chosen: &[i64]) -> Result<Self> {
        let mixer = Mixer::new(seed, PURPOSE);
        check(seen, ids, chosen)?;
        let mut slots = HashMap::with_capacity(ids.len());
        for (slot, &id) in (0u32..).zip(ids).filter(|&(_, &id)| id >= 0) {
            if slots.insert(id, slot).is_some() {
                return Err(damaged("ids", format!("{id} is there twice")));
            }
        }
        let mut held: Vec<u32> = (0..ids.len() as u32).filter(|&slot| chosen[slot as usize] >= 0).collect();
        let free = (0..ids.len() as u32).rev().filter(|&slot| chosen[slot as usize] < 0).collect();
        held.sort_unstable_by_key(|&slot| chosen[slot as usize]);
        if let Some(pair) = held.windows(2).find(|pair| chosen[pair[0] as usize] == chosen[pair[1] as usize]) {
            return Err(damaged("numbers", format!("{} is there twice", chosen[pair[0] as usize])));
        }
        let key = |&slot: &u32| (mixer.bits(chosen[slot as usize] as u64), slot);
        let order = match policy {
            Policy::Fifo => Order::Chain(Chain::new(ids.len(), &held)),
            Policy::Reservoir => Order::Keys(held.iter().map(key).collect()),
            Policy::Aged => Order::Drawn,
        };
        let (ids, chosen, taken) = (ids.to_vec(), chosen.to_vec(), held.len());
        Ok(Self { policy, mixer, seen, ids, chosen, slots, free, taken, order })
    }

    /// Finds a slot for each row of a batch, whose ids are −1 where a row has none; `mixes` says whether a row of an id that
    /// is held is mixed with what is there.
    ///
    /// # Errors
    /// If an id is below −1, or more rows come than can be counted or named; nothing is changed then.
    pub fn place(&mut self, ids: &[i64], mixes: bool) -> Result<Placed> {
        if let Some(at) = ids.iter().position(|&id| id < -1) {
            let got = format!("{} at position {at}", ids[at]);
            return Err(Error::invalid("ids", "at least -1", got, "use -1 for a row without an id"));
        }
        if u32::try_from(ids.len()).is_err() || i64::try_from(self.seen.saturating_add(ids.len() as u64)).is_err() {
            let got = format!("{} more after {}", ids.len(), self.seen);
            return Err(Error::invalid("rows", "fewer than 2**32 at once, and 2**63 in all", got, "cut the batch"));
        }
        let mut written: HashMap<u32, Vec<(u32, bool)>> = HashMap::new();
        for (row, &id) in (0u32..).zip(ids) {
            let number = self.seen;
            self.seen += 1;
            let Some((slot, held)) = self.slot(id, number) else { continue };
            let writes = written.entry(slot).or_default();
            let mixed = held && mixes;
            if !mixed {
                writes.clear();
            }
            writes.push((row, mixed));
        }
        Ok(self.placed(written))
    }

    fn placed(&self, written: HashMap<u32, Vec<(u32, bool)>>) -> Placed {
        let mut placed = Placed::default();
        for (slot, writes) in written {
            for (round, &(row, mixes)) in (0..).zip(&writes) {
                placed.writes.push(Write { slot, row, round, mixes });
            }
            if let Some(&(row, _)) = writes.last() {
                placed.last.push((slot, row, self.chosen[slot as usize]));
            }
        }
        placed.writes.sort_unstable_by_key(|write| (write.round, write.slot));
        placed.last.sort_unstable();
        placed
    }

    /// The slot of the row with this number, and whether its id is in it already; nothing if the row is not taken.
    fn slot(&mut self, id: i64, number: u64) -> Option<(u32, bool)> {
        if let Some(&slot) = self.slots.get(&id) {
            self.renew(slot, number);
            return Some((slot, true));
        }
        let slot = self.take(number)?;
        let held = std::mem::replace(&mut self.ids[slot as usize], id);
        if held >= 0 {
            self.slots.remove(&held);
        }
        if id >= 0 {
            self.slots.insert(id, slot);
        }
        Some((slot, false))
    }

    /// Notes that the row in a slot was written again.
    fn renew(&mut self, slot: u32, number: u64) {
        let chosen = &mut self.chosen[slot as usize];
        match &mut self.order {
            Order::Chain(chain) => {
                chain.remove(slot);
                chain.push(slot);
            }
            Order::Keys(keys) => {
                let (old, new) = (self.mixer.bits(*chosen as u64), self.mixer.bits(number));
                if old < new {
                    return;
                }
                keys.remove(&(old, slot));
                keys.insert((new, slot));
            }
            Order::Drawn => {}
        }
        *chosen = number as i64;
    }

    /// A slot for a row that is not there yet.
    fn take(&mut self, number: u64) -> Option<u32> {
        let slot = match &mut self.order {
            Order::Chain(chain) => {
                let slot = self.free.pop().unwrap_or(chain.first);
                if self.chosen[slot as usize] >= 0 {
                    chain.remove(slot);
                }
                chain.push(slot);
                slot
            }
            Order::Keys(keys) => {
                let key = self.mixer.bits(number);
                let slot = match self.free.pop() {
                    Some(slot) => slot,
                    None => keys.last().filter(|&&(largest, _)| key < largest)?.1,
                };
                if self.chosen[slot as usize] >= 0 {
                    keys.pop_last();
                }
                keys.insert((key, slot));
                slot
            }
            Order::Drawn => self.mixer.below(number, self.ids.len() as u64) as u32,
        };
        self.taken += usize::from(self.chosen[slot as usize] < 0);
        self.chosen[slot as usize] = number as i64;
        Some(slot)
    }

    /// How many rows came.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// The policy.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// How many rows there is room for.
    pub fn capacity(&self) -> usize {
        self.ids.len()
    }

    /// How many rows are held.
    pub fn len(&self) -> usize {
        self.taken
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The id in each slot, −1 where there is none.
    pub fn ids(&self) -> &[i64] {
        &self.ids
    }

    /// The number that decides about each slot, −1 where it is free.
    pub fn chosen(&self) -> &[i64] {
        &self.chosen
    }
}

impl Chain {
    fn new(slots: usize, held: &[u32]) -> Self {
        let mut chain = Self { before: vec![NONE; slots], after: vec![NONE; slots], first: NONE, last: NONE };
        for &slot in held {
            chain.push(slot);
        }
        chain
    }

    fn push(&mut self, slot: u32) {
        self.before[slot as usize] = self.last;
        self.after[slot as usize] = NONE;
        match self.last {
            NONE => self.first = slot,
            last => self.after[last as usize] = slot,
        }
        self.last = slot;
    }

    fn remove(&mut self, slot: u32) {
        let (before, after) = (self.before[slot as usize], self.after[slot as usize]);
        match before {
            NONE => self.first = after,
            before => self.after[before as usize] = after,
        }
        match after {
            NONE => self.last = before,
            after => self.before[after as usize] = before,
        }
    }
}

/// Refuses parts that no bank can have, one by one.
fn check(seen: u64, ids: &[i64], chosen: &[i64]) -> Result<()> {
    if ids.len() != chosen.len() || ids.is_empty() || ids.len() > MAX_CAPACITY {
        return Err(damaged("ids", format!("{} of them for {} slots", ids.len(), chosen.len())));
    }
    for (&id, &number) in ids.iter().zip(chosen) {
        if number < -1 || number >= 0 && number as u64 >= seen {
            return Err(damaged("numbers", format!("{number} of {seen}")));
        }
        if id < -1 || number < 0 && id >= 0 {
            return Err(damaged("ids", format!("{id} in a slot of number {number}")));
        }
    }
    Ok(())
}

/// The error for saved parts that no bank can have.
fn damaged(what: &str, why: impl std::fmt::Display) -> Error {
    Error::Corrupt { why: format!("{what} of the state are damaged: {why}; save it again") }
}
