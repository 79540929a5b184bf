//! A fixed amount of kernel work, to be counted by callgrind (`tests/system/test_instructions.py`).
//!
//! `negfast-instructions KERNEL REPEATS` does one kernel's work `REPEATS` times at the level that `NEGFAST_SIMD` names. Two
//! runs that differ only in `REPEATS` differ only in the kernel, so start-up cancels out of their difference.

#![allow(clippy::print_stdout, reason = "tells which level ran")]

#[allow(dead_code, reason = "each bench uses a part of it")]
#[path = "../rows.rs"]
mod rows;

use std::hint::black_box;

use negfast_core::error::Result;
use negfast_core::kernel::{Level, Panels, Tile, TileOutput, dots, estimate, pack, scaled};
use negfast_core::rows::{Data, Rows};
use negfast_core::topk::{Buffers, Candidate};
use rows::numbers;

const DIM: usize = 384;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(kernel), Some(repeats)) = (arguments.next(), arguments.next()) else { return Ok(()) };
    let level = Level::chosen()?;
    let work = match kernel.as_str() {
        "tile" => tile,
        "dots" => four_dots,
        "estimate" => one_estimate,
        "pack" => packing,
        "select" => selection,
        other => {
            println!("no kernel {other}");
            return Ok(());
        }
    };
    work(level, repeats.parse().unwrap_or(1));
    println!("{}", level.name());
    Ok(())
}

fn tile(level: Level, repeats: usize) {
    let tile = Tile::new(level);
    let (a, b) = (numbers(1, 12 * DIM), numbers(2, 32 * DIM));
    let (thresholds, mut out) = ([f32::INFINITY; 12], TileOutput::default());
    // As many multiply-adds at every level.
    for _ in 0..repeats * 12 * 32 / (tile.rows * tile.columns) {
        black_box(tile.run(black_box(&a), black_box(&b), DIM, &thresholds, &mut out));
    }
}

fn four_dots(level: Level, repeats: usize) {
    let (a, b) = (numbers(3, DIM), numbers(4, DIM * 4));
    let row = |i: usize| &b[i * DIM..(i + 1) * DIM];
    for _ in 0..repeats {
        black_box(dots(level, black_box(&a), black_box([row(0), row(1), row(2), row(3)])));
    }
}

fn one_estimate(level: Level, repeats: usize) {
    let (a, b) = (numbers(3, DIM), numbers(4, DIM));
    for _ in 0..repeats {
        black_box(estimate(level, black_box(&a), black_box(&b)));
    }
}

fn packing(_: Level, repeats: usize) {
    let (values, mut panels) = (numbers(5, 32 * DIM), Panels::default());
    let Ok(rows) = Rows::new("rows", Data::F32(&values), 32, DIM) else { return };
    for _ in 0..repeats {
        pack(&mut panels, DIM, 32, 32, |row, out| scaled(out, black_box(&rows), row, 0.5));
        black_box(panels.panel(0));
    }
}

fn selection(_: Level, repeats: usize) {
    const K: usize = 100;
    let scores = numbers(6, 2000);
    for _ in 0..repeats {
        let (mut buffers, mut lowest) = (Buffers::new(1, K), f32::NEG_INFINITY);
        for (&score, row) in scores.iter().zip(0..) {
            if score >= lowest && buffers.push(0, Candidate { score, row }) {
                lowest = buffers.kth(0, K).unwrap_or(lowest);
                buffers.retain_from(0, lowest);
            }
        }
        black_box(buffers.len(0));
    }
}
