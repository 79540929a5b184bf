//! Communities made better: rows move to, or change places with a row of, the community that they are tied to most.
//!
//! B. Kernighan and S. Lin, *An efficient heuristic procedure for partitioning graphs*, 1970, with many parts at once. In
//! each round all rows look for the move or the exchange that gains most as things stand; then these are made one after the
//! other, those that gain most first, each if it still gains. Looking is nearly all of the work and is shared by threads;
//! what is made does not depend on how.

use crate::batches::conflicts::Conflicts;
use crate::batches::graph::Graph;
use crate::batches::occupied::Occupied;
use crate::error::Result;
use crate::threads::{Workers, split};

/// The most rounds.
const ROUNDS: usize = 6;
/// A round that gains less than this share of all weight within communities is the last.
const WORTH: f64 = 0.015;
/// Communities with whose rows a row considers to change places.
const TARGETS: usize = 2;
/// Communities that a task looks at.
const SPAN: usize = 64;
/// Multiply-adds that looking at one edge takes the time of.
const WORK: u64 = 100;
/// Gains that are no more than rounding.
const NOTHING: f32 = 1e-5;
const NONE: u32 = u32::MAX;

/// What a row would do.
#[derive(Debug, Clone, Copy)]
struct Wish {
    gain: f32,
    row: u32,
    to: u32,
    /// The row that comes in its place.
    back: u32,
}

/// Communities while they are made better.
struct Communities<'a> {
    graph: &'a Graph,
    conflicts: &'a Conflicts,
    most: usize,
    of: Vec<u32>,
    sizes: Vec<u32>,
    occupied: Occupied,
}

/// Who is in each community, and how strongly every row is tied to its own, at the beginning of a round.
struct Snapshot {
    starts: Vec<usize>,
    members: Vec<u32>,
    ties: Vec<f32>,
}

/// Makes communities of at most `most` rows better, none of which has rows that conflict.
///
/// # Errors
/// If the call is cancelled.
pub(super) fn exchange(
    graph: &Graph,
    conflicts: &Conflicts,
    community: Vec<u32>,
    most: usize,
    workers: &mut Workers<'_>,
) -> Result<Vec<u32>> {
    let mut communities = Communities::new(graph, conflicts, community, most);
    // Rows around which something changed since they looked last.
    let mut stirred = vec![true; graph.len()];
    for _ in 0..ROUNDS {
        let snapshot = communities.snapshot(workers)?;
        let within: f64 = snapshot.ties.iter().map(|&tie| f64::from(tie)).sum();
        let mut wishes = communities.wishes(&snapshot, &stirred, workers)?;
        wishes.sort_unstable_by(|a, b| b.gain.total_cmp(&a.gain).then(a.row.cmp(&b.row)));
        stirred.fill(false);
        let gained: f64 = wishes.iter().map(|wish| f64::from(communities.fulfil(wish, &mut stirred))).sum();
        if 2.0 * gained <= WORTH * within {
            break;
        }
    }
    Ok(communities.of)
}

impl<'a> Communities<'a> {
    fn new(graph: &'a Graph, conflicts: &'a Conflicts, of: Vec<u32>, most: usize) -> Self {
        let count = of.iter().max().map_or(0, |&last| last as usize + 1);
        let mut sizes = vec![0; count];
        let mut occupied = Occupied::new(conflicts.n_entries());
        for (row, &community) in of.iter().enumerate() {
            sizes[community as usize] += 1;
            for &class in conflicts.of(row as u32) {
                occupied.insert(class, community);
            }
        }
        Self { graph, conflicts, most, of, sizes, occupied }
    }

    fn snapshot(&self, workers: &mut Workers<'_>) -> Result<Snapshot> {
        let mut starts = vec![0usize; self.sizes.len() + 1];
        for (community, &size) in self.sizes.iter().enumerate() {
            starts[community + 1] = starts[community] + size as usize;
        }
        let mut next = starts.clone();
        let mut members = vec![0; self.of.len()];
        for (row, &community) in self.of.iter().enumerate() {
            members[next[community as usize]] = row as u32;
            next[community as usize] += 1;
        }
        let mut ties = vec![0.0; self.of.len()];
        workers.run(
            WORK * self.graph.ends() as u64 / 4,
            ties.chunks_mut(SPAN * self.most).enumerate().collect(),
            || (),
            |(), (span, ties): (usize, &mut [f32]), progress| {
                progress.advance(0)?;
                for (offset, tie) in ties.iter_mut().enumerate() {
                    let row = (span * SPAN * self.most + offset) as u32;
                    *tie = self.tie(row, self.of[row as usize]);
                }
                Ok(())
            },
        )?;
        Ok(Snapshot { starts, members, ties })
    }

    /// Weight between a row and the rows of a community.
    fn tie(&self, row: u32, community: u32) -> f32 {
        let edges = self.graph.of(row as usize);
        edges.filter(|&(other, _)| self.of[other as usize] == community).map(|(_, weight)| weight).sum()
    }

    /// The best wish of each row that has one.
    fn wishes(&self, snapshot: &Snapshot, stirred: &[bool], workers: &mut Workers<'_>) -> Result<Vec<Wish>> {
        let spans = split(self.sizes.len(), self.sizes.len().div_ceil(SPAN));
        let mut parts: Vec<Vec<Wish>> = vec![Vec::new(); spans.len()];
        workers.run(
            WORK * self.graph.ends() as u64,
            spans.into_iter().zip(&mut parts).collect(),
            || Room::new(self.of.len(), self.sizes.len()),
            |room, (span, wishes), progress| {
                progress.advance(0)?;
                for community in span {
                    self.wishes_of(community, snapshot, stirred, room, wishes);
                }
                Ok(())
            },
        )?;
        Ok(parts.concat())
    }

    fn wishes_of(
        &self,
        community: usize,
        snapshot: &Snapshot,
        stirred: &[bool],
        room: &mut Room,
        wishes: &mut Vec<Wish>,
    ) {
        let members = &snapshot.members[snapshot.starts[community]..snapshot.starts[community + 1]];
        if !members.iter().any(|&row| stirred[row as usize]) {
            return;
        }
        for &row in members.iter().filter(|&&row| stirred[row as usize]) {
            for (other, weight) in self.graph.of(row as usize) {
                room.to_community.add(self.of[other as usize], weight);
            }
            let tie = snapshot.ties[row as usize];
            room.targets.clear();
            let better = room.to_community.touched.iter().filter(|&&to| to as usize != community);
            room.targets
                .extend(better.map(|&to| (room.to_community.sums[to as usize], to)).filter(|&(to, _)| to > tie));
            room.to_community.clear();
            if room.targets.is_empty() {
                continue;
            }
            if room.to_own.touched.is_empty() {
                for (other, weight) in members.iter().flat_map(|&member| self.graph.of(member as usize)) {
                    room.to_own.add(other, weight);
                }
            }
            wishes.extend(self.wish(row, community as u32, snapshot, room));
        }
        room.to_own.clear();
    }

    /// What `row` of community `own` would rather do.
    fn wish(&self, row: u32, own: u32, snapshot: &Snapshot, room: &mut Room) -> Option<Wish> {
        let tie = snapshot.ties[row as usize];
        room.targets.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut best = Wish { gain: NOTHING, row, to: NONE, back: NONE };
        for &(towards, to) in room.targets.iter().take(TARGETS) {
            let gain = towards - tie;
            if gain <= best.gain {
                break;
            }
            if (self.sizes[to as usize] as usize) < self.most && self.fits(row, to, NONE) {
                best = Wish { gain, row, to, back: NONE };
                break;
            }
            for (other, weight) in self.graph.of(row as usize).filter(|&(other, _)| self.of[other as usize] == to) {
                room.edges.add(other, weight);
            }
            for &back in &snapshot.members[snapshot.starts[to as usize]..snapshot.starts[to as usize + 1]] {
                let between = 2.0 * room.edges.sums[back as usize];
                let gain = gain + room.to_own.sums[back as usize] - snapshot.ties[back as usize] - between;
                if gain > best.gain && self.fits(row, to, back) && self.fits(back, own, row) {
                    best = Wish { gain, row, to, back };
                }
            }
            room.edges.clear();
        }
        (best.to != NONE).then_some(best)
    }

    /// Whether no row of a community, but for one that leaves it, conflicts with `row`.
    fn fits(&self, row: u32, community: u32, leaving: u32) -> bool {
        let left = if leaving == NONE { &[][..] } else { self.conflicts.of(leaving) };
        self.conflicts.of(row).iter().all(|class| left.contains(class) || !self.occupied.holds(*class, community))
    }

    /// Fulfils a wish if it still gains; returns what it gained.
    fn fulfil(&mut self, wish: &Wish, stirred: &mut [bool]) -> f32 {
        let (row, to, back) = (wish.row, wish.to, wish.back);
        let own = self.of[row as usize];
        let alone = back == NONE;
        let possible =
            if alone { (self.sizes[to as usize] as usize) < self.most } else { self.of[back as usize] == to };
        if own == to || !possible || !self.fits(row, to, back) || !alone && !self.fits(back, own, row) {
            return 0.0;
        }
        let mut gain = self.tie(row, to) - self.tie(row, own);
        if !alone {
            let between: f32 = self.graph.of(row as usize).filter(|&(other, _)| other == back).map(|(_, w)| w).sum();
            gain += self.tie(back, own) - self.tie(back, to) - 2.0 * between;
        }
        if gain <= NOTHING {
            // Another chance next time: what it was after may still be there.
            stirred[row as usize] = true;
            return 0.0;
        }
        self.leave(row);
        if !alone {
            self.leave(back);
            self.enter(back, own, stirred);
        }
        self.enter(row, to, stirred);
        gain
    }

    fn leave(&mut self, row: u32) {
        let community = self.of[row as usize];
        self.sizes[community as usize] -= 1;
        for &class in self.conflicts.of(row) {
            self.occupied.remove(class, community);
        }
    }

    fn enter(&mut self, row: u32, community: u32, stirred: &mut [bool]) {
        self.of[row as usize] = community;
        self.sizes[community as usize] += 1;
        for &class in self.conflicts.of(row) {
            self.occupied.insert(class, community);
        }
        stirred[row as usize] = true;
        for (other, _) in self.graph.of(row as usize) {
            stirred[other as usize] = true;
        }
    }
}

/// Room for what a thread adds up.
struct Room {
    /// From the own community to each row.
    to_own: Sums,
    /// From a row to each community.
    to_community: Sums,
    /// From a row to each row.
    edges: Sums,
    targets: Vec<(f32, u32)>,
}

impl Room {
    fn new(rows: usize, communities: usize) -> Self {
        Self {
            to_own: Sums::new(rows),
            to_community: Sums::new(communities),
            edges: Sums::new(rows),
            targets: Vec::new(),
        }
    }
}

/// Sums by number, of which few are not 0.
struct Sums {
    sums: Vec<f32>,
    touched: Vec<u32>,
}

impl Sums {
    fn new(n: usize) -> Self {
        Self { sums: vec![0.0; n], touched: Vec::new() }
    }

    fn add(&mut self, at: u32, weight: f32) {
        let sum = &mut self.sums[at as usize];
        // Weights are above 0.
        if *sum == 0.0 {
            self.touched.push(at);
        }
        *sum += weight;
    }

    fn clear(&mut self) {
        for at in self.touched.drain(..) {
            self.sums[at as usize] = 0.0;
        }
    }
}
