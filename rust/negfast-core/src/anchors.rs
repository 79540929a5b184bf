//! Which rows of the queries a call mines for.

use crate::error::{Error, Result};

/// Distinct rows of the queries, each with its place in the order asked for.
///
/// A call works through them in ascending order, whatever the order asked for, so that what anchors settle among
/// themselves does not depend on it.
#[derive(Debug, Clone, Default)]
pub struct Anchors {
    rows: Vec<u32>,
    places: Vec<u32>,
}

impl Anchors {
    /// All rows of `queries`, in order.
    pub fn all(queries: usize) -> Self {
        let rows: Vec<u32> = (0..queries as u32).collect();
        Self { places: rows.clone(), rows }
    }

    /// These `rows` of `queries`.
    ///
    /// # Errors
    /// If one of them is no row, or stands there twice.
    pub fn new(argument: &str, rows: &[i64], queries: usize) -> Result<Self> {
        let mut asked = Vec::with_capacity(rows.len());
        for (position, &index) in rows.iter().enumerate() {
            let row = usize::try_from(index).ok().filter(|&row| row < queries);
            let outside =
                || Error::Index { argument: argument.into(), matrix: "queries", position, index, rows: queries };
            asked.push((row.ok_or_else(outside)? as u32, position as u32));
        }
        asked.sort_unstable();
        if let Some(twice) = asked.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let [(row, first), (_, second)] = [twice[0], twice[1]];
            let got = format!("row {row} at positions {first} and {second}");
            return Err(Error::invalid(argument, "distinct rows of the queries", got, "name each row once"));
        }
        let (rows, places) = asked.into_iter().unzip();
        Ok(Self { rows, places })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows, ascending.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// How many of them come before `row`, which is one of them, in ascending order.
    pub fn rank(&self, row: usize) -> usize {
        self.rows.partition_point(|&other| (other as usize) < row)
    }

    /// Where `row`, which is one of them, stands in the order asked for.
    pub fn place(&self, row: usize) -> usize {
        self.places[self.rank(row)] as usize
    }

    /// What belongs to each, `values` of all queries, in the order asked for.
    pub fn pick<T: Copy + Default>(&self, values: &[T]) -> Vec<T> {
        let mut picked = vec![T::default(); self.len()];
        for (&row, &place) in self.rows.iter().zip(&self.places) {
            picked[place as usize] = values[row as usize];
        }
        picked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_asked_for() {
        let anchors = Anchors::new("anchors", &[7, 2, 5], 8).expect("distinct rows");
        assert_eq!(anchors.rows(), [2, 5, 7]);
        assert_eq!([2, 5, 7].map(|row| (anchors.rank(row), anchors.place(row))), [(0, 1), (1, 2), (2, 0)]);
        assert_eq!(anchors.pick(&[0, 10, 20, 30, 40, 50, 60, 70]), [70, 20, 50]);
        assert_eq!(Anchors::all(3).pick(&[4, 5, 6]), [4, 5, 6]);
    }

    #[test]
    fn repeats_and_rows_outside_are_refused() {
        let refusal = |rows: &[i64]| Anchors::new("anchors", rows, 4).expect_err("a refusal").to_string();
        assert!(refusal(&[3, 1, 3]).contains("row 3 at positions 0 and 2"));
        assert!(refusal(&[0, 4]).contains("row numbers of the queries (0 to 4, exclusive), got 4 at position 1"));
        assert!(refusal(&[-1]).contains("got -1"));
    }
}
