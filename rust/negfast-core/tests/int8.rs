//! Int8 codes: tiles of every level against plain sums, and the bound on what codes lose against scores.
//!
//! `make soundness` runs the last test over many more pairs, `NEGFAST_SOUNDNESS_PAIRS` of each kind of rows.

mod making;
mod naive;

use std::fmt::Write;

use making::{Dice, Kind, Stored};
use negfast_core::codes::basis::{Basis, Leading};
use negfast_core::codes::int8::{Coder, Room};
use negfast_core::kernel::{
    CODE_COLUMNS, CODE_ROWS, CodePanel, CodeRows, CodeTile, Level, Panels, RUNS, Tile, WIDE, pack, reaching,
};
use negfast_core::score::{Matrix, Metric, Scale, Scorer, Scratch};
use negfast_core::threads::{Unwatched, Workers};

/// Codes of some anchors and of one panel of rows, with what the tile needs beside them.
struct Tiled {
    tile: CodeTile,
    quads: usize,
    run: usize,
    anchors: Vec<Vec<i8>>,
    rows: Vec<Vec<i8>>,
    scales: Vec<f32>,
    widths: Vec<f32>,
    spreads: Vec<f32>,
}

impl Tiled {
    /// Rows of `length` codes, those from `row` on; missing rows are padding.
    fn new(level: Level, length: usize, run: usize, anchors: Vec<Vec<i8>>, rows: Vec<Vec<i8>>) -> Self {
        let tile = CodeTile::new(level);
        assert_eq!(anchors.len(), tile.rows);
        let real = |r: usize, x: f32, none: f32| if r < rows.len() { x } else { none };
        let scales = (0..CODE_COLUMNS).map(|r| real(r, 1.0, 0.0)).collect();
        let widths = (0..CODE_COLUMNS).map(|r| real(r, (r % 5) as f32, f32::NEG_INFINITY)).collect();
        let spreads = (0..tile.rows).map(|r| (r % 3) as f32).collect();
        Self { tile, quads: length.div_ceil(4), run, anchors, rows, scales, widths, spreads }
    }

    /// The panel, laid out as the documentation of the kernel says.
    fn panel(&self) -> Vec<u8> {
        panel(&self.rows, self.quads)
    }

    fn with<T>(&self, thresholds: &[f32], call: impl FnOnce(&CodeTile, &CodeRows<'_>, &CodePanel<'_>) -> T) -> T {
        self.with_both(thresholds, (&[], &[]), call)
    }

    /// The rows too want something to be reached, in units of their own.
    fn with_both<T>(
        &self,
        thresholds: &[f32],
        (wanted, inverses): (&[f32], &[f32]),
        call: impl FnOnce(&CodeTile, &CodeRows<'_>, &CodePanel<'_>) -> T,
    ) -> T {
        let (codes, biases) = side_by_side(&self.tile, &self.anchors, self.quads, self.run);
        let panel = self.panel();
        let panel = CodePanel { codes: &panel, scales: &self.scales, widths: &self.widths, thresholds: wanted };
        let anchors = CodeRows { codes: &codes, biases: &biases, spreads: &self.spreads, thresholds, inverses };
        call(&self.tile, &anchors, &panel)
    }

    fn sum(&self, r: usize, c: usize) -> i32 {
        let product = |(&x, &y): (&i8, &i8)| i32::from(x) * i32::from(y);
        self.rows.get(c).map_or(0, |row| self.anchors[r].iter().zip(row).map(product).sum())
    }

    /// What decides; all of it whole numbers, which `f32` holds exactly.
    fn reach(&self, r: usize, c: usize) -> f32 {
        self.sum(r, c) as f32 * self.scales[c] + self.spreads[r] * self.widths[c]
    }

    fn check(&self, name: &str) {
        let mut estimates = [f32::NAN; CODE_ROWS * CODE_COLUMNS];
        let thresholds = vec![0.0; self.tile.rows];
        self.with(&thresholds, |tile, anchors, panel| {
            tile.estimates(anchors, panel, self.quads, self.run, &mut estimates);
        });
        for r in 0..self.tile.rows {
            for c in 0..CODE_COLUMNS {
                let got = estimates[r * CODE_COLUMNS + c];
                assert_eq!(got.to_bits(), (self.sum(r, c) as f32 * self.scales[c]).to_bits(), "{name}, ({r}, {c})");
            }
        }
        for pivot in 0..CODE_COLUMNS {
            // A threshold that a row has exactly, then the next number.
            for up in [false, true] {
                let exactly = |r: usize| Some(self.reach(r, (pivot + r) % self.rows.len().max(1)));
                let reach = |r: usize| exactly(r).filter(|x| x.is_finite()).unwrap_or(f32::MIN);
                let step = |x: f32| if up { x.next_up() } else { x };
                self.check_masks(&(0..self.tile.rows).map(|r| step(reach(r))).collect::<Vec<_>>(), name);
            }
        }
        (0..self.tile.rows).for_each(|pivot| self.check_both(pivot, name));
        self.check_masks(&vec![f32::MIN; self.tile.rows], name);
        self.check_masks(&vec![f32::INFINITY; self.tile.rows], name);
    }

    /// The same where a pair also counts that reaches what its row wants: a threshold that one anchor reaches exactly.
    fn check_both(&self, pivot: usize, name: &str) {
        let inverses: Vec<f32> = (0..self.tile.rows).map(|r| [0.5, 1.0, 2.0][r % 3]).collect();
        let exactly = |c: usize| self.reach(pivot, c) / inverses[pivot];
        let wanted: Vec<f32> = (0..CODE_COLUMNS)
            .map(|c| if c < self.rows.len() && c % 4 < 3 { exactly(c) } else { f32::INFINITY })
            .collect();
        for own in [f32::INFINITY, 0.0] {
            let thresholds = vec![own; self.tile.rows];
            let mut masks = [0x5555_5555; CODE_ROWS];
            let any = self.with_both(&thresholds, (&wanted, &inverses), |tile, anchors, panel| {
                tile.run_both(anchors, panel, self.quads, self.run, &mut masks)
            });
            let reaches = |r: usize, c: usize| {
                let reach = self.reach(r, c);
                c < self.rows.len() && (reach >= own || reach >= wanted[c] * inverses[r])
            };
            let mask = |r: usize| (0..CODE_COLUMNS).filter(|&c| reaches(r, c)).fold(0u32, |mask, c| mask | 1 << c);
            let expected: Vec<u32> = (0..self.tile.rows).map(mask).collect();
            assert_eq!(any, expected.iter().any(|&mask| mask != 0), "{name}: any of both");
            assert!(!any || masks[..self.tile.rows] == expected, "{name}: masks of both, {own}");
        }
    }

    fn check_masks(&self, thresholds: &[f32], name: &str) {
        let reaches = |r: usize, c: usize| c < self.rows.len() && self.reach(r, c) >= thresholds[r];
        let mask = |r: usize| (0..CODE_COLUMNS).filter(|&c| reaches(r, c)).fold(0u32, |mask, c| mask | 1 << c);
        let expected: Vec<u32> = (0..self.tile.rows).map(mask).collect();
        let mut masks = [0x5555_5555; CODE_ROWS];
        let any =
            self.with(thresholds, |tile, anchors, panel| tile.run(anchors, panel, self.quads, self.run, &mut masks));
        assert_eq!(any, expected.iter().any(|&mask| mask != 0), "{name}: any of {thresholds:?}");
        if any {
            assert_eq!(masks[..self.tile.rows], expected, "{name}: masks of {thresholds:?}");
        }
    }
}

/// A panel of codes, element `4 q + i` of row `c` at `(32 q + c) * 4 + i`, with an offset of 128.
fn panel(rows: &[Vec<i8>], quads: usize) -> Vec<u8> {
    let mut panel = vec![128u8; quads * 4 * CODE_COLUMNS];
    for (c, row) in rows.iter().enumerate() {
        for (e, &code) in row.iter().enumerate() {
            panel[(CODE_COLUMNS * (e / 4) + c) * 4 + e % 4] = (i16::from(code) + 128) as u8;
        }
    }
    panel
}

/// Codes and biases of anchors, one after the other.
fn side_by_side(tile: &CodeTile, anchors: &[Vec<i8>], quads: usize, run: usize) -> (Vec<i8>, Vec<i32>) {
    let each = tile.biases(quads, run);
    let (mut codes, mut biases) = (Vec::new(), vec![0; anchors.len() * each]);
    for (anchor, biases) in anchors.iter().zip(biases.chunks_exact_mut(each)) {
        codes.extend_from_slice(anchor);
        codes.resize(codes.len() + quads * 4 - anchor.len(), 0);
        tile.bias(&codes[codes.len() - quads * 4..], run, biases);
    }
    (codes, biases)
}

/// The largest norms of runs of codes in a 16-bit lane, for each length of a run.
fn run_norms<'a>(side: impl Iterator<Item = &'a [i8]>) -> [f64; RUNS.len()] {
    let mut norms = [0.0; RUNS.len()];
    for codes in side {
        for (norm, run) in norms.iter_mut().zip(RUNS) {
            for run in codes.chunks(4 * run) {
                let mut squares = [0.0; 2];
                run.iter().enumerate().for_each(|(e, &x)| squares[e % 4 / 2] += f64::from(x) * f64::from(x));
                *norm = f64::max(*norm, squares[0].max(squares[1]).sqrt());
            }
        }
    }
    norms
}

/// The longest run whose sums stay within 16 bits for these norms, whichever rows meet.
fn longest_run(anchors: [f64; RUNS.len()], rows: [f64; RUNS.len()]) -> usize {
    let fits = |i: &usize| anchors[*i] * rows[*i] <= f64::from(i16::MAX);
    RUNS[(0..RUNS.len()).find(fits).unwrap_or(RUNS.len() - 1)]
}

fn slices(rows: &[Vec<i8>]) -> impl Iterator<Item = &[i8]> {
    rows.iter().map(Vec::as_slice)
}

fn random_codes(dice: &mut Dice, n: usize, length: usize, most: i8) -> Vec<Vec<i8>> {
    let code = |dice: &mut Dice| (dice.below(2 * most as usize + 1) as i16 - i16::from(most)) as i8;
    (0..n).map(|_| (0..length).map(|_| code(dice)).collect()).collect()
}

#[test]
fn sums_and_masks_are_the_plain_ones() {
    for level in Level::available() {
        let tile = CodeTile::new(level);
        for length in [1, 2, 3, 5, 8, 31, 64, 100, 129, 384] {
            for (run, most) in [(16, 12), (8, 20), (4, 40), (2, WIDE)] {
                let mut dice = Dice(length as u64 * 31 + run as u64);
                let most = if tile.narrow() { most } else { WIDE };
                for rows in [CODE_COLUMNS, 31, 17, 1, 0] {
                    let anchors = random_codes(&mut dice, tile.rows, length, most.min(tile.limit()));
                    let rows = random_codes(&mut dice, rows, length, most);
                    assert!(
                        longest_run(run_norms(slices(&anchors)), run_norms(slices(&rows))) >= run || !tile.narrow()
                    );
                    let name = format!("{level:?}, {length} codes, run {run}, {} rows", rows.len());
                    Tiled::new(level, length, run, anchors, rows).check(&name);
                }
            }
        }
    }
}

/// The largest codes there are, as many of them as the bound on a run allows: sums of pairs wrap around on the way, the
/// end of each run does not.
#[test]
fn the_largest_codes_keep_within_sixteen_bits() {
    let signs = |dice: &mut Dice, style: usize, x: i8| match style {
        0 => x,
        1 => -x,
        _ => dice.one_of(&[x, -x]),
    };
    for level in Level::available() {
        let tile = CodeTile::new(level);
        for run in RUNS {
            for length in [4 * run, 4 * run + 3, 3 * 4 * run, 7 * run + 1, 384] {
                for style in 0..9 {
                    let mut dice = Dice((length * 10 + style) as u64);
                    // Four elements in each lane of a run: 4 · 127 · 64 < 2¹⁵.
                    let held = |e: usize| e % (4 * run) < 8;
                    let mut codes = |n: usize, x: i8, style: usize| -> Vec<Vec<i8>> {
                        let mut code = |e| if held(e) { signs(&mut dice, style, x) } else { 0 };
                        (0..n).map(|_| (0..length).map(&mut code).collect()).collect()
                    };
                    let rows = codes(CODE_COLUMNS, WIDE, style % 3);
                    let anchors = codes(tile.rows, tile.limit(), style / 3);
                    if tile.narrow() {
                        assert!(longest_run(run_norms(slices(&anchors)), run_norms(slices(&rows))) >= run);
                    }
                    Tiled::new(level, length, run, anchors, rows).check(&format!("{level:?}, {length}, run {run}"));
                }
            }
        }
        // Every element at its largest: the shortest run is the longest that is right.
        for (a, b) in [(1, 1), (1, -1), (-1, 1), (-1, -1)] {
            let anchors = vec![vec![a * tile.limit(); 384]; tile.rows];
            let rows = vec![vec![b * WIDE; 384]; CODE_COLUMNS];
            let run = longest_run(run_norms(slices(&anchors)), run_norms(slices(&rows)));
            assert!(run == 2 || !tile.narrow());
            Tiled::new(level, 384, run, anchors, rows).check(&format!("{level:?}, all extremes"));
        }
    }
}

#[test]
fn padding_never_reaches() {
    for level in Level::available() {
        for spread in [0.0, 1.0, 1e30, f32::INFINITY] {
            for threshold in [f32::MIN, -1.0, 0.0] {
                let widths: Vec<f32> = (0..32).map(|c| if c % 3 == 0 { 0.5 } else { f32::NEG_INFINITY }).collect();
                let estimates: Vec<f32> = (0..32).map(|c| if c % 2 == 0 { 7.0 } else { 0.0 }).collect();
                let mask = reaching(level, &estimates, &widths, spread, threshold);
                let expected = (0..32).filter(|c| c % 3 == 0 && estimates[*c] + spread * 0.5 >= threshold);
                assert_eq!(mask, expected.fold(0, |mask, c| mask | 1 << c), "{level:?}, {spread}, {threshold}");
                let tile = CodeTile::new(level);
                let mut tiled = Tiled::new(level, 9, 2, vec![vec![1; 9]; tile.rows], vec![vec![1; 9]; 20]);
                tiled.spreads = vec![spread; tile.rows];
                let mut masks = [0; CODE_ROWS];
                tiled.with(&vec![threshold; tile.rows], |tile, anchors, panel| {
                    tile.run(anchors, panel, tiled.quads, 2, &mut masks)
                });
                assert!(masks.iter().all(|mask| mask >> 20 == 0), "{level:?}, {spread}, {threshold}: {masks:x?}");
            }
        }
        // A row that was looked at is put at −∞, and stays there whatever its width.
        let taken = [f32::NEG_INFINITY; 32];
        assert_eq!(reaching(level, &taken, &[3.0; 32], 2.0, f32::MIN), 0);
    }
}

#[test]
fn reaching_is_the_comparison() {
    for level in Level::available() {
        let mut dice = Dice(5);
        for _ in 0..200 {
            let whole = |dice: &mut Dice| -> Vec<f32> { (0..32).map(|_| dice.below(9) as f32 - 4.0).collect() };
            let (estimates, widths) = (whole(&mut dice), whole(&mut dice));
            let (spread, threshold) = (dice.below(4) as f32, dice.below(20) as f32 - 10.0);
            let reached = (0..32).filter(|&c| estimates[c] + spread * widths[c] >= threshold);
            let expected = reached.fold(0u32, |mask, c| mask | 1 << c);
            assert_eq!(reaching(level, &estimates, &widths, spread, threshold), expected, "{level:?}");
        }
    }
}

fn with_workers<T>(threads: usize, call: impl FnOnce(&mut Workers<'_>) -> T) -> T {
    let mut monitor = Unwatched;
    call(&mut Workers::new(threads, &mut monitor))
}

fn measured(stored: &Stored, dim: usize, level: Level) -> Matrix<'_> {
    with_workers(2, |workers| Matrix::measure("rows", stored.rows(dim), level, workers).expect("finite rows"))
}

/// Directions found for `rows`, `width` of them.
fn basis(rows: &[Vec<f32>], width: usize, level: Level) -> Basis {
    let (stored, dim) = (Stored::new(rows, Kind::F32), rows[0].len());
    let matrix = measured(&stored, dim, level);
    let sides = [(&matrix, Scale::Unit), (&matrix, Scale::Unit)];
    Basis::of(&with_workers(1, |workers| Leading::fit(sides, width, level, workers)).expect("no stop"), width)
}

/// One side's codes, as an index or a block of anchors holds them.
#[derive(Default)]
struct Codes {
    codes: Vec<Vec<i8>>,
    scales: Vec<f32>,
    extents: Vec<f64>,
}

impl Codes {
    fn new(coder: &Coder, side: (&Matrix<'_>, Scale), ids: std::ops::Range<usize>, limit: i8) -> Self {
        let mut all = Self::default();
        coder.code(side, ids, limit, &mut Room::default(), |_, coded| {
            all.codes.push(coded.codes.to_vec());
            all.scales.push(coded.scale);
            all.extents.push(coded.extent);
        });
        all
    }
}

/// Scores and what codes make of them, for all pairs of some anchors with all rows.
struct Compared<'a> {
    scorer: &'a Scorer<'a>,
    coder: &'a Coder,
    tile: CodeTile,
    corpus: Codes,
    panels: Vec<Vec<u8>>,
    run_norms: [f64; RUNS.len()],
    /// The greatest share of its bound that a pair's error has taken up.
    closest: f64,
    pairs: u64,
    missed: u64,
}

impl<'a> Compared<'a> {
    fn new(scorer: &'a Scorer<'a>, coder: &'a Coder, level: Level) -> Self {
        let corpus = Codes::new(coder, (scorer.corpus, scorer.corpus_factor()), 0..scorer.corpus.len(), WIDE);
        let panels = corpus.codes.chunks(CODE_COLUMNS).map(|rows| panel(rows, coder.quads())).collect();
        let (tile, run_norms) = (CodeTile::new(level), run_norms(slices(&corpus.codes)));
        Self { scorer, coder, tile, corpus, panels, run_norms, closest: 0.0, pairs: 0, missed: 0 }
    }

    /// What an anchor's scores are divided by to be in the units of the tile.
    fn unit(&self, anchor: usize) -> f64 {
        match self.scorer.metric {
            Metric::Cosine => 1.0,
            Metric::Dot => match self.scorer.queries.norm(anchor) * self.scorer.corpus_scale() {
                0.0 => 1.0,
                unit => unit,
            },
        }
    }

    /// Checks the anchors `ids` with their `scores` of all rows: each pair against the bound and against the test that the
    /// engine makes, the threshold being the pair's own score; and the tile's masks at the `k`-th score of the anchor.
    fn check(&mut self, ids: std::ops::Range<usize>, scores: &[f32], k: usize, name: &str) {
        let (n, quads, epsilon) = (self.scorer.corpus.len(), self.coder.quads(), self.coder.epsilon());
        let first = ids.start;
        let anchors = Codes::new(self.coder, (self.scorer.queries, Scale::Unit), ids.clone(), self.tile.limit());
        let run = longest_run(run_norms(slices(&anchors.codes)), self.run_norms);
        let spread = |i: usize| (anchors.extents[i] / f64::from(anchors.scales[i]) * (1.0 + 1e-6)) as f32;
        let inverse = |i: usize| 1.0 / anchors.scales[i];
        // Once an anchor: the scale of the corpus is found anew each time.
        let units: Vec<f64> = ids.clone().map(|anchor| self.unit(anchor)).collect();
        let reduced = |i: usize, score: f32| (f64::from(score) / units[i]) as f32;
        let threshold = |i: usize, score: f32| ((reduced(i, score) - epsilon as f32) * inverse(i)).max(f32::MIN);
        let kth = |i: usize| {
            let mut scores = scores[i * n..(i + 1) * n].to_vec();
            *scores.select_nth_unstable_by(k.min(n) - 1, |a, b| b.total_cmp(a)).1
        };
        let last: Vec<f32> = (0..ids.len()).map(kth).collect();
        let (rows, mut closest, mut missed) = (self.tile.rows, self.closest, self.missed);
        for start in (0..ids.len()).step_by(rows) {
            let real = rows.min(ids.len() - start);
            let mut some = anchors.codes[start..start + real].to_vec();
            some.resize(rows, vec![0; quads * 4]);
            let (codes, biases) = side_by_side(&self.tile, &some, quads, run);
            let fill = |of: &dyn Fn(usize) -> f32, none: f32| -> Vec<f32> {
                (0..rows).map(|r| if r < real { of(start + r) } else { none }).collect()
            };
            let (spreads, thresholds) = (fill(&spread, 0.0), fill(&|i| threshold(i, last[i]), f32::INFINITY));
            let anchor_codes =
                CodeRows { codes: &codes, biases: &biases, spreads: &spreads, thresholds: &thresholds, inverses: &[] };
            for (p, panel) in self.panels.iter().enumerate() {
                let here = p * CODE_COLUMNS..((p + 1) * CODE_COLUMNS).min(n);
                let pad = |of: Vec<f32>, none: f32| [of, vec![none; CODE_COLUMNS - here.len()]].concat();
                let scales = pad(self.corpus.scales[here.clone()].to_vec(), 0.0);
                let widths = self.corpus.extents[here.clone()].iter().map(|&e| e as f32).collect();
                let widths = pad(widths, f32::NEG_INFINITY);
                let panel = CodePanel { codes: panel, scales: &scales, widths: &widths, thresholds: &[] };
                let (mut estimates, mut masks) = ([0.0; CODE_ROWS * CODE_COLUMNS], [0; CODE_ROWS]);
                self.tile.estimates(&anchor_codes, &panel, quads, run, &mut estimates);
                self.tile.run(&anchor_codes, &panel, quads, run, &mut masks);
                for r in 0..real {
                    let i = start + r;
                    let own = &scores[i * n..(i + 1) * n];
                    for (c, row) in here.clone().enumerate() {
                        let estimate = estimates[r * CODE_COLUMNS + c];
                        // In `f64`: the bound of the documentation.
                        let score = f64::from(own[row]) / units[i];
                        let error = (score - f64::from(estimate) * f64::from(anchors.scales[i])).abs();
                        let bound = anchors.extents[i] * self.corpus.extents[row] + epsilon;
                        closest = f64::max(closest, error / bound);
                        assert!(error <= bound, "{name}: anchor {}, row {row}: {error:e} > {bound:e}", first + i);
                        // In `f32`: the test of the engine, at the highest threshold that the pair still reaches.
                        let reach = estimate + spreads[r] * widths[c];
                        assert!(reach >= threshold(i, own[row]), "{name}: anchor {}, row {row} is dropped", first + i);
                        if own[row] >= last[i] {
                            assert!(masks[r] >> c & 1 == 1, "{name}: anchor {}, row {row} is masked", first + i);
                        }
                        missed += u64::from(masks[r] >> c & 1 == 0);
                    }
                    assert!(masks[r] >> (here.len() - 1) >> 1 == 0, "{name}: padding");
                }
            }
        }
        (self.closest, self.missed) = (closest, missed);
        self.pairs += (ids.len() * n) as u64;
    }
}

fn scores(scorer: &Scorer<'_>, ids: std::ops::Range<usize>) -> Vec<f32> {
    let rows: Vec<u32> = (0..scorer.corpus.len() as u32).collect();
    let mut scratch = Scratch::new(scorer.corpus.rows().dim());
    let mut scores = vec![0.0; ids.len() * rows.len()];
    for (anchor, out) in ids.zip(scores.chunks_exact_mut(rows.len())) {
        scorer.score_all(anchor, &rows, out, &mut scratch);
    }
    scores
}

/// Rows of `dim` numbers that are hard to code, given a basis of the first half of the coordinates.
fn hard_rows(dice: &mut Dice, dim: usize) -> Vec<Vec<f32>> {
    let half = dim.div_ceil(2);
    let scaled = |row: Vec<f32>, scale: f32| row.into_iter().map(|x| x * scale).collect::<Vec<f32>>();
    let part = |row: Vec<f32>, from: usize, to: usize| -> Vec<f32> {
        row.into_iter().enumerate().map(|(d, x)| if (from..to).contains(&d) { x } else { 0.0 }).collect()
    };
    let mut rows = vec![vec![0.0; dim], vec![-0.0; dim], vec![0.7; dim], vec![-3.0; dim], vec![f32::from_bits(1); dim]];
    for size in [1e-45, 1e-40, 1e-30, 1e-18, 1.0, 1e15, 1e18] {
        rows.extend([scaled(dice.row(dim), size), scaled(dice.row(dim), size)]);
    }
    for size in [1e3, 1e6, 1e12] {
        let mut giant = dice.row(dim);
        giant[dice.below(dim)] = size;
        rows.push(giant);
    }
    for _ in 0..6 {
        rows.extend([part(dice.row(dim), 0, half), part(dice.row(dim), half, dim)]);
        let d = dice.below(dim);
        rows.push(part(vec![1.0; dim], d, d + 1));
        // Elements that round up by half a unit, or down.
        rows.push(
            (0..dim).map(|d| if d == 0 { 127.0 } else { dice.one_of(&[0.51, -0.51, 0.49, 1.5, -2.5]) }).collect(),
        );
        rows.push((0..dim).map(|_| dice.one_of(&[1.0, 1e-4, -1e-8])).collect());
    }
    let copy = dice.row(dim);
    rows.extend(vec![copy; 3]);
    rows
}

#[test]
fn the_bound_holds_for_every_pair() {
    let mut pairs = 0;
    for level in Level::available() {
        for (dim, seed) in [1usize, 2, 3, 5, 7, 31, 32, 33, 64, 100, 129].into_iter().zip(0..) {
            let mut dice = Dice(seed);
            let half = dim.div_ceil(2);
            let learned: Vec<Vec<f32>> = (0..60)
                .map(|_| dice.row(dim).into_iter().enumerate().map(|(d, x)| if d < half { x } else { 0.0 }).collect())
                .collect();
            for metric in [Metric::Cosine, Metric::Dot] {
                let mut sides = [hard_rows(&mut dice, dim), hard_rows(&mut dice, dim)];
                sides[1].extend(sides[0].iter().take(20).cloned().collect::<Vec<_>>());
                let more = dice.rows(60, dim);
                for side in &mut sides {
                    side.extend(more.iter().cloned());
                }
                let (first, second) = (Stored::new(&sides[0], Kind::F32), Stored::new(&sides[1], Kind::F32));
                let (queries, corpus) = (measured(&first, dim, level), measured(&second, dim, level));
                let scorer = Scorer::new(&queries, &corpus, metric, level).expect("within the range");
                let scores = scores(&scorer, 0..queries.len());
                let fitted = basis(&sides[1][sides[1].len() - 60..], half, level);
                for basis in [None, Some(basis(&learned, half, level)), Some(fitted)] {
                    let coder = Coder::new(&scorer, basis);
                    let mut compared = Compared::new(&scorer, &coder, level);
                    compared.check(0..queries.len(), &scores, 10, &format!("{level:?}, {metric:?}, dim {dim}"));
                    pairs += compared.pairs;
                }
            }
        }
    }
    assert!(pairs > 1_000_000, "{pairs}");
}

/// Codes longer than what they stand for must not make what a basis leaves out look shorter than it is: all that can go
/// wrong does, in one direction.
#[test]
fn what_a_basis_leaves_out_is_not_lost_to_rounding() {
    const WIDTH: usize = 96;
    const DIM: usize = WIDTH + 1;
    for level in Level::available() {
        let (tile, mut dice) = (CodeTile::new(level), Dice(3));
        let learned: Vec<Vec<f32>> = dice.rows(400, WIDTH).into_iter().map(|row| [row, vec![0.0]].concat()).collect();
        let fitted = basis(&learned, WIDTH, level);
        // The basis itself: what it makes of unit vectors.
        let (mut units, mut directions) = (Panels::default(), Vec::new());
        pack(&mut units, DIM, DIM, Tile::new(level).rows, |i, out| {
            out.iter_mut().enumerate().for_each(|(d, x)| *x = if d == i { 1.0 } else { 0.0 });
        });
        fitted.project(&units, DIM, &mut directions);
        // The row with these coordinates, of norm 1, and with this much that the basis does not see.
        let row = |coordinates: &[f32], tail: f32| -> Vec<f32> {
            let norm = naive::product(coordinates, coordinates).sqrt() as f32;
            let rest = (1.0 - tail * tail).sqrt() / norm;
            let mut row: Vec<f32> =
                directions.chunks_exact(WIDTH).map(|d| naive::product(d, coordinates) as f32 * rest).collect();
            row[WIDTH] = tail;
            row
        };
        // All of a row's elements are rounded away from zero, by half a unit. Turned round, with its tail as it was, the
        // other row has all errors add up.
        let coordinates = |limit: i8, sign: f32| -> Vec<f32> {
            let most = f32::from(limit);
            (0..WIDTH).map(|p| sign * if p == 0 { most } else { (most * 0.8).floor() + 0.52 }).collect()
        };
        let tails = [0.05, 0.08, 0.1, 0.12, 0.14, 0.2];
        let queries: Vec<_> = (0..60).map(|i| row(&coordinates(tile.limit(), 1.0), tails[i % 6])).collect();
        let mut corpus: Vec<_> = (0..60).map(|i| row(&coordinates(WIDE, -1.0), tails[i / 6 % 6])).collect();
        corpus.extend(dice.rows(4, DIM));
        let (first, second) = (Stored::new(&queries, Kind::F32), Stored::new(&corpus, Kind::F32));
        let (queries, corpus) = (measured(&first, DIM, level), measured(&second, DIM, level));
        let scorer = Scorer::new(&queries, &corpus, Metric::Cosine, level).expect("within the range");
        let coder = Coder::new(&scorer, Some(basis(&learned, WIDTH, level)));
        let mut compared = Compared::new(&scorer, &coder, level);
        compared.check(0..60, &scores(&scorer, 0..60), 10, &format!("{level:?}"));
        assert!(compared.closest > 0.7, "{level:?}: as near to the bound as can be, {}", compared.closest);
    }
}

/// Rows to check many pairs of: the embeddings of the benches where they are present, with a seeded dither of half a step
/// of their quantisation, and random ones.
fn many_rows(name: &str, n: usize, dice: &mut Dice) -> Option<[Vec<Vec<f32>>; 2]> {
    const DIM: usize = 384;
    match name {
        "embeddings" => {
            let beside = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
            let folder = std::env::var_os("NEGFAST_BENCH_DATA").map_or(beside, Into::into);
            let mut read = |file: &str| -> Option<Vec<Vec<f32>>> {
                let bytes = std::fs::read(folder.join(file)).ok()?;
                let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
                let row = |row: &[u8]| row.iter().map(|&x| f32::from(x as i8) + dice.number() * 0.5).collect();
                Some(bytes[start..].chunks_exact(DIM).map(row).collect())
            };
            Some([read("package_queries.i8.npy")?, read("package_passages.i8.npy")?])
        }
        "uniform" => Some([dice.rows(n, DIM), dice.rows(n, DIM)]),
        // A few coordinates hold most of the norm, as in embeddings; norms and tails differ widely.
        _ => {
            let mut row = || -> Vec<f32> {
                let size = dice.number().abs() + 0.01;
                let row = dice.row(DIM).into_iter().enumerate();
                row.map(|(d, x)| x * x * x * size / (1.0 + d as f32).sqrt()).collect()
            };
            let mut side = || (0..n).map(|_| row()).collect::<Vec<_>>();
            Some([side(), side()])
        }
    }
}

/// Every decision of the tile over many pairs: no row that reaches the true k-th score is dropped at that threshold, and
/// none at a threshold equal to its own score.
#[test]
fn no_row_that_matters_is_dropped() {
    const ANCHORS: usize = 48;
    let asked = std::env::var("NEGFAST_SOUNDNESS_PAIRS").ok();
    let pairs = asked.as_ref().map_or(4e4, |text| text.parse::<f64>().expect("a number of pairs"));
    let mut told = format!("make soundness SOUNDNESS_PAIRS={pairs:e}\n\n");
    for name in ["embeddings", "uniform", "skewed"] {
        let mut dice = Dice(20);
        let n = if asked.is_some() { 20_000 } else { 800 };
        let Some([mut queries, mut corpus]) = many_rows(name, n, &mut dice) else { continue };
        if asked.is_none() {
            queries.truncate(n);
            corpus.truncate(n);
        }
        let dim = corpus[0].len();
        let (first, second) = (Stored::new(&queries, Kind::F32), Stored::new(&corpus, Kind::F32));
        drop((queries, corpus));
        for metric in [Metric::Cosine, Metric::Dot] {
            let level = Level::detect();
            let (queries, corpus) = (measured(&first, dim, level), measured(&second, dim, level));
            let scorer = Scorer::new(&queries, &corpus, metric, level).expect("within the range");
            let levels = Level::available().into_iter().filter(|&l| asked.is_none() || l > Level::Scalar || l == level);
            let coder = |(level, width): (Level, usize)| {
                let scorer = Scorer { level, ..Scorer::new(&queries, &corpus, metric, level).expect("as above") };
                let sides = [(scorer.queries, Scale::Unit), (scorer.corpus, scorer.corpus_factor())];
                let fit = |workers: &mut Workers<'_>| Leading::fit(sides, width, level, workers).expect("no stop");
                let basis = (width < dim).then(|| Basis::of(&with_workers(2, fit), width));
                (level, width, Coder::new(&scorer, basis))
            };
            let coders: Vec<_> = levels.flat_map(|level| [128, dim].map(|width| (level, width))).map(coder).collect();
            let mut all: Vec<_> =
                coders.iter().map(|(level, _, coder)| Compared::new(&scorer, coder, *level)).collect();
            let wanted = (pairs / 2.0 / corpus.len() as f64).ceil() as usize;
            let step = (queries.len() / wanted.max(1)).max(1);
            for batch in (0..wanted.min(queries.len())).step_by(ANCHORS) {
                let start = (batch * step).min(queries.len() - 1);
                let ids = start..(start + ANCHORS.min(wanted - batch)).min(queries.len());
                let scores = scores(&scorer, ids.clone());
                for compared in &mut all {
                    compared.check(ids.clone(), &scores, 100, name);
                }
            }
            for ((level, width, _), compared) in coders.iter().zip(&all) {
                let _ = writeln!(
                    told,
                    "{name}, {metric:?}, {} coordinates, {}: {} pairs, none dropped that reaches its threshold; at the \
                     100-th score {:.2} % are left; errors take up at most {:.3} of their bound",
                    width,
                    level.name(),
                    compared.pairs,
                    100.0 - 100.0 * compared.missed as f64 / compared.pairs as f64,
                    compared.closest,
                );
                assert!(
                    compared.missed > 0 || *width < dim || name == "uniform",
                    "{name}: the tile tells nothing apart"
                );
            }
        }
    }
    if let (Some(_), Some(file)) = (asked, std::env::var_os("NEGFAST_SOUNDNESS_FILE")) {
        std::fs::write(file, told).expect("a file that can be written");
    }
}
