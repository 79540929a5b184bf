//! How many batches an epoch has, and how large they are.

use crate::batches::conflicts::Conflicts;
use crate::error::{Error, Result};

/// The sizes of all batches of an epoch. A *step* is one batch of every rank; ranks of one step never conflict either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    sizes: Vec<usize>,
    ranks: usize,
    /// Steps of full batches, which come first.
    full: usize,
}

impl Shape {
    /// `steps` steps of full batches for each of `ranks` ranks.
    pub fn full(steps: usize, batch_size: usize, ranks: usize) -> Self {
        Self { sizes: vec![batch_size; steps * ranks], ranks, full: steps }
    }

    /// Batches of given sizes, step by step and rank by rank, as many for each of `ranks` ranks; the first `full` steps are
    /// full.
    ///
    /// # Errors
    /// If they are not, or take more rows than there are.
    pub fn from_sizes(conflicts: &Conflicts, sizes: &[i64], ranks: usize, full: usize) -> Result<Self> {
        let whole = sizes.iter().map(|&size| usize::try_from(size).ok()).collect::<Option<Vec<_>>>();
        let fits = |sizes: &Vec<usize>| {
            let total = sizes.iter().try_fold(0usize, |total, &size| total.checked_add(size));
            let steps = sizes.len().checked_div(ranks);
            steps.is_some_and(|steps| sizes.len() == steps * ranks && full <= steps)
                && total.is_some_and(|total| total <= conflicts.len())
        };
        let sizes = whole.filter(fits).ok_or_else(|| {
            let expected = format!("sizes of batches of {ranks} ranks for {} rows", conflicts.len());
            Error::invalid("sizes", expected, "others", "pass what batch_sizes returned")
        })?;
        Ok(Self { sizes, ranks, full })
    }

    /// This and `steps` more steps, which share `rows` rows as evenly as they can.
    #[must_use]
    pub fn with_short(&self, steps: usize, rows: usize) -> Self {
        let mut sizes = self.sizes.clone();
        let batches = steps * self.ranks;
        sizes.extend((0..batches).map(|i| rows * (i + 1) / batches - rows * i / batches));
        Self { sizes, ranks: self.ranks, full: self.full }
    }

    /// Rows of each batch, step by step and rank by rank.
    pub fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    /// Number of batches of all ranks.
    pub fn batches(&self) -> usize {
        self.sizes.len()
    }

    /// Number of steps.
    pub fn steps(&self) -> usize {
        self.sizes.len() / self.ranks
    }

    /// Number of ranks.
    pub fn ranks(&self) -> usize {
        self.ranks
    }

    /// Number of full steps.
    pub fn full_steps(&self) -> usize {
        self.full
    }

    /// Rows of the full steps.
    pub fn full_rows(&self) -> usize {
        self.sizes[..self.full * self.ranks].iter().sum()
    }

    /// Rows of an epoch.
    pub fn rows(&self) -> usize {
        self.sizes.iter().sum()
    }
}

/// How many steps of `step_rows` rows an epoch is likely to have at most: each step takes at most one row of a class. Counts
/// rows in `order`, in which they will be dealt, without a look at which step has room for them.
pub fn likely_steps(conflicts: &Conflicts, order: &[u32], step_rows: usize) -> usize {
    let (mut low, mut high) = (0, conflicts.len() / step_rows);
    let mut counts = vec![0u32; conflicts.n_classes()];
    while low < high {
        let steps = (low + high).div_ceil(2);
        counts.fill(0);
        let mut usable = 0;
        for &row in order {
            let classes = conflicts.of(row);
            if classes.iter().all(|&class| (counts[class as usize] as usize) < steps) {
                for &class in classes {
                    counts[class as usize] += 1;
                }
                usable += 1;
            }
        }
        (low, high) = if usable / step_rows >= steps { (steps, high) } else { (low, steps - 1) };
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Labels;

    fn conflicts(labels: &[i64]) -> Conflicts {
        Conflicts::new(&[Labels::new("groups", labels, 1, labels.len()).expect("labels")], labels.len())
    }

    fn most_steps(conflicts: &Conflicts, step_rows: usize) -> usize {
        let order: Vec<u32> = (0..conflicts.len() as u32).collect();
        likely_steps(conflicts, &order, step_rows)
    }

    #[test]
    fn a_large_class_costs_steps() {
        assert_eq!(most_steps(&conflicts(&[-1; 10]), 3), 3);
        assert_eq!(most_steps(&conflicts(&[1, 1, 1, 1, 1, 1, 1, -1, -1, -1]), 3), 1);
        assert_eq!(most_steps(&conflicts(&[1; 10]), 2), 0);
        assert_eq!(most_steps(&conflicts(&[1; 10]), 1), 10);
        assert_eq!(most_steps(&conflicts(&[]), 4), 0);
    }

    #[test]
    fn short_steps_share_what_is_left() {
        let shape = Shape::full(1, 4, 2).with_short(2, 7);
        assert_eq!(shape.sizes(), [4, 4, 1, 2, 2, 2]);
        assert_eq!((shape.steps(), shape.rows(), shape.ranks()), (3, 15, 2));
    }
}
