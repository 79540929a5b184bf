//! How far remembered lists can be trusted: some anchors are solved exactly, and their rows looked up in their lists.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::Reserve;
use crate::error::Result;
use crate::mine::Miner;
use crate::rng::stream;
use crate::rules::Guarded;
use crate::search::{Asked, Engine, Job, Method, Recall};
use crate::threads::Workers;

/// Keeps the choice of anchors apart from other uses of a seed.
const PURPOSE: u64 = 0x7265_6672;
/// Anchors that a length is fitted on, and those that it is audited on at least; and rows to be sought for in an audit.
const FITTED: usize = 128;
const AUDITED: usize = 256;
const SOUGHT: usize = 4096;
/// Standard errors of the mean that the fitted recall lies above the asked one, so that the audit mostly agrees.
const MARGIN: f64 = 2.5;

/// What a trial says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Verdict {
    /// Candidates of each list that are enough, as far as is known.
    pub(super) prefix: usize,
    /// Whether the first length fell short.
    pub(super) widened: bool,
    /// The recall of lists of that length.
    pub(super) recall: Recall,
    /// Whether that is what was asked for.
    pub(super) enough: bool,
}

/// Anchors in random order: the first of them are a sample.
pub(super) fn sample(n: usize, count: usize, epoch: u64) -> Vec<u32> {
    let mut anchors: Vec<u32> = (0..n as u32).collect();
    let mut random = stream(0, epoch, n as u64, PURPOSE);
    let count = count.min(n);
    for i in 0..count {
        let other = i + ((random.uniform() * (n - i) as f64) as usize).min(n - i - 1);
        anchors.swap(i, other);
    }
    anchors.truncate(count);
    anchors
}

/// Finds the shortest lists whose recall is what is asked for; `met` tells which rows beyond the lists are looked at.
///
/// # Errors
/// [`crate::error::Error::Cancelled`].
pub(super) fn trial(
    miner: &Miner<'_>,
    reserve: &Reserve<'_>,
    met: &[Vec<u32>],
    workers: &mut Workers<'_>,
) -> Result<Verdict> {
    let depth = miner.chooser.depth();
    let audited = (SOUGHT / depth.max(1)).clamp(AUDITED, 4 * AUDITED);
    let mut anchors = sample(reserve.len(), FITTED + audited, miner.settings.epoch);
    let fitted = FITTED.min(anchors.len() / 3);
    let asked = miner.settings.search.recall;
    anchors.sort_unstable();
    let places = places(miner, (reserve, met), &anchors, workers)?;
    // Sorted anchors, so every third or so is one to fit on: which they are must not depend on their order in the sample.
    let step = (anchors.len() / fitted.max(1)).max(1);
    let (fit, audit): (Vec<_>, Vec<_>) = places.iter().enumerate().partition(|(i, _)| i % step == 0);
    let fit: Vec<_> = fit.into_iter().map(|(_, places)| places).collect();
    let audit: Vec<_> = audit.into_iter().map(|(_, places)| places).collect();
    let longest = (0..reserve.len()).map(|anchor| reserve.of(anchor).len()).max().unwrap_or(0);
    let prefix = shortest(&fit, audit.len(), asked, longest);
    let recall = recall(&audit, prefix);
    if recall.interval.0 >= asked || prefix == longest {
        return Ok(Verdict { prefix, widened: false, recall, enough: recall.interval.0 >= asked });
    }
    // Whole lists were fitted on nothing.
    let all: Vec<_> = places.iter().collect();
    let recall = self::recall(&all, longest);
    Ok(Verdict { prefix: longest, widened: true, recall, enough: recall.interval.0 >= asked })
}

/// For each anchor the places that its true best rows have in its list; the largest number for those that are not there.
type Places = Vec<usize>;

fn places(
    miner: &Miner<'_>,
    (reserve, met): (&Reserve<'_>, &[Vec<u32>]),
    anchors: &[u32],
    workers: &mut Workers<'_>,
) -> Result<Vec<Places>> {
    let (scorer, guard, depth) = (miner.chooser.scorer, miner.chooser.guard, miner.chooser.depth());
    let max_memory = miner.settings.search.max_memory;
    let job = Job { scorer, anchors, depth, scored: depth, max_memory };
    let accept = Guarded { guard, anchors, ranks: false, band: 0.0 };
    let mut engine = Engine::new(scorer, Asked { method: Method::Exact, ..Asked::following(max_memory) })?;
    let plan = engine.plan(&job, &accept, workers, miner.work)?;
    let places = Mutex::new(vec![Places::new(); anchors.len()]);
    let outputs = vec![(); plan.blocks.len()];
    engine.search(&job, &plan, &accept, workers, miner.work, outputs, |(), finished| {
        finished.each(|found, _| {
            let anchor = found.anchor as usize;
            let mut at: HashMap<u32, usize> = reserve.of(anchor).iter().copied().zip(0..).collect();
            at.extend(met[anchor].iter().map(|&row| (row, 0)));
            let of = found.kept.iter().map(|c| at.get(&c.row).copied().unwrap_or(usize::MAX)).collect();
            places.lock().unwrap_or_else(PoisonError::into_inner)[found.slot] = of;
        })
    })?;
    Ok(places.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn counted(places: &Places, prefix: usize) -> (usize, usize) {
    (places.iter().filter(|&&place| place < prefix).count(), places.len())
}

fn recall(places: &[&Places], prefix: usize) -> Recall {
    Recall::measured(&places.iter().map(|places| counted(places, prefix)).collect::<Vec<_>>())
}

/// The shortest prefix whose recall on the fitted anchors lies far enough above that asked.
fn shortest(fit: &[&Places], audited: usize, asked: f64, longest: usize) -> usize {
    let enough = |prefix: usize| {
        let shares: Vec<f64> = fit
            .iter()
            .map(|places| counted(places, prefix))
            .filter(|&(_, sought)| sought > 0)
            .map(|(found, sought)| found as f64 / sought as f64)
            .collect();
        let n = shares.len().max(1) as f64;
        let mean = shares.iter().sum::<f64>() / n;
        let variance = shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
        mean - MARGIN * (variance * (1.0 / audited.max(1) as f64 + 0.5 / n)).sqrt() >= asked
    };
    let (mut low, mut high) = (0, longest);
    while low < high {
        let middle = usize::midpoint(low, high);
        if enough(middle) { high = middle } else { low = middle + 1 }
    }
    low
}
