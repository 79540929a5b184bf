//! Which ids may be held: a table of bits in which "no" is certain.

/// Bits for each id that a table is made for.
const BITS: usize = 32;
/// A table with more ids than one to so many bits says "maybe" too often.
const CROWDED: usize = 8;

/// A Bloom filter with one hash (B. Bloom, *Space/time trade-offs in hash coding with allowable errors*, 1970).
#[derive(Debug, Clone)]
pub(super) struct Filter {
    words: Vec<u64>,
    inserted: usize,
}

impl Filter {
    /// A table for about `ids` ids.
    pub(super) fn new(ids: usize) -> Self {
        let words = (ids.max(64) * BITS / 64).next_power_of_two();
        Self { words: vec![0; words], inserted: 0 }
    }

    /// Remembers an id by its hash.
    pub(super) fn insert(&mut self, hash: u64) {
        let word = self.word(hash);
        self.words[word] |= 1 << (hash & 63);
        self.inserted += 1;
    }

    /// Whether an id of this hash may have been inserted.
    #[inline]
    pub(super) fn may_have(&self, hash: u64) -> bool {
        self.words[self.word(hash)] >> (hash & 63) & 1 == 1
    }

    /// Whether it is worth making anew.
    pub(super) fn is_crowded(&self) -> bool {
        self.inserted * CROWDED > self.words.len() * 64
    }

    #[inline]
    fn word(&self, hash: u64) -> usize {
        // There is a power of two of them.
        (hash >> 6) as usize & (self.words.len() - 1)
    }
}
