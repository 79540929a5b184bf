//! Bounded buffers of candidates, compacted by selection.

use std::cmp::Reverse;

use crate::error::{Error, Result};

/// A corpus row and its score (or, while a search runs, an estimate of it).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Larger is closer.
    pub score: f32,
    /// Row of the corpus.
    pub row: u32,
}

impl Candidate {
    /// Whether this candidate comes before `other` in the one order of the crate.
    pub fn ranks_before(self, other: Self) -> bool {
        self.key() > other.key()
    }

    /// An integer that sorts as candidates do: score, then the lower row as the larger.
    ///
    /// Scores are finite and never −0, so integer order is the order of the numbers.
    fn key(self) -> u64 {
        let bits = self.score.to_bits();
        let ordered = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
        u64::from(ordered) << 32 | u64::from(!self.row)
    }

    fn from_key(key: u64) -> Self {
        let ordered = (key >> 32) as u32;
        let bits = if ordered >> 31 == 1 { ordered & !(1 << 31) } else { !ordered };
        Self { score: f32::from_bits(bits), row: !(key as u32) }
    }
}

/// Sorts best first: score descending, then lower row. This is the one order of the crate.
pub fn sort_best_first(candidates: &mut [Candidate]) {
    if candidates.is_sorted_by_key(|c| Reverse(c.key())) {
        return;
    }
    // Keys are made once, and not again for each comparison.
    let mut keys: Vec<u64> = candidates.iter().map(|c| c.key()).collect();
    keys.sort_unstable();
    for (candidate, &key) in candidates.iter_mut().zip(keys.iter().rev()) {
        *candidate = Candidate::from_key(key);
    }
}

/// Moves the `k` best to the front, in no order, and returns the worst of them; `None` if there are fewer than `k`.
pub fn select_best(candidates: &mut [Candidate], k: usize) -> Option<Candidate> {
    if k == 0 || candidates.len() < k {
        return None;
    }
    let (_, kth, _) = candidates.select_nth_unstable_by_key(k - 1, |c| Reverse(c.key()));
    Some(*kth)
}

/// A table of results, `rows × columns`, filled with `value`; `argument` is what sets its width.
///
/// # Errors
/// If there is no memory for it.
pub fn table<T: Copy>(argument: &str, rows: usize, columns: usize, value: T) -> Result<Vec<T>> {
    let mut table = Vec::new();
    let size = rows.checked_mul(columns).filter(|&size| table.try_reserve_exact(size).is_ok());
    let Some(size) = size else {
        let expected = format!("small enough for {rows} rows of results in memory");
        return Err(Error::invalid(argument, expected, columns.to_string(), "ask for fewer"));
    };
    table.resize(size, value);
    Ok(table)
}

/// One bounded buffer per anchor, in one allocation.
#[derive(Debug, Default)]
pub struct Buffers {
    keys: Vec<u64>,
    lens: Vec<u32>,
    capacity: usize,
}

impl Buffers {
    /// The capacity that serves a list of `k`: about every `k` candidates that reach the threshold, one selection
    /// raises it. The constant keeps short lists from compacting all the time.
    pub fn capacity_for(k: usize) -> usize {
        k.saturating_mul(2).saturating_add(32)
    }

    /// Empty buffers for `anchors` lists of `k`.
    pub fn new(anchors: usize, k: usize) -> Self {
        let mut buffers = Self::default();
        buffers.reset(anchors, k);
        buffers
    }

    /// Empties all buffers, for `anchors` lists of `k`.
    pub fn reset(&mut self, anchors: usize, k: usize) {
        self.capacity = Self::capacity_for(k);
        self.keys.resize(anchors * self.capacity, 0);
        self.lens.clear();
        self.lens.resize(anchors, 0);
    }

    /// Adds a candidate; returns whether the buffer is full now and has to be compacted before the next.
    #[inline]
    pub fn push(&mut self, anchor: usize, candidate: Candidate) -> bool {
        let len = self.lens[anchor] as usize;
        self.keys[anchor * self.capacity..][..self.capacity][len] = candidate.key();
        self.lens[anchor] += 1;
        len + 1 == self.capacity
    }

    /// The candidates of an anchor, in no order.
    pub fn list(&self, anchor: usize) -> impl ExactSizeIterator<Item = Candidate> + '_ {
        self.keys[anchor * self.capacity..][..self.lens[anchor] as usize].iter().map(|&key| Candidate::from_key(key))
    }

    /// How many candidates an anchor has.
    pub fn len(&self, anchor: usize) -> usize {
        self.lens[anchor] as usize
    }

    /// The `k`-th best score of an anchor; `None` if it has fewer.
    pub fn kth(&mut self, anchor: usize, k: usize) -> Option<f32> {
        let keys = &mut self.keys[anchor * self.capacity..][..self.lens[anchor] as usize];
        if k == 0 || keys.len() < k {
            return None;
        }
        let (_, kth, _) = keys.select_nth_unstable_by_key(k - 1, |&key| Reverse(key));
        Some(Candidate::from_key(*kth).score)
    }

    /// Drops what scores below `lowest`.
    pub fn retain_from(&mut self, anchor: usize, lowest: f32) {
        let bound = Candidate { score: lowest, row: u32::MAX }.key();
        let keys = &mut self.keys[anchor * self.capacity..][..self.lens[anchor] as usize];
        let mut kept = 0;
        for i in 0..keys.len() {
            let key = keys[i];
            keys[kept] = key;
            kept += usize::from(key >= bound);
        }
        self.lens[anchor] = kept as u32;
    }

    /// Replaces the candidates of an anchor.
    ///
    /// # Panics
    /// If there are more than the capacity.
    pub fn replace(&mut self, anchor: usize, candidates: impl Iterator<Item = Candidate>) {
        let room = &mut self.keys[anchor * self.capacity..][..self.capacity];
        let mut len = 0;
        for candidate in candidates {
            room[len] = candidate.key();
            len += 1;
        }
        self.lens[anchor] = len as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_candidates_do_and_come_back() {
        let scores = [f32::MIN, -1.5, -1e-30, 0.0, 1e-40, 0.25, 1.0, f32::MAX];
        for (i, &low) in scores.iter().enumerate() {
            for row in [0, 7, u32::MAX - 1] {
                let c = Candidate { score: low, row };
                assert_eq!(Candidate::from_key(c.key()), c);
                for &high in &scores[i + 1..] {
                    assert!(Candidate { score: high, row: 9 }.key() > c.key());
                }
            }
        }
        let tie = |row| Candidate { score: 0.5, row };
        assert!(tie(3).key() > tie(4).key());
    }

    #[test]
    fn buffers_keep_the_best() {
        let mut buffers = Buffers::new(2, 3);
        for row in 0..20u32 {
            buffers.push(1, Candidate { score: (row * 7 % 20) as f32, row });
        }
        let kth = buffers.kth(1, 3).expect("twenty candidates");
        assert_eq!(kth.to_bits(), 17.0f32.to_bits());
        buffers.retain_from(1, kth);
        let mut best: Vec<_> = buffers.list(1).collect();
        sort_best_first(&mut best);
        assert_eq!(best.iter().map(|c| c.score).collect::<Vec<_>>(), [19.0, 18.0, 17.0]);
        assert_eq!(buffers.len(0), 0);
    }
}
