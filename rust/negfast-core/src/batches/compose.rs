//! Epochs of clean batches: no row meets one that it conflicts with, and every batch is full.
//!
//! Rows are dealt into places, those of the largest classes first, because they have the fewest batches to choose from. Each
//! takes a place at random among the free ones where it fits. A row without conflicts fits anywhere, so all such rows end up
//! as in a plain shuffle. Where the last places and the last rows do not fit each other, a row that sits elsewhere moves.
//!
//! How many batches an epoch has is found once, by dealing. An epoch that is dealt with other luck and comes out short (which
//! takes data where conflicts leave hardly any choice) is dealt again, and in the end made from the one that was found, by
//! random exchanges that keep it clean: no epoch has fewer batches than another.

use std::cmp::Reverse;

use crate::batches::conflicts::Conflicts;
use crate::batches::pour::{Together, pour};
use crate::batches::shape::{Shape, likely_steps};
use crate::batches::table::Table;
use crate::error::{Error, Result};
use crate::rng::{Stream, stream};
use crate::threads::{Progress, Workers};

/// Keeps the dealing apart from other uses of a seed; the number of the attempt is added.
const PURPOSE: u64 = 0x6261_7463_6800;
/// The epoch whose dealing decides about sizes, far from any that is trained on.
const MODEL: u64 = u64::MAX;
/// How often an epoch is dealt before it is made from the model.
const ATTEMPTS: u64 = 4;
/// Pairs of rows that are tried to bring one in that waited.
const EXCHANGES: usize = 20_000;
/// Exchanges that are tried on the model for each row.
const EXCHANGES_PER_ROW: usize = 4;
/// Rows between two looks at whether the call was cancelled.
const SPAN: usize = 1 << 14;

/// What an epoch consists of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Epoch {
    /// The rows of each batch, step by step and rank by rank.
    pub rows: Vec<u32>,
    /// Rows that no batch has, ascending.
    pub left_out: Vec<u32>,
}

/// Sizes that every epoch can have: as many full steps as were found possible, then, unless `drop_last`, short ones for the
/// rows that remain.
///
/// # Errors
/// If the call is cancelled.
pub fn shape(
    conflicts: &Conflicts,
    batch_size: usize,
    ranks: usize,
    drop_last: bool,
    seed: u64,
    workers: &mut Workers<'_>,
) -> Result<Shape> {
    workers.alone(work(conflicts), |progress| found_shape(conflicts, batch_size, ranks, drop_last, seed, progress))
}

fn found_shape(
    conflicts: &Conflicts,
    batch_size: usize,
    ranks: usize,
    drop_last: bool,
    seed: u64,
    progress: &Progress,
) -> Result<Shape> {
    let step_rows = batch_size.saturating_mul(ranks);
    let mut steps = likely_steps(conflicts, &order(conflicts, &[], &mut model_stream(seed)), step_rows);
    let full = loop {
        let shape = Shape::full(steps, batch_size, ranks);
        let lacking = lacking(conflicts, &shape, seed, progress)?;
        if lacking == 0 {
            break shape;
        }
        steps = (steps - 1).min((shape.rows() - lacking) / step_rows);
    };
    if drop_last { Ok(full) } else { with_short(conflicts, &full, step_rows, seed, progress) }
}

/// Adds few short steps that take all remaining rows, or as many as they can with one row for every rank.
fn with_short(conflicts: &Conflicts, full: &Shape, step_rows: usize, seed: u64, progress: &Progress) -> Result<Shape> {
    let mut rows = conflicts.len() - full.rows();
    let at_least = largest_class(conflicts).saturating_sub(full.steps());
    let mut steps = rows.div_ceil(step_rows).max(at_least);
    loop {
        steps = steps.min(rows / full.ranks());
        if steps == 0 {
            return Ok(full.clone());
        }
        let shape = full.with_short(steps, rows);
        let lacking = lacking(conflicts, &shape, seed, progress)?;
        if lacking == 0 {
            return Ok(shape);
        }
        if steps == rows / full.ranks() {
            rows -= lacking;
        } else {
            steps += 1 + steps / 8;
        }
    }
}

fn largest_class(conflicts: &Conflicts) -> usize {
    (0..conflicts.n_classes() as u32).map(|class| conflicts.size(class)).max().unwrap_or(0)
}

/// Places that stay free in the model of a shape.
fn lacking(conflicts: &Conflicts, shape: &Shape, seed: u64, progress: &Progress) -> Result<usize> {
    Ok(model(conflicts, shape, seed, progress)?.free().len())
}

/// The luck that the model is dealt with.
fn model_stream(seed: u64) -> Stream {
    stream(seed, MODEL, 0, PURPOSE)
}

fn model<'a>(conflicts: &'a Conflicts, shape: &Shape, seed: u64, progress: &Progress) -> Result<Table<'a>> {
    let mut table = Table::new(conflicts, shape);
    deal(&mut table, &[], &mut model_stream(seed), progress)?;
    Ok(table)
}

/// The batches of an epoch. Rows in `first`, ascending, are placed before others, and those that belong together into one
/// batch, as far as there is room and they do not conflict.
///
/// # Errors
/// If the call is cancelled.
pub fn compose(
    conflicts: &Conflicts,
    shape: &Shape,
    first: &[u32],
    together: Option<&Together<'_>>,
    (seed, epoch): (u64, u64),
    workers: &mut Workers<'_>,
) -> Result<Epoch> {
    workers.alone(work(conflicts), |progress| composed(conflicts, shape, first, together, (seed, epoch), progress))
}

/// Multiply-adds that take about as long as dealing all rows.
fn work(conflicts: &Conflicts) -> u64 {
    1000 * conflicts.len() as u64
}

fn composed(
    conflicts: &Conflicts,
    shape: &Shape,
    first: &[u32],
    together: Option<&Together<'_>>,
    (seed, epoch): (u64, u64),
    progress: &Progress,
) -> Result<Epoch> {
    for attempt in 0..ATTEMPTS {
        let mut random = stream(seed, epoch, 0, PURPOSE + attempt);
        let mut table = Table::new(conflicts, shape);
        if let Some(together) = together {
            pour(&mut table, shape, together, first, &mut random);
            table.clear();
        }
        deal(&mut table, first, &mut random, progress)?;
        if table.free().is_empty() {
            return Ok(finished(table, shape, &mut random));
        }
    }
    from_model(conflicts, shape, first, (seed, epoch), progress)
}

/// Deals rows that have no place into the free places of full steps, then of short ones, until no place is free or no row
/// fits. Full steps come first because they are harder to fill.
fn deal(table: &mut Table<'_>, first: &[u32], random: &mut Stream, progress: &Progress) -> Result<()> {
    let mut rows = order(table.conflicts(), first, random);
    deal_into_open(table, &mut rows, random, progress)?;
    if table.free().is_empty() {
        table.open_all();
        deal_into_open(table, &mut rows, random, progress)?;
    }
    Ok(())
}

/// Deals into the places that are open, and leaves in `rows` those that got none.
fn deal_into_open(table: &mut Table<'_>, rows: &mut Vec<u32>, random: &mut Stream, progress: &Progress) -> Result<()> {
    for (i, &row) in rows.iter().enumerate() {
        if i % SPAN == 0 {
            progress.advance(0)?;
        }
        if !table.seated(row) {
            table.seat(row, random);
        }
    }
    rows.retain(|&row| !table.seated(row));
    table.mend(&mut rows.clone(), random);
    rows.retain(|&row| !table.seated(row));
    Ok(())
}

/// All rows in the order in which they are dealt: those in `first`, then others, of either those of large classes first.
fn order(conflicts: &Conflicts, first: &[u32], random: &mut Stream) -> Vec<u32> {
    let mut weights: Vec<u32> = (0..conflicts.len() as u32)
        .map(|row| conflicts.of(row).iter().map(|&class| conflicts.size(class)).max().unwrap_or(0) as u32)
        .collect();
    // One bit for what comes first, above all sizes that a class can have.
    for &row in first {
        weights[row as usize] |= 1 << 31;
    }
    let mut rows: Vec<u32> = (0..conflicts.len() as u32).collect();
    random.shuffle(&mut rows);
    rows.sort_by_cached_key(|&row| Reverse(weights[row as usize]));
    rows
}

/// The model of the shape after random exchanges that keep it clean.
fn from_model(
    conflicts: &Conflicts,
    shape: &Shape,
    first: &[u32],
    (seed, epoch): (u64, u64),
    progress: &Progress,
) -> Result<Epoch> {
    let mut table = model(conflicts, shape, seed, progress)?;
    if !table.free().is_empty() {
        let expected = "sizes that these rows and this seed can fill";
        return Err(Error::invalid("sizes", expected, "others", "pass what batch_sizes returned"));
    }
    let mut random = stream(seed, epoch, 0, PURPOSE + ATTEMPTS);
    let n = conflicts.len();
    let waited = |row: u32| first.binary_search(&row).is_ok();
    for &row in first {
        if !table.seated(row) {
            (0..EXCHANGES).any(|_| {
                let other = random.below(n) as u32;
                !waited(other) && table.exchange(row, other)
            });
        }
    }
    for i in 0..EXCHANGES_PER_ROW * n {
        let (a, b) = (random.below(n) as u32, random.below(n) as u32);
        if table.seated(a) == table.seated(b) || !waited(a) && !waited(b) {
            table.exchange(a, b);
        }
        if i % SPAN == 0 {
            progress.advance(0)?;
        }
    }
    Ok(finished(table, shape, &mut random))
}

/// Takes the epoch off a table, each batch in random order: places were given to rows with conflicts first.
fn finished(table: Table<'_>, shape: &Shape, random: &mut Stream) -> Epoch {
    let rows = 0..table.n_rows() as u32;
    let left_out = rows.filter(|&row| !table.seated(row)).collect();
    let mut rows = table.into_rows();
    let mut rest = &mut rows[..];
    for &size in shape.sizes() {
        let (batch, others) = rest.split_at_mut(size);
        random.shuffle(batch);
        rest = others;
    }
    Epoch { rows, left_out }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Labels;
    use crate::threads::Unwatched;

    /// Forty rows, five of each of eight labels.
    fn crowded() -> Conflicts {
        let labels: Vec<i64> = (0..40).map(|row| row % 8).collect();
        Conflicts::new(&[Labels::new("groups", &labels, 1, 40).expect("labels")], 40)
    }

    #[test]
    fn an_epoch_can_always_be_made_from_the_model() {
        let conflicts = crowded();
        let shape = shape(&conflicts, 7, 1, true, 3, &mut Workers::new(1, &mut Unwatched)).expect("a shape");
        assert_eq!((shape.steps(), shape.rows()), (5, 35));
        let mut first = Vec::new();
        let mut orders = Vec::new();
        for epoch in 0..4 {
            let made = from_model(&conflicts, &shape, &first, (3, epoch), &Progress::default()).expect("an epoch");
            let mut all = [&made.rows[..], &made.left_out].concat();
            all.sort_unstable();
            assert!(all.iter().copied().eq(0..40));
            for batch in made.rows.chunks(7) {
                assert!((0..7).all(|a| (0..a).all(|b| !conflicts.between(batch[a], batch[b]))));
            }
            assert!(first.iter().all(|row| !made.left_out.contains(row)));
            first = made.left_out;
            orders.push(made.rows);
        }
        assert!(orders.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn sizes_that_cannot_be_filled_are_refused() {
        // No model fills them, so that no attempt does, and the last way out is tried.
        let (conflicts, sizes) = (crowded(), Shape::full(1, 9, 1));
        let mut unwatched = Unwatched;
        let mut workers = Workers::new(1, &mut unwatched);
        assert!(compose(&conflicts, &sizes, &[], None, (0, 0), &mut workers).is_err());
    }
}
