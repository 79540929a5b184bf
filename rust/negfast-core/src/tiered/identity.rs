//! Which rows are no negatives of which anchors, for draws: by id alone, and fast enough to be asked at every step.
//!
//! Near-copies stand and fall together. All copies of one content are a *unit*: what refuses one of them for an anchor
//! refuses all, and a draw takes at most one.

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::lists::Lists;
use crate::rules::Labels;

/// Lists of numbers, each ascending and without repeats.
#[derive(Debug)]
struct Ragged<T> {
    starts: Vec<u32>,
    values: Vec<T>,
}

impl<T: Ord + Copy> Ragged<T> {
    /// One list for each of `0..n`, filled by `fill`.
    fn collect(n: usize, mut fill: impl FnMut(usize, &mut Vec<T>)) -> Self {
        let (mut ragged, mut list) = (Self { starts: vec![0], values: Vec::new() }, Vec::new());
        for i in 0..n {
            list.clear();
            fill(i, &mut list);
            list.sort_unstable();
            list.dedup();
            ragged.values.extend(&list);
            ragged.starts.push(ragged.values.len() as u32);
        }
        ragged
    }

    fn of(&self, i: usize) -> &[T] {
        &self.values[self.starts[i] as usize..self.starts[i + 1] as usize]
    }
}

/// What a draw looks up about each row that is proposed, in one place of memory.
#[derive(Debug, Clone, Copy, Default)]
pub struct Content {
    /// The unit that the row is of.
    pub unit: u32,
    /// Marks of the labels of the unit: what shares none with an anchor shares no label with it.
    marks: u32,
}

/// One of 32 marks; equal values have equal ones.
fn mark(value: i64) -> u32 {
    1 << ((value as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 59)
}

/// Numbers units: rows of one label are copies, rows with a label below 0 are copies of none. Returns how many there are.
fn number(labels: &[i64], contents: &mut [Content]) -> usize {
    let mut numbers = HashMap::new();
    let mut n = 0u32;
    let mut next = || {
        n += 1;
        n - 1
    };
    for (content, &label) in contents.iter_mut().zip(labels) {
        content.unit = if label < 0 { next() } else { *numbers.entry(label).or_insert_with(&mut next) };
    }
    n as usize
}

/// The rows of each unit.
fn members(contents: &[Content], units: usize) -> Ragged<u32> {
    let mut members = vec![Vec::new(); units];
    for (row, content) in contents.iter().enumerate() {
        members[content.unit as usize].push(row as u32);
    }
    Ragged::collect(units, |unit, list| list.append(&mut members[unit]))
}

/// Labels of one kind, keys or groups: what each anchor bans, and what each unit has.
#[derive(Debug)]
struct Banned {
    by_anchor: Ragged<i64>,
    by_unit: Ragged<i64>,
}

/// What a draw knows about rows and anchors.
#[derive(Debug)]
pub struct Identity {
    contents: Vec<Content>,
    /// The rows of each unit, where there are copies.
    copies: Option<Ragged<u32>>,
    positives: Ragged<u32>,
    banned: Vec<Banned>,
}

impl Identity {
    /// Reads what there is to know of `rows` rows: labels that copies share, the positives of each anchor, and pairs of
    /// labels of anchors and rows.
    ///
    /// # Errors
    /// If there is not one copy label for each row, or more rows than fit 32 bits.
    pub fn new(
        rows: usize,
        copies: Option<&[i64]>,
        positives: &Lists,
        labels: &[(Labels<'_>, Labels<'_>)],
    ) -> Result<Self> {
        if rows >= u32::MAX as usize {
            let remedy = "split the corpus";
            return Err(Error::invalid("n_rows", "below 4294967295", rows.to_string(), remedy));
        }
        if let Some(found) = copies.map(<[i64]>::len).filter(|&found| found != rows) {
            let (expected, remedy) = (format!("one label for each of the {rows} rows"), "use -1 for a row without");
            return Err(Error::invalid("duplicates", expected, found.to_string(), remedy));
        }
        let mut contents: Vec<_> = (0..rows as u32).map(|unit| Content { unit, marks: 0 }).collect();
        let units = copies.map(|labels| number(labels, &mut contents));
        let copies = units.map(|units| members(&contents, units));
        let mut identity = Self { contents, copies, positives: Ragged::collect(0, |_, _| ()), banned: Vec::new() };
        let units = |anchor: usize| positives.of(anchor).iter().map(|&row| identity.unit(row));
        let positive_units = Ragged::collect(positives.len(), |anchor, list| list.extend(units(anchor)));
        let banned = labels.iter().map(|pair| identity.bans(pair, &positive_units)).collect();
        (identity.positives, identity.banned) = (positive_units, banned);
        identity.mark_rows();
        Ok(identity)
    }

    fn mark_rows(&mut self) {
        let mut contents = std::mem::take(&mut self.contents);
        for content in &mut contents {
            let labels = self.banned.iter().flat_map(|banned| banned.by_unit.of(content.unit as usize));
            content.marks = labels.fold(0, |marks, &label| marks | mark(label));
        }
        self.contents = contents;
    }

    fn bans(&self, (anchors, corpus): &(Labels<'_>, Labels<'_>), positives: &Ragged<u32>) -> Banned {
        let real = |label: &&i64| **label >= 0;
        let by_unit = Ragged::collect(self.units(), |unit, list| {
            let mut add = |row: usize| list.extend(corpus.of(row).iter().filter(real));
            match &self.copies {
                None => add(unit),
                Some(copies) => copies.of(unit).iter().for_each(|&row| add(row as usize)),
            }
        });
        let by_anchor = Ragged::collect(positives.starts.len() - 1, |anchor, list| {
            list.extend(anchors.of(anchor).iter().filter(real));
            list.extend(positives.of(anchor).iter().flat_map(|&unit| by_unit.of(unit as usize)));
        });
        Banned { by_anchor, by_unit }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.contents.len()
    }

    /// Number of anchors.
    pub fn anchors(&self) -> usize {
        self.positives.starts.len() - 1
    }

    /// Number of distinct contents.
    pub fn units(&self) -> usize {
        self.copies.as_ref().map_or(self.rows(), |copies| copies.starts.len() - 1)
    }

    /// What is known of a row at once.
    pub fn content(&self, row: u32) -> Content {
        self.contents[row as usize]
    }

    /// The unit that a row is of.
    pub fn unit(&self, row: u32) -> u32 {
        self.content(row).unit
    }

    /// How many copies a unit has.
    pub fn size(&self, unit: u32) -> usize {
        self.copies.as_ref().map_or(1, |copies| copies.of(unit as usize).len())
    }

    /// What is refused to one anchor.
    pub fn judge(&self, anchor: u32) -> Judge<'_> {
        let anchor = anchor as usize;
        let positives = self.positives.of(anchor);
        let labels = self.banned.iter().flat_map(|banned| banned.by_anchor.of(anchor));
        let marks = labels.fold(0, |marks, &label| marks | mark(label));
        Judge { anchor, positives, banned: &self.banned, marks }
    }
}

/// What is refused to one anchor: units of which a row is a positive, or shares a label with the anchor or with a positive
/// of it.
#[derive(Debug)]
pub struct Judge<'a> {
    anchor: usize,
    positives: &'a [u32],
    banned: &'a [Banned],
    marks: u32,
}

impl Judge<'_> {
    /// Whether a row must not be a negative of the anchor.
    pub fn refuses(&self, content: Content) -> bool {
        holds(self.positives, content.unit) || (self.marks & content.marks != 0 && self.shares_label(content.unit))
    }

    fn shares_label(&self, unit: u32) -> bool {
        let shares = |banned: &Banned| {
            let labels = banned.by_anchor.of(self.anchor);
            banned.by_unit.of(unit as usize).iter().any(|&label| holds(labels, label))
        };
        self.banned.iter().any(shares)
    }
}

/// Whether an ascending list holds a value. Most lists are short: a look at all of it beats a search.
fn holds<T: Ord + Copy>(list: &[T], value: T) -> bool {
    if list.len() <= 8 { list.contains(&value) } else { list.binary_search(&value).is_ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_stand_and_fall_together() {
        let positives = Lists::new("positives", &[0, 1, 1], &[1], 2, 6).expect("legal lists");
        let labels = || Labels::new("groups", &[7, 8, -1, 9, -1, 9], 1, 6).expect("a label a row");
        let own = Labels::new("groups", &[-1, 9], 1, 2).expect("a label an anchor");
        let identity =
            Identity::new(6, Some(&[0, 5, 5, -1, 0, -1]), &positives, &[(own, labels())]).expect("legal labels");
        assert_eq!((identity.units(), identity.size(identity.unit(4))), (4, 2));
        let refused =
            |anchor| (0..6).filter(|&row| identity.judge(anchor).refuses(identity.content(row))).collect::<Vec<_>>();
        assert_eq!(refused(0), [1, 2]); // the positive and its copy
        assert_eq!(refused(1), [3, 5]); // the group of the anchor
    }
}
