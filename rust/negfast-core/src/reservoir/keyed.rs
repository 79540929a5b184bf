//! Bottom-k: every id has a key, and the smallest keys are kept.
//!
//! The key is an exponential number of rate `weight`, −ln(1 − u) / weight, with u a hash of seed and id, so it is the same
//! wherever the id is met. Taking the k smallest is drawing k distinct ids without replacement, each draw in proportion to
//! weight (P. Efraimidis and P. Spirakis, *Weighted random sampling with a reservoir*, 2006; E. Cohen and H. Kaplan,
//! *Summarizing data using bottom-k sketches*, 2007). Which are smallest depends on neither order nor repetition.
//!
//! # What is held
//!
//! All ids whose key, by their last weight, lies below a *threshold*. The threshold only falls: when `room` is full, the
//! entries behind the first k are forgotten, and the first of them becomes the threshold. So whatever was forgotten or
//! turned away has a key at or above it, and the held ids are exactly the first ones of all ids in the order of their last
//! keys. The sample is the first k of them.
//!
//! An id is forgotten where its key reaches the threshold, by a smaller weight too, and comes back where its key falls below.
//! As an id that was forgotten is not known, ids whose weights fell leave a gap that only later ids fill: the sample is
//! shorter than k then, but no other than the beginning of the true one. There are k spare entries before that happens.
//!
//! # How a stream is scanned
//!
//! As −ln(1 − u) ≥ u, most ids are turned away by comparing u with threshold times weight, without a logarithm. Where all
//! weights have been the same, an id that is held passes that too. Where not, it may come with so small a weight that it does
//! not, and has to be looked for: a [`Filter`] says which ids cannot be held.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::filter::Filter;
use super::mixer::STEPS;
use super::{Ids, MAX_WEIGHT, Mixer, Pace, Weights, check_capacity, damaged};
use crate::error::{Error, Result};

/// Sets the keys of ids apart from other random numbers of a seed.
const PURPOSE: u64 = 0x6b65_7965;
/// Ids whose hashes are computed at once.
const BLOCK: usize = 512;
/// The least number of spare entries.
const SPARE: usize = 64;
/// More than the rounding of a product and a logarithm.
const ROUNDING: f64 = 1.0 + 1e-14;

#[derive(Debug, Clone, Copy, PartialEq)]
struct Entry {
    key: f64,
    id: i64,
}

impl Entry {
    fn order(&self, other: &Self) -> Ordering {
        self.key.total_cmp(&other.key).then(self.id.cmp(&other.id))
    }
}

/// Where entries begin to be forgotten: a key, and an id that decides among equal keys.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// Infinite as long as nothing was forgotten.
    pub key: f64,
    /// The id that had it.
    pub id: i64,
}

const OPEN: Threshold = Threshold { key: f64::INFINITY, id: i64::MIN };

impl Threshold {
    /// Whether an id of this key may be held.
    fn admits(&self, key: f64, id: i64) -> bool {
        key.total_cmp(&self.key).then(id.cmp(&self.id)).is_lt()
    }
}

/// What a keyed reservoir holds, and what it knows about the rest.
#[derive(Debug, Clone, PartialEq)]
pub struct Parts<'a> {
    /// All ids below the threshold, spare ones included.
    pub ids: Cow<'a, [i64]>,
    /// Their keys.
    pub keys: Cow<'a, [f64]>,
    /// All keys of other ids lie there or above.
    pub threshold: Threshold,
    /// No id is held that is heavier.
    pub heaviest: f64,
}

/// Hashes ids for the table of positions.
#[derive(Debug, Default, Clone)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_i64(i64::from(byte));
        }
    }

    fn write_i64(&mut self, id: i64) {
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        let x = (self.0 ^ id as u64).wrapping_mul(ODD);
        self.0 = (x ^ (x >> 32)).wrapping_mul(ODD);
    }
}

/// A sample of distinct ids.
#[derive(Debug, Clone)]
pub struct Keyed {
    capacity: usize,
    seed: u64,
    mixer: Mixer,
    seen: u64,
    entries: Vec<Entry>,
    /// Where in `entries` an id is.
    places: HashMap<i64, u32, BuildHasherDefault<IdHasher>>,
    threshold: Threshold,
    /// At least the weight of every entry.
    heaviest: f64,
    /// Has every entry. Made when weights first differ, and again when entries were forgotten.
    filter: Option<Filter>,
}

impl Keyed {
    /// A reservoir that nothing was added to.
    ///
    /// # Errors
    /// If the capacity is 0 or above [`MAX_CAPACITY`](super::MAX_CAPACITY).
    pub fn new(capacity: usize, seed: u64) -> Result<Self> {
        check_capacity(capacity)?;
        let (entries, places, mixer) = (Vec::new(), HashMap::default(), Mixer::new(seed, PURPOSE));
        Ok(Self { capacity, seed, mixer, seen: 0, entries, places, threshold: OPEN, heaviest: 0.0, filter: None })
    }

    /// A reservoir from what [`seen`](Self::seen) and [`parts`](Self::parts) returned.
    ///
    /// # Errors
    /// If no reservoir of this capacity can hold these.
    pub fn from_parts(capacity: usize, seed: u64, seen: u64, parts: &Parts<'_>) -> Result<Self> {
        let mut keyed = Self::new(capacity, seed)?;
        if parts.ids.len() >= keyed.room() || parts.ids.len() as u64 > seen || parts.ids.len() != parts.keys.len() {
            return Err(damaged("ids", format!("{} of them, with {} keys", parts.ids.len(), parts.keys.len())));
        }
        if parts.threshold.key.is_nan() || !(0.0..=MAX_WEIGHT).contains(&parts.heaviest) {
            return Err(damaged("threshold", format!("{} with weights up to {}", parts.threshold.key, parts.heaviest)));
        }
        for (&id, &key) in parts.ids.iter().zip(parts.keys.iter()) {
            if id < 0 || !(key > 0.0 && key.is_finite() && parts.threshold.admits(key, id)) {
                return Err(damaged("keys", format!("{key} for id {id}")));
            }
            keyed.hold(Entry { key, id });
        }
        if keyed.places.len() != parts.ids.len() {
            return Err(damaged("ids", "they repeat"));
        }
        (keyed.seen, keyed.threshold, keyed.heaviest) = (seen, parts.threshold, parts.heaviest);
        Ok(keyed)
    }

    /// All that is held, in the order of keys.
    pub fn parts(&self) -> Parts<'static> {
        let (ids, keys) = self.sorted().iter().map(|entry| (entry.id, entry.key)).unzip::<_, _, Vec<_>, Vec<_>>();
        Parts { ids: ids.into(), keys: keys.into(), threshold: self.threshold, heaviest: self.heaviest }
    }

    pub(crate) fn add(&mut self, ids: Ids<'_>, weights: Option<Weights<'_>>, pace: &mut Pace<'_>) -> Result<()> {
        let (mut room, mut weight_room) = ([0; BLOCK], [0.0; BLOCK]);
        let mut begin = 0;
        while begin < ids.len() {
            let block = ids.block(begin, &mut room);
            self.add_block(block, weights.map(|weights| weights.block(begin, &mut weight_room[..block.len()])));
            begin += block.len() as u64;
            pace.spend(block.len() as u64)?;
        }
        self.seen += ids.len();
        Ok(())
    }

    fn add_block(&mut self, ids: &[i64], weights: Option<&[f64]>) {
        let (least, most) = weights.map_or((1.0, 1.0), ends);
        self.heaviest = self.heaviest.max(most);
        let (mut found, mixer) = ([0; BLOCK], self.mixer);
        let found = if least >= self.heaviest {
            let limit = (self.limit(most) * STEPS) as u64;
            matches(&mut found, ids.len(), |i| mixer.step(ids[i] as u64) <= limit)
        } else {
            match weights {
                None => self.find_uneven(ids, |_| 1.0, &mut found),
                Some(weights) => self.find_uneven(ids, |i| weights[i], &mut found),
            }
        };
        for i in found.iter().map(|&i| i as usize) {
            self.offer(ids[i], weights.map_or(1.0, |weights| weights[i]));
        }
    }

    /// The positions of ids that may be held, already or after this block.
    fn find_uneven<'a>(
        &mut self,
        ids: &[i64],
        weight: impl Fn(usize) -> f64,
        found: &'a mut [u32; BLOCK],
    ) -> &'a [u32] {
        let mut hashes = [0; BLOCK];
        for (hash, &id) in hashes.iter_mut().zip(ids) {
            *hash = self.mixer.bits(id as u64);
        }
        let limit = self.limit(1.0) * STEPS;
        let mut filter = self.filter.take().filter(|filter| !filter.is_crowded()).unwrap_or_else(|| self.made_filter());
        // Signed, because processors convert those at once.
        for &i in matches(&mut *found, ids.len(), |i| (hashes[i] >> 12) as i64 as f64 <= limit * weight(i)) {
            filter.insert(hashes[i as usize]);
        }
        let found = matches(found, ids.len(), |i| filter.may_have(hashes[i]));
        self.filter = Some(filter);
        found
    }

    fn made_filter(&self) -> Filter {
        let mut filter = Filter::new(self.entries.len());
        for entry in &self.entries {
            filter.insert(self.mixer.bits(entry.id as u64));
        }
        filter
    }

    /// An id of this weight, or a smaller one, has a key at or above the threshold where its uniform number lies above this.
    fn limit(&self, weight: f64) -> f64 {
        self.threshold.key * weight * ROUNDING
    }

    fn exponential(&self, id: i64) -> f64 {
        -libm::log1p(-self.mixer.uniform(id as u64))
    }

    /// Holds an id, holds it no longer, or leaves it out, as its weight demands.
    fn offer(&mut self, id: i64, weight: f64) {
        let place = self.places.get(&id).map(|&place| place as usize);
        // Those that the filter was wrong about need no logarithm.
        if place.is_none() && self.mixer.uniform(id as u64) > self.limit(weight) {
            return;
        }
        let key = if weight > 0.0 { self.exponential(id) / weight } else { f64::INFINITY };
        match (place, self.threshold.admits(key, id)) {
            (Some(place), true) => self.entries[place].key = key,
            (Some(place), false) => self.forget(place),
            (None, true) => self.hold(Entry { key, id }),
            (None, false) => {}
        }
    }

    fn hold(&mut self, entry: Entry) {
        if let Some(filter) = &mut self.filter {
            filter.insert(self.mixer.bits(entry.id as u64));
        }
        self.places.insert(entry.id, self.entries.len() as u32);
        self.entries.push(entry);
        if self.entries.len() == self.room() {
            self.compact();
        }
    }

    fn forget(&mut self, place: usize) {
        let gone = self.entries.swap_remove(place);
        self.places.remove(&gone.id);
        if let Some(moved) = self.entries.get(place) {
            self.places.insert(moved.id, place as u32);
        }
    }

    fn room(&self) -> usize {
        self.capacity + self.capacity.max(SPARE)
    }

    /// Forgets all but the first `capacity`.
    fn compact(&mut self) {
        let (_, &mut next, _) = self.entries.select_nth_unstable_by(self.capacity, Entry::order);
        self.entries.truncate(self.capacity);
        self.threshold = Threshold { key: next.key, id: next.id };
        self.find_places();
    }

    fn find_places(&mut self) {
        self.filter = None;
        self.places.clear();
        self.places.extend(self.entries.iter().enumerate().map(|(place, entry)| (entry.id, place as u32)));
    }

    pub(crate) fn merge(&mut self, other: &Self) -> Result<()> {
        check_same("capacity", self.capacity as u64, other.capacity as u64)?;
        check_same("seed", self.seed, other.seed)?;
        let seen = self.seen + other.seen;
        if self.entries.is_empty() && self.threshold == OPEN {
            *self = Self { seen, ..other.clone() };
            return Ok(());
        }
        if self.threshold.admits(other.threshold.key, other.threshold.id) {
            self.threshold = other.threshold;
            self.entries.retain(|entry| other.threshold.admits(entry.key, entry.id));
            self.find_places();
        }
        for &entry in &other.entries {
            if self.threshold.admits(entry.key, entry.id) {
                self.take_over(entry);
            }
        }
        self.heaviest = self.heaviest.max(other.heaviest);
        self.seen = seen;
        Ok(())
    }

    fn take_over(&mut self, entry: Entry) {
        match self.places.get(&entry.id) {
            Some(&place) => self.entries[place as usize] = entry,
            None => self.hold(entry),
        }
    }

    /// How many items were offered.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// How many ids are in the sample.
    pub fn len(&self) -> usize {
        self.entries.len().min(self.capacity)
    }

    /// Whether the sample is empty.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn sorted(&self) -> Vec<Entry> {
        let mut sorted = self.entries.clone();
        sorted.sort_unstable_by(Entry::order);
        sorted
    }

    /// The sample, smallest key first.
    pub fn ids(&self) -> Vec<i64> {
        self.sorted().iter().take(self.capacity).map(|entry| entry.id).collect()
    }

    /// For each id of the sample, how likely it was to be in it, given the keys of all others.
    pub fn probabilities(&self) -> Vec<f64> {
        let sorted = self.sorted();
        let next = sorted.get(self.capacity).map_or(self.threshold.key, |entry| entry.key);
        // Its weight is the number that its key was divided from, over the key.
        let probability = |entry: &Entry| -libm::expm1(-self.exponential(entry.id) / entry.key * next);
        sorted.iter().take(self.capacity).map(probability).collect()
    }
}

fn check_same(name: &str, own: u64, others: u64) -> Result<()> {
    if own == others {
        return Ok(());
    }
    let expected = format!("a reservoir of {name} {own}, as this one");
    Err(Error::invalid("other", expected, format!("{name} {others}"), "make both alike"))
}

/// The least and the largest weight, in eight lanes.
fn ends(weights: &[f64]) -> (f64, f64) {
    let (mut least, mut most) = ([f64::INFINITY; 8], [0.0f64; 8]);
    for eight in weights.chunks(8) {
        for ((least, most), &weight) in least.iter_mut().zip(&mut most).zip(eight) {
            *least = if weight < *least { weight } else { *least };
            *most = if weight > *most { weight } else { *most };
        }
    }
    (least.into_iter().fold(f64::INFINITY, f64::min), most.into_iter().fold(0.0, f64::max))
}

/// Writes the positions from 0 to `n`, exclusive, for which `test` holds; without a branch.
#[inline(always)]
fn matches(found: &mut [u32; BLOCK], n: usize, test: impl Fn(usize) -> bool) -> &[u32] {
    let mut count = 0;
    for i in 0..n.min(BLOCK) {
        found[count] = i as u32;
        count += usize::from(test(i));
    }
    &found[..count]
}
