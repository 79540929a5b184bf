//! A cap on how many anchors one row may serve in an epoch, by tokens that are handed out before it begins.
//!
//! A row that more anchors list than it may serve gives its tokens to some of them at random, others each epoch; the
//! rest do not see it. So no order of draws, and no number of workers, can pass the cap, and the share of anchors that
//! have a token is the probability by which draws weigh the row. Tokens are bits that lie as the lists do, so that a draw
//! reads those of an anchor in a row.

use crate::error::{Error, Result};
use crate::rng::stream;
use crate::tiered::Proposals;
use crate::tiered::identity::Identity;

const PURPOSE: u64 = 0x746f_6b65;

/// Which anchors may draw which of the rows that they list.
#[derive(Debug)]
pub struct Allotment {
    most: u32,
    /// How many anchors list each row, where that is more than `most`; else 0.
    scarce: Vec<u32>,
    sources: Vec<Listed>,
    /// One bit for each position of each list.
    bits: Vec<u64>,
}

/// The lists of one source.
#[derive(Debug)]
struct Listed {
    name: String,
    start: usize,
    width: usize,
}

impl Allotment {
    /// Hands out `most` tokens of each row to anchors that list it; `lists` are for all anchors.
    ///
    /// # Errors
    /// If a list holds a number that is no row.
    pub fn new(identity: &Identity, lists: &[Proposals<'_>], most: u32, (seed, epoch): (u64, u64)) -> Result<Self> {
        let (mut sources, mut start) = (Vec::new(), 0);
        for list in lists {
            sources.push(Listed { name: list.name.to_owned(), start, width: list.width });
            start += list.ids.len();
        }
        let (scarce, bits) = (vec![0; identity.rows()], vec![0; start.div_ceil(64)]);
        let mut allotment = Self { most, scarce, sources, bits };
        let (starts, cells) = allotment.wishes(identity, lists)?;
        let mut mine = Vec::new();
        for row in 0..identity.rows() {
            let of_row = &cells[starts[row]..starts[row + 1]];
            if of_row.len() > most as usize {
                mine.clear();
                mine.extend(of_row.iter().map(|&cell| (allotment.anchor(cell), cell)));
                allotment.hand_out(row, &mut mine, (seed, epoch));
            }
        }
        Ok(allotment)
    }

    /// Marks the positions of all listed rows that identity allows, and returns them by row: where each begins, and all.
    fn wishes(&mut self, identity: &Identity, lists: &[Proposals<'_>]) -> Result<(Vec<usize>, Vec<usize>)> {
        let mut starts = vec![0; identity.rows() + 1];
        for (list, source) in lists.iter().zip(&self.sources) {
            list.check(identity.anchors())?;
            for anchor in 0..identity.anchors() {
                let judge = identity.judge(anchor as u32);
                for position in anchor * list.width..(anchor + 1) * list.width {
                    if let Some(row) = list.row(position, identity.rows())?
                        && !judge.refuses(identity.content(row))
                    {
                        starts[row as usize] += 1;
                        let cell = source.start + position;
                        self.bits[cell / 64] |= 1 << (cell % 64);
                    }
                }
            }
        }
        // Each row's count becomes its end, and its end, going down, its beginning.
        let mut end = 0;
        for start in &mut starts {
            end += *start;
            *start = end;
        }
        let mut cells = vec![0; end];
        for (list, source) in lists.iter().zip(&self.sources).rev() {
            for (position, &id) in list.ids.iter().enumerate().rev() {
                if self.holds(source.start + position) {
                    starts[id as usize] -= 1;
                    cells[starts[id as usize]] = source.start + position;
                }
            }
        }
        Ok((starts, cells))
    }

    /// The anchor whose list a position is of.
    fn anchor(&self, cell: usize) -> u32 {
        let source = self.sources.partition_point(|source| source.start <= cell);
        let Listed { start, width, .. } = self.sources[source - 1];
        ((cell - start) / width) as u32
    }

    /// Leaves the bits of `most` of the anchors that list a row, at random, and takes those of the others.
    fn hand_out(&mut self, row: usize, wishes: &mut [(u32, usize)], (seed, epoch): (u64, u64)) {
        // Two sources may list a row for the same anchor.
        wishes.sort_unstable();
        let mut anchors: Vec<_> = wishes.iter().map(|&(anchor, _)| anchor).collect();
        anchors.dedup();
        if anchors.len() <= self.most as usize {
            return;
        }
        self.scarce[row] = anchors.len() as u32;
        let mut random = stream(seed, epoch, row as u64, PURPOSE);
        for i in 0..self.most as usize {
            let other = i + random.below(anchors.len() - i);
            anchors.swap(i, other);
        }
        let chosen = &mut anchors[..self.most as usize];
        chosen.sort_unstable();
        for (anchor, cell) in wishes {
            if chosen.binary_search(anchor).is_err() {
                self.bits[*cell / 64] &= !(1 << (*cell % 64));
            }
        }
    }

    fn holds(&self, cell: usize) -> bool {
        self.bits[cell / 64] >> (cell % 64) & 1 == 1
    }

    /// The tokens of a source; `None` if it is under no cap.
    pub fn tokens(&self, name: &str) -> Option<Tokens<'_>> {
        let source = self.sources.iter().find(|source| source.name == name)?;
        Some(Tokens { allotment: self, start: source.start, width: source.width })
    }
}

/// The tokens of one source.
#[derive(Debug, Clone, Copy)]
pub struct Tokens<'a> {
    allotment: &'a Allotment,
    start: usize,
    width: usize,
}

impl Tokens<'_> {
    /// Whether `anchor` may draw what stands at a position of its list, which is one that identity allows.
    ///
    /// # Errors
    /// If its list was shorter when tokens were handed out.
    pub(super) fn holds(&self, anchor: u32, position: usize, list: &Proposals<'_>) -> Result<bool> {
        if position < self.width {
            return Ok(self.allotment.holds(self.start + anchor as usize * self.width + position));
        }
        let (argument, expected) = (list.argument("ids"), format!("at most {} an anchor", self.width));
        let remedy = "let a fixed source list the same rows in the same order throughout an epoch";
        Err(Error::invalid(argument, expected, format!("one at position {position}"), remedy))
    }

    /// One over the probability that an anchor which lists `row` may draw it.
    pub(super) fn scarcity(&self, row: u32) -> f64 {
        f64::from(self.allotment.scarce[row as usize].max(self.allotment.most)) / f64::from(self.allotment.most)
    }
}
