//! The corpus in codes, list by list.

use std::ops::Range;

use super::second::Seconds;
use crate::aligned::Aligned;
use crate::clusters::{self, Centres, Points};
use crate::codes::basis::Basis;
use crate::codes::columns::{Columns, write_column};
use crate::codes::int8::{Coder, Room, longest_run, raise_run_norms};
use crate::error::Result;
use crate::kernel::{CODE_COLUMNS, CodePanel, RUNS, WIDE};
use crate::score::Scorer;
use crate::threads::{Workers, cut, split};

/// What stands in [`Index::rows`] where a panel has room for more rows than its list.
pub(super) const NO_ROW: u32 = u32::MAX;
/// Rows that are coded at a time.
const SPAN: usize = 256;
/// Points a centre is trained on, and steps.
const POINTS: usize = 32;
const STEPS: usize = 4;

/// The rows of a corpus as codes: in lists of rows that point in similar directions, each a run of whole panels.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) coder: Coder,
    codes: Aligned<u8>,
    scales: Vec<f32>,
    widths: Vec<f32>,
    /// The corpus row in each place of each panel.
    pub(super) rows: Vec<u32>,
    /// For each panel a bit for each place that holds a row.
    pub(super) real: Vec<u32>,
    /// Panels of each list.
    pub(super) lists: Vec<Range<usize>>,
    /// The mean of each list's rows.
    pub(super) means: Columns,
    /// Root mean square distance of a list's rows from their mean.
    pub(super) radii: Vec<f32>,
    /// The rows themselves, for the second look.
    pub(super) seconds: Seconds,
    /// For each length of a run the largest norm of such a run in a 16-bit lane.
    run_norms: [f64; RUNS.len()],
}

/// Coded rows, before they are in lists.
struct Plain {
    codes: Vec<i8>,
    scales: Vec<f32>,
    extents: Vec<f32>,
    owners: Vec<u32>,
}

impl Index {
    /// Codes the corpus of `scorer` in the coordinates of `basis` (or in all as they are), in about `lists` lists; in one,
    /// rows keep their order.
    ///
    /// # Errors
    /// If the call is cancelled.
    pub(super) fn build(
        scorer: &Scorer<'_>,
        basis: Option<Basis>,
        lists: usize,
        keep_short: bool,
        workers: &mut Workers<'_>,
    ) -> Result<Self> {
        let coder = Coder::new(scorer, basis);
        let centres = if lists > 1 { Some(train(scorer, &coder, lists, workers)?) } else { None };
        let plain = code(scorer, &coder, centres.as_ref(), workers)?;
        arrange(scorer, coder, &plain, (centres.map_or(1, |centres| centres.count()), keep_short), workers)
    }

    /// Bytes that an index of so many rows and coordinates takes, about, and what more its making does.
    pub(super) fn bytes(rows: usize, width: usize, lists: usize) -> [usize; 2] {
        let quads = width.div_ceil(4);
        let places = rows + lists * CODE_COLUMNS / 2;
        [places * (quads * 4 + 12) + lists * width * 4, rows * (quads * 4 + 12)]
    }

    pub(super) fn panel(&self, panel: usize) -> CodePanel<'_> {
        let (size, first) = (self.coder.quads() * 4 * CODE_COLUMNS, panel * CODE_COLUMNS);
        CodePanel {
            codes: &self.codes[panel * size..(panel + 1) * size],
            scales: &self.scales[first..first + CODE_COLUMNS],
            widths: &self.widths[first..first + CODE_COLUMNS],
            thresholds: &[],
        }
    }

    /// The highest row of a panel of rows in order.
    pub(super) fn last_row(&self, panel: usize) -> usize {
        let rows = &self.rows[panel * CODE_COLUMNS..(panel + 1) * CODE_COLUMNS];
        rows.iter().rev().find(|&&row| row != NO_ROW).map_or(0, |&row| row as usize)
    }

    /// Bytes in memory.
    pub(super) fn size(&self) -> usize {
        self.codes.len() + self.rows.len() * 12 + self.seconds.size() + self.means.size()
    }

    /// The list that a place belongs to.
    pub(super) fn list_of(&self, place: usize) -> usize {
        self.lists.partition_point(|list| list.end <= place / CODE_COLUMNS)
    }

    /// The place of each corpus row.
    pub(super) fn places_of_rows(&self, rows: usize) -> Vec<u32> {
        let mut places = vec![0; rows];
        for (place, &row) in (0u32..).zip(&self.rows).filter(|(_, row)| **row != NO_ROW) {
            places[row as usize] = place;
        }
        places
    }

    /// The sum of the products of an anchor's codes with those at `place`, and that row's scale and width.
    pub(super) fn estimate(&self, place: usize, anchor: &[i8]) -> (i32, f32, f32) {
        let panel = self.panel(place / CODE_COLUMNS);
        let column = place % CODE_COLUMNS;
        let quads = panel.codes[4 * column..].chunks(4 * CODE_COLUMNS).zip(anchor.chunks_exact(4));
        let product = |(&code, &x): (&u8, &i8)| (i32::from(code) - 128) * i32::from(x);
        let sum = quads.map(|(four, quad)| four.iter().zip(quad).map(product).sum::<i32>()).sum();
        (sum, panel.scales[column], panel.widths[column])
    }

    /// The longest run of quads whose sums fit into 16 bits whatever the corpus row, for anchors of these norms.
    pub(super) fn run(&self, norms: &[f64; RUNS.len()]) -> usize {
        longest_run(&self.run_norms, norms)
    }
}

/// Centres for the corpus, trained on the coordinates of a sample.
fn train(scorer: &Scorer<'_>, coder: &Coder, lists: usize, workers: &mut Workers<'_>) -> Result<Centres> {
    let sample = clusters::chosen(scorer.corpus.len(), scorer.corpus.len().min(lists * POINTS));
    let (width, length) = (coder.width(), coder.quads() * 4);
    let coded = clusters::takes_codes(scorer.level);
    let mut points = Points {
        values: vec![0.0; sample.len() * width],
        codes: vec![0; if coded { sample.len() * length } else { 0 }],
    };
    let spans = split(sample.len(), sample.len().div_ceil(SPAN));
    let values = cut(&mut points.values, spans.iter().map(|span| span.len() * width));
    let codes = cut(&mut points.codes, spans.iter().map(|span| if coded { span.len() * length } else { 0 }));
    let tasks: Vec<_> = spans.iter().cloned().zip(values.into_iter().zip(codes)).collect();
    let matrix = (scorer.corpus, scorer.corpus_factor());
    let operations = (sample.len() * width * scorer.corpus.rows().dim()) as u64;
    workers.run(operations, tasks, Room::default, |room, (span, (values, codes)), progress| {
        coder.code(matrix, sample[span].iter().copied(), WIDE, room, |i, row| {
            values[i * width..(i + 1) * width].copy_from_slice(row.values);
            if coded {
                codes[i * length..(i + 1) * length].copy_from_slice(row.codes);
            }
        });
        progress.advance(0)
    })?;
    Centres::train(&points, width, lists, STEPS, scorer.level, workers)
}

/// Codes all rows and tells their lists.
fn code(scorer: &Scorer<'_>, coder: &Coder, centres: Option<&Centres>, workers: &mut Workers<'_>) -> Result<Plain> {
    let (n, length, width) = (scorer.corpus.len(), coder.quads() * 4, coder.width());
    let mut plain =
        Plain { codes: vec![0; n * length], scales: vec![0.0; n], extents: vec![0.0; n], owners: vec![0; n] };
    let spans = split(n, n.div_ceil(SPAN));
    let lengths = || spans.iter().map(ExactSizeIterator::len);
    let codes = cut(&mut plain.codes, lengths().map(|rows| rows * length));
    let factors = cut(&mut plain.scales, lengths()).into_iter().zip(cut(&mut plain.extents, lengths()));
    let owners = cut(&mut plain.owners, lengths());
    let tasks: Vec<_> = spans.iter().cloned().zip(codes).zip(factors.zip(owners)).collect();
    let matrix = (scorer.corpus, scorer.corpus_factor());
    let operations = (n * width * scorer.corpus.rows().dim()) as u64;
    let start = || (Room::default(), Vec::new(), clusters::Room::default());
    workers.run(operations, tasks, start, |(room, values, products), ((span, codes), parts), progress| {
        let ((scales, extents), owners) = parts;
        values.clear();
        coder.code(matrix, span, WIDE, room, |i, coded| {
            codes[i * length..(i + 1) * length].copy_from_slice(coded.codes);
            scales[i] = coded.scale;
            extents[i] = coded.extent as f32;
            values.extend_from_slice(coded.values);
        });
        if let Some(centres) = centres {
            centres.assign((values, codes), owners, products);
        }
        progress.advance(0)
    })?;
    Ok(plain)
}

/// Puts coded rows into the panels of their lists.
fn arrange(
    scorer: &Scorer<'_>,
    coder: Coder,
    plain: &Plain,
    (lists, keep_short): (usize, bool),
    workers: &mut Workers<'_>,
) -> Result<Index> {
    let (quads, width) = (coder.quads(), coder.width());
    let mut members = vec![Vec::new(); lists];
    for (row, &owner) in (0u32..).zip(&plain.owners) {
        members[owner as usize].push(row);
    }
    let panels: Vec<usize> = members.iter().map(|rows| rows.len().div_ceil(CODE_COLUMNS)).collect();
    let total: usize = panels.iter().sum();
    let (places, size) = (total * CODE_COLUMNS, quads * 4 * CODE_COLUMNS);
    let (mut codes, mut rows) = (Aligned::<u8>::zeros(total * size), vec![NO_ROW; places]);
    let (mut scales, mut widths) = (vec![0.0; places], vec![f32::NEG_INFINITY; places]);
    let (mut means, mut radii) = (vec![0.0; lists * width], vec![0.0; lists]);
    let lengths = || panels.iter().map(|panels| panels * CODE_COLUMNS);
    let parts = cut(&mut codes, panels.iter().map(|panels| panels * size))
        .into_iter()
        .zip(cut(&mut rows, lengths()))
        .zip(cut(&mut scales, lengths()).into_iter().zip(cut(&mut widths, lengths())))
        .zip(means.chunks_exact_mut(width).zip(&mut radii));
    let tasks: Vec<_> = members.iter().zip(parts).collect();
    let start = || ([0.0; RUNS.len()], vec![0i64; 0]);
    let run_norms = std::sync::Mutex::new([0.0f64; RUNS.len()]);
    let operations = (plain.codes.len() * 4) as u64;
    workers.run(operations, tasks, start, |(norms, _), (members, parts), progress| {
        let (((codes, rows), (scales, widths)), (mean, radius)) = parts;
        let mut sums = vec![0.0f64; width];
        let mut squares = 0.0;
        for (place, &row) in members.iter().enumerate() {
            let r = row as usize;
            let code = &plain.codes[r * quads * 4..(r + 1) * quads * 4];
            write_column(&mut codes[place / CODE_COLUMNS * size..][..size], place % CODE_COLUMNS, code);
            (rows[place], scales[place]) = (row, plain.scales[r]);
            widths[place] = plain.extents[r];
            raise_run_norms(norms, code);
            for (sum, &x) in sums.iter_mut().zip(code) {
                let x = f64::from(x) * f64::from(plain.scales[r]);
                *sum += x;
                squares += x * x;
            }
        }
        let n = members.len().max(1) as f64;
        for (mean, sum) in mean.iter_mut().zip(&sums) {
            *mean = (sum / n) as f32;
            squares -= sum * sum / n;
        }
        *radius = (squares / n).max(0.0).sqrt() as f32;
        let mut all = run_norms.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        all.iter_mut().zip(norms).for_each(|(all, norm)| *all = all.max(*norm));
        progress.advance(0)
    })?;
    let ends = panels.iter().scan(0, |end, panels| {
        *end += panels;
        Some(*end - panels..*end)
    });
    let lists = ends.collect();
    let held = |rows: &[u32]| rows.iter().enumerate().fold(0, |mask, (c, &row)| mask | u32::from(row != NO_ROW) << c);
    let real = rows.chunks(CODE_COLUMNS).map(held).collect();
    let mut run_norms = run_norms.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let means = Columns::new(&means, width, |codes| raise_run_norms(&mut run_norms, codes));
    let seconds = Seconds::new(scorer, &rows, keep_short, workers)?;
    Ok(Index { coder, codes, scales, widths, rows, real, lists, means, radii, seconds, run_norms })
}
