//! Rows that an anchor must not get, by a label of theirs.

use crate::error::{Error, Result};

/// So few labels are looked at one by one.
const FEW: usize = 8;

/// One kind of labels: of the rows, and those that each anchor refuses.
#[derive(Debug)]
pub struct Excluded<'a> {
    rows: &'a [i64],
    /// `width` labels for each anchor, ascending.
    refused: Vec<i64>,
    width: usize,
}

impl<'a> Excluded<'a> {
    /// The labels of `rows`, and those refused by each of `anchors`, `refused.len() / anchors` of them; −1 is none.
    ///
    /// # Errors
    /// If labels do not come to so many an anchor; `argument` names them.
    pub fn new(argument: &str, rows: &'a [i64], refused: &[i64], anchors: usize) -> Result<Self> {
        let width = refused.len().checked_div(anchors).unwrap_or(0);
        if width * anchors != refused.len() {
            let expected = format!("as many labels for each of the {anchors} anchors");
            return Err(Error::invalid(argument, expected, refused.len().to_string(), "pad with -1"));
        }
        let mut refused = refused.to_vec();
        refused.chunks_exact_mut(width.max(1)).for_each(<[i64]>::sort_unstable);
        Ok(Self { rows, refused, width })
    }

    /// Whether `anchor` refuses the row in a slot.
    pub(super) fn has(&self, anchor: usize, slot: usize) -> bool {
        let label = self.rows[slot];
        let refused = &self.refused[anchor * self.width..(anchor + 1) * self.width];
        label >= 0 && if self.width <= FEW { refused.contains(&label) } else { refused.binary_search(&label).is_ok() }
    }

    /// How many rows have a label.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }
}
