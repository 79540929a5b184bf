//! Scores of the lists of many anchors, row by row.
//!
//! Lists of near anchors share many rows. Anchor by anchor, each row would come from memory as often as it is listed, and
//! waiting for it takes several times as long as scoring. So the pairs of a block of anchors are brought into the order of
//! their rows: the anchors stay in the cache, and each row is read once.

use super::Scorer;
use crate::kernel::{BATCH, dots};

/// Buckets that pairs are sorted into at most.
const BUCKETS: usize = 1 << 16;
/// Pairs whose rows are on their way while others are multiplied.
const AHEAD: usize = 16;

/// A row, and what lists it.
#[derive(Debug, Clone, Copy, Default)]
struct Pair {
    row: u32,
    /// The anchor, counted from the first of the block.
    slot: u32,
    /// Where its score goes.
    position: u32,
}

/// Room for one block. One per thread.
#[derive(Debug, Default)]
pub(crate) struct Together {
    anchors: Vec<f32>,
    pairs: Vec<Pair>,
    ends: Vec<u32>,
    row: Vec<f32>,
}

impl Together {
    /// Writes the scores of `rows` into `scores` where there are none yet, but NaN; those of the list of the `i`-th of
    /// `anchors` end at `ends[i]`, where those of the next begin.
    pub(crate) fn score(
        &mut self,
        scorer: &Scorer<'_>,
        anchors: &[u32],
        (ends, rows): (&[usize], &[u32]),
        scores: &mut [f32],
    ) {
        self.sort((ends, rows, scores), scorer.corpus.len());
        self.load(scorer, anchors);
        let dim = scorer.corpus.rows().dim();
        let corpus = scorer.corpus.rows();
        let (mut ahead, mut fetched) = (0, None);
        let mut rest = &self.pairs[..];
        while let Some(&Pair { row, .. }) = rest.first() {
            let (group, others) = rest.split_at(rest.iter().take_while(|pair| pair.row == row).count());
            let reached = self.pairs.len() - others.len() + AHEAD;
            while let Some(pair) = self.pairs.get(ahead).filter(|_| ahead < reached) {
                if fetched.replace(pair.row) != Some(pair.row) {
                    corpus.fetch(pair.row as usize);
                }
                ahead += 1;
            }
            let shared = corpus.row(row as usize, &mut self.row);
            let mut take = |pair: &Pair, product: f64| {
                let norm = scorer.queries.norm(anchors[pair.slot as usize] as usize);
                scores[pair.position as usize] = scorer.scored(norm, row as usize, product);
            };
            let anchor = |pair: &Pair| &self.anchors[pair.slot as usize * dim..][..dim];
            let mut batches = group.chunks_exact(BATCH);
            for batch in &mut batches {
                let products = dots::<BATCH>(scorer.level, shared, [0, 1, 2, 3].map(|i| anchor(&batch[i])));
                batch.iter().zip(products).for_each(|(pair, product)| take(pair, product));
            }
            match batches.remainder() {
                [a, b, c] => {
                    let products = dots(scorer.level, shared, [a, b, c].map(anchor));
                    [a, b, c].into_iter().zip(products).for_each(|(pair, product)| take(pair, product));
                }
                [a, b] => {
                    let products = dots(scorer.level, shared, [a, b].map(anchor));
                    [a, b].into_iter().zip(products).for_each(|(pair, product)| take(pair, product));
                }
                [a] => take(a, dots(scorer.level, shared, [anchor(a)])[0]),
                _ => {}
            }
            rest = others;
        }
    }

    /// Brings the anchors together.
    fn load(&mut self, scorer: &Scorer<'_>, anchors: &[u32]) {
        let queries = scorer.queries.rows();
        let dim = queries.dim();
        self.row.resize(dim, 0.0);
        self.anchors.resize(anchors.len() * dim, 0.0);
        for (&anchor, out) in anchors.iter().zip(self.anchors.chunks_exact_mut(dim.max(1))) {
            out.copy_from_slice(queries.row(anchor as usize, &mut self.row));
        }
    }

    /// Brings all pairs into the order of their rows: by counting, and by comparison where a bucket has several rows.
    fn sort(&mut self, (ends, rows, scores): (&[usize], &[u32], &[f32]), n: usize) {
        let mut shift = 0;
        while n >> shift > BUCKETS {
            shift += 1;
        }
        self.ends.clear();
        self.ends.resize((n >> shift) + 1, 0);
        for (row, _) in rows.iter().zip(scores).filter(|(_, score)| score.is_nan()) {
            self.ends[(row >> shift) as usize] += 1;
        }
        let mut sum = 0;
        for end in &mut self.ends {
            (*end, sum) = (sum, sum + *end);
        }
        self.pairs.resize(sum as usize, Pair::default());
        let mut first = 0;
        for (slot, &end) in ends.iter().enumerate() {
            for position in (first..end).filter(|&position| scores[position].is_nan()) {
                let place = &mut self.ends[(rows[position] >> shift) as usize];
                self.pairs[*place as usize] =
                    Pair { row: rows[position], slot: slot as u32, position: position as u32 };
                *place += 1;
            }
            first = end;
        }
        if shift > 0 {
            let mut first = 0;
            for &end in &self.ends {
                self.pairs[first..end as usize].sort_unstable_by_key(|pair| (pair.row, pair.position));
                first = end as usize;
            }
        }
    }
}
