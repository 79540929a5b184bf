//! Which rows are hard for each other, from mined lists.
//!
//! An edge joins two rows that are in each other's list, within a window of ranks. Rows that half the corpus lists (hubs)
//! list few of those rows themselves, so being mutual is what keeps communities from forming around them.
//!
//! Rows are numbered anew here, along paths from neighbour to neighbour: what is near in the graph is then near in memory,
//! which for a million rows decides about speed.

use std::ops::Range;

use crate::aligned::Aligned;
use crate::batches::conflicts::Conflicts;
use crate::error::{Error, Result};
use crate::threads::{Workers, split};

/// Multiply-adds that looking at one entry of a list takes the time of.
const WORK: u64 = 20;
/// A search of a list takes the time of looking at so many entries.
const SEARCH: u64 = 4;
/// Marks that are compared without a branch, and entries in a cache line.
const CHUNK: usize = 16;
/// Marks in a cache line.
const LINE: usize = 64;
/// Rows of a task.
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

/// Lists whose rows are numbered along a path. What they hold is looked up in no order, so it lies in large pages.
struct Arranged {
    row_of: Vec<u32>,
    width: usize,
    /// The entries of each list, `NO_LIST` for those that can be no edge.
    entries: Aligned<u32>,
    scores: Aligned<f32>,
    /// A byte for each entry, told by its number: a search reads a quarter of the memory that entries take. Lists begin at
    /// a cache line here.
    marks: Aligned<u8>,
}

/// Entries, scores and marks of some lists.
type Parts<'s> = ((&'s mut [u32], &'s mut [f32]), &'s mut [u8]);

/// An entry of a list, and the first chunk of the list that it points to which may hold an entry that points back.
struct Open {
    other: usize,
    score: f32,
    chunk: usize,
}

impl Arranged {
    fn new(lists: &Neighbours<'_>, workers: &mut Workers<'_>) -> Result<Self> {
        let row_of = workers.alone(lists.work(), |_| Ok(lists.path()))?;
        let mut number_of = vec![0; row_of.len()];
        for (number, &row) in row_of.iter().enumerate() {
            number_of[row as usize] = number as u32;
        }
        let (n, width) = (row_of.len(), lists.window.len());
        let mut made = Self {
            row_of,
            width,
            entries: Aligned::zeros(n * width),
            scores: Aligned::zeros(n * width),
            marks: Aligned::zeros(n * width.next_multiple_of(LINE)),
        };
        if width > 0 {
            made.fill(lists, &number_of, workers)?;
        }
        Ok(made)
    }

    fn fill(&mut self, lists: &Neighbours<'_>, number_of: &[u32], workers: &mut Workers<'_>) -> Result<()> {
        let (width, stride, row_of) = (self.width, self.stride(), &self.row_of);
        let parts = self.entries.chunks_mut(SPAN * width).zip(self.scores.chunks_mut(SPAN * width));
        let parts = parts.zip(self.marks.chunks_mut(SPAN * stride)).enumerate().collect();
        workers.run(
            lists.work(),
            parts,
            || (),
            |(), (span, ((entries, scores), marks)): (usize, Parts<'_>), progress| {
                progress.advance(0)?;
                let own = entries.chunks_mut(width).zip(scores.chunks_mut(width)).zip(marks.chunks_mut(stride));
                for (offset, ((entries, scores), marks)) in own.enumerate() {
                    let row = row_of[span * SPAN + offset] as usize;
                    let (places, cap) = (lists.span(row), lists.cap(row));
                    entries.fill(NO_LIST);
                    scores[..places.len()].copy_from_slice(&lists.scores[places.clone()]);
                    for ((entry, &other), &score) in entries.iter_mut().zip(&lists.indices[places]).zip(scores.iter()) {
                        let number = number_of.get(other as usize).filter(|_| score <= cap && other as usize != row);
                        *entry = number.copied().unwrap_or(NO_LIST);
                    }
                    marks.iter_mut().zip(entries.iter()).for_each(|(own, &entry)| *own = mark(entry));
                }
                Ok(())
            },
        )
    }

    fn len(&self) -> usize {
        self.row_of.len()
    }

    /// Marks of a list, with those that only fill its last cache line.
    fn stride(&self) -> usize {
        self.width.next_multiple_of(LINE)
    }

    /// Entries of a row that may be edges.
    fn of(&self, number: usize) -> impl Iterator<Item = (usize, f32)> + '_ {
        let places = number * self.width..(number + 1) * self.width;
        let entries = self.entries[places.clone()].iter().zip(&self.scores[places]);
        entries.filter(|&(&other, _)| other != NO_LIST).map(|(&other, &score)| (other as usize, score))
    }

    /// Entries that point both ways as edges, without those of rows that conflict.
    fn mutual(&self, conflicts: &Conflicts, workers: &mut Workers<'_>) -> Result<Graph> {
        let work = SEARCH * WORK * self.entries.len() as u64;
        Graph::by_parts(self.len(), work, workers, Vec::new, |open, row, part| {
            self.open(row, open);
            for &Open { other, score, chunk } in open.iter() {
                if let Some(back) = self.score_of(other, row as u32, chunk)
                    && !conflicts.between(row as u32, other as u32)
                {
                    part.add(other as u32, (0.5 * (score + back)).max(LEAST));
                }
            }
        })
    }

    /// Collects the entries of a row that may point both ways.
    ///
    /// A search would wait for one cache line after the other. Here all lines of one kind are looked at in a row: such looks
    /// do not depend on each other, so their lines come many at a time.
    fn open(&self, row: usize, open: &mut Vec<Open>) {
        let mut seen = 0u32;
        for (other, _) in self.of(row) {
            for &mark in self.marks[other * self.stride()..(other + 1) * self.stride()].iter().step_by(LINE) {
                seen = seen.wrapping_add(u32::from(mark));
            }
        }
        open.clear();
        open.extend(
            self.of(row).filter_map(|(other, score)| {
                self.chunk(other, row as u32, 0).map(|chunk| Open { other, score, chunk })
            }),
        );
        for &Open { other, chunk, .. } in open.iter() {
            if let Some(at) = self.places(other, chunk).last() {
                seen = seen.wrapping_add(self.entries[at]).wrapping_add(self.scores[at].to_bits());
            }
        }
        std::hint::black_box(seen);
    }

    /// The first chunk of the list of a row, from one on, that may hold `entry`.
    fn chunk(&self, number: usize, entry: u32, from: usize) -> Option<usize> {
        let (marks, own) = (&self.marks[number * self.stride()..(number + 1) * self.stride()], mark(entry));
        let holds = |chunk: &[u8]| chunk.iter().fold(0, |held, &other| held | u8::from(other == own)) > 0;
        marks[from * CHUNK..].chunks_exact(CHUNK).position(holds).map(|chunk| from + chunk)
    }

    /// Where the entries of a chunk are.
    fn places(&self, number: usize, chunk: usize) -> Range<usize> {
        let begin = number * self.width;
        begin + (chunk * CHUNK).min(self.width)..begin + ((chunk + 1) * CHUNK).min(self.width)
    }

    /// The score of `entry` in the list of a row, where no chunk before `chunk` holds it.
    fn score_of(&self, number: usize, entry: u32, mut chunk: usize) -> Option<f32> {
        loop {
            let mut places = self.places(number, chunk);
            if let Some(at) = places.find(|&at| self.entries[at] == entry) {
                return Some(self.scores[at]);
            }
            chunk = self.chunk(number, entry, chunk + 1)?;
        }
    }
}

/// A byte that tells most numbers from each other, neighbours above all.
fn mark(number: u32) -> u8 {
    (number.wrapping_mul(0x9e37_79b1) >> 24) as u8
}

/// An undirected graph with weights; each edge is in the lists of both ends.
#[derive(Debug, Clone, Default)]
pub(super) struct Graph {
    /// Of `SPAN` rows each.
    parts: Vec<Part>,
    rows: usize,
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
        let graph = arranged.mutual(&conflicts.renumbered(&arranged.row_of), workers)?;
        Ok((graph, arranged.row_of))
    }

    /// Makes the edges of each row by `edges`, on threads that each have a state of their own from `start`.
    ///
    /// # Errors
    /// If the call is cancelled.
    pub(super) fn by_parts<S>(
        rows: usize,
        work: u64,
        workers: &mut Workers<'_>,
        start: impl Fn() -> S + Sync,
        edges: impl Fn(&mut S, usize, &mut Part) + Sync,
    ) -> Result<Self> {
        let mut parts = vec![Part::default(); rows.div_ceil(SPAN)];
        workers.run(work, parts.iter_mut().enumerate().collect(), start, |state, (span, part), progress| {
            progress.advance(0)?;
            for row in span * SPAN..rows.min((span + 1) * SPAN) {
                edges(state, row, part);
                part.ends.push(part.edges.len() as u32);
            }
            part.edges.shrink_to_fit();
            Ok(())
        })?;
        Ok(Self { parts, rows })
    }

    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        self.rows
    }

    /// Number of edges, each counted from both ends.
    pub(super) fn ends(&self) -> usize {
        self.parts.iter().map(|part| part.edges.len()).sum()
    }

    /// Edges of a row: the other ends and the weights.
    pub(super) fn of(&self, row: usize) -> impl Iterator<Item = (u32, f32)> + '_ {
        let (part, at) = (&self.parts[row / SPAN], row % SPAN);
        let begin = if at == 0 { 0 } else { part.ends[at - 1] as usize };
        part.edges[begin..part.ends[at] as usize].iter().copied()
    }
}

/// The edges of some rows that follow each other.
#[derive(Debug, Clone, Default)]
pub(super) struct Part {
    ends: Vec<u32>,
    edges: Vec<(u32, f32)>,
}

impl Part {
    /// Adds an edge to the row that is being made.
    pub(super) fn add(&mut self, other: u32, weight: f32) {
        self.edges.push((other, weight));
    }

    /// The edges of the row that is being made.
    pub(super) fn row(&mut self) -> &mut [(u32, f32)] {
        let begin = self.ends.last().map_or(0, |&end| end as usize);
        &mut self.edges[begin..]
    }
}
