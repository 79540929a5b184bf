//! The weighted sample of a stream that passes over items: A-ExpJ.
//!
//! Each item has a key, exponential of rate `weight`, and the k smallest are held; T is the largest of them. The weight
//! that goes by until a key falls below T is exponential of rate T: that is drawn, and items are only added up. The item
//! at which it is used up gets a key below T (P. Efraimidis and P. Spirakis, *Weighted random sampling with a reservoir*, 2006,
//! whose keys u^(1/w) are exp(−key) here: logarithms neither vanish nor come out as 1).
//!
//! Items without weights have weight 1, and are counted instead of added up.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::skip::{Events, exponential};
use super::{Ids, Pace, Weights, damaged};
use crate::error::Result;
use crate::rng::Stream;

/// Steps that taking an item is worth.
const STEPS: u64 = 256;
/// Items that are added up between two looks at the pace.
const BLOCK: usize = 1 << 16;

/// An id and its key; the largest key is the largest.
#[derive(Debug, Clone, Copy)]
struct Held {
    key: f64,
    id: i64,
}

impl Ord for Held {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.total_cmp(&other.key).then(self.id.cmp(&other.id))
    }
}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Held {}

/// The state of A-ExpJ.
#[derive(Debug, Clone)]
pub struct Jumps {
    held: BinaryHeap<Held>,
    /// Weight that goes by before an item is taken, as it was before `ones`; 0 until there are k items.
    left: f64,
    /// Items of weight 1 that went by since. A sum of many ones would depend on where it was cut.
    ones: u64,
}

impl Jumps {
    /// Items with their keys. Where they are all that can be held, a [`jump`](Self::jump) has to follow.
    pub(super) fn new(keyed: Vec<(f64, i64)>) -> Self {
        Self { held: keyed.into_iter().map(|(key, id)| Held { key, id }).collect(), left: 0.0, ones: 0 }
    }

    /// From what [`parts`](Self::parts) returned; [`Skip::from_parts`](super::Skip::from_parts) looks closer.
    ///
    /// # Errors
    /// If there are more ids than keys, or fewer.
    pub fn from_parts(ids: &[i64], keys: &[f64], left: f64, ones: u64) -> Result<Self> {
        if ids.len() != keys.len() {
            return Err(damaged("keys", format!("{} of them for {} ids", keys.len(), ids.len())));
        }
        let held = keys.iter().zip(ids).map(|(&key, &id)| Held { key, id }).collect();
        Ok(Self { held, left, ones })
    }

    /// Ids and their keys, the smallest key first; the weight that is left, and ones that went by.
    pub fn parts(&self) -> (Vec<i64>, Vec<f64>, f64, u64) {
        let sorted = self.held.clone().into_sorted_vec();
        (
            sorted.iter().map(|held| held.id).collect(),
            sorted.iter().map(|held| held.key).collect(),
            self.left,
            self.ones,
        )
    }

    pub(super) fn check(&self, capacity: usize, seen: u64) -> Result<()> {
        if self.held.len() > capacity || self.held.len() as u64 > seen {
            return Err(damaged("ids", format!("{} of them after {seen} items", self.held.len())));
        }
        if let Some(held) = self.held.iter().find(|held| held.id < 0 || !(held.key > 0.0 && held.key.is_finite())) {
            return Err(damaged("keys", format!("{} for id {}", held.key, held.id)));
        }
        if self.left.is_nan() || self.left < 0.0 || self.ones > seen {
            return Err(damaged("left", format!("{} before {} items", self.left, self.ones)));
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Draws how much weight goes by.
    pub(super) fn jump(&mut self, random: &mut Stream) {
        let largest = self.held.peek().map_or(f64::INFINITY, |held| held.key);
        (self.left, self.ones) = (exponential(random) / largest, 0);
    }

    pub(super) fn add(
        &mut self,
        ids: Ids<'_>,
        weights: Weights<'_>,
        capacity: usize,
        events: &mut Events,
        pace: &mut Pace<'_>,
    ) -> Result<()> {
        let (mut at, len) = (0, ids.len() as usize);
        while at < len && self.held.len() < capacity {
            if weights.at(at) > 0.0 {
                self.fill(ids.at(at as u64), weights.at(at), capacity, &mut events.next());
            }
            at += 1;
            pace.spend(1)?;
        }
        self.left -= std::mem::take(&mut self.ones) as f64;
        while at < len {
            let end = len.min(at + BLOCK);
            let begin = at;
            match self.pass(weights, at..end) {
                Some(taken) => {
                    self.replace(ids.at(taken as u64), weights.at(taken), &mut events.next());
                    at = taken + 1;
                    pace.spend(STEPS)?;
                }
                None => at = end,
            }
            pace.spend((at - begin) as u64)?;
        }
        Ok(())
    }

    /// Lets items go by, up to the one that is to be taken.
    fn pass(&mut self, weights: Weights<'_>, mut span: std::ops::Range<usize>) -> Option<usize> {
        let mut left = self.left;
        let taken = span.find(|&i| {
            left -= weights.at(i);
            left <= 0.0 && weights.at(i) > 0.0
        });
        self.left = left;
        taken
    }

    pub(super) fn add_equal(
        &mut self,
        ids: Ids<'_>,
        capacity: usize,
        events: &mut Events,
        pace: &mut Pace<'_>,
    ) -> Result<()> {
        let mut at = 0;
        while at < ids.len() && self.held.len() < capacity {
            self.fill(ids.at(at), 1.0, capacity, &mut events.next());
            at += 1;
            pace.spend(1)?;
        }
        while at < ids.len() {
            // The first of these is item number 1.
            let number = (self.left.ceil() as u64).max(1).saturating_sub(self.ones).max(1);
            if ids.len() - at < number {
                self.ones += ids.len() - at;
                break;
            }
            at += number;
            self.replace(ids.at(at - 1), 1.0, &mut events.next());
            pace.spend(STEPS)?;
        }
        Ok(())
    }

    fn fill(&mut self, id: i64, weight: f64, capacity: usize, random: &mut Stream) {
        self.held.push(Held { key: exponential(random) / weight, id });
        if self.held.len() == capacity {
            self.jump(random);
        }
    }

    /// Takes an item, whose key is known to be below the largest, in place of that.
    fn replace(&mut self, id: i64, weight: f64, random: &mut Stream) {
        if let Some(mut largest) = self.held.peek_mut() {
            let key = -libm::log1p(random.uniform() * libm::expm1(-largest.key * weight)) / weight;
            *largest = Held { key, id };
        }
        self.jump(random);
    }
}
