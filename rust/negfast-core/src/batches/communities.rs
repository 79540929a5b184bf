//! Communities: small sets of rows that are hard for each other.

use crate::batches::conflicts::Conflicts;
use crate::batches::exchange::exchange;
use crate::batches::graph::{Graph, Neighbours};
use crate::batches::merge::merge;
use crate::error::Result;
use crate::threads::Workers;

/// Which rows belong together.
#[derive(Debug, Clone, PartialEq)]
pub struct Communities {
    /// The community of each row. They are numbered from 0 up, in the order of the lowest row of each.
    pub of: Vec<u32>,
    /// Weight of edges within communities.
    pub within: f64,
    /// Weight of all edges.
    pub all: f64,
}

/// Sets of at most `most` rows, none with rows that conflict, with as much weight of mutual edges within them as a heuristic
/// finds. The same for any number of threads.
///
/// # Errors
/// If an entry of a list is no row, or the call is cancelled.
pub fn communities(
    lists: &Neighbours<'_>,
    conflicts: &Conflicts,
    most: usize,
    workers: &mut Workers<'_>,
) -> Result<Communities> {
    let (graph, row_of) = Graph::mutual(lists, conflicts, workers)?;
    let conflicts = conflicts.renumbered(&row_of);
    let merged = merge(&graph, &conflicts, most, workers)?;
    let found = exchange(&graph, &conflicts, merged, most, workers)?;
    let (within, all) = weights(&graph, &found);
    let mut of = vec![0; found.len()];
    for (&row, &community) in row_of.iter().zip(&found) {
        of[row as usize] = community;
    }
    number_by_lowest(&mut of);
    Ok(Communities { of, within, all })
}

fn number_by_lowest(of: &mut [u32]) {
    let mut number = vec![u32::MAX; of.len()];
    let mut next = 0;
    for community in of {
        let slot = &mut number[*community as usize];
        if *slot == u32::MAX {
            *slot = next;
            next += 1;
        }
        *community = *slot;
    }
}

/// Weight within communities, and all weight; each edge counts once.
fn weights(graph: &Graph, community: &[u32]) -> (f64, f64) {
    let (mut within, mut all) = (0.0, 0.0);
    for row in 0..graph.len() {
        for (other, weight) in graph.of(row).filter(|&(other, _)| (other as usize) > row) {
            all += f64::from(weight);
            if community[row] == community[other as usize] {
                within += f64::from(weight);
            }
        }
    }
    (within, all)
}
