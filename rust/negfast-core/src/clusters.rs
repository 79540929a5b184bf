//! Spherical k-means: lists of rows that point in similar directions.
//!
//! I. Dhillon and D. Modha, *Concept Decompositions for Large Sparse Text Data Using Clustering*, 2001. Centres are trained
//! on a sample; a few steps do, because what a search needs is that rows near each other are mostly together, not an
//! optimum.

use crate::codes::basis::{multiply, pack_plain};
use crate::codes::columns::{Codes, Columns};
use crate::error::Result;
use crate::kernel::{CodeTile, Level, Panels, RUNS, Tile, dot};
use crate::rng::stream;
use crate::threads::{Workers, cut, split};

/// Keeps the choice of centres apart from other uses of a seed.
const PURPOSE: u64 = 0x636c_7573;
/// Points that a task assigns at a time.
const SPAN: usize = 512;
/// What biases are made for; sums in 32 bits have one bias whatever it is.
const RUN: usize = RUNS[0];

/// Points in `width` coordinates, as they are and coded.
#[derive(Debug, Default)]
pub struct Points {
    /// Coordinates, point by point.
    pub values: Vec<f32>,
    /// Codes in whole quads, point by point, where the tile can take them.
    pub codes: Vec<i8>,
}

/// Directions of unit length, one a cluster.
#[derive(Debug)]
pub struct Centres {
    packed: Panels,
    coded: Columns,
    count: usize,
    width: usize,
    level: Level,
}

/// Room for the products of points with centres.
#[derive(Debug, Default)]
pub struct Room {
    points: Panels,
    biases: Vec<i32>,
    products: Vec<f32>,
}

impl Centres {
    /// Trains `count` centres on `points` of `width` numbers in `steps` steps; fewer if there are fewer points.
    ///
    /// # Errors
    /// If the call is cancelled.
    pub fn train(
        points: &Points,
        width: usize,
        count: usize,
        steps: usize,
        level: Level,
        workers: &mut Workers<'_>,
    ) -> Result<Self> {
        let n = points.values.len() / width;
        let count = count.min(n);
        let point = |i: usize| &points.values[i * width..(i + 1) * width];
        let mut centres: Vec<f32> = chosen(n, count).into_iter().flat_map(point).copied().collect();
        normalise(&mut centres, width, level);
        let mut owners = vec![0; n];
        for _ in 0..steps {
            let current = Self::new(&centres, width, level);
            current.assign_all(points, &mut owners, workers)?;
            centres.fill(0.0);
            // In the order of points, whatever the threads: sums of floats depend on it.
            for (i, &owner) in owners.iter().enumerate() {
                let centre = &mut centres[owner as usize * width..][..width];
                centre.iter_mut().zip(point(i)).for_each(|(sum, x)| *sum += x);
            }
            reseed(&mut centres, &owners, width, point);
            normalise(&mut centres, width, level);
        }
        Ok(Self::new(&centres, width, level))
    }

    fn new(centres: &[f32], width: usize, level: Level) -> Self {
        let (mut packed, mut coded) = (Panels::default(), Columns::default());
        if takes_codes(level) {
            coded = Columns::new(centres, width, |_| ());
        } else {
            pack_plain(&mut packed, centres, width, Tile::new(level).columns);
        }
        Self { packed, coded, count: centres.len() / width, width, level }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Writes the centre that each point is nearest to; the lower of two that are as near.
    pub fn assign(&self, (values, codes): (&[f32], &[i8]), owners: &mut [u32], room: &mut Room) {
        let n = owners.len();
        if takes_codes(self.level) {
            let (tile, length) = (CodeTile::new(self.level), self.width.next_multiple_of(4));
            room.biases.resize(n, 0);
            for (codes, bias) in codes.chunks_exact(length).zip(room.biases.chunks_exact_mut(1)) {
                tile.bias(codes, RUN, bias);
            }
            self.coded.multiply(&tile, Codes { codes, biases: &room.biases, run: RUN }, n, &mut room.products);
        } else {
            pack_plain(&mut room.points, &values[..n * self.width], self.width, Tile::new(self.level).rows);
            multiply(&room.points, &self.packed, self.width, self.level, n, self.count, &mut room.products);
        }
        for (owner, products) in owners.iter_mut().zip(room.products.chunks_exact(self.count)) {
            *owner = largest(products);
        }
    }

    fn assign_all(&self, points: &Points, owners: &mut [u32], workers: &mut Workers<'_>) -> Result<()> {
        let n = owners.len();
        let spans = split(n, n.div_ceil(SPAN));
        let parts = cut(owners, spans.iter().map(ExactSizeIterator::len));
        let tasks: Vec<_> = spans.into_iter().zip(parts).collect();
        let operations = (n * self.count * self.width) as u64;
        let length = self.width.next_multiple_of(4);
        workers.run(operations, tasks, Room::default, |room, (span, owners), progress| {
            let values = &points.values[span.start * self.width..span.end * self.width];
            let codes = points.codes.get(span.start * length..span.end * length).unwrap_or_default();
            self.assign((values, codes), owners, room);
            progress.advance(0)
        })
    }
}

/// Whether the int8 tile of a level takes codes of points as they are: with 32-bit sums, which are faster than `f32`.
pub fn takes_codes(level: Level) -> bool {
    let tile = CodeTile::new(level);
    level.min(Level::detect()) > Level::Scalar && !tile.narrow()
}

/// The place of the largest number, the first of several.
pub(crate) fn largest(numbers: &[f32]) -> u32 {
    let top = numbers.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    numbers.iter().position(|&x| x >= top).unwrap_or(0) as u32
}

/// `count` distinct numbers below `n`, by Floyd's method (J. Bentley, *Programming Pearls: a sample of brilliance*, 1987).
pub(crate) fn chosen(n: usize, count: usize) -> Vec<usize> {
    let mut random = stream(0, 0, n as u64, PURPOSE);
    let mut taken = std::collections::BTreeSet::new();
    for top in n - count..n {
        let pick = ((random.uniform() * (top + 1) as f64) as usize).min(top);
        taken.insert(if taken.contains(&pick) { top } else { pick });
    }
    taken.into_iter().collect()
}

/// Gives each centre without points one of the largest cluster's.
fn reseed<'p>(centres: &mut [f32], owners: &[u32], width: usize, point: impl Fn(usize) -> &'p [f32]) {
    let mut sizes = vec![0usize; centres.len() / width];
    for &owner in owners {
        sizes[owner as usize] += 1;
    }
    let mut seen = 0;
    for empty in 0..sizes.len() {
        if sizes[empty] > 0 {
            continue;
        }
        let Some(donor) = (0..sizes.len()).max_by_key(|&c| (sizes[c], std::cmp::Reverse(c))) else { return };
        let Some(i) = (seen..owners.len()).find(|&i| owners[i] as usize == donor) else { return };
        seen = i + 1;
        sizes[donor] /= 2;
        sizes[empty] = sizes[donor];
        centres[empty * width..(empty + 1) * width].copy_from_slice(point(i));
    }
}

fn normalise(rows: &mut [f32], width: usize, level: Level) {
    for row in rows.chunks_exact_mut(width) {
        let norm = dot(level, row, row).sqrt();
        if norm > 0.0 {
            for x in row {
                *x = (f64::from(*x) / norm) as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads::Unwatched;

    fn points_of(values: &[f32], width: usize) -> Points {
        let length = width.next_multiple_of(4);
        let mut codes = vec![0; values.len() / width * length];
        for (values, codes) in values.chunks_exact(width).zip(codes.chunks_exact_mut(length)) {
            crate::codes::int8::quantise(values, crate::kernel::WIDE, codes);
        }
        Points { values: values.to_vec(), codes }
    }

    #[test]
    fn points_of_one_direction_come_together_on_any_number_of_threads() {
        let width = 5;
        let points: Vec<f32> = (0..600)
            .flat_map(|i| (0..width).map(move |d| if d == i % 3 { 1.0 + i as f32 / 600.0 } else { 0.01 }))
            .collect();
        let mut found = Vec::new();
        for threads in [1, 2, 7] {
            let mut monitor = Unwatched;
            let mut workers = Workers::new(threads, &mut monitor);
            let points = points_of(&points, width);
            let centres = Centres::train(&points, width, 12, 4, Level::detect(), &mut workers).expect("centres");
            let mut owners = vec![0; 600];
            centres.assign((&points.values, &points.codes), &mut owners, &mut Room::default());
            for i in 0..600 {
                for j in 0..i {
                    assert!(owners[i] != owners[j] || i % 3 == j % 3);
                }
            }
            found.push(owners);
        }
        assert!(found.windows(2).all(|pair| pair[0] == pair[1]));
    }

    #[test]
    fn samples_are_distinct() {
        for (n, count) in [(1, 1), (10, 10), (1000, 37), (5, 0)] {
            let picked = chosen(n, count);
            assert_eq!(picked.len(), count);
            assert!(picked.windows(2).all(|pair| pair[0] < pair[1]) && picked.iter().all(|&i| i < n));
        }
    }
}
