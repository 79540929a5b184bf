//! Sampling without replacement with inclusion probabilities that are known exactly.
//!
//! Candidates lie in a row and fight in turn: two that are both undecided settle between them which of both is out, or
//! in, so that each keeps its probability (J.-C. Deville and Y. Tillé, *Unequal probability sampling without replacement
//! through a splitting method*, Biometrika 1998). Fought in order, every stretch of the row gets its due up to rounding
//! (G. Chauvet, *On a characterization of ordered pivotal sampling*, Bernoulli 2012): draws are spread over hardness.

use crate::rng::Stream;

/// Residues of sums of probabilities that are taken for none.
const ROUNDING: f64 = 1e-9;

/// Turns weights into inclusion probabilities, in proportion and at most 1, that add up to `slots`, or to as many as there
/// are positive weights.
pub fn probabilities(weights: &mut [f64], slots: f64) {
    if slots >= weights.len() as f64 {
        weights.fill(1.0);
        return;
    }
    let (total, highest) = weights.iter().fold((0.0, 0.0f64), |(sum, max), &weight| (sum + weight, max.max(weight)));
    let scale = slots / total;
    if highest * scale < 1.0 {
        for weight in weights.iter_mut() {
            *weight *= scale;
        }
        return;
    }
    let (mut certain, mut left) = (vec![false; weights.len()], slots);
    loop {
        let open = weights.iter().zip(&certain).filter(|(_, certain)| !**certain).map(|(weight, _)| weight);
        let total: f64 = open.sum();
        if total <= 0.0 || left <= 0.0 {
            let fill = |(weight, certain): (&mut f64, &bool)| *weight = f64::from(u8::from(*certain));
            weights.iter_mut().zip(&certain).for_each(fill);
            return;
        }
        let scale = left / total;
        let mut settled = true;
        for (weight, certain) in weights.iter().zip(&mut certain) {
            if !*certain && weight * scale >= 1.0 {
                (*certain, settled) = (true, false);
                left -= 1.0;
            }
        }
        if settled {
            let scaled = |(weight, certain): (&mut f64, &bool)| *weight = if *certain { 1.0 } else { *weight * scale };
            weights.iter_mut().zip(&certain).for_each(scaled);
            return;
        }
    }
}

/// Chooses among candidates that come in stretches, each with its probability, and tells `picked` which, in no particular
/// order. Every stretch gets its sum rounded up or down.
pub fn choose(probabilities: &[f64], stretches: &[usize], random: &mut Stream, mut picked: impl FnMut(usize)) {
    let (mut start, mut last) = (0, None);
    for &length in stretches {
        let mut open = None;
        for (i, &p) in (start..).zip(&probabilities[start..start + length]) {
            if p >= 1.0 - ROUNDING {
                picked(i);
            } else if p > 0.0 {
                open = settle(open, Some((i, p)), random, &mut picked);
            }
        }
        last = settle(last, open, random, &mut picked);
        start += length;
    }
    if let Some((last, p)) = last
        && random.uniform() < p
    {
        picked(last);
    }
}

/// A candidate that is undecided, with its probability.
type Open = Option<(usize, f64)>;

fn settle(a: Open, b: Open, random: &mut Stream, picked: &mut impl FnMut(usize)) -> Open {
    match (a, b) {
        (Some(a), Some(b)) => fight(a, b, random, picked),
        (one, other) => one.or(other),
    }
}

/// Lets two undecided candidates settle; returns the one that stays undecided, with what it has left.
fn fight((a, p_a): (usize, f64), (b, p_b): (usize, f64), random: &mut Stream, picked: &mut impl FnMut(usize)) -> Open {
    let (sum, u) = (p_a + p_b, random.uniform());
    if sum < 1.0 - ROUNDING {
        return Some((if u * sum < p_a { a } else { b }, sum));
    }
    let (winner, loser) = if u * (2.0 - sum) < 1.0 - p_b { (a, b) } else { (b, a) };
    picked(winner);
    Some((loser, sum - 1.0)).filter(|_| sum > 1.0 + ROUNDING)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::stream;

    #[test]
    fn probabilities_are_proportional_and_capped() {
        let of = |mut weights: [f64; 4], slots| {
            probabilities(&mut weights, slots);
            weights.map(|p| (p * 12.0).round() as u32)
        };
        assert_eq!(of([1.0, 1.0, 1.0, 5.0], 2.0), [4, 4, 4, 12]);
        assert_eq!(of([1.0, 2.0, 3.0, 6.0], 1.0), [1, 2, 3, 6]);
        assert_eq!(of([1.0, 2.0, 3.0, 6.0], 9.0), [12; 4]);
        assert_eq!(of([1.0, 2.0, 3.0, 6.0], 0.0), [0; 4]);
        probabilities(&mut [], 1.0);
    }

    #[test]
    fn every_stretch_gets_its_due() {
        let p = [0.5, 0.25, 0.25, 1.0, 0.9, 0.9, 0.3, 0.4, 0.5];
        for row in 0..200 {
            let mut chosen = [0u32; 9];
            choose(&p, &[4, 0, 3, 2], &mut stream(1, 0, row, 0), |i| chosen[i] += 1);
            assert!(chosen.iter().all(|&times| times <= 1));
            assert_eq!(chosen.iter().sum::<u32>(), 5);
            assert_eq!(chosen[..4].iter().sum::<u32>(), 2);
            assert!([2, 3].contains(&chosen[4..7].iter().sum::<u32>()));
            assert!([0, 1].contains(&chosen[7..].iter().sum::<u32>()));
        }
    }

    #[test]
    fn inclusion_is_as_stated() {
        // Eight standard deviations of a count of 40,000 draws: a false alarm in 10^14.
        let p = [0.05, 0.95, 0.3, 0.7, 0.2, 0.4, 0.9, 0.5];
        let mut counts = [0.0; 8];
        for row in 0..40_000 {
            choose(&p, &[3, 5], &mut stream(7, 0, row, 0), |i| counts[i] += 1.0);
        }
        for (count, p) in counts.into_iter().zip(p) {
            let sd = (40_000.0 * p * (1.0 - p)).sqrt();
            assert!((count - 40_000.0 * p).abs() < 8.0 * sd, "{count} of {p}");
        }
    }
}
