//! Rows for the benches: real embeddings where they are present, else clustered ones with copies.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use negfast_core::lists::Lists;

/// Pairs of a query and its passage, row by row, with a group for each.
pub(crate) struct Pairs {
    pub(crate) queries: Vec<f32>,
    pub(crate) passages: Vec<f32>,
    pub(crate) groups: Vec<i64>,
    pub(crate) dim: usize,
    pub(crate) source: &'static str,
}

/// The first `n` pairs.
pub(crate) fn pairs(n: usize) -> Pairs {
    real(n).unwrap_or_else(|| synthetic(n, 384))
}

impl Pairs {
    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }

    /// Passage i is the positive of query i.
    pub(crate) fn positives(&self) -> Lists {
        let starts: Vec<i64> = (0..=self.len() as i64).collect();
        Lists::new("positives", &starts, &starts[..self.len()], self.len(), self.len()).expect("one positive each")
    }
}

/// Reads `package_queries.i8.npy` and `package_passages.i8.npy`. Their groups live in a table that this bench has no
/// reader for; pairs that stand side by side share one, three by three, which costs the search the same.
fn real(n: usize) -> Option<Pairs> {
    let folder = std::env::var_os("NEGFAST_BENCH_DATA")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")), PathBuf::from);
    let (queries, dim) = int8(&folder.join("package_queries.i8.npy"), n)?;
    let (passages, _) = int8(&folder.join("package_passages.i8.npy"), n)?;
    let groups = (0..(queries.len() / dim) as i64).map(|i| i / 3).collect();
    Some(Pairs { queries, passages, groups, dim, source: "embeddings of package descriptions" })
}

/// The first `n` rows of an int8 matrix in numpy's format, normalised.
fn int8(path: &std::path::Path, n: usize) -> Option<(Vec<f32>, usize)> {
    let mut file = File::open(path).ok()?;
    let mut start = [0u8; 10];
    file.read_exact(&mut start).ok()?;
    let mut header = vec![0u8; usize::from(u16::from_le_bytes([start[8], start[9]]))];
    file.read_exact(&mut header).ok()?;
    let header = String::from_utf8(header).ok()?;
    let shape = header.split("'shape': (").nth(1)?.split(')').next()?;
    let mut sizes = shape.split(',').map(|size| size.trim().parse::<usize>());
    let (rows, dim) = (sizes.next()?.ok()?, sizes.next()?.ok()?);
    if !header.contains("|i1") || header.contains("'fortran_order': True") {
        return None;
    }
    let mut bytes = vec![0u8; rows.min(n) * dim];
    file.read_exact(&mut bytes).ok()?;
    let mut values: Vec<f32> = bytes.into_iter().map(|b| f32::from(b as i8)).collect();
    values.chunks_exact_mut(dim).for_each(normalise);
    Some((values, dim))
}

fn normalise(row: &mut [f32]) {
    let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    for x in row {
        *x /= norm;
    }
}

/// Clusters of a few dozen rows around centres that lie in a cone; one row in sixteen is a copy of another.
fn synthetic(n: usize, dim: usize) -> Pairs {
    let centres = numbers(1, (n / 40 + 1) * dim);
    let (noise, own) = (numbers(2, n * dim), numbers(3, n * dim));
    let mut passages = Vec::with_capacity(n * dim);
    for i in 0..n {
        if i % 16 == 15 {
            let copied = (i * 7 / 16) * dim;
            passages.extend_from_within(copied..copied + dim);
            continue;
        }
        let centre = &centres[i * 2_654_435_761 % (n / 40 + 1) * dim..][..dim];
        passages.extend(centre.iter().zip(&noise[i * dim..]).map(|(c, x)| 0.4 + c + 0.8 * x));
    }
    passages.chunks_exact_mut(dim).for_each(normalise);
    let mut queries: Vec<f32> = passages.iter().zip(&own).map(|(p, x)| p + 0.04 * x).collect();
    queries.chunks_exact_mut(dim).for_each(normalise);
    let groups = (0..n as i64).map(|i| i / 3).collect();
    Pairs { queries, passages, groups, dim, source: "synthetic clusters" }
}

/// `n` numbers uniform on [−1, 1), by a multiplicative congruential generator with the multiplier of P. L'Ecuyer,
/// *Tables of Linear Congruential Generators*, 1999.
pub(crate) fn numbers(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(3_037_000_493);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}
