//! A sample of the occurrences of a stream, which passes over what it does not take.
//!
//! As long as all items are alike this is algorithm L (K.-H. Li, *Reservoir-sampling algorithms of time complexity
//! O(n(1 + log(N/n)))*, 1994): an item is taken if its key, uniform on (0, 1), is below the largest key W of those held. So
//! how many items to pass over is geometric, the one taken replaces any of those held, and the next W is the largest of k
//! keys uniform below the last. No key but W is ever drawn. It is kept as a logarithm, because it vanishes in long streams.
//!
//! With the first weights, keys are drawn for the items held, as they are distributed given W: one of them has W itself,
//! the others lie anywhere below. From there on [`Jumps`] takes over.
//!
//! The random numbers of each item taken have a stream of their own, named by how many were taken before. So there is no
//! generator whose state would have to be kept, and the cut of the stream into calls does not matter.

use super::{Ids, Jumps, Pace, Weights, check_capacity, damaged};
use crate::error::Result;
use crate::rng::{Stream, stream};

/// Sets the numbers of this sampler apart from others of a seed.
const PURPOSE: u64 = 0x736b_6970;
/// Nanoseconds or so that taking an item takes.
const STEPS: u64 = 128;

/// Random numbers for what happens at each item that is taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Events {
    seed: u64,
    past: u64,
}

impl Events {
    pub(super) fn next(&mut self) -> Stream {
        self.past += 1;
        stream(self.seed, 0, self.past, PURPOSE)
    }
}

/// An exponential number of rate 1.
pub(super) fn exponential(stream: &mut Stream) -> f64 {
    -libm::log(stream.uniform())
}

/// A sample of occurrences.
#[derive(Debug, Clone)]
pub struct Skip {
    capacity: usize,
    seen: u64,
    events: Events,
    state: State,
}

/// What is held, and what is known about keys.
#[derive(Debug, Clone)]
pub enum State {
    /// All items were alike.
    Equal(Equal),
    /// Some had weights.
    Weighted(Jumps),
}

/// The state of algorithm L.
#[derive(Debug, Clone, Default)]
pub struct Equal {
    /// The ids held.
    pub slots: Vec<i64>,
    /// ln W, once the slots are full.
    pub log_largest: f64,
    /// Items to pass over before one is taken.
    pub wait: u64,
}

impl Skip {
    /// A reservoir that nothing was added to.
    ///
    /// # Errors
    /// If the capacity is 0 or above [`MAX_CAPACITY`](super::MAX_CAPACITY).
    pub fn new(capacity: usize, seed: u64) -> Result<Self> {
        check_capacity(capacity)?;
        Ok(Self { capacity, seen: 0, events: Events { seed, past: 0 }, state: State::Equal(Equal::default()) })
    }

    /// A reservoir from what [`seen`](Self::seen), [`taken`](Self::taken) and [`state`](Self::state) returned.
    ///
    /// # Errors
    /// If no reservoir of this capacity can be in that state.
    pub fn from_parts(capacity: usize, seed: u64, seen: u64, taken: u64, state: State) -> Result<Self> {
        check_capacity(capacity)?;
        if taken > seen.saturating_add(1) {
            return Err(damaged("taken", format!("{taken} of {seen}")));
        }
        match &state {
            State::Equal(equal) => equal.check(capacity, seen)?,
            State::Weighted(jumps) => jumps.check(capacity, seen)?,
        }
        Ok(Self { capacity, seen, events: Events { seed, past: taken }, state })
    }

    pub(crate) fn add(&mut self, ids: Ids<'_>, weights: Option<Weights<'_>>, pace: &mut Pace<'_>) -> Result<()> {
        if let State::Equal(equal) = &self.state
            && weights.is_some()
            && !ids.is_empty()
        {
            self.state = State::Weighted(equal.keyed(self.capacity, &mut self.events));
        }
        match (&mut self.state, weights) {
            (State::Equal(equal), _) => equal.add(ids, self.capacity, &mut self.events, pace)?,
            (State::Weighted(jumps), None) => jumps.add_equal(ids, self.capacity, &mut self.events, pace)?,
            (State::Weighted(jumps), Some(w)) => jumps.add(ids, w, self.capacity, &mut self.events, pace)?,
        }
        self.seen += ids.len();
        Ok(())
    }

    /// How many items were offered.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// How many times random numbers were drawn.
    pub fn taken(&self) -> u64 {
        self.events.past
    }

    /// What is held.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// How many ids are in the sample.
    pub fn len(&self) -> usize {
        match &self.state {
            State::Equal(equal) => equal.slots.len(),
            State::Weighted(jumps) => jumps.len(),
        }
    }

    /// Whether the sample is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sample, in an order without meaning.
    pub fn ids(&self) -> Vec<i64> {
        match &self.state {
            State::Equal(equal) => equal.slots.clone(),
            State::Weighted(jumps) => jumps.parts().0,
        }
    }
}

impl Equal {
    fn add(&mut self, ids: Ids<'_>, capacity: usize, events: &mut Events, pace: &mut Pace<'_>) -> Result<()> {
        let mut at = 0;
        while self.slots.len() < capacity && at < ids.len() {
            self.slots.push(ids.at(at));
            at += 1;
            if self.slots.len() == capacity {
                self.draw(capacity, &mut events.next());
            }
        }
        while ids.len() - at > self.wait {
            at += self.wait;
            let mut random = events.next();
            // The share of k / 2⁵³ by which slots differ in probability is beyond any test.
            let slot = (random.uniform() * capacity as f64) as usize;
            self.slots[slot] = ids.at(at);
            at += 1;
            self.draw(capacity, &mut random);
            pace.spend(STEPS)?;
        }
        if self.slots.len() == capacity {
            self.wait -= ids.len() - at;
        }
        Ok(())
    }

    /// Draws the next W and how long to wait for a key below it.
    fn draw(&mut self, capacity: usize, random: &mut Stream) {
        self.log_largest -= exponential(random) / capacity as f64;
        let passed = exponential(random) / -log_complement(self.log_largest);
        // The conversion stops at the largest number; no stream is that long.
        self.wait = if passed.is_nan() { u64::MAX } else { passed as u64 };
    }

    /// Keys for what is held, distributed as they are given the largest.
    fn keyed(&self, capacity: usize, events: &mut Events) -> Jumps {
        if self.slots.len() < capacity {
            let keyed = self.slots.iter().map(|&id| (exponential(&mut events.next()), id));
            return Jumps::new(keyed.collect());
        }
        let mut random = events.next();
        let largest = (random.uniform() * capacity as f64) as usize;
        let w = libm::exp(self.log_largest);
        let mut key = |slot| {
            let share = if slot == largest { 1.0 } else { random.uniform() };
            (-libm::log1p(-w * share), self.slots[slot])
        };
        let mut jumps = Jumps::new((0..capacity).map(&mut key).collect());
        jumps.jump(&mut random);
        jumps
    }

    fn check(&self, capacity: usize, seen: u64) -> Result<()> {
        let held = seen.min(capacity as u64);
        if self.slots.len() as u64 != held {
            return Err(damaged("ids", format!("{} of them, not {held}", self.slots.len())));
        }
        Ids::listed("ids", &self.slots).map_err(|error| damaged("ids", error))?;
        let full = self.slots.len() == capacity;
        let right =
            if full { self.log_largest < 0.0 } else { self.log_largest.abs() < f64::MIN_POSITIVE && self.wait == 0 };
        if !right {
            return Err(damaged("log_largest", self.log_largest));
        }
        Ok(())
    }
}

/// ln(1 − exp(x)) for x ≤ 0, precise at both ends.
fn log_complement(x: f64) -> f64 {
    if x > -core::f64::consts::LN_2 { libm::log(-libm::expm1(x)) } else { libm::log1p(-libm::exp(x)) }
}
