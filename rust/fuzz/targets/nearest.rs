//! Rows of any bits at all: a search refuses them, or orders them by the one score.
#![no_main]

use libfuzzer_sys::fuzz_target;
use negfast_core::kernel::Level;
use negfast_core::nearest::nearest;
use negfast_core::rows::{Data, Rows};
use negfast_core::score::{Matrix, Metric, Scorer, Scratch};
use negfast_core::search::{Asked, Engine, Method, Work};
use negfast_core::threads::{Unwatched, Workers};

fuzz_target!(|data: &[u8]| {
    let [dim, queries, k, metric, bytes @ ..] = data else { return };
    let dim = usize::from(dim % 40) + 1;
    let numbers: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let n = numbers.len() / dim;
    let split = usize::from(*queries).min(n);
    let (first, second) = numbers[..n * dim].split_at(split * dim);
    let metric = if metric & 1 == 0 { Metric::Cosine } else { Metric::Dot };
    let mut results = Vec::new();
    for (level, method) in [Level::Scalar, Level::detect()].into_iter().zip([Method::Exact, Method::Certified]) {
        let mut watch = Unwatched;
        let mut workers = Workers::new(1, &mut watch);
        let (Ok(queries), Ok(corpus)) =
            (Rows::new("queries", Data::F32(first), split, dim), Rows::new("corpus", Data::F32(second), n - split, dim))
        else {
            return;
        };
        let Ok(queries) = Matrix::measure("queries", queries, level, &mut workers) else { return };
        let Ok(corpus) = Matrix::measure("corpus", corpus, level, &mut workers) else { return };
        let Ok(scorer) = Scorer::new(&queries, &corpus, metric, level) else { return };
        let k = usize::from(*k % 8);
        let (mut indices, mut scores) = (vec![0; split * k], vec![0.0; split * k]);
        let mut engine = Engine::new(&scorer, Asked { method, ..Asked::exactly(None) }).expect("a recall of 1");
        nearest(&mut engine, k, &mut workers, &Work::default(), &mut indices, &mut scores).expect("a search");
        let mut scratch = Scratch::new(dim);
        for (place, (&row, &score)) in indices.iter().zip(&scores).enumerate() {
            if row >= 0 {
                let own = scorer.score(place / k, row as u32, &mut scratch);
                assert_eq!(own.to_bits(), score.to_bits(), "a score is one function");
                assert!(!score.is_nan(), "and a number");
            }
        }
        results.push((indices, scores.iter().map(|score| score.to_bits()).collect::<Vec<_>>()));
    }
    assert_eq!(results.first(), results.last(), "every level and method finds the same");
});
