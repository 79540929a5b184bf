//! Sign codes: kernels of every level against their definitions, searches against brute force, estimates against theory.

mod making;
mod naive;

use making::{Dice, Kind, Stored, THREADS, ways};
use negfast_core::codes::signs::{
    CodedQuery, FACTORS, Ranking, SignCoder, Signatures, candidates, hamming as all_distances,
};
use negfast_core::error::Error;
use negfast_core::kernel::{
    BLOCK_ROWS, Blocks, Level, Lookup, LookupOutput, MAX_BITS, PANEL_QUERIES, Strips, Table, Tables, hamming,
};
use negfast_core::rows::{Data, Rows};
use negfast_core::score::{Matrix, Metric};
use negfast_core::threads::{Unwatched, Workers};

const BITS: [usize; 8] = [64, 128, 192, 256, 384, 768, 1024, MAX_BITS];

fn bit(code: &[u64], j: usize) -> bool {
    code[j / 64] >> (j % 64) & 1 == 1
}

/// The integer that the tables give for a code, by definition.
fn sum(table: &Table, code: &[u64]) -> u32 {
    let entry = |g: usize| (0..4).fold(0, |index, j| index | usize::from(bit(code, 4 * g + j)) << j);
    table.entries().iter().enumerate().map(|(g, entries)| u32::from(entries[entry(g)])).sum()
}

fn codes(dice: &mut Dice, rows: usize, words: usize) -> Vec<u64> {
    let mut codes: Vec<u64> = (0..rows * words).map(|_| dice.roll()).collect();
    // The extremes of every sum.
    if rows > 2 {
        codes[..words].fill(0);
        codes[words..2 * words].fill(u64::MAX);
    }
    codes
}

fn weights(dice: &mut Dice, bits: usize, style: usize) -> Vec<f32> {
    match style {
        0 => dice.row(bits),
        1 => vec![-0.25; bits],
        2 => (0..bits).map(|j| if j == bits / 2 { 3.0 } else { 0.0 }).collect(),
        3 => vec![0.0; bits],
        _ => dice.row(bits).iter().map(|w| w * w * w * 1e-12).collect(),
    }
}

/// In a run of 128 bits, first bytes and second bytes of all pairs are summed in one byte each.
#[test]
fn byte_sums_cannot_overflow() {
    let mut dice = Dice(1);
    for bits in BITS {
        for style in 0..5 {
            let table = Table::new(&weights(&mut dice, bits, style));
            let most: Vec<u32> = table.entries().iter().map(|e| e.iter().copied().max().map_or(0, u32::from)).collect();
            for run in most.chunks(32) {
                for parity in [0, 1] {
                    let sum: u32 = (0..run.len()).filter(|g| g / 2 % 2 == parity).map(|g| run[g]).sum();
                    assert!(sum <= 255, "{bits} bits, style {style}: {sum}");
                }
            }
        }
    }
}

/// Entries are rounded by half a unit at most, so a sum is off by that for each four bits.
#[test]
fn sums_stand_for_signed_weights() {
    let mut dice = Dice(2);
    for bits in BITS {
        for style in 0..5 {
            let weights = weights(&mut dice, bits, style);
            let table = Table::new(&weights);
            for code in codes(&mut dice, 8, bits / 64).chunks_exact(bits / 64) {
                let signed = |(j, &w): (usize, &f32)| if bit(code, j) { f64::from(w) } else { -f64::from(w) };
                let exact: f64 = weights.iter().enumerate().map(signed).sum();
                let got = table.unit() * (f64::from(sum(&table, code)) - f64::from(table.offset()));
                let most = table.unit() * (bits as f64 / 8.0 + 0.01);
                assert!((got - exact).abs() <= most, "{bits} bits, style {style}: {got} for {exact}");
            }
        }
    }
}

struct Looked {
    tables: Vec<Table>,
    codes: Vec<u64>,
    words: usize,
    terms: Vec<[f32; 3]>,
}

impl Looked {
    fn new(seed: u64, queries: usize, rows: usize, bits: usize) -> Self {
        let mut dice = Dice(seed);
        let tables = (0..queries).map(|q| {
            let mut table = Table::new(&weights(&mut dice, bits, [0, 0, 1, 2, 4][q % 5]));
            (table.add, table.width) = (dice.number(), dice.number().abs());
            table
        });
        let tables = tables.collect();
        let terms = (0..rows).map(|_| [dice.number().abs(), dice.number(), dice.number().abs()]).collect();
        Self { tables, codes: codes(&mut dice, rows, bits / 64), words: bits / 64, terms }
    }

    /// Estimate and what the threshold is compared with, each operation rounded once.
    fn estimate(&self, q: usize, row: usize) -> (u32, f32, f32) {
        let (table, [scale, add, width]) = (&self.tables[q], self.terms[row]);
        let sum = sum(table, &self.codes[row * self.words..][..self.words]);
        let product = scale * (sum as f32 - table.offset());
        let estimate = product + add * table.add;
        (sum, estimate, estimate + width * table.width)
    }

    /// All masks; every estimate and sum behind a set bit is checked.
    fn masks(&self, level: Level, threshold: impl Fn(usize) -> f32) -> Vec<u32> {
        let lookup = Lookup::new(level);
        let (mut tables, mut blocks, mut out) = (Tables::default(), Blocks::default(), LookupOutput::default());
        // Twice: the room of an earlier, larger packing must not shine through.
        tables.pack(&vec![Table::new(&vec![1.0; 64 * self.words]); self.tables.len() + 9], &lookup);
        blocks.pack(&vec![u64::MAX; self.codes.len() + 64 * self.words], self.words, |_| [9.0; 3]);
        tables.pack(&self.tables, &lookup);
        blocks.pack(&self.codes, self.words, |row| self.terms[row]);
        assert_eq!((blocks.rows(), blocks.count()), (self.terms.len(), self.terms.len().div_ceil(BLOCK_ROWS)));
        let count = blocks.count();
        let mut masks = vec![0; count * self.tables.len()];
        for p in 0..tables.count() {
            let at = |q: usize| if q < self.tables.len() { threshold(q) } else { f32::INFINITY };
            let thresholds: Vec<f32> = (0..PANEL_QUERIES).map(|q| at(p * PANEL_QUERIES + q)).collect();
            for b in 0..count {
                let before = out.clone();
                if !lookup.run(&tables, p, &blocks, b, &thresholds, &mut out) {
                    assert_eq!((before.masks, before.sums), (out.masks, out.sums));
                    assert_eq!(before.estimates.map(f32::to_bits), out.estimates.map(f32::to_bits));
                    continue;
                }
                for q in 0..PANEL_QUERIES {
                    let query = p * PANEL_QUERIES + q;
                    if query >= self.tables.len() {
                        assert_eq!(out.masks[q], 0);
                        continue;
                    }
                    masks[query * count + b] = out.masks[q];
                    for row in b * BLOCK_ROWS..((b + 1) * BLOCK_ROWS).min(self.terms.len()) {
                        let at = q * BLOCK_ROWS + row % BLOCK_ROWS;
                        if out.masks[q] != 0 {
                            let (sum, estimate, _) = self.estimate(query, row);
                            assert_eq!(u32::from(out.sums[at]), sum, "{level:?}, query {query}, row {row}");
                            assert_eq!(out.estimates[at].to_bits(), estimate.to_bits(), "{level:?}");
                        } else {
                            assert_eq!(out.sums[at], before.sums[at]);
                        }
                    }
                }
            }
        }
        masks
    }

    fn expected(&self, threshold: impl Fn(usize) -> f32) -> Vec<u32> {
        let count = self.terms.len().div_ceil(BLOCK_ROWS);
        let mut masks = vec![0; count * self.tables.len()];
        for (q, masks) in masks.chunks_exact_mut(count).enumerate() {
            for row in 0..self.terms.len() {
                let reached = self.estimate(q, row).2 >= threshold(q);
                masks[row / BLOCK_ROWS] |= u32::from(reached) << (row % BLOCK_ROWS);
            }
        }
        masks
    }
}

/// Sums, estimates and masks are those of the definition, whatever the sizes; thresholds are values that occur, and the
/// next above.
#[test]
fn lookups_have_the_bits_of_the_definition() {
    for (seed, bits) in BITS.into_iter().enumerate() {
        for (queries, rows) in [(1, 1), (3, 31), (4, 32), (5, 33), (9, 70)] {
            if bits == MAX_BITS && queries > 4 {
                continue;
            }
            let looked = Looked::new(seed as u64, queries, rows, bits);
            let pivot = |q: usize| looked.estimate(q, (q * 7 + 3) % rows).2;
            for level in Level::available() {
                assert_eq!(looked.masks(level, |_| f32::NEG_INFINITY), looked.expected(|_| f32::NEG_INFINITY));
                assert_eq!(looked.masks(level, pivot), looked.expected(pivot), "{level:?}, {bits} bits");
                let above = |q| pivot(q).next_up();
                assert_eq!(looked.masks(level, above), looked.expected(above), "{level:?}, {bits} bits");
                assert!(looked.masks(level, |_| f32::INFINITY).iter().all(|&mask| mask == 0));
            }
        }
    }
}

#[test]
fn distances_count_bits() {
    let mut dice = Dice(4);
    for words in [1, 2, 3, 6, 12, 17, 256] {
        for rows in [0, 1, 7, 8, 9, 33] {
            let (codes, code) = (codes(&mut dice, rows, words), codes(&mut dice, 1, words));
            let mut strips = Strips::default();
            strips.pack(&vec![7; words * 40], words);
            strips.pack(&codes, words);
            assert_eq!(strips.rows(), rows);
            let differ = |other: &[u64]| code.iter().zip(other).map(|(a, b)| (a ^ b).count_ones()).sum::<u32>() as u16;
            let expected: Vec<u16> = codes.chunks_exact(words).map(differ).collect();
            for level in Level::available() {
                let mut out = vec![9; rows];
                hamming(level, &code, &strips, &mut out);
                assert_eq!(out, expected, "{level:?}, {words} words, {rows} rows");
            }
        }
    }
}

/// Rows around a few centres, with copies and a row of zeros.
fn clustered(dice: &mut Dice, n: usize, dim: usize) -> Vec<Vec<f32>> {
    let centres = dice.rows(8, dim);
    let mut rows: Vec<Vec<f32>> =
        (0..n).map(|i| centres[i % 8].iter().map(|c| c + 0.7 * dice.number() + 0.3).collect()).collect();
    for i in 0..n / 10 {
        let copied = rows[dice.below(n)].clone();
        rows[n - 1 - i] = copied;
    }
    if n > 3 {
        rows[3].fill(0.0);
    }
    rows
}

fn measured(stored: &Stored, dim: usize, level: Level) -> Matrix<'_> {
    Matrix::measure("rows", stored.rows(dim), level, &mut Workers::new(1, &mut Unwatched)).expect("finite rows")
}

struct Coded {
    words: Vec<u64>,
    factors: Vec<f32>,
}

fn coded(coder: &SignCoder, rows: &Matrix<'_>, level: Level, threads: usize) -> Coded {
    let mut coded = Coded { words: vec![0; rows.len() * coder.words()], factors: vec![0.0; rows.len() * FACTORS] };
    let mut watch = Unwatched;
    let mut workers = Workers::new(threads, &mut watch);
    coder.encode("rows", rows, &mut coded.words, &mut coded.factors, level, &mut workers).expect("rows of its dim");
    coded
}

fn fitted(rows: &Matrix<'_>, bits: usize, metric: Metric, threads: usize) -> SignCoder {
    let coder = SignCoder::new(rows.rows().dim(), bits, 5, metric).expect("legal sizes");
    coder.fit("rows", rows, &mut Workers::new(threads, &mut Unwatched)).expect("legal rows")
}

#[test]
fn coding_is_the_same_for_any_threads_level_and_storage() {
    for (kind, metric) in [(Kind::F32, Metric::Cosine), (Kind::F16, Metric::Dot), (Kind::Bf16, Metric::Cosine)] {
        let dim = 130;
        let stored = Stored::new(&clustered(&mut Dice(6), 9000, dim), kind);
        let widened = Stored::new(&stored.widened(dim), Kind::F32);
        let rows = measured(&widened, dim, Level::Scalar);
        let coder = fitted(&rows, 192, metric, 1);
        let expected = coded(&coder, &rows, Level::Scalar, 1);
        for way in ways() {
            let rows = measured(&stored, dim, way.level);
            let again = fitted(&rows, 192, metric, way.threads);
            assert_eq!(bits(again.centre()), bits(coder.centre()), "{way:?}");
            let got = coded(&again, &rows, way.level, way.threads);
            assert_eq!(got.words, expected.words, "{way:?}");
            assert_eq!(bits(&got.factors), bits(&expected.factors), "{way:?}");
        }
    }
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|x| x.to_bits()).collect()
}

/// Best first by what ranks, then the lower row.
fn ranked(scores: &[f32], k: usize) -> Vec<i64> {
    let mut rows: Vec<usize> = (0..scores.len()).collect();
    rows.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    (0..k).map(|i| rows.get(i).map_or(-1, |&row| row as i64)).collect()
}

#[test]
fn candidates_are_those_of_brute_force() {
    // Enough work for threads to start, and odd sizes.
    for (metric, n, queries, dim, n_bits) in
        [(Metric::Cosine, 1501, 203, 90, 576), (Metric::Dot, 1100, 40, 40, 64), (Metric::Cosine, 5, 3, 3, 64)]
    {
        let mut dice = Dice(8);
        let corpus = Stored::new(&clustered(&mut dice, n, dim), Kind::F32);
        let asked = Stored::new(&clustered(&mut dice, queries, dim), Kind::F32);
        let (rows, asked) = (measured(&corpus, dim, Level::Scalar), measured(&asked, dim, Level::Scalar));
        let coder = fitted(&rows, n_bits, metric, 1);
        let theirs = coded(&coder, &rows, Level::Scalar, 1);
        // Under dot products a query is not moved.
        let still = SignCoder::new(dim, n_bits, coder.seed(), metric).expect("legal sizes");
        let ours = coded(if metric == Metric::Dot { &still } else { &coder }, &asked, Level::Scalar, 1);
        let plain = coder.signatures("signatures", &theirs.words, n, coder.words()).expect("whole rows");
        let full = plain.with_factors("factors", &theirs.factors, &[n, FACTORS]).expect("whole rows");
        let mut scratch = coder.scratch();
        let mut expected = |k: usize, signatures: &Signatures<'_>, corrected: bool, ranking| -> Vec<i64> {
            (0..queries)
                .flat_map(|q| {
                    let query = coder.query(&asked, q, corrected, Level::Scalar, &mut scratch);
                    let scores: Vec<f32> = (0..n)
                        .map(|row| {
                            let code = &theirs.words[row * coder.words()..][..coder.words()];
                            if ranking == Ranking::Hamming {
                                let own = &ours.words[q * coder.words()..][..coder.words()];
                                return -(own.iter().zip(code).map(|(a, b)| (a ^ b).count_ones()).sum::<u32>() as f32);
                            }
                            let [scale, add, _] = factors_of(&theirs, row, corrected);
                            let product = scale * (sum(&query.table, code) as f32 - query.table.offset());
                            product + add * query.table.add
                        })
                        .collect();
                    assert_eq!(signatures.len(), n);
                    ranked(&scores, k)
                })
                .collect()
        };
        for k in [0, 1, 7, n + 2] {
            for (signatures, corrected, ranking) in [
                (&full, true, Ranking::Estimate),
                (&plain, false, Ranking::Estimate),
                (&plain, false, Ranking::Hamming),
            ] {
                let expected = expected(k, signatures, corrected, ranking);
                for way in ways() {
                    let mut watch = Unwatched;
                    let mut workers = Workers::new(way.threads, &mut watch);
                    let got = candidates(&coder, &asked, signatures, k, ranking, way.level, &mut workers);
                    assert!(got == Ok(expected.clone()), "{way:?}, k = {k}, {ranking:?}, corrected {corrected}");
                }
            }
        }
    }
}

fn factors_of(coded: &Coded, row: usize, corrected: bool) -> [f32; 3] {
    let given = || coded.factors[row * FACTORS..][..FACTORS].try_into().expect("three");
    if corrected { given() } else { [1.0, 0.0, 0.0] }
}

#[test]
fn tables_of_distances() {
    let mut dice = Dice(9);
    for (n_a, n_b, words) in [(0, 5, 2), (5, 0, 2), (3, 1100, 3), (700, 513, 6)] {
        let (a, b) = (codes(&mut dice, n_a, words), codes(&mut dice, n_b, words));
        let expected: Vec<u16> = a
            .chunks_exact(words)
            .flat_map(|x| {
                let differ = |y: &[u64]| x.iter().zip(y).map(|(x, y)| (x ^ y).count_ones()).sum::<u32>() as u16;
                b.chunks_exact(words).map(differ).collect::<Vec<_>>()
            })
            .collect();
        let coder = SignCoder::new(3, 64 * words, 0, Metric::Cosine).expect("legal sizes");
        let x = coder.signatures("a", &a, n_a, words).expect("whole rows");
        let y = coder.signatures("b", &b, n_b, words).expect("whole rows");
        for way in ways() {
            let got = all_distances(&x, &y, way.level, &mut Workers::new(way.threads, &mut Unwatched));
            assert!(got.as_deref() == Ok(&expected[..]), "{way:?}");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let message = |error: Error| error.to_string();
    for bits in [0, 1, 63, 65, 100, MAX_BITS + 64] {
        let refused = SignCoder::new(8, bits, 0, Metric::Cosine).map_err(message).expect_err("no multiple");
        assert!(refused.starts_with("n_bits must be a multiple of 64") && refused.contains(&bits.to_string()));
    }
    assert!(SignCoder::new(0, 64, 0, Metric::Cosine).is_err());
    let coder = SignCoder::new(8, 64, 0, Metric::Dot).expect("legal sizes");
    assert!(coder.clone().with_centre(&[0.0; 7]).is_err());
    assert!(coder.clone().with_centre(&[f32::NAN; 8]).is_err());
    assert!(coder.clone().with_centre(&[1e20; 8]).is_err());
    let mut watch = Unwatched;
    let mut workers = Workers::new(1, &mut watch);
    for (numbers, dim, said) in [(vec![1.0; 9], 9, "dim 8"), (vec![1e20; 8], 8, "norm of 2.828e20")] {
        let rows = Rows::new("rows", Data::F32(&numbers), 1, dim).expect("a row");
        let rows = Matrix::measure("rows", rows, Level::Scalar, &mut workers).expect("finite");
        let (mut words, mut factors) = ([0], [0.0; FACTORS]);
        let refused = coder.encode("rows", &rows, &mut words, &mut factors, Level::Scalar, &mut workers);
        assert!(refused.map_err(message).expect_err("unfit").contains(said));
    }
    for (words, n, width) in [(&[0; 6][..], 3, 2), (&[0; 6], 6, 0), (&[0; 6], 5, 1), (&[], usize::MAX, 1)] {
        let refused = coder.signatures("a", words, n, width).map_err(message).expect_err("another shape");
        assert!(refused.starts_with("a must be of shape (n_rows, 1), for 64 bits"), "{refused}");
    }
    let signatures = coder.signatures("a", &[0; 2], 2, 1).expect("whole rows");
    assert!(signatures.with_factors("f", &[0.0; 5], &[5, 1]).is_err());
    assert!(signatures.with_factors("f", &[0.0; 6], &[3, 2]).is_err());
    let bad = [0.0, 0.0, 0.0, f32::NAN, 0.0, 0.0];
    assert_eq!(
        signatures.with_factors("f", &bad, &[2, 3]).expect_err("a NaN"),
        Error::NonFinite { argument: "f".into(), row: 1 }
    );
    let nine = [1.0; 9];
    let rows = Rows::new("queries", Data::F32(&nine), 1, 9).expect("a row");
    let queries = Matrix::measure("queries", rows, Level::Scalar, &mut workers).expect("finite");
    assert!(candidates(&coder, &queries, &signatures, 1, Ranking::Hamming, Level::Scalar, &mut workers).is_err());
}

/// The standard normal quantile of 1 − 1e-7.
const Z: f64 = 5.199_337_6;

/// Estimate and truth of one pair under one seed, and the standard deviation that the row and the query state.
fn one_estimate(seed: u64, bits: usize, metric: Metric, centre: &[f32], pair: &Matrix<'_>) -> (f64, f64) {
    let coder = SignCoder::new(centre.len(), bits, seed, metric).expect("legal sizes");
    let coder = coder.with_centre(centre).expect("a legal centre");
    let row = coded(&coder, pair, Level::detect(), 1);
    let query: CodedQuery = coder.query(pair, 1, true, Level::detect(), &mut coder.scratch());
    let [scale, add, width] = factors_of(&row, 0, true);
    let product = scale * (sum(&query.table, &row.words[..coder.words()]) as f32 - query.table.offset());
    (query.score(product + add * query.table.add), f64::from(width) * query.length)
}

/// Over random rotations, estimates have the score as their mean and the stated error as their standard deviation.
///
/// The seeds are fixed. Had they been drawn afresh, each of the twelve bounds would be exceeded with a probability of
/// 2e-7 if errors were normal with the stated variance, so a correct program would raise a false alarm with a
/// probability below 3e-6 in all. The stated variance leaves out two things that the bounds on it allow for: the part
/// of the query along the row does not err, which takes off cos² of it, and tables are rounded, which adds 1 to 5 %.
#[test]
fn estimates_are_unbiased_and_err_as_stated() {
    const SEEDS: u64 = 3000;
    let dim = 96;
    let mut dice = Dice(11);
    let centre: Vec<f32> = dice.row(dim).iter().map(|x| 0.04 * x + 0.02).collect();
    let row = dice.row(dim);
    let close: Vec<f32> = row.iter().map(|x| 0.5 * x + 0.6 * dice.number()).collect();
    for (metric, other) in [(Metric::Cosine, &close), (Metric::Dot, &dice.row(dim))] {
        let stored = Stored::new(&[row.clone(), other.clone()], Kind::F32);
        let pair = measured(&stored, dim, Level::detect());
        let truth =
            naive::product(&row, other) / pair.norm(1) / if metric == Metric::Cosine { pair.norm(0) } else { 1.0 };
        for bits in [64, 128, 384] {
            let (mut errors, mut squares, mut stated) = (0.0, 0.0, 0.0);
            for seed in 0..SEEDS {
                let (estimate, deviation) = one_estimate(seed, bits, metric, &centre, &pair);
                errors += estimate - truth;
                squares += (estimate - truth).powi(2);
                stated += deviation.powi(2);
            }
            let n = SEEDS as f64;
            let (mean, deviation) = (errors / n, (stated / n).sqrt());
            assert!(
                mean.abs() < Z * deviation / n.sqrt(),
                "{metric:?}, {bits} bits: bias {mean:.2e}, σ {deviation:.2e}"
            );
            let ratio = squares / stated;
            let slack = Z * (2.0 / n).sqrt();
            assert!(
                (0.8 - slack..1.05 + slack).contains(&ratio),
                "{metric:?}, {bits} bits: variance {ratio:.3} of stated"
            );
        }
    }
}

/// A seed that is written down has to give the same signatures for ever.
#[test]
fn pinned_signatures() {
    let mut dice = Dice(2024);
    let stored = Stored::new(&dice.rows(3, 100), Kind::F32);
    for threads in THREADS {
        let rows = measured(&stored, 100, Level::detect());
        let coder = SignCoder::new(100, 192, 42, Metric::Cosine).expect("legal sizes");
        let plain = coded(&coder, &rows, Level::detect(), threads);
        let coder = coder.fit("rows", &rows, &mut Workers::new(threads, &mut Unwatched)).expect("legal rows");
        let centred = coded(&coder, &rows, Level::detect(), threads);
        let got = (&plain.words[..3], &centred.words[6..], bits(&centred.factors[..3]));
        let pinned: (&[u64], &[u64], _) = (
            &[0x4e1e_5bd8_05d4_4ca0, 0x812f_ee3d_35d8_1c5f, 0xea43_187c_808a_3a5b],
            &[0xe9fc_f22b_f278_75a7, 0x1ed8_92c3_9164_4a28, 0x0ae4_8e96_2c11_3d60],
            vec![0x3d40_0f82, 0x3db1_37d4, 0x3d22_50ca],
        );
        assert_eq!(got, pinned, "{got:#x?}");
    }
}
