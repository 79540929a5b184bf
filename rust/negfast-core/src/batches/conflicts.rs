//! Which rows may not meet: rows that share a label.
//!
//! Labels become classes: numbers from 0 up, one for each label that two rows or more have. A label that only one row has
//! keeps nobody apart and is dropped, so that what is left of most data is small.

use crate::error::{Error, Result};
use crate::rules::Labels;

/// The classes of each row. Two rows conflict if they share one; sharing is not handed on from row to row.
#[derive(Debug, Clone, Default)]
pub struct Conflicts {
    starts: Vec<usize>,
    classes: Vec<u32>,
    sizes: Vec<u32>,
}

impl Conflicts {
    /// Reads labels of `rows` rows. Labels of one kind are compared with each other, whatever their column.
    pub fn new(kinds: &[Labels<'_>], rows: usize) -> Self {
        let mut members = Vec::new();
        let mut n_classes = 0;
        for labels in kinds {
            n_classes = shared(labels, rows, n_classes, &mut members);
        }
        members.sort_unstable();
        let mut starts = vec![0; rows + 1];
        for &(row, _) in &members {
            starts[row as usize + 1] += 1;
        }
        for row in 0..rows {
            starts[row + 1] += starts[row];
        }
        Self::with_sizes(starts, members.into_iter().map(|(_, class)| class).collect(), n_classes as usize)
    }

    /// Takes up what [`into_parts`](Self::into_parts) gave.
    ///
    /// # Errors
    /// If `indptr` does not cut `classes` into `rows` lists, or a class is no number that so many entries can have.
    pub fn from_parts(indptr: &[i64], classes: &[u32], rows: usize) -> Result<Self> {
        let starts = crate::lists::starts("conflicts", indptr, classes.len(), rows, "rows")?;
        let n_classes = classes.iter().max().map_or(0, |&largest| largest as usize + 1);
        if n_classes > classes.len() {
            let (expected, got) = (format!("numbers below {}", classes.len()), (n_classes - 1).to_string());
            return Err(Error::invalid("conflicts", expected, got, "pass what batch_conflicts returned"));
        }
        Ok(Self::with_sizes(starts, classes.to_vec(), n_classes))
    }

    /// Where the classes of each row begin, with their total, and all classes.
    pub fn into_parts(self) -> (Vec<usize>, Vec<u32>) {
        (self.starts, self.classes)
    }

    fn with_sizes(starts: Vec<usize>, classes: Vec<u32>, n_classes: usize) -> Self {
        let mut sizes = vec![0; n_classes];
        for &class in &classes {
            sizes[class as usize] += 1;
        }
        Self { starts, classes, sizes }
    }

    /// The same with row `row_of[i]` as number `i`.
    #[must_use]
    pub fn renumbered(&self, row_of: &[u32]) -> Self {
        let mut starts = Vec::with_capacity(self.starts.len());
        let mut classes = Vec::with_capacity(self.classes.len());
        starts.push(0);
        for &row in row_of {
            classes.extend(self.of(row));
            starts.push(classes.len());
        }
        Self { starts, classes, sizes: self.sizes.clone() }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of classes.
    pub fn n_classes(&self) -> usize {
        self.sizes.len()
    }

    /// Entries of all rows together.
    pub fn n_entries(&self) -> usize {
        self.classes.len()
    }

    /// The classes of a row.
    pub fn of(&self, row: u32) -> &[u32] {
        &self.classes[self.starts[row as usize]..self.starts[row as usize + 1]]
    }

    /// Rows in a class.
    pub fn size(&self, class: u32) -> usize {
        self.sizes[class as usize] as usize
    }

    /// Whether two rows share a class.
    pub fn between(&self, a: u32, b: u32) -> bool {
        let (a, b) = (self.of(a), self.of(b));
        a.iter().any(|class| b.contains(class))
    }
}

/// Adds the (row, class) pairs of labels that two rows or more have; returns the next free class.
fn shared(labels: &Labels<'_>, rows: usize, mut next: u32, members: &mut Vec<(u32, u32)>) -> u32 {
    let mut pairs: Vec<(i64, u32)> = Vec::new();
    for row in 0..rows {
        pairs.extend(labels.of(row).iter().filter(|&&label| label >= 0).map(|&label| (label, row as u32)));
    }
    pairs.sort_unstable();
    pairs.dedup();
    for run in pairs.chunk_by(|a, b| a.0 == b.0).filter(|run| run.len() > 1) {
        members.extend(run.iter().map(|&(_, row)| (row, next)));
        next += 1;
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_meet_across_columns_and_not_across_kinds() {
        let (keys, groups) = ([1, 2, 2, 3, 4, -1], [3, 7, 7]);
        let kinds =
            [Labels::new("keys", &keys, 2, 3).expect("keys"), Labels::new("groups", &groups, 1, 3).expect("groups")];
        let conflicts = Conflicts::new(&kinds, 3);
        assert_eq!(conflicts.n_classes(), 2);
        assert!(conflicts.between(0, 1) && conflicts.between(1, 2) && !conflicts.between(0, 2));
        assert!(conflicts.of(2).len() == 1);
    }

    #[test]
    fn a_row_that_repeats_a_label_does_not_conflict_with_itself() {
        let keys = [5, 5, 6, 7];
        let conflicts = Conflicts::new(&[Labels::new("keys", &keys, 2, 2).expect("keys")], 2);
        assert_eq!((conflicts.n_classes(), conflicts.n_entries()), (0, 0));
    }
}
