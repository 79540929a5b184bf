//! Communities grown from single rows: clusters that are each other's best partner become one, over and over.
//!
//! What makes a partner best is the mean weight between the rows of both, absent edges counting as 0 (average linkage;
//! P. Sneath and R. Sokal, *Numerical Taxonomy*, 1973). Clusters that are together too large, or have rows that conflict,
//! are no partners, and never will be: their edge goes. All clusters choose at once, so the order of rows does not matter
//! and threads have nothing to wait for (as in the matchings of G. Karypis and V. Kumar, *Multilevel k-way partitioning
//! scheme for irregular graphs*, 1998).

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::batches::conflicts::Conflicts;
use crate::batches::graph::Graph;
use crate::error::Result;
use crate::threads::Workers;

/// Rows that a task looks at.
const SPAN: usize = 1 << 12;
/// How often clusters that found no partner choose again before the graph is made smaller.
const CHOICES: usize = 4;
/// Multiply-adds that looking at one edge takes the time of.
const WORK: u64 = 20;
const NONE: u32 = u32::MAX;

/// Clusters of rows, and what is between them.
struct Clusters<'a> {
    graph: Cow<'a, Graph>,
    sizes: Vec<u32>,
    /// Classes of the rows of each cluster.
    classes: Vec<Vec<u32>>,
}

/// The community of each row, numbered from 0; none has more than `most` rows, or two that conflict.
///
/// # Errors
/// If the call is cancelled.
pub(super) fn merge(graph: &Graph, conflicts: &Conflicts, most: usize, workers: &mut Workers<'_>) -> Result<Vec<u32>> {
    let rows = graph.len();
    let classes = (0..rows as u32).map(|row| conflicts.of(row).to_vec()).collect();
    let mut clusters = Clusters { graph: Cow::Borrowed(graph), sizes: vec![1; rows], classes };
    let mut community: Vec<u32> = (0..rows as u32).collect();
    // Edges between clusters that are too large together go when clusters are merged; single rows were not.
    if most < 2 {
        return Ok(community);
    }
    loop {
        let (parent, count) = paired(&clusters, workers)?;
        if count == clusters.sizes.len() {
            return Ok(community);
        }
        for cluster in &mut community {
            *cluster = parent[*cluster as usize];
        }
        clusters = contracted(clusters, &parent, count, most, workers)?;
    }
}

/// Which cluster each becomes part of, and how many there are then.
fn paired(clusters: &Clusters<'_>, workers: &mut Workers<'_>) -> Result<(Vec<u32>, usize)> {
    let n = clusters.sizes.len();
    let mut partner = vec![NONE; n];
    let mut choice = vec![NONE; n];
    for _ in 0..CHOICES {
        let work = WORK * clusters.graph.ends() as u64;
        let tasks = choice.chunks_mut(SPAN).enumerate().collect();
        workers.run(
            work,
            tasks,
            || (),
            |(), (span, choices): (usize, &mut [u32]), progress| {
                progress.advance(0)?;
                for (offset, choice) in choices.iter_mut().enumerate() {
                    let cluster = span * SPAN + offset;
                    *choice = if partner[cluster] == NONE { best(clusters, cluster, &partner) } else { NONE };
                }
                Ok(())
            },
        )?;
        let mut any = false;
        for cluster in 0..n as u32 {
            let other = choice[cluster as usize];
            if other != NONE && cluster < other && choice[other as usize] == cluster {
                (partner[cluster as usize], partner[other as usize]) = (other, cluster);
                any = true;
            }
        }
        if !any {
            break;
        }
    }
    let mut parent = vec![NONE; n];
    let mut count = 0;
    for cluster in 0..n {
        if parent[cluster] == NONE {
            parent[cluster] = count;
            if partner[cluster] != NONE {
                parent[partner[cluster] as usize] = count;
            }
            count += 1;
        }
    }
    Ok((parent, count as usize))
}

/// The best partner of a cluster among those that have none.
fn best(clusters: &Clusters<'_>, cluster: usize, partner: &[u32]) -> u32 {
    let (mut found, mut highest, mut key) = (NONE, 0.0, 0);
    for (other, weight) in clusters.graph.of(cluster) {
        if partner[other as usize] != NONE {
            continue;
        }
        // The own size divides all of them.
        let mean = weight / clusters.sizes[other as usize] as f32;
        let better = match mean.total_cmp(&highest) {
            Ordering::Less => false,
            Ordering::Equal => tie(cluster as u32, other) > key,
            Ordering::Greater => true,
        };
        if better {
            (found, highest, key) = (other, mean, tie(cluster as u32, other));
        }
    }
    found
}

/// Decides among equals, the same from both sides and unrelated to numbers: long chains of equals would else pair one by one.
fn tie(a: u32, b: u32) -> u64 {
    let mixed = (u64::from(a.min(b)) << 32 | u64::from(a.max(b))).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// The graph of clusters after each was replaced by its parent. Edges go that cannot be chosen any more.
fn contracted(
    clusters: Clusters<'_>,
    parent: &[u32],
    count: usize,
    most: usize,
    workers: &mut Workers<'_>,
) -> Result<Clusters<'static>> {
    let mut children = vec![[NONE; 2]; count];
    let mut sizes = vec![0; count];
    let mut classes = vec![Vec::new(); count];
    for (child, (&parent, own)) in parent.iter().zip(clusters.classes).enumerate() {
        let parent = parent as usize;
        let slot = usize::from(children[parent][0] != NONE);
        children[parent][slot] = child as u32;
        sizes[parent] += clusters.sizes[child];
        if slot == 0 { classes[parent] = own } else { classes[parent].extend(own) }
    }
    for list in &mut classes {
        list.sort_unstable();
    }
    let old = clusters.graph;
    let work = WORK * old.ends() as u64;
    let graph = Graph::by_parts(
        count,
        work,
        workers,
        || vec![NONE; count],
        |place, cluster, part| {
            let mut found = 0;
            for &child in children[cluster].iter().filter(|&&child| child != NONE) {
                for (other, weight) in old.of(child as usize) {
                    let other = parent[other as usize] as usize;
                    let (known, fits) = (place[other], (sizes[cluster] + sizes[other]) as usize <= most);
                    if known != NONE {
                        part.row()[known as usize].1 += weight;
                    } else if other != cluster && fits && apart(&classes[cluster], &classes[other]) {
                        place[other] = found;
                        part.add(other as u32, weight);
                        found += 1;
                    }
                }
            }
            for &mut (other, _) in part.row() {
                place[other as usize] = NONE;
            }
        },
    )?;
    Ok(Clusters { graph: Cow::Owned(graph), sizes, classes })
}

/// Whether two ascending lists have nothing in common.
fn apart(a: &[u32], b: &[u32]) -> bool {
    if a.is_empty() || b.is_empty() {
        return true;
    }
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        match a[i].cmp(&b[j]) {
            Ordering::Less => i += 1,
            Ordering::Greater => j += 1,
            Ordering::Equal => return false,
        }
    }
    true
}
