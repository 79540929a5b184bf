//! A few rows in int8 as columns of the tile: the means and centres of lists, which many rows are multiplied with.

use super::int8::quantise;
use crate::aligned::Aligned;
use crate::kernel::{CODE_COLUMNS, CODE_ROWS, CodePanel, CodeRows, CodeTile, WIDE};

/// Coded columns.
#[derive(Debug, Default)]
pub struct Columns {
    codes: Aligned<u8>,
    scales: Vec<f32>,
    count: usize,
    quads: usize,
}

/// Coded rows that meet the columns.
#[derive(Debug, Clone, Copy)]
pub struct Codes<'a> {
    /// Whole quads, row by row.
    pub codes: &'a [i8],
    /// As many numbers a row as [`CodeTile::biases`] tells.
    pub biases: &'a [i32],
    /// What the biases were made for.
    pub run: usize,
}

impl Columns {
    /// Codes rows of `width` numbers; `seen` hears of each row's codes.
    pub fn new(values: &[f32], width: usize, mut seen: impl FnMut(&[i8])) -> Self {
        let (count, quads) = (values.len() / width, width.div_ceil(4));
        let places = count.next_multiple_of(CODE_COLUMNS);
        let mut columns = Self { codes: Aligned::zeros(places * quads * 4), scales: vec![0.0; places], count, quads };
        let mut codes = vec![0; quads * 4];
        for (c, values) in values.chunks_exact(width).enumerate() {
            columns.scales[c] = quantise(values, WIDE, &mut codes).0;
            seen(&codes);
            write_column(&mut columns.codes[c / CODE_COLUMNS * quads * 4 * CODE_COLUMNS..], c % CODE_COLUMNS, &codes);
        }
        columns
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Bytes in memory.
    pub fn size(&self) -> usize {
        self.codes.len() + self.scales.len() * 4
    }

    /// Multiplies `n` rows with all columns: writes that of row `i` and column `c`, in units of the row's scale, to
    /// `out[i * count + c]`.
    pub fn multiply(&self, tile: &CodeTile, rows: Codes<'_>, n: usize, out: &mut Vec<f32>) {
        let (length, size) = (self.quads * 4, self.quads * 4 * CODE_COLUMNS);
        let per = tile.biases(self.quads, rows.run);
        out.resize(n * self.count, 0.0);
        let mut products = [0.0; CODE_ROWS * CODE_COLUMNS];
        let (mut codes, mut biases) = (vec![0; tile.rows * length], vec![0; tile.rows * per]);
        let unused = [0.0; CODE_COLUMNS];
        for first in (0..n).step_by(tile.rows) {
            let real = tile.rows.min(n - first);
            codes[..real * length].copy_from_slice(&rows.codes[first * length..(first + real) * length]);
            biases[..real * per].copy_from_slice(&rows.biases[first * per..(first + real) * per]);
            let rows_of_tile =
                CodeRows { codes: &codes, biases: &biases, spreads: &unused, thresholds: &unused, inverses: &unused };
            for (p, panel) in self.codes.chunks_exact(size).enumerate() {
                let start = p * CODE_COLUMNS;
                let scales = &self.scales[start..start + CODE_COLUMNS];
                let panel = CodePanel { codes: panel, scales, widths: &unused, thresholds: &unused };
                tile.estimates(&rows_of_tile, &panel, self.quads, rows.run, &mut products);
                let width = CODE_COLUMNS.min(self.count - start);
                for (i, line) in (first..first + real).zip(products.chunks_exact(CODE_COLUMNS)) {
                    out[i * self.count + start..][..width].copy_from_slice(&line[..width]);
                }
            }
        }
    }
}

/// Writes the codes of one row into column `c` of a panel.
pub fn write_column(panel: &mut [u8], c: usize, codes: &[i8]) {
    for (q, quad) in codes.chunks_exact(4).enumerate() {
        let out = &mut panel[(q * CODE_COLUMNS + c) * 4..][..4];
        for (out, &x) in out.iter_mut().zip(quad) {
            *out = (i16::from(x) + 128) as u8;
        }
    }
}
