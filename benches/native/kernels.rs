//! Kernels, one by one and level by level. Elements are multiply-adds, or rows where a kernel has none.

#![allow(missing_docs, reason = "criterion's macros make public functions")]

#[allow(dead_code, reason = "each bench uses a part of it")]
mod rows;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use negfast_core::kernel::{
    BATCH, BLOCK_ROWS, Blocks, CODE_COLUMNS, CODE_ROWS, CodePanel, CodeRows, CodeTile, Level, Lookup, LookupOutput,
    PANEL_QUERIES, Panels, RUNS, Strips, Table, Tables, Tile, TileOutput, dots, estimate, hamming, pack, scaled,
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

/// What the processor can do: multiply-adds whose operands are in registers.
fn peak(c: &mut Criterion) {
    let mut group = c.benchmark_group("peak");
    for level in Level::available().into_iter().filter(|&level| level > Level::Scalar) {
        let (sums, width) = if level == Level::Avx512 { (PEAK_SUMS, 16) } else { (PEAK_SUMS, 8) };
        group.throughput(Throughput::Elements((PEAK_STEPS * sums * width) as u64));
        group.bench_function(level.name(), |bench| {
            bench.iter(|| {
                #[cfg(target_arch = "x86_64")]
                match level {
                    // SAFETY: the level is one of those that the machine has.
                    Level::Avx512 => unsafe { multiply_adds_avx512(black_box(0.5)) },
                    // SAFETY: as above.
                    _ => unsafe { multiply_adds_avx2(black_box(0.5)) },
                }
            });
        });
    }
    group.finish();
}

/// Independent sums, enough to hide the latency of an addition, and steps.
const PEAK_SUMS: usize = 12;
const PEAK_STEPS: usize = 4096;

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn multiply_adds_avx512(x: f32) -> f32 {
    use std::arch::x86_64::{_mm512_fmadd_ps, _mm512_reduce_add_ps, _mm512_set1_ps};
    let (x, mut sums) = (_mm512_set1_ps(x), [_mm512_set1_ps(0.1); PEAK_SUMS]);
    for _ in 0..PEAK_STEPS {
        for sum in &mut sums {
            *sum = _mm512_fmadd_ps(*sum, x, x);
        }
    }
    sums.iter().map(|&sum| _mm512_reduce_add_ps(sum)).sum()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn multiply_adds_avx2(x: f32) -> f32 {
    use std::arch::x86_64::{_mm256_cvtss_f32, _mm256_fmadd_ps, _mm256_set1_ps};
    let (x, mut sums) = (_mm256_set1_ps(x), [_mm256_set1_ps(0.1); PEAK_SUMS]);
    for _ in 0..PEAK_STEPS {
        for sum in &mut sums {
            *sum = _mm256_fmadd_ps(*sum, x, x);
        }
    }
    sums.iter().map(|&sum| _mm256_cvtss_f32(sum)).sum()
}

/// Elements as the tile counts them: a pair is worth a multiply-add for each element.
fn codes(c: &mut Criterion) {
    const QUADS: usize = DIM / 4;
    let mut group = c.benchmark_group("codes");
    for level in Level::available() {
        let tile = CodeTile::new(level);
        let run = RUNS[0];
        let limit = f32::from(tile.limit());
        let anchors: Vec<i8> = numbers(8, tile.rows * DIM).iter().map(|x| (x * limit * 0.3) as i8).collect();
        let corpus: Vec<u8> = numbers(9, CODE_COLUMNS * DIM).iter().map(|x| (x * 38.0 + 128.0) as u8).collect();
        let biases = vec![0; tile.rows * tile.biases(QUADS, run)];
        let (spreads, columns) = (vec![1.0; tile.rows], vec![1e-3; CODE_COLUMNS]);
        let mut masks = [0; CODE_ROWS];
        group.throughput(Throughput::Elements((tile.rows * CODE_COLUMNS * DIM) as u64));
        for (name, threshold) in [("nothing reaches", f32::INFINITY), ("all reach", f32::MIN)] {
            let thresholds = vec![threshold; tile.rows];
            let rows = CodeRows {
                codes: &anchors,
                biases: &biases,
                spreads: &spreads,
                thresholds: &thresholds,
                inverses: &spreads,
            };
            let panel = CodePanel { codes: &corpus, scales: &columns, widths: &columns, thresholds: &columns };
            group.bench_function(BenchmarkId::new(name, level.name()), |bench| {
                bench.iter(|| tile.run(black_box(&rows), black_box(&panel), QUADS, run, &mut masks));
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
    targets = peak, tile, codes, lookup, distances, score, packing, selection
}
criterion_main!(kernels);
