//! How far remembered lists can be trusted: some anchors are solved exactly, and their rows looked up in their lists.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::Miner;
use crate::error::Result;
use crate::refresh::Reserve;
use crate::rng::stream;
use crate::rules::Guarded;
use crate::search::{Asked, Engine, Job, Method, Recall};
use crate::threads::Workers;

/// Keeps the choice of anchors apart from other uses of a seed.
const PURPOSE: u64 = 0x7265_6672;
/// Anchors that tell whether lists are far from good enough, and that their recall is measured on at least; and rows to be
/// sought for in that, for which short lists take more anchors.
const FIRST: usize = 64;
const AUDITED: usize = 256;
const SOUGHT: usize = 4096;
/// Standard errors below what is asked for from which on lists are not looked at any closer.
const HOPELESS: f64 = 2.5;
/// The next length to be tried, of the one before.
const SHORTER: f64 = 0.93;

/// What a trial says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Verdict {
    /// Candidates of each list that are enough.
    pub(super) prefix: usize,
    /// The recall of lists of that length, or of whole lists if those are not enough.
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

/// Whether whole lists are so much worse than what is asked for that a few anchors tell.
///
/// # Errors
/// [`crate::error::Error::Cancelled`].
pub(super) fn is_hopeless(
    miner: &Miner<'_>,
    reserve: &Reserve<'_>,
    workers: &mut Workers<'_>,
) -> Result<Option<Recall>> {
    let mut anchors = sample(reserve.len(), FIRST, miner.settings.epoch);
    anchors.sort_unstable();
    let places = places(miner, (reserve, &[]), &anchors, workers)?;
    let recall = recall(&places, usize::MAX - 1);
    let deviation = (recall.interval.1 - recall.interval.0) / (2.0 * 1.96);
    Ok((recall.value + HOPELESS * deviation < miner.settings.search.recall).then_some(recall))
}

/// Finds the shortest lists whose recall is what is asked for; `met` tells which rows beyond the lists are looked at.
///
/// Recall grows with length. Lengths are tested from the longest on, and the last one that passes is taken: tests in a fixed
/// order, of which the first that fails is the last, together err no more often than one of them (W. Maurer, L. Hothorn and
/// W. Lehmacher, *Multiple comparisons in drug clinical trials and preclinical assays: a-priori ordered hypotheses*, 1995).
///
/// # Errors
/// [`crate::error::Error::Cancelled`].
pub(super) fn trial(
    miner: &Miner<'_>,
    reserve: &Reserve<'_>,
    met: &[Vec<u32>],
    workers: &mut Workers<'_>,
) -> Result<Verdict> {
    let (depth, asked) = (miner.chooser.depth(), miner.settings.search.recall);
    let audited = (SOUGHT / depth.max(1)).clamp(AUDITED, 4 * AUDITED);
    let mut anchors = sample(reserve.len(), FIRST + audited, miner.settings.epoch);
    // Those that were looked at first have had their say.
    let mut anchors = anchors.split_off(FIRST.min(anchors.len() / 2));
    anchors.sort_unstable();
    let places = places(miner, (reserve, met), &anchors, workers)?;
    let longest = (0..reserve.len()).map(|anchor| reserve.of(anchor).len()).max().unwrap_or(0);
    let tested = |prefix: usize| {
        let recall = recall(&places, prefix);
        Verdict { prefix, recall, enough: recall.interval.0 >= asked }
    };
    let mut taken = tested(longest);
    while taken.enough && taken.prefix > 1 {
        let next = tested((taken.prefix as f64 * SHORTER) as usize);
        if !next.enough {
            break;
        }
        taken = next;
    }
    Ok(taken)
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
    let job = Job { scorer, anchors, depth, scored: depth, audited: depth, max_memory };
    let accept = Guarded { guard, anchors, ranks: false, band: 0.0 };
    let mut engine = Engine::new(scorer, Asked { method: Method::Exact, ..Asked::following(max_memory) })?;
    let plan = engine.plan(&job, &accept, workers, miner.work)?;
    let places = Mutex::new(vec![Places::new(); anchors.len()]);
    let outputs = vec![(); plan.blocks.len()];
    engine.search(&job, &plan, &accept, workers, miner.work, outputs, |(), finished| {
        finished.each(|found, _| {
            let anchor = found.anchor as usize;
            let mut at: HashMap<u32, usize> = reserve.of(anchor).iter().copied().zip(0..).collect();
            at.extend(met.get(anchor).into_iter().flatten().map(|&row| (row, 0)));
            let of = found.kept.iter().map(|c| at.get(&c.row).copied().unwrap_or(usize::MAX)).collect();
            places.lock().unwrap_or_else(PoisonError::into_inner)[found.slot] = of;
        })
    })?;
    Ok(places.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn counted(places: &Places, prefix: usize) -> (usize, usize) {
    (places.iter().filter(|&&place| place < prefix).count(), places.len())
}

fn recall(places: &[Places], prefix: usize) -> Recall {
    Recall::measured(&places.iter().map(|places| counted(places, prefix)).collect::<Vec<_>>())
}
