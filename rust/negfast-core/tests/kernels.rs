//! Kernels of every level against their definitions.

mod making;
mod naive;

use making::{Dice, Kind, Stored};
use negfast_core::kernel::{Level, Panels, Tile, TileOutput, dot, dots, estimate, pack, scaled};
use negfast_core::score::slack;

const DIMS: [usize; 14] = [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 63, 65, 127, 385];

fn unit_rows(dice: &mut Dice, n: usize, dim: usize) -> Vec<Vec<f32>> {
    let unit = |row: Vec<f32>| {
        let norm = naive::product(&row, &row).sqrt().max(f64::MIN_POSITIVE);
        row.iter().map(|x| (f64::from(*x) / norm) as f32).collect()
    };
    dice.rows(n, dim).into_iter().map(unit).collect()
}

/// The rows in one panel, laid out as the documentation of `Panels` says.
fn interleaved(rows: &[Vec<f32>], dim: usize) -> Vec<f32> {
    (0..dim).flat_map(|d| rows.iter().map(move |row| row[d])).collect()
}

struct Multiplied {
    tile: Tile,
    a: Vec<Vec<f32>>,
    b: Vec<Vec<f32>>,
    dim: usize,
    out: TileOutput,
}

impl Multiplied {
    fn new(level: Level, dim: usize, seed: u64) -> Self {
        let (mut dice, tile) = (Dice(seed), Tile::new(level));
        let a = unit_rows(&mut dice, tile.rows, dim);
        let b = unit_rows(&mut dice, tile.columns, dim);
        let mut multiplied = Self { tile, a, b, dim, out: TileOutput::default() };
        assert!(multiplied.run(&vec![f32::NEG_INFINITY; tile.rows]), "everything reaches −∞");
        multiplied
    }

    fn run(&mut self, thresholds: &[f32]) -> bool {
        let (a, b) = (interleaved(&self.a, self.dim), interleaved(&self.b, self.dim));
        self.tile.run(&a, &b, self.dim, thresholds, &mut self.out)
    }

    fn product(&self, r: usize, c: usize) -> f32 {
        self.out.products[r * self.tile.columns + c]
    }
}

#[test]
fn products_are_within_the_slack() {
    for level in Level::available() {
        for dim in DIMS {
            let got = Multiplied::new(level, dim, dim as u64);
            for (r, a) in got.a.iter().enumerate() {
                for (c, b) in got.b.iter().enumerate() {
                    let error = f64::from(got.product(r, c)) - naive::product(a, b);
                    assert!(error.abs() <= slack(dim), "{level:?}, dim {dim}, ({r}, {c}): {error:e}");
                }
            }
        }
    }
}

/// A plain sum in the order of the dimension, fused where the level fuses: the same bits.
#[test]
fn products_are_plain_sums() {
    for level in Level::available() {
        for dim in DIMS {
            let got = Multiplied::new(level, dim, 99 + dim as u64);
            let fused = level > Level::Scalar || cfg!(target_arch = "aarch64");
            let add = |sum: f32, (x, y): (&f32, &f32)| if fused { x.mul_add(*y, sum) } else { x * y + sum };
            for (r, a) in got.a.iter().enumerate() {
                for (c, b) in got.b.iter().enumerate() {
                    let plain = a.iter().zip(b).fold(0.0, add);
                    assert_eq!(got.product(r, c).to_bits(), plain.to_bits(), "{level:?}, dim {dim}, ({r}, {c})");
                }
            }
        }
    }
}

/// Thresholds that are products themselves: the mask holds exactly what is at least the threshold.
#[test]
fn masks_are_the_comparisons() {
    for level in Level::available() {
        for dim in [1, 5, 33] {
            let mut got = Multiplied::new(level, dim, 7 + dim as u64);
            let (rows, columns) = (got.tile.rows, got.tile.columns);
            for pivot in 0..columns {
                let thresholds: Vec<f32> = (0..rows).map(|r| got.product(r, (pivot + r) % columns)).collect();
                assert!(got.run(&thresholds));
                for (r, threshold) in thresholds.iter().enumerate() {
                    let reach = |c: &usize| got.product(r, *c) >= *threshold;
                    let mask = (0..columns).filter(reach).fold(0u32, |mask, c| mask | 1 << c);
                    assert_eq!(got.out.masks[r], mask, "{level:?}, dim {dim}, row {r}");
                }
            }
        }
    }
}

#[test]
fn one_product_is_enough_and_none_leaves_no_trace() {
    for level in Level::available() {
        let mut got = Multiplied::new(level, 9, 3);
        let (rows, columns) = (got.tile.rows, got.tile.columns);
        for r in 0..rows {
            let best = (0..columns).map(|c| got.product(r, c)).fold(f32::MIN, f32::max);
            let mut thresholds = vec![f32::INFINITY; rows];
            thresholds[r] = best;
            assert!(got.run(&thresholds), "{level:?}, row {r}");
            assert!((0..rows).all(|other| (got.out.masks[other] != 0) == (other == r)));
            let before = got.out.clone();
            thresholds[r] = best.next_up();
            assert!(!got.run(&thresholds), "{level:?}, row {r}");
            assert_eq!((before.products, before.masks), (got.out.products, got.out.masks));
        }
    }
}

#[test]
fn dots_have_the_bits_of_the_definition() {
    for level in Level::available() {
        for dim in DIMS {
            let mut dice = Dice(dim as u64);
            let scale = dice.one_of(&[1e-20, 1.0, 1e15]);
            let rows: Vec<Vec<f32>> =
                dice.rows(5, dim).iter().map(|row| row.iter().map(|x| x * scale).collect()).collect();
            let all = dots(level, &rows[4], [&rows[0], &rows[1], &rows[2], &rows[3]]);
            for (got, row) in all.iter().zip(&rows) {
                assert_eq!(got.to_bits(), naive::product(&rows[4], row).to_bits(), "{level:?}, dim {dim}");
                assert_eq!(got.to_bits(), dot(level, row, &rows[4]).to_bits(), "{level:?}, dim {dim}");
            }
        }
    }
}

#[test]
fn estimates_are_within_the_slack() {
    for level in Level::available() {
        for dim in DIMS.into_iter().chain([64, 128, 129, 4096]) {
            let rows = unit_rows(&mut Dice(dim as u64), 6, dim);
            for (a, b) in rows.iter().zip(&rows[1..]).chain(rows.iter().map(|a| (a, a))) {
                let error = f64::from(estimate(level, a, b)) - naive::product(a, b);
                assert!(error.abs() <= slack(dim), "{level:?}, dim {dim}: {error:e}");
            }
        }
    }
}

#[test]
fn packing_scales_widens_and_pads() {
    for kind in [Kind::F32, Kind::F16, Kind::Bf16] {
        for dim in DIMS {
            let stored = Stored::new(&Dice(dim as u64).rows(11, dim), kind);
            let rows = stored.widened(dim);
            let ids = [7, 0, 10, 3, 3];
            let scale = |id: usize| 0.5 + id as f64;
            let mut panels = Panels::default();
            // Twice: the room of an earlier, larger packing must not shine through.
            pack(&mut panels, dim, 11, 4, |id, out| scaled(out, &stored.rows(dim), id, 9.0));
            pack(&mut panels, dim, ids.len(), 4, |i, out| scaled(out, &stored.rows(dim), ids[i], scale(ids[i])));
            assert_eq!(panels.count(), 2);
            for place in 0..8 {
                let panel = panels.panel(place / 4);
                let packed: Vec<f32> = (0..dim).map(|d| panel[d * 4 + place % 4]).collect();
                let times = |id: &usize| rows[*id].iter().map(|x| (f64::from(*x) * scale(*id)) as f32).collect();
                let expected: Vec<f32> = ids.get(place).map_or_else(|| vec![0.0; dim], times);
                assert_eq!(packed, expected, "{kind:?}, dim {dim}, place {place}");
            }
        }
    }
}
