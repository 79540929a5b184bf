//! A cap on how many anchors one row may serve in an epoch, by tokens that are handed out before it begins.
//!
//! A row that more anchors list than it may serve gives its tokens to some of them at random, others each epoch; the
//! rest do not see it. So no order of draws, and no number of workers, can pass the cap, and the share of anchors that
//! have a token is the probability by which draws weigh the row.

use crate::error::Result;
use crate::rng::stream;
use crate::tiered::Proposals;
use crate::tiered::identity::Identity;

const PURPOSE: u64 = 0x746f_6b65;

/// Which anchors may draw which of the rows that they list.
#[derive(Debug)]
pub struct Allotment {
    most: u32,
    wanted: Vec<u32>,
    starts: Vec<usize>,
    anchors: Vec<u32>,
}

impl Allotment {
    /// Hands out `most` tokens of each row to anchors that list it: `lists` are parallel to `anchors`.
    ///
    /// # Errors
    /// If a list holds a number that is no row.
    pub fn new(
        identity: &Identity,
        lists: &[Proposals<'_>],
        anchors: &[u32],
        most: u32,
        (seed, epoch): (u64, u64),
    ) -> Result<Self> {
        let mut pairs = wishes(identity, lists, anchors)?;
        pairs.sort_unstable();
        pairs.dedup();
        let mut allotment =
            Self { most, wanted: vec![0; identity.rows()], starts: vec![0; identity.rows() + 1], anchors: Vec::new() };
        let mut row_starts = 0;
        for row in 0..identity.rows() {
            let mine = pairs[row_starts..].iter().take_while(|pair| (*pair >> 32) as usize == row).count();
            allotment.hand_out(row, &mut pairs[row_starts..row_starts + mine], (seed, epoch));
            row_starts += mine;
            allotment.starts[row + 1] = allotment.anchors.len();
        }
        Ok(allotment)
    }

    fn hand_out(&mut self, row: usize, pairs: &mut [u64], (seed, epoch): (u64, u64)) {
        self.wanted[row] = pairs.len() as u32;
        if pairs.len() <= self.most as usize {
            return;
        }
        let mut random = stream(seed, epoch, row as u64, PURPOSE);
        for i in 0..self.most as usize {
            let other = i + random.below((pairs.len() - i) as u32) as usize;
            pairs.swap(i, other);
        }
        let chosen = &mut pairs[..self.most as usize];
        chosen.sort_unstable();
        self.anchors.extend(chosen.iter().map(|pair| *pair as u32));
    }

    /// One over the probability that an anchor which lists `row` may draw it.
    pub fn scarcity(&self, row: u32) -> f64 {
        f64::from(self.wanted[row as usize].max(self.most)) / f64::from(self.most)
    }

    /// Whether `anchor`, which lists `row`, may draw it.
    pub fn allows(&self, row: u32, anchor: u32) -> bool {
        let row = row as usize;
        self.wanted[row] <= self.most
            || self.anchors[self.starts[row]..self.starts[row + 1]].binary_search(&anchor).is_ok()
    }
}

/// Rows above anchors, as one number each, of all listed rows that identity allows.
fn wishes(identity: &Identity, lists: &[Proposals<'_>], anchors: &[u32]) -> Result<Vec<u64>> {
    let mut pairs = Vec::new();
    for list in lists {
        list.check(anchors.len())?;
        for (place, &anchor) in anchors.iter().enumerate() {
            let judge = identity.judge(anchor);
            for position in place * list.width..(place + 1) * list.width {
                if let Some(row) = list.row(position, identity.rows())?
                    && !judge.refuses(identity.unit(row))
                {
                    pairs.push(u64::from(row) << 32 | u64::from(anchor));
                }
            }
        }
    }
    Ok(pairs)
}
