//! Rows of the corpus at random, as many for every anchor.

use crate::rng::{Stream, step_stream, stream};

const ROWS: u64 = 0x756e_6966;
const ORDER: u64 = 0x6f72_6465;

/// `width` distinct numbers below `n` for each anchor, every such set alike, or all of them if there are fewer.
///
/// They are a function of the seed, the epoch, the step and the anchor; the result has `min(width, n)` columns.
pub fn uniform(n: u32, width: usize, anchors: &[u32], (seed, epoch, step): (u64, u64, u64)) -> Vec<i64> {
    let width = width.min(n as usize);
    let mut rows = Vec::with_capacity(width * anchors.len());
    let mut seen = Vec::new();
    for &anchor in anchors {
        let mut random = step_stream(seed, epoch, u64::from(anchor), ROWS, step);
        sample(n, width, &mut random, &mut seen);
        rows.extend(seen.iter().map(|&row| i64::from(row)));
    }
    rows
}

/// Floyd's way: each new number, or the highest one allowed if it is there already (J. Bentley and B. Floyd, *A sample of
/// brilliance*, Communications of the ACM 1987).
fn sample(n: u32, width: usize, random: &mut Stream, chosen: &mut Vec<u32>) {
    chosen.clear();
    for highest in n - width as u32..n {
        let row = random.below(highest as usize + 1) as u32;
        chosen.push(if chosen.contains(&row) { highest } else { row });
    }
}

/// `0..n` in an order that is a function of the seed and the epoch, every order alike.
pub fn shuffled(n: u32, seed: u64, epoch: u64) -> Vec<i64> {
    let mut random = stream(seed, epoch, 0, ORDER);
    let mut order: Vec<i64> = (0..i64::from(n)).collect();
    for i in (1..n).rev() {
        order.swap(i as usize, random.below(i as usize + 1));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_distinct_and_belong_to_their_anchor() {
        let together = uniform(9, 4, &[3, 5, 3], (1, 2, 3));
        assert_eq!(together[..4], together[8..]);
        assert_eq!(together[4..8], uniform(9, 4, &[5], (1, 2, 3)));
        assert_ne!(together[..4], uniform(9, 4, &[3], (1, 2, 4)));
        let mut all = uniform(5, 8, &[0], (0, 0, 0));
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn an_order_holds_all() {
        let mut order = shuffled(50, 1, 1);
        assert_ne!(order, shuffled(50, 1, 2));
        order.sort_unstable();
        assert!(order.iter().zip(0..).all(|(a, b)| *a == b));
        assert!(shuffled(0, 1, 1).is_empty());
    }
}
