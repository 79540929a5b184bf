//! Tiered draws: the negatives of a step, from several sources, with weights that undo the choice.
//!
//! For each anchor, the candidates of all sources become chances, each content once ([`slots`]); tiers of hardness get
//! their slots, what a tier lacks going to the next easier one; and a sample with exactly known inclusion probabilities is
//! taken over all of them ([`inclusion`]). A negative's log weight is minus the log of the probability with which it came
//! to be drawn (D. Horvitz and D. Thompson, *A generalization of sampling without replacement from a finite universe*,
//! 1952), so that weighted sums over the draw estimate sums over the corpus without bias.
//!
//! A draw is a function of the seed, the epoch, the step, the anchor and what it is given; not of other anchors.

pub mod allotment;
pub mod identity;
pub mod inclusion;
mod slots;
pub mod uniform;

use crate::error::{Error, Result};
use crate::rng::step_stream;
use crate::threads::{Workers, cut, split};
use allotment::{Allotment, Tokens};
use identity::Identity;
use slots::{Chance, Member, Slots};

const PURPOSE: u64 = 0x7469_6572;
/// Classes of candidates: hard, semi-hard, easy, listed without a known hardness, and sampled.
const CLASSES: usize = 5;
const UNKNOWN: usize = 3;
const RANDOM: usize = 4;
/// Columns of [`Drawn::shortfall`]: hard, semi-hard, easy, random.
pub const SHARES: usize = 4;
/// Fewer slots than this are none.
const ROUNDING: f64 = 1e-6;

/// What one source proposes to each anchor of a call.
#[derive(Debug, Clone, Copy)]
pub struct Proposals<'a> {
    /// The name of the source.
    pub name: &'a str,
    /// Rows, `width` for each anchor, −1 for none.
    pub ids: &'a [i64],
    /// Proposals an anchor.
    pub width: usize,
    /// Their scores, NaN where unknown.
    pub scores: Option<&'a [f32]>,
    /// The lowest score of each anchor's positives, NaN where unknown.
    pub positive_scores: Option<&'a [f32]>,
    /// Log of the probability that a row was proposed; without, all are listed for certain.
    pub log_inclusion: Option<&'a [f32]>,
}

impl Proposals<'_> {
    /// The score of a proposal, and how far it is above the positive's.
    fn score(&self, place: usize, position: usize) -> (f32, f64) {
        let score = self.scores.map_or(f32::NAN, |scores| scores[position]);
        let positive = self.positive_scores.map_or(f32::NAN, |scores| scores[place]);
        (score, f64::from(score) - f64::from(positive))
    }

    /// Log of the probability that a proposal was made; 0 for one that is listed.
    fn log_inclusion(&self, position: usize) -> Result<f32> {
        let given = self.log_inclusion.map_or(0.0, |log_inclusion| log_inclusion[position]);
        if given.is_finite() && given <= 0.0 {
            return Ok(given);
        }
        let (argument, remedy) = (self.argument("log_inclusion"), "give the logarithm of a probability above 0");
        Err(Error::invalid(argument, "finite and at most 0", given.to_string(), remedy))
    }

    /// The row at a position, if there is one.
    fn row(&self, position: usize, rows: usize) -> Result<Option<u32>> {
        match self.ids[position] {
            -1 => Ok(None),
            id if id >= 0 && (id as u64) < rows as u64 => Ok(Some(id as u32)),
            index => Err(Error::Index { argument: self.argument("ids"), matrix: "corpus", position, index, rows }),
        }
    }

    fn argument(&self, part: &str) -> String {
        format!("{part} of {}", self.name)
    }

    fn check(&self, anchors: usize) -> Result<()> {
        let cells = anchors * self.width;
        let lengths = [
            ("ids", Some(self.ids.len()), cells),
            ("scores", self.scores.map(<[f32]>::len), cells),
            ("log_inclusion", self.log_inclusion.map(<[f32]>::len), cells),
            ("positive_scores", self.positive_scores.map(<[f32]>::len), anchors),
        ];
        for (argument, found, wanted) in lengths {
            if let Some(found) = found.filter(|&found| found != wanted) {
                let remedy = "give one row for each anchor of the draw";
                return Err(Error::invalid(
                    self.argument(argument),
                    format!("of {wanted} numbers"),
                    found.to_string(),
                    remedy,
                ));
            }
        }
        Ok(())
    }
}

/// Edges on hardness.
#[derive(Debug, Clone, Copy)]
pub struct Edges {
    /// From here on a negative is hard.
    pub hard: f64,
    /// From here on it is semi-hard.
    pub semi_hard: f64,
}

impl Edges {
    fn tier(self, hardness: f64) -> u8 {
        if hardness.is_nan() {
            0
        } else if hardness >= self.hard {
            3
        } else if hardness >= self.semi_hard {
            2
        } else {
            1
        }
    }
}

/// How to draw.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Negatives an anchor.
    pub num_negatives: usize,
    /// What is hard.
    pub edges: Edges,
    /// Slots that hard, semi-hard, easy and random negatives get on average; they add up to `num_negatives`.
    pub slots: [f64; SHARES],
    /// Within a tier, weights `exp(score / temperature)`.
    pub temperature: Option<f64>,
    /// The seed.
    pub seed: u64,
    /// The epoch.
    pub epoch: u64,
    /// The step.
    pub step: u64,
}

/// All that a draw depends on.
#[derive(Debug, Clone, Copy)]
pub struct Draw<'a> {
    /// What may be a negative of what.
    pub identity: &'a Identity,
    /// Which listed rows an anchor may draw; all without.
    pub allotment: Option<&'a Allotment>,
    /// Weights of rows within their tier; all alike if empty.
    pub usefulness: &'a [f32],
    /// The sources, the first of which wins where two propose a row.
    pub proposals: &'a [Proposals<'a>],
    /// The anchors.
    pub anchors: &'a [u32],
    /// How to draw.
    pub settings: Settings,
}

/// What was drawn: `num_negatives` entries an anchor, hardest tier first.
#[derive(Debug, Clone, Default)]
pub struct Drawn {
    /// Rows, −1 for none.
    pub ids: Vec<i64>,
    /// Their scores, NaN where unknown, −∞ beside −1.
    pub scores: Vec<f32>,
    /// 0 unknown, 1 easy, 2 semi-hard, 3 hard.
    pub tiers: Vec<u8>,
    /// Which of the proposals, −1 for none.
    pub sources: Vec<i8>,
    /// Minus the log of the probability of being drawn, −∞ beside −1.
    pub log_weights: Vec<f32>,
    /// Slots that hard, semi-hard, easy and random candidates were too few for, [`SHARES`] an anchor.
    pub shortfall: Vec<f32>,
}

/// The part of a [`Drawn`] for some anchors.
struct Out<'a> {
    ids: &'a mut [i64],
    scores: &'a mut [f32],
    tiers: &'a mut [u8],
    sources: &'a mut [i8],
    log_weights: &'a mut [f32],
    shortfall: &'a mut [f32],
}

/// Draws for all anchors.
///
/// # Errors
/// [`Error::Index`] for a number that is no row or anchor, [`Error::Invalid`] for arrays of wrong lengths and probabilities
/// that are none, [`Error::Cancelled`].
pub fn draw(draw: &Draw<'_>, workers: &mut Workers<'_>) -> Result<Drawn> {
    check(draw)?;
    let (n, k) = (draw.anchors.len(), draw.settings.num_negatives);
    let cells = n * k;
    let mut drawn = Drawn {
        ids: vec![-1; cells],
        scores: vec![f32::NEG_INFINITY; cells],
        tiers: vec![0; cells],
        sources: vec![-1; cells],
        log_weights: vec![f32::NEG_INFINITY; cells],
        shortfall: vec![0.0; n * SHARES],
    };
    let spans = split(n, (n / 64).clamp(1, 8 * workers.threads()));
    let tasks: Vec<_> = spans.iter().cloned().zip(parts(&mut drawn, &spans, k)).collect();
    let candidates: usize = draw.proposals.iter().map(|p| p.width).sum();
    // About 50 ns a candidate, in the multiply-adds of a search.
    let work = (n * (candidates + k) * 700) as u64;
    let tokens = |proposals: &Proposals<'_>| draw.allotment.and_then(|allotment| allotment.tokens(proposals.name));
    let sources: Vec<Listing<'_>> = draw.proposals.iter().map(|proposals| (*proposals, tokens(proposals))).collect();
    workers.run(work, tasks, Scratch::default, |scratch, (span, mut out), progress| {
        for (i, place) in span.enumerate() {
            one(draw, &sources, place, scratch, &mut out, i)?;
            progress.advance(0)?;
        }
        Ok(())
    })?;
    Ok(drawn)
}

fn check(draw: &Draw<'_>) -> Result<()> {
    for proposals in draw.proposals {
        proposals.check(draw.anchors.len())?;
    }
    let anchors = draw.identity.anchors();
    if let Some(position) = draw.anchors.iter().position(|&anchor| anchor as usize >= anchors) {
        let index = i64::from(draw.anchors[position]);
        return Err(Error::Index { argument: "anchors".into(), matrix: "queries", position, index, rows: anchors });
    }
    let (found, rows) = (draw.usefulness.len(), draw.identity.rows());
    if found != 0 && found != rows {
        let (expected, remedy) = (format!("one number for each of the {rows} rows"), "make it anew");
        return Err(Error::invalid("usefulness", expected, found.to_string(), remedy));
    }
    Ok(())
}

fn parts<'a>(drawn: &'a mut Drawn, spans: &[std::ops::Range<usize>], k: usize) -> Vec<Out<'a>> {
    let lengths = |of: usize| spans.iter().map(move |span| span.len() * of);
    let mut ids = cut(&mut drawn.ids, lengths(k)).into_iter();
    let mut scores = cut(&mut drawn.scores, lengths(k)).into_iter();
    let mut tiers = cut(&mut drawn.tiers, lengths(k)).into_iter();
    let mut sources = cut(&mut drawn.sources, lengths(k)).into_iter();
    let mut log_weights = cut(&mut drawn.log_weights, lengths(k)).into_iter();
    let shortfall = cut(&mut drawn.shortfall, lengths(SHARES)).into_iter();
    shortfall
        .filter_map(|shortfall| {
            Some(Out {
                ids: ids.next()?,
                scores: scores.next()?,
                tiers: tiers.next()?,
                sources: sources.next()?,
                log_weights: log_weights.next()?,
                shortfall,
            })
        })
        .collect()
}

/// A candidate, as it stands in the row in which candidates are fought over.
#[derive(Debug, Clone, Copy)]
struct Entry {
    score: f32,
    row: u32,
    member: u32,
    chance: u32,
}

/// What a source proposes, and its tokens where it is under a cap.
type Listing<'a> = (Proposals<'a>, Option<Tokens<'a>>);

/// Room for one anchor. One per thread.
#[derive(Debug, Default)]
struct Scratch {
    slots: Slots,
    chances: Vec<Chance>,
    classes: [Vec<Entry>; CLASSES],
    probabilities: Vec<f64>,
    taken: Vec<bool>,
}

fn one(
    draw: &Draw<'_>,
    sources: &[Listing<'_>],
    place: usize,
    scratch: &mut Scratch,
    out: &mut Out<'_>,
    i: usize,
) -> Result<()> {
    let Settings { num_negatives: k, edges, seed, epoch, step, .. } = draw.settings;
    let anchor = draw.anchors[place];
    let mut random = step_stream(seed, epoch, u64::from(anchor), PURPOSE, step);
    let Scratch { slots, chances, classes, probabilities, taken } = scratch;
    slots.collect(sources, (place, anchor), draw.identity, edges)?;
    slots.chances(&mut random, chances);
    let (shares, open) = share(&draw.settings, chances, &mut out.shortfall[i * SHARES..(i + 1) * SHARES]);
    line_up(slots, chances, open, classes);
    weigh(draw, classes, shares, probabilities);
    taken.clear();
    taken.resize(probabilities.len(), false);
    let stretches: [usize; CLASSES] = std::array::from_fn(|class| classes[class].len());
    inclusion::choose(probabilities, &stretches, &mut random, |picked| taken[picked] = true);
    let chosen = classes.iter().flatten().zip(probabilities.iter()).zip(taken.iter()).filter(|(_, taken)| **taken);
    for (at, ((entry, &probability), _)) in (i * k..(i + 1) * k).zip(chosen) {
        let member = slots.member(entry.member);
        out.ids[at] = i64::from(member.row);
        out.scores[at] = member.score;
        out.tiers[at] = member.tier;
        out.sources[at] = member.source as i8;
        out.log_weights[at] =
            log_weight(draw.identity, sources, member, &chances[entry.chance as usize], probability) as f32;
    }
    Ok(())
}

/// Minus the log of the probability of a row to be drawn, plus the log of how many copies it stands for.
fn log_weight(identity: &Identity, sources: &[Listing<'_>], member: &Member, chance: &Chance, probability: f64) -> f64 {
    let alike = if member.sampled {
        f64::from(chance.sampled.n)
    } else {
        // Copies that nobody listed count as those that are listed do on average.
        let copies = identity.size(identity.unit(member.row)) as f64;
        let scarcity = sources[usize::from(member.source)].1.map_or(1.0, |tokens| tokens.scarcity(member.row));
        copies * f64::from(chance.listed.n) / f64::from(chance.n_listed) * scarcity
    };
    libm::log(alike / probability) - f64::from(member.log_inclusion)
}

/// Class of a content whose listed rows are of this tier, hardest first.
fn class(tier: u8) -> usize {
    if tier == 0 { UNKNOWN } else { 3 - usize::from(tier) }
}

/// Gives each class its slots, handing on what it lacks; tells also which classes of listed rows can be drawn at all.
///
/// Where none of a class can be drawn, its rows are left to what is sampled.
fn share(settings: &Settings, chances: &[Chance], shortfall: &mut [f32]) -> ([f64; CLASSES], [bool; CLASSES]) {
    let [hard, semi_hard, easy, random] = settings.slots;
    let (mut live, mut sampled) = ([0u32; CLASSES], [0u32; CLASSES]);
    for chance in chances {
        let class = chance.tier.map_or(RANDOM, class);
        live[class] += u32::from(chance.listed.n > 0);
        sampled[class] += u32::from(chance.sampled.n > 0);
    }
    let (mut slots, mut open, mut carried) = ([0.0; CLASSES], [false; CLASSES], 0.0);
    for (class, wanted) in [hard, semi_hard, easy, 0.0].into_iter().enumerate() {
        let wanted = wanted + carried;
        open[class] = wanted > ROUNDING;
        slots[class] = wanted.min(f64::from(live[class]));
        carried = above_rounding(wanted - slots[class]);
        if class < RANDOM - 1 {
            shortfall[class] = carried as f32;
        }
    }
    let left: u32 = (0..CLASSES).filter(|&class| !open[class]).map(|class| sampled[class]).sum();
    let wanted = random + carried;
    slots[RANDOM] = wanted.min(f64::from(left));
    shortfall[SHARES - 1] = above_rounding(wanted - slots[RANDOM]) as f32;
    (slots, open)
}

fn above_rounding(slots: f64) -> f64 {
    if slots > ROUNDING { slots } else { 0.0 }
}

/// Lines up all that can be drawn: by class, listed rows best first, sampled ones as they were proposed.
fn line_up(slots: &Slots, chances: &[Chance], open: [bool; CLASSES], classes: &mut [Vec<Entry>; CLASSES]) {
    classes.iter_mut().for_each(Vec::clear);
    for (i, chance) in chances.iter().enumerate() {
        let listed = chance.tier.map(class).filter(|&class| open[class]);
        let (class, choice) = listed.map_or((RANDOM, chance.sampled), |class| (class, chance.listed));
        if choice.n > 0 {
            let member = slots.member(choice.member);
            let entry = Entry { score: member.score, row: member.row, member: choice.member, chance: i as u32 };
            classes[class].push(entry);
        }
    }
    for class in &mut classes[..RANDOM] {
        // Lists come best first, so that there is seldom much to do.
        class.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.row.cmp(&b.row)));
    }
}

/// Inclusion probabilities of all entries, class by class.
fn weigh(draw: &Draw<'_>, classes: &[Vec<Entry>], slots: [f64; CLASSES], probabilities: &mut Vec<f64>) {
    probabilities.clear();
    for (class, (entries, slots)) in classes.iter().zip(slots).enumerate() {
        let start = probabilities.len();
        if class == RANDOM {
            probabilities.resize(start + entries.len(), 1.0);
        } else {
            let temperature = draw.settings.temperature.filter(|_| class < UNKNOWN);
            probabilities.extend(entries.iter().map(|entry| weight(draw, entry, entries[0].score, temperature)));
        }
        inclusion::probabilities(&mut probabilities[start..], slots);
    }
}

/// The weight of a listed row within its class, whose best score is `best`.
fn weight(draw: &Draw<'_>, entry: &Entry, best: f32, temperature: Option<f64>) -> f64 {
    let usefulness = draw.usefulness.get(entry.row as usize).map_or(1.0, |&weight| f64::from(weight));
    match temperature {
        Some(temperature) => usefulness * libm::exp((f64::from(entry.score) - f64::from(best)) / temperature),
        None => usefulness,
    }
}
