//! Per-anchor lists of corpus rows.

use crate::error::{Error, Result};

/// For each anchor a sorted list of distinct corpus rows, in CSR form.
#[derive(Debug, Clone, Default)]
pub struct Lists {
    starts: Vec<usize>,
    rows: Vec<u32>,
    /// Where each entry first stood in the caller's indices.
    origins: Vec<usize>,
}

impl Lists {
    /// Reads `indices[indptr[i]..indptr[i + 1]]` as the list of anchor `i`; repeats are dropped.
    ///
    /// # Errors
    /// If `indptr` does not cut `indices` into `anchors` lists, or an index is no row of the corpus.
    pub fn new(argument: &str, indptr: &[i64], indices: &[i64], anchors: usize, corpus: usize) -> Result<Self> {
        let starts = starts(argument, indptr, indices.len(), anchors, "queries")?;
        let mut lists = Self {
            starts: vec![0],
            rows: Vec::with_capacity(indices.len()),
            origins: Vec::with_capacity(indices.len()),
        };
        let mut list = Vec::new();
        for span in starts.windows(2) {
            list.clear();
            for (position, &index) in indices.iter().enumerate().take(span[1]).skip(span[0]) {
                let row = usize::try_from(index).ok().filter(|&row| row < corpus);
                let outside =
                    || Error::Index { argument: argument.into(), matrix: "corpus", position, index, rows: corpus };
                list.push((row.ok_or_else(outside)? as u32, position));
            }
            list.sort_unstable();
            list.dedup_by_key(|entry| entry.0);
            lists.rows.extend(list.iter().map(|entry| entry.0));
            lists.origins.extend(list.iter().map(|entry| entry.1));
            lists.starts.push(lists.rows.len());
        }
        Ok(lists)
    }

    /// The list of anchor `i`.
    pub fn of(&self, i: usize) -> &[u32] {
        &self.rows[self.span(i)]
    }

    /// Where the entries of [`of`](Self::of) first stood in the caller's indices.
    pub fn origins(&self, i: usize) -> &[usize] {
        &self.origins[self.span(i)]
    }

    /// [`origins`](Self::origins) of all lists, one after the other.
    pub fn all_origins(&self) -> &[usize] {
        &self.origins
    }

    /// Whether the list of anchor `i` holds `row`.
    pub fn holds(&self, i: usize, row: u32) -> bool {
        let list = self.of(i);
        // Most anchors have one positive: a look at it beats a search.
        if list.len() <= 4 { list.contains(&row) } else { list.binary_search(&row).is_ok() }
    }

    /// Number of lists.
    pub fn len(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// Whether there are no lists.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where each list starts in [`rows`](Self::rows), and the total.
    pub fn starts(&self) -> &[usize] {
        &self.starts
    }

    /// All lists, one after the other.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// For each corpus row, everything that shares a list with it: list `r` is the union of the lists that hold `r`.
    #[must_use]
    pub fn company(&self, corpus: usize) -> Self {
        let mut holders = vec![Vec::new(); corpus];
        for i in 0..self.len() {
            for &row in self.of(i) {
                holders[row as usize].push(i);
            }
        }
        let mut company = Self { starts: vec![0], ..Self::default() };
        let mut union = Vec::new();
        for lists in holders {
            union.clear();
            union.extend(lists.iter().flat_map(|&i| self.of(i)));
            union.sort_unstable();
            union.dedup();
            company.rows.extend(&union);
            company.starts.push(company.rows.len());
        }
        company
    }

    fn span(&self, i: usize) -> std::ops::Range<usize> {
        self.starts[i]..self.starts[i + 1]
    }
}

/// Checks that `indptr` cuts `indices` entries into `lists` lists, one for each of the rows that `of` names.
///
/// # Errors
/// If it does not.
pub(crate) fn starts(argument: &str, indptr: &[i64], indices: usize, lists: usize, of: &str) -> Result<Vec<usize>> {
    let remedy = "see the CSR convention of scipy.sparse: list i is indices[indptr[i]:indptr[i + 1]]";
    if indptr.len() != lists + 1 {
        let expected = format!("one list for each of the {lists} {of}");
        let got = indptr.len().saturating_sub(1).to_string();
        return Err(Error::invalid(argument, expected, got, "pass an empty list where there is nothing"));
    }
    let starts: Option<Vec<usize>> = indptr.iter().map(|&start| usize::try_from(start).ok()).collect();
    let starts = starts.filter(|s| s[0] == 0 && s[lists] == indices && s.windows(2).all(|w| w[0] <= w[1]));
    starts.ok_or_else(|| {
        let expected = format!("a CSR pair whose indptr rises from 0 to len(indices) = {indices}");
        Error::invalid(argument, expected, "an indptr that does not", remedy)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted_and_repeats_dropped() {
        let lists = Lists::new("x", &[0, 3, 3, 5], &[4, 2, 4, 0, 1], 3, 5).expect("legal lists");
        assert_eq!((lists.of(0), lists.of(1), lists.of(2)), (&[2, 4][..], &[][..], &[0, 1][..]));
        assert_eq!(lists.origins(0), [1, 0]);
        assert!(lists.holds(0, 4) && !lists.holds(1, 4));
    }

    #[test]
    fn malformed_lists_are_refused() {
        assert!(Lists::new("x", &[0, 1], &[0], 2, 5).is_err());
        assert!(Lists::new("x", &[0, 2, 1], &[0], 2, 5).is_err());
        assert!(Lists::new("x", &[0, 0, 2], &[0], 2, 5).is_err());
        let outside = Lists::new("x", &[0, 1], &[5], 1, 5);
        let expected = Error::Index { argument: "x".into(), matrix: "corpus", position: 0, index: 5, rows: 5 };
        assert_eq!(outside.err(), Some(expected));
    }

    #[test]
    fn company_is_one_hop() {
        let lists = Lists::new("x", &[0, 2, 4, 5], &[0, 1, 1, 2, 3], 3, 5).expect("legal lists");
        let company = lists.company(5);
        assert_eq!(company.of(0), [0, 1]);
        assert_eq!(company.of(1), [0, 1, 2]);
        assert_eq!(company.of(3), [3]);
        assert!(company.of(4).is_empty());
    }
}
