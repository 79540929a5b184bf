//! Kernels, one by one and level by level. Elements are multiply-adds, or rows where a kernel has none.

#![allow(missing_docs, reason = "criterion's macros make public functions")]

#[allow(dead_code, reason = "each bench uses a part of it")]
mod rows;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use negfast_core::kernel::{
    BATCH, BLOCK_ROWS, Blocks, Level, Lookup, LookupOutput, PANEL_QUERIES, Panels, Strips, Table, Tables, Tile,
    TileOutput, dots, estimate, hamming, pack, scaled,
};
use negfast_core::rows::{Data, Rows};
use negfast_core::topk::{Buffers, Candidate};
use rows::numbers;

const DIM: usize = 384;

fn tile(c: &mut Criterion) {
    let mut group = c.benchmark_group("tile");
    for level in Level::available() {
        let tile = Tile::new(level);
        let (a, b) = (numbers(1, tile.rows * DIM), numbers(2, tile.columns * DIM));
        let mut out = TileOutput::default();
        group.throughput(Throughput::Elements((tile.rows * tile.columns * DIM) as u64));
        // Nothing reaches infinity, as hardly anything reaches the threshold of a running search.
        for (name, threshold) in [("nothing reaches", f32::INFINITY), ("all reach", f32::NEG_INFINITY)] {
            let thresholds = vec![threshold; tile.rows];
            group.bench_function(BenchmarkId::new(name, level.name()), |bench| {
                bench.iter(|| tile.run(black_box(&a), black_box(&b), DIM, &thresholds, &mut out));
            });
        }
    }
    group.finish();
}

/// Elements as the tile counts them: a pair is worth a multiply-add for each bit.
fn lookup(c: &mut Criterion) {
    const WORDS: usize = DIM / 64;
    let mut group = c.benchmark_group("lookup");
    for level in Level::available() {
        let lookup = Lookup::new(level);
        let queries: Vec<_> = (0..PANEL_QUERIES as u64).map(|q| Table::new(&numbers(7 + q, DIM))).collect();
        let mut tables = Tables::default();
        tables.pack(&queries, &lookup);
        let codes: Vec<u64> = numbers(3, WORDS * BLOCK_ROWS * 2).chunks_exact(2).map(scrambled).collect();
        let mut blocks = Blocks::default();
        blocks.pack(&codes, WORDS, |_| [0.04, 0.1, 0.04]);
        let mut out = LookupOutput::default();
        group.throughput(Throughput::Elements((PANEL_QUERIES * BLOCK_ROWS * DIM) as u64));
        for (name, threshold) in [("nothing reaches", f32::INFINITY), ("all reach", f32::NEG_INFINITY)] {
            let thresholds = vec![threshold; PANEL_QUERIES];
            group.bench_function(BenchmarkId::new(name, level.name()), |bench| {
                bench.iter(|| lookup.run(black_box(&tables), 0, black_box(&blocks), 0, &thresholds, &mut out));
            });
        }
    }
    group.finish();
}

/// One code against a slab of others. Elements are bits.
fn distances(c: &mut Criterion) {
    const WORDS: usize = DIM / 64;
    const ROWS: usize = 512;
    let codes: Vec<u64> = numbers(4, WORDS * ROWS * 2).chunks_exact(2).map(scrambled).collect();
    let (mut strips, mut out) = (Strips::default(), vec![0; ROWS]);
    strips.pack(&codes, WORDS);
    let mut group = c.benchmark_group("hamming");
    group.throughput(Throughput::Elements((ROWS * DIM) as u64));
    for level in Level::available() {
        group.bench_function(BenchmarkId::from_parameter(level.name()), |bench| {
            bench.iter(|| hamming(level, black_box(&codes[..WORDS]), black_box(&strips), &mut out));
        });
    }
    group.finish();
}

/// Bits without a pattern, from two numbers.
fn scrambled(two: &[f32]) -> u64 {
    (u64::from(two[0].to_bits()) << 32 | u64::from(two[1].to_bits())).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn score(c: &mut Criterion) {
    let (a, b) = (numbers(3, DIM), numbers(4, DIM * BATCH));
    let four: Vec<&[f32]> = b.chunks_exact(DIM).collect();
    let four = [four[0], four[1], four[2], four[3]];
    for level in Level::available() {
        let mut group = c.benchmark_group("score");
        group.throughput(Throughput::Elements((DIM * BATCH) as u64));
        group.bench_function(BenchmarkId::new("dots", level.name()), |bench| {
            bench.iter(|| dots(level, black_box(&a), black_box(four)));
        });
        group.throughput(Throughput::Elements(DIM as u64));
        group.bench_function(BenchmarkId::new("estimate", level.name()), |bench| {
            bench.iter(|| estimate(level, black_box(&a), black_box(four[0])));
        });
        group.finish();
    }
}

fn packing(c: &mut Criterion) {
    const ROWS: usize = 640;
    let values = numbers(5, ROWS * DIM);
    let halves: Vec<_> = values.iter().map(|&x| half::f16::from_f32(x)).collect();
    let mut panels = Panels::default();
    let mut group = c.benchmark_group("pack");
    group.throughput(Throughput::Elements(ROWS as u64));
    for (name, data) in [("f32", Data::F32(&values)), ("f16", Data::F16(&halves))] {
        let rows = Rows::new("rows", data, ROWS, DIM).expect("whole rows");
        for width in [12, 32] {
            group.bench_function(BenchmarkId::new(name, width), |bench| {
                bench.iter(|| {
                    pack(&mut panels, DIM, ROWS, width, |row, out| scaled(out, black_box(&rows), row, 0.5));
                });
            });
        }
    }
    group.finish();
}

/// A stream of candidates through one anchor's buffer, as a search feeds it: what does not reach is not offered.
fn selection(c: &mut Criterion) {
    const OFFERED: usize = 20_000;
    let scores = numbers(6, OFFERED);
    let mut group = c.benchmark_group("select");
    group.throughput(Throughput::Elements(OFFERED as u64));
    for k in [8, 100] {
        group.bench_function(BenchmarkId::from_parameter(k), |bench| {
            bench.iter(|| {
                let (mut buffers, mut lowest) = (Buffers::new(1, k), f32::NEG_INFINITY);
                for (&score, row) in scores.iter().zip(0..) {
                    if score >= lowest && buffers.push(0, Candidate { score, row }) {
                        lowest = buffers.kth(0, k).unwrap_or(lowest);
                        buffers.retain_from(0, lowest);
                    }
                }
                buffers.len(0)
            });
        });
    }
    group.finish();
}

fn settings() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_millis(1200))
}

criterion_group! {
    name = kernels;
    config = settings();
    targets = tile, lookup, distances, score, packing, selection
}
criterion_main!(kernels);
