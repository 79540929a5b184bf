//! How far rows have moved.

use crate::error::{Error, Result};
use crate::score::{Matrix, Metric};
use crate::threads::{Workers, cut, split};

/// Rows that are compared at a time.
const SPAN: usize = 1024;

/// The distance of each row of `new` from the same row of `old`: of their directions under cosine, where a row of zeros that
/// is none any more (or was none) counts as far as can be; of the rows themselves under dot. Rounded up.
///
/// # Errors
/// If shapes differ, or the call is cancelled; `argument` names the new rows.
pub fn drift(
    argument: &str,
    (old, new): (&Matrix<'_>, &Matrix<'_>),
    metric: Metric,
    workers: &mut Workers<'_>,
) -> Result<Vec<f32>> {
    let (n, dim) = (new.len(), new.rows().dim());
    if (old.len(), old.rows().dim()) != (n, dim) {
        return Err(Error::invalid(
            argument,
            format!("of shape ({}, {}), as when they were mined", old.len(), old.rows().dim()),
            format!("({n}, {dim})"),
            "pass the same rows in the same order, or mine again",
        ));
    }
    let mut lengths = vec![0.0; n];
    let spans = split(n, n.div_ceil(SPAN));
    let parts = cut(&mut lengths, spans.iter().map(ExactSizeIterator::len));
    let start = || (vec![0.0; dim], vec![0.0; dim]);
    let tasks: Vec<_> = spans.into_iter().zip(parts).collect();
    workers.run((n * dim * 4) as u64, tasks, start, |(a, b), (span, lengths), progress| {
        for (i, length) in span.zip(lengths) {
            let (x, y) = (old.rows().row(i, a), new.rows().row(i, b));
            *length = match metric {
                Metric::Dot => distance(x, y, 1.0, 1.0),
                Metric::Cosine if x == y => 0.0,
                Metric::Cosine if (old.norm(i) == 0.0) != (new.norm(i) == 0.0) => 2.0,
                Metric::Cosine if new.norm(i) == 0.0 => 0.0,
                // Scores of rows that have not moved are taken over, to the bit.
                Metric::Cosine => distance(x, y, 1.0 / old.norm(i), 1.0 / new.norm(i)).max(f32::MIN_POSITIVE),
            };
        }
        progress.advance(0)
    })?;
    Ok(lengths)
}

fn distance(x: &[f32], y: &[f32], fx: f64, fy: f64) -> f32 {
    const LANES: usize = 8;
    let mut sums = [0.0f64; LANES];
    let difference = |x: f32, y: f32| f64::from(x) * fx - f64::from(y) * fy;
    let ((xs, x), (ys, y)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    for (x, y) in xs.iter().zip(ys) {
        for lane in 0..LANES {
            sums[lane] += difference(x[lane], y[lane]).powi(2);
        }
    }
    let rest: f64 = x.iter().zip(y).map(|(&x, &y)| difference(x, y).powi(2)).sum();
    let length = (sums.iter().sum::<f64>() + rest).sqrt();
    // Longer than the type can hold is far enough, while infinity times zero would be no bound at all.
    if length == 0.0 { 0.0 } else { (length as f32 * (1.0 + f32::EPSILON)).next_up().min(f32::MAX) }
}
