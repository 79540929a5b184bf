//! A cap on how many anchors one row may serve, by deferred acceptance.
//!
//! Anchors propose to rows in the order of their wishes; a row that is wanted by more anchors than it may serve
//! keeps those it scores highest with (then the lower anchor), and the others go on to their next wish (D. Gale and
//! L. Shapley, *College Admissions and the Stability of Marriage*, 1962). No anchor and row would both rather have
//! each other than what they got, and the result does not depend on the order of proposals.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap};

use crate::topk::Candidate;

/// Which of its wishes an anchor got.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Assignment {
    /// Positions in the anchor's wishes, ascending.
    pub held: Vec<usize>,
    /// How many wishes it made; those before that are not held were refused.
    pub asked: usize,
}

/// A proposal as its row sees it: the larger is preferred.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Proposal {
    score: f32,
    anchor: usize,
    position: usize,
}

impl Eq for Proposal {}

impl Ord for Proposal {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.anchor.cmp(&self.anchor))
    }
}

impl PartialOrd for Proposal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Gives each anchor up to `wanted` of its `wishes`, each row to at most `most` anchors.
pub fn assign(wishes: &[Vec<Candidate>], wanted: usize, most: usize) -> Vec<Assignment> {
    let mut asked = vec![0; wishes.len()];
    let mut holding = vec![0; wishes.len()];
    let mut rows: HashMap<u32, BinaryHeap<Reverse<Proposal>>> = HashMap::new();
    let mut open: Vec<usize> = (0..wishes.len()).rev().collect();
    while let Some(anchor) = open.pop() {
        while holding[anchor] < wanted && asked[anchor] < wishes[anchor].len() {
            let position = asked[anchor];
            asked[anchor] += 1;
            holding[anchor] += 1;
            let wish = wishes[anchor][position];
            let row = rows.entry(wish.row).or_default();
            row.push(Reverse(Proposal { score: wish.score, anchor, position }));
            if row.len() > most
                && let Some(Reverse(refused)) = row.pop()
            {
                holding[refused.anchor] -= 1;
                if refused.anchor != anchor {
                    open.push(refused.anchor);
                }
            }
        }
    }
    let mut result: Vec<_> = asked.into_iter().map(|asked| Assignment { held: Vec::new(), asked }).collect();
    for Reverse(proposal) in rows.into_values().flatten() {
        result[proposal.anchor].held.push(proposal.position);
    }
    for assignment in &mut result {
        assignment.held.sort_unstable();
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes(lists: &[&[(u32, f32)]]) -> Vec<Vec<Candidate>> {
        lists.iter().map(|list| list.iter().map(|&(row, score)| Candidate { score, row }).collect()).collect()
    }

    #[test]
    fn a_row_keeps_the_anchors_it_scores_highest_with() {
        let wishes = wishes(&[&[(7, 0.5), (8, 0.4)], &[(7, 0.9)], &[(7, 0.5)]]);
        let got = assign(&wishes, 1, 1);
        assert_eq!(got[0], Assignment { held: vec![1], asked: 2 });
        assert_eq!(got[1], Assignment { held: vec![0], asked: 1 });
        assert_eq!(got[2], Assignment { held: vec![], asked: 1 });
        assert_eq!(assign(&wishes, 1, 2)[0].held, [0]);
    }

    #[test]
    fn nobody_is_refused_without_need() {
        let wishes = wishes(&[&[(1, 0.1), (2, 0.2)], &[(1, 0.3), (2, 0.1)]]);
        let got = assign(&wishes, 2, 2);
        assert!(got.iter().all(|a| a.held == [0, 1]));
    }
}
