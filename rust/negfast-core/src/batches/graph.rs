//! Which rows are hard for each other, from mined lists.
//!
//! An edge joins two rows that are in each other's list, within a window of ranks. Rows that half the corpus lists (hubs)
//! list few of those rows themselves, so being mutual is what keeps communities from forming around them.
//!
//! Rows are numbered anew here, along paths from neighbour to neighbour: what is near in the graph is then near in memory,
//! which for a million rows decides about speed.

use std::ops::Range;

use crate::batches::conflicts::Conflicts;
use crate::error::{Error, Result};
use crate::threads::{Progress, Workers, cut, split};

/// Multiply-adds that looking at one entry of a list takes the time of.
const WORK: u64 = 20;
/// Lists between two looks at whether the call was cancelled.
const SPAN: usize = 1 << 12;
/// Neighbours that a path may go on to.
const BRANCHES: usize = 8;
/// Every edge draws its rows together, if only a little: scores may be 0 or below.
const LEAST: f32 = 1e-6;
/// What stands for a row without a list.
const NO_LIST: u32 = u32::MAX;

/// Mined lists of rows among rows.
#[derive(Debug)]
pub struct Neighbours<'a> {
    indices: &'a [i64],
    scores: &'a [f32],
    width: usize,
    window: Range<usize>,
    /// The most that an entry of each list may score.
    caps: Vec<f32>,
    list_of: Vec<u32>,
}

impl<'a> Neighbours<'a> {
    /// Lists of `width` entries, list `i` being that of row `anchors[i]`, of which the ranks in `window` are read.
    ///
    /// An entry that scores more than `p - |p| * margin` is left out, `p` being the positive score of the list. NaN for `p`
    /// leaves out none.
    ///
    /// # Errors
    /// If shapes do not fit, or an anchor is no row, or has two lists.
    pub fn new(
        lists: (&'a [i64], &'a [f32], usize),
        anchors: &[i64],
        positive_scores: &[f32],
        margin: f64,
        window: Range<usize>,
        rows: usize,
    ) -> Result<Self> {
        let (indices, scores, width) = lists;
        let n = anchors.len();
        if indices.len() != n * width || scores.len() != n * width || positive_scores.len() != n {
            let expected = format!("{n} lists of {width} rows and as many scores, and {n} positive scores");
            return Err(Error::invalid("mined", expected, "other shapes", "pass what mine returned"));
        }
        let mut list_of = vec![NO_LIST; rows];
        for (list, &anchor) in anchors.iter().enumerate() {
            let slot = usize::try_from(anchor).ok().and_then(|row| list_of.get_mut(row));
            match slot {
                Some(slot) if *slot == NO_LIST => *slot = list as u32,
                _ => {
                    let expected = format!("lists of different rows, each below {rows}");
                    return Err(Error::invalid("mined.anchors", expected, anchor.to_string(), "mine for these rows"));
                }
            }
        }
        let cap = |&p: &f32| (f64::from(p) - f64::from(p.abs()) * margin) as f32;
        let caps = positive_scores.iter().map(|p| if p.is_nan() { f32::INFINITY } else { cap(p) }).collect();
        let window = window.start.min(width)..window.end.min(width);
        Ok(Self { indices, scores, width, window, caps, list_of })
    }

    fn rows(&self) -> usize {
        self.list_of.len()
    }

    /// The most that an entry of the list of `row` may score.
    fn cap(&self, row: usize) -> f32 {
        self.caps.get(self.list_of[row] as usize).copied().unwrap_or(0.0)
    }

    /// Work of looking at all entries once.
    fn work(&self) -> u64 {
        WORK * self.caps.len() as u64 * self.window.len() as u64
    }

    /// Entries of the list of `row` within the window.
    fn span(&self, row: usize) -> Range<usize> {
        match self.list_of[row] {
            NO_LIST => 0..0,
            list => list as usize * self.width + self.window.start..list as usize * self.width + self.window.end,
        }
    }

    /// All rows, each followed by the nearest of its neighbours that is new, and so on: depth first.
    fn path(&self) -> Vec<u32> {
        let mut path = Vec::with_capacity(self.rows());
        let mut met = vec![false; self.rows()];
        let mut open: Vec<u32> = Vec::new();
        for row in 0..self.rows() as u32 {
            open.push(row);
            while let Some(row) = open.pop() {
                if std::mem::replace(&mut met[row as usize], true) {
                    continue;
                }
                path.push(row);
                let nearest = self.indices[self.span(row as usize)].iter().take(BRANCHES).rev();
                // What is no row is padding: `check` has looked.
                open.extend(
                    nearest.map(|&other| other as u32).filter(|&other| met.get(other as usize) == Some(&false)),
                );
            }
        }
        path
    }

    /// Refuses entries that are neither rows nor padding.
    fn check(&self, workers: &mut Workers<'_>) -> Result<()> {
        let lists = split(self.caps.len(), self.caps.len().div_ceil(SPAN));
        let rows = self.rows() as i64;
        workers.run(
            self.work(),
            lists,
            || (),
            |(), span, progress| {
                progress.advance(0)?;
                let begin = span.start * self.width;
                let entries = &self.indices[begin..span.end * self.width];
                let wrong = entries.iter().position(|&index| index < -1 || index >= rows);
                wrong.map_or(Ok(()), |at| {
                    let (position, index) = (begin + at, entries[at]);
                    let argument = "mined.indices".to_owned();
                    Err(Error::Index { argument, matrix: "rows", position, index, rows: self.rows() })
                })
            },
        )
    }
}

/// Lists whose rows are numbered along a path.
struct Arranged<'a> {
    lists: &'a Neighbours<'a>,
    row_of: Vec<u32>,
    /// The entries of each list, `NO_LIST` for those that can be no edge.
    entries: Vec<u32>,
}

impl<'a> Arranged<'a> {
    fn new(lists: &'a Neighbours<'a>, workers: &mut Workers<'_>) -> Result<Self> {
        let row_of = workers.alone(lists.work(), |_| Ok(lists.path()))?;
        let mut number_of = vec![0; row_of.len()];
        for (number, &row) in row_of.iter().enumerate() {
            number_of[row as usize] = number as u32;
        }
        let width = lists.window.len();
        let mut entries = crate::topk::table("mined", row_of.len(), width, NO_LIST)?;
        workers.run(
            lists.work(),
            entries.chunks_mut((SPAN * width).max(1)).enumerate().collect(),
            || (),
            |(), (span, entries): (usize, &mut [u32]), progress| {
                progress.advance(0)?;
                for (offset, own) in entries.chunks_mut(width.max(1)).enumerate() {
                    let row = row_of[span * SPAN + offset] as usize;
                    let (places, cap) = (lists.span(row), lists.cap(row));
                    let held = lists.indices[places.clone()].iter().zip(&lists.scores[places]);
                    for (entry, (&other, &score)) in own.iter_mut().zip(held) {
                        let number = number_of.get(other as usize).filter(|_| score <= cap && other as usize != row);
                        *entry = number.copied().unwrap_or(NO_LIST);
                    }
                }
                Ok(())
            },
        )?;
        Ok(Self { lists, row_of, entries })
    }

    fn len(&self) -> usize {
        self.row_of.len()
    }

    /// Entries of a row that may be edges.
    fn of(&self, number: usize) -> impl Iterator<Item = (usize, f32)> + '_ {
        let width = self.lists.window.len();
        let scores = &self.lists.scores[self.lists.span(self.row_of[number] as usize)];
        let entries = self.entries[number * width..(number + 1) * width].iter().zip(scores);
        entries.filter(|&(&other, _)| other != NO_LIST).map(|(&other, &score)| (other as usize, score))
    }

    /// Entries that point to a lower row, gathered there: list `i` holds the `j > i` whose list has `i`.
    fn backward(&self, workers: &mut Workers<'_>) -> Result<Graph> {
        gathered(self.len(), self.lists.work(), workers, |targets, progress, meet| {
            for row in targets.start..self.len() {
                if row % SPAN == 0 {
                    progress.advance(0)?;
                }
                for (other, score) in self.of(row).filter(|(other, _)| *other < row && targets.contains(other)) {
                    meet(other, row as u32, score);
                }
            }
            Ok(())
        })
    }

    /// Entries that point both ways, at the lower row.
    fn both_ways(&self, back: &Graph, conflicts: &Conflicts, workers: &mut Workers<'_>) -> Result<Graph> {
        let spans = split(self.len(), self.len().div_ceil(SPAN));
        let mut parts: Vec<Part> = vec![Part::default(); spans.len()];
        workers.run(
            self.lists.work(),
            spans.into_iter().zip(&mut parts).collect(),
            || vec![f32::NAN; self.len()],
            |own, (span, part), progress| {
                progress.advance(0)?;
                for row in span {
                    for (other, score) in self.of(row).filter(|(other, _)| *other > row) {
                        own[other] = score;
                    }
                    for (other, score) in back.of(row) {
                        let mine = std::mem::replace(&mut own[other as usize], f32::NAN);
                        if !mine.is_nan() && !conflicts.between(row as u32, other) {
                            part.add(other, (0.5 * (mine + score)).max(LEAST));
                        }
                    }
                    for (other, _) in self.of(row) {
                        own[other] = f32::NAN;
                    }
                    part.end_row();
                }
                Ok(())
            },
        )?;
        Ok(Graph::joined(parts))
    }
}

/// An undirected graph with weights; each edge is in the lists of both ends.
#[derive(Debug, Clone, Default)]
pub(super) struct Graph {
    starts: Vec<usize>,
    neighbours: Vec<u32>,
    weights: Vec<f32>,
}

impl Graph {
    /// The mutual entries of lists as edges, without those of rows that conflict, and which row each of its numbers is. The
    /// weight is the mean of both scores.
    ///
    /// # Errors
    /// If an entry is no row, or the call is cancelled.
    pub(super) fn mutual(
        lists: &Neighbours<'_>,
        conflicts: &Conflicts,
        workers: &mut Workers<'_>,
    ) -> Result<(Self, Vec<u32>)> {
        lists.check(workers)?;
        let arranged = Arranged::new(lists, workers)?;
        let back = arranged.backward(workers)?;
        let forward = arranged.both_ways(&back, &conflicts.renumbered(&arranged.row_of), workers)?;
        drop(back);
        Ok((symmetric(&forward, workers)?, arranged.row_of))
    }

    /// Puts parts one after the other.
    pub(super) fn joined(parts: Vec<Part>) -> Self {
        let mut graph = Self { starts: vec![0], ..Self::default() };
        let total = parts.iter().map(|part| part.neighbours.len()).sum();
        graph.neighbours.reserve_exact(total);
        graph.weights.reserve_exact(total);
        for part in parts {
            let begin = graph.neighbours.len();
            graph.starts.extend(part.ends.iter().map(|end| begin + end));
            graph.neighbours.extend(part.neighbours);
            graph.weights.extend(part.weights);
        }
        graph
    }

    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// Number of edges, each counted from both ends.
    pub(super) fn ends(&self) -> usize {
        self.neighbours.len()
    }

    /// Edges of a row: the other ends and the weights.
    pub(super) fn of(&self, row: usize) -> impl Iterator<Item = (u32, f32)> + '_ {
        let span = self.starts[row]..self.starts[row + 1];
        self.neighbours[span.clone()].iter().copied().zip(self.weights[span].iter().copied())
    }
}

/// The edges of some rows that follow each other.
#[derive(Debug, Clone, Default)]
pub(super) struct Part {
    ends: Vec<usize>,
    neighbours: Vec<u32>,
    weights: Vec<f32>,
}

impl Part {
    /// Adds an edge to the row that is not ended yet.
    pub(super) fn add(&mut self, other: u32, weight: f32) {
        self.neighbours.push(other);
        self.weights.push(weight);
    }

    /// The edges of the row that is not ended yet.
    pub(super) fn row(&mut self) -> (&[u32], &mut [f32]) {
        let begin = self.ends.last().copied().unwrap_or(0);
        (&self.neighbours[begin..], &mut self.weights[begin..])
    }

    /// Ends the row.
    pub(super) fn end_row(&mut self) {
        self.ends.push(self.neighbours.len());
    }
}

/// Edges at both of their ends, from edges at the lower one.
fn symmetric(forward: &Graph, workers: &mut Workers<'_>) -> Result<Graph> {
    gathered(forward.len(), WORK * forward.ends() as u64, workers, |targets, progress, meet| {
        for row in 0..targets.end {
            if row % SPAN == 0 {
                progress.advance(0)?;
            }
            let own = targets.contains(&row);
            for (other, weight) in forward.of(row) {
                if own {
                    meet(row, other, weight);
                }
                if targets.contains(&(other as usize)) {
                    meet(other as usize, row as u32, weight);
                }
            }
        }
        Ok(())
    })
}

/// Gathers entries by the row that they belong to. `visit` tells those that belong to a range of rows, always in the same
/// order. Each thread owns a range and visits everything, which beats exchanging entries between threads.
fn gathered(
    rows: usize,
    work: u64,
    workers: &mut Workers<'_>,
    visit: impl Fn(&Range<usize>, &Progress, &mut dyn FnMut(usize, u32, f32)) -> Result<()> + Sync,
) -> Result<Graph> {
    let spans = split(rows, workers.threads());
    let mut counts = vec![0usize; rows];
    let pieces = cut(&mut counts, spans.iter().map(ExactSizeIterator::len));
    let count = |(span, counts): (Range<usize>, &mut [usize]), progress: &Progress| {
        visit(&span, progress, &mut |row, _, _| counts[row - span.start] += 1)
    };
    workers.run(
        work,
        spans.iter().cloned().zip(pieces).collect(),
        || (),
        |(), task, progress| count(task, progress),
    )?;
    let mut starts = Vec::with_capacity(rows + 1);
    starts.push(0);
    for count in &counts {
        starts.push(starts[starts.len() - 1] + count);
    }
    let (mut neighbours, mut weights) = (vec![0u32; starts[rows]], vec![0f32; starts[rows]]);
    let lengths = || spans.iter().map(|span| starts[span.end] - starts[span.start]);
    let pieces = cut(&mut neighbours, lengths()).into_iter().zip(cut(&mut weights, lengths()));
    let fill = |(span, (neighbours, weights)): (Range<usize>, (&mut [u32], &mut [f32])), progress: &Progress| {
        let mut next: Vec<usize> = starts[span.clone()].iter().map(|start| start - starts[span.start]).collect();
        visit(&span, progress, &mut |row, other, weight| {
            let place = &mut next[row - span.start];
            (neighbours[*place], weights[*place]) = (other, weight);
            *place += 1;
        })
    };
    workers.run(work, spans.iter().cloned().zip(pieces).collect(), || (), |(), task, progress| fill(task, progress))?;
    Ok(Graph { starts, neighbours, weights })
}
