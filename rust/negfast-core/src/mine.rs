//! The pipeline: search under rules, list rules, draw, report.
//!
//! A later call may begin with what an earlier one [remembered](crate::refresh): lists that drift cannot have changed are
//! judged again instead of searched again.

mod trial;
mod warm;

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::accept::Accept;
use crate::anchors::Anchors;
use crate::copies::Copies;
use crate::draw::Draw;
use crate::error::{Error, Result};
use crate::exposure::assign;
use crate::lists::Lists;
use crate::pool::{Chooser, FalseNegatives, Pool, Wishes};
use crate::refresh::{BAND, Kept, Past, Refreshed, Reserve};
use crate::rules::{Counts, Guard, Guarded, Known, Rule, Rules};
use crate::score::{Scorer, Scratch, score_lists, spans};
use crate::search::{Account, Asked, Engine, Job, Work};
use crate::threads::Workers;
use crate::topk::{Candidate, sort_best_first, table};

/// Edges on hardness, the score of a negative minus the lowest positive score of its anchor.
#[derive(Debug, Clone, Copy)]
pub struct Tiers {
    /// From here on a negative is hard.
    pub hard: f64,
    /// From here on it is semi-hard, below easy.
    pub semi_hard: f64,
}

/// Everything but the data.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Negatives per anchor.
    pub num_negatives: usize,
    /// The guard rails.
    pub rules: Rules,
    /// The edges between easy, semi-hard and hard.
    pub tiers: Tiers,
    /// How to choose among allowed rows.
    pub draw: Draw,
    /// A positive that ranks below this is reported.
    pub suspect_rank: u64,
    /// Names the draws.
    pub seed: u64,
    /// Names the draws.
    pub epoch: u64,
    /// How to search.
    pub search: Asked,
    /// Candidates of each anchor that are remembered for a refresh; 0 for none.
    pub reserve: usize,
}

/// A positive that ranks low for its own anchor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Suspect {
    /// The anchor, a row of the queries.
    pub anchor: u32,
    /// Its positive.
    pub row: u32,
    /// Their score.
    pub score: f32,
    /// One more than the number of rows that score higher.
    pub rank: u64,
}

/// The negatives of every anchor, and what is to be said about them.
#[derive(Debug, Default)]
pub struct Mined {
    /// Corpus rows, `anchors × num_negatives`, best first, padded with −1; anchors in the order asked for.
    pub indices: Vec<i64>,
    /// Their scores, padded with −∞.
    pub scores: Vec<f32>,
    /// 0 for padding and anchors without a positive, 1 easy, 2 semi-hard, 3 hard.
    pub tiers: Vec<u8>,
    /// Lowest positive score of each anchor, NaN without one.
    pub positive_scores: Vec<f32>,
    /// Rank of that positive among all candidates, 0 without one.
    pub positive_ranks: Vec<u64>,
    /// Rows removed, by rule.
    pub removed: Counts,
    /// Positives that rank below the bound, by anchor and row.
    pub suspects: Vec<Suspect>,
    /// What keys and groups tell about the hardest rows.
    pub false_negatives: FalseNegatives,
    /// Anchors that were searched again because their first list was used up.
    pub deepened: u64,
    /// How the search was done; nothing where candidates were given.
    pub account: Option<Account>,
    /// What is remembered for a refresh, if that was asked for.
    pub reserve: Option<Reserve<'static>>,
    /// What became of the lists that were remembered, if there were any.
    pub refreshed: Option<Refreshed>,
}

/// Bytes of wishes that a cap on exposure may have in memory at least, whatever `max_memory` says.
const MOST_WISHES: usize = 2 << 30;

/// Where the candidates of [`select`] come from.
#[derive(Debug)]
pub struct Candidates<'a> {
    /// Candidate rows of each anchor.
    pub lists: &'a Lists,
    /// Scores that replace the computed ones: one per entry of the caller's indices.
    pub scores: Option<&'a [f32]>,
    /// What the candidates' scores are compared with.
    pub positive_scores: PositiveScores<'a>,
}

/// Where the scores of positives come from.
#[derive(Debug, Clone, Copy)]
pub enum PositiveScores<'a> {
    /// From the embeddings.
    Computed,
    /// Given, one per entry of the caller's positives.
    Each(&'a [f32]),
    /// Given, the lowest of each anchor, NaN without a positive.
    Lowest(&'a [f32]),
}

/// The lowest score is that of the positive where there is one; of several it is not known which has it.
fn spread(positives: &Lists, lowest: &[f32]) -> Vec<f32> {
    let scores = |anchor: usize| match positives.of(anchor) {
        [_] => vec![lowest[anchor]],
        several => vec![f32::NAN; several.len()],
    };
    (0..positives.len()).flat_map(scores).collect()
}

/// Mines negatives of `anchors` from the whole corpus; with a `past`, of all queries.
///
/// What an anchor gets does not depend on the others, unless a cap on exposure makes them compete.
///
/// # Errors
/// If `max_memory` is too small, or the call is cancelled.
pub fn mine(
    scorer: &Scorer<'_>,
    known: &Known<'_>,
    anchors: &Anchors,
    settings: &Settings,
    past: Option<&Past<'_>>,
    workers: &mut Workers<'_>,
    work: &Work,
) -> Result<Mined> {
    let scores = score_lists(scorer, anchors.rows(), &known.positives, workers)?;
    let positives = Scored { lists: &known.positives, scores: &scores };
    let lowest = positives.lowest();
    let guard = Guard::new(scorer, &settings.rules, known, anchors.rows(), &lowest);
    let copies = OnceLock::new();
    let miner = Miner { chooser: chooser(scorer, &guard, settings, &copies), anchors, settings, work };
    let mut unserved = anchors.rows().to_vec();
    let mut depth = miner.chooser.depth();
    let books = Mutex::new(Books::new(unserved.len(), settings)?);
    let mut engine = Engine::new(scorer, settings.search)?;
    let mut reserve = settings.reserve;
    if let Some(past) = past {
        miner.find_copies(unserved.len(), depth, workers)?;
        let outcome = warm::pass(&miner, past, &books, workers)?;
        unserved = outcome.unserved;
        reserve = outcome.reserve;
        open(&books).mined.refreshed = Some(outcome.refreshed);
    }
    while !unserved.is_empty() {
        miner.find_copies(unserved.len(), depth, workers)?;
        miner.afford(unserved.len(), depth, &open(&books))?;
        miner.search(&mut engine, (&unserved, depth, reserve), &books, workers)?;
        unserved = miner.unserved(&mut open(&books));
        depth = depth.saturating_mul(4).min(miner.chooser.deepest());
    }
    let mut mined = miner.close(books, past.map_or(&[], |past| past.reserve.rows()), workers)?;
    mined.suspects = miner.suspects(positives, &mined.positive_ranks, workers)?;
    mined.positive_scores = anchors.pick(&lowest);
    mined.account = Some(engine.account());
    Ok(mined)
}

/// Applies rules and draw to candidates that came from elsewhere.
///
/// # Errors
/// If the call is cancelled.
pub fn select(
    scorer: &Scorer<'_>,
    known: &Known<'_>,
    candidates: &Candidates<'_>,
    settings: &Settings,
    workers: &mut Workers<'_>,
    work: &Work,
) -> Result<Mined> {
    let positives = &known.positives;
    let anchors = Anchors::all(scorer.queries.len());
    let positive_scores = match candidates.positive_scores {
        PositiveScores::Computed => score_lists(scorer, anchors.rows(), positives, workers)?,
        PositiveScores::Each(given) => positives.all_origins().iter().map(|&origin| given[origin]).collect(),
        PositiveScores::Lowest(given) => spread(positives, given),
    };
    let positives = Scored { lists: positives, scores: &positive_scores };
    let lowest = match candidates.positive_scores {
        PositiveScores::Lowest(given) => given.to_vec(),
        _ => positives.lowest(),
    };
    let guard = Guard::new(scorer, &settings.rules, known, anchors.rows(), &lowest);
    let copies = OnceLock::new();
    let miner = Miner { chooser: chooser(scorer, &guard, settings, &copies), anchors: &anchors, settings, work };
    let books = Mutex::new(Books::new(anchors.len(), settings)?);
    miner.judge(candidates, positives, &books, workers)?;
    let mut mined = miner.close(books, &[], workers)?;
    mined.suspects.sort_unstable_by_key(|s| (s.anchor, s.row));
    mined.positive_scores = lowest;
    Ok(mined)
}

fn chooser<'a>(
    scorer: &'a Scorer<'a>,
    guard: &'a Guard<'a>,
    settings: &'a Settings,
    copies: &'a OnceLock<Copies>,
) -> Chooser<'a> {
    let Settings { rules, draw, num_negatives, seed, epoch, .. } = settings;
    Chooser { scorer, guard, rules, draw: *draw, num_negatives: *num_negatives, seed: *seed, epoch: *epoch, copies }
}

/// Positives with their scores; NaN where a score is not known.
#[derive(Clone, Copy)]
struct Scored<'a> {
    lists: &'a Lists,
    scores: &'a [f32],
}

impl Scored<'_> {
    /// The lowest score of each list, NaN where none is known.
    fn lowest(&self) -> Vec<f32> {
        let lowest = |span: &[usize]| self.scores[span[0]..span[1]].iter().copied().fold(f32::NAN, f32::min);
        self.lists.starts().windows(2).map(lowest).collect()
    }
}

/// The result while it is written, block by block.
pub(crate) struct Books {
    pub(crate) mined: Mined,
    /// With a cap on exposure nothing is final before all anchors are in: what each wishes for, and why. By rank.
    waiting: Vec<Option<(Pool, Wishes)>>,
    /// Anchors whose list is used up although a deeper search could lengthen it.
    short: Vec<u32>,
    /// What is remembered of each anchor, by rank, if that is asked for.
    kept: Vec<Kept>,
    first_pass: bool,
}

impl Books {
    fn new(anchors: usize, settings: &Settings) -> Result<Self> {
        let (argument, k) = ("num_negatives", settings.num_negatives);
        let mined = Mined {
            indices: table(argument, anchors, k, -1)?,
            scores: table(argument, anchors, k, f32::NEG_INFINITY)?,
            tiers: table(argument, anchors, k, 0)?,
            positive_ranks: vec![0; anchors],
            ..Mined::default()
        };
        let waiting = if settings.rules.max_exposure.is_some() { anchors } else { 0 };
        let kept = vec![Kept::default(); if settings.reserve > 0 { anchors } else { 0 }];
        Ok(Self { mined, waiting: (0..waiting).map(|_| None).collect(), short: Vec::new(), kept, first_pass: true })
    }
}

/// Nothing that holds the lock can panic and leave half an entry, so a poisoned lock is as good as any.
pub(crate) fn open(books: &Mutex<Books>) -> MutexGuard<'_, Books> {
    books.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One anchor's negatives, and what was counted for it.
struct Entry {
    anchor: usize,
    chosen: Vec<Candidate>,
    counts: Counts,
    known: FalseNegatives,
}

/// A call on its way.
pub(crate) struct Miner<'a> {
    pub(crate) chooser: Chooser<'a>,
    pub(crate) anchors: &'a Anchors,
    pub(crate) settings: &'a Settings,
    pub(crate) work: &'a Work,
}

impl Miner<'_> {
    /// Finds all near-copies of the corpus once, where lists of this depth for so many anchors make that cheaper.
    fn find_copies(&self, anchors: usize, depth: usize, workers: &mut Workers<'_>) -> Result<()> {
        let Settings { rules, search, .. } = self.settings;
        if let Some(bound) = rules.distinct.filter(|_| self.chooser.wants_copies(anchors, depth)) {
            let found = Copies::find(self.chooser.scorer, bound, search.max_memory, workers, self.work)?;
            self.chooser.copies.get_or_init(|| found);
        }
        Ok(())
    }

    /// Refuses a pass whose wishes, held until all anchors are served, could take more memory than they may.
    fn afford(&self, anchors: usize, depth: usize, books: &Books) -> Result<()> {
        let held = books.waiting.iter().flatten().map(|(pool, wishes)| pool.kept.len() + wishes.rows.len());
        let coming = if books.waiting.is_empty() { 0 } else { anchors.saturating_mul(depth).saturating_mul(2) };
        let bytes = held.sum::<usize>().saturating_add(coming).saturating_mul(size_of::<Candidate>());
        let most = self.settings.search.max_memory.unwrap_or(0).max(MOST_WISHES);
        if bytes <= most {
            return Ok(());
        }
        let most_exposed = self.settings.rules.max_exposure.unwrap_or_default();
        Err(Error::invalid(
            "rules.max_exposure",
            format!("large enough to serve all anchors from lists of {most} bytes"),
            format!("{most_exposed}, with which {anchors} anchors need {depth} candidates each"),
            "raise it, ask for fewer negatives, set range_max, or raise search.max_memory",
        ))
    }

    fn search(
        &self,
        engine: &mut Engine<'_>,
        (anchors, wanted, reserve): (&[u32], usize, usize),
        books: &Mutex<Books>,
        workers: &mut Workers<'_>,
    ) -> Result<()> {
        let first_pass = open(books).first_pass;
        let scorer = self.chooser.scorer;
        let depth = wanted.max(reserve).min(scorer.corpus.len());
        // Some more than are wanted, so that lists from which few rows leave need no others.
        let scored = if reserve > 0 { wanted + wanted / 16 + 8 } else { wanted };
        let job = Job { scorer, anchors, depth, scored, max_memory: self.settings.search.max_memory };
        let band = if reserve > 0 { BAND } else { 0.0 };
        let accept = Guarded { guard: self.chooser.guard, anchors, ranks: first_pass, band };
        let plan = engine.plan(&job, &accept, workers, self.work)?;
        let proven = engine.account().recall.anchors == 0;
        let outputs = vec![(); plan.blocks.len()];
        engine.search(&job, &plan, &accept, workers, self.work, outputs, |(), finished| {
            let mut page = Page::default();
            finished.each(|found, scratch| {
                page.ranks.push((found.anchor, found.above + 1));
                if reserve > 0 {
                    let kept = Kept::from_search(&found, (depth, reserve, proven), self.chooser.guard);
                    page.kept.push((found.anchor, kept));
                }
                let pool = Pool::from_search(found, (depth, wanted), self.chooser.guard);
                self.file(pool, self.chooser.enough(wanted), &mut page, scratch);
            })?;
            self.enter(page, &mut open(books));
            Ok(())
        })?;
        open(books).first_pass = false;
        Ok(())
    }

    fn judge(
        &self,
        candidates: &Candidates<'_>,
        positives: Scored<'_>,
        books: &Mutex<Books>,
        workers: &mut Workers<'_>,
    ) -> Result<()> {
        let Scorer { corpus, .. } = *self.chooser.scorer;
        let dim = corpus.rows().dim();
        let tasks = spans(candidates.lists.len(), candidates.lists.rows().len(), dim, workers.threads());
        let rows = candidates.lists.rows().len();
        workers.progress().expect(rows as u64);
        // Telling copies apart can take longer than scoring.
        let comparisons =
            if self.settings.rules.distinct.is_some() { self.settings.num_negatives.min(rows) } else { 1 };
        let operations = (rows * dim) as u64 * comparisons as u64;
        workers.run(
            operations,
            tasks,
            || Scratch::new(dim),
            |scratch, span, progress| {
                let mut page = Page::default();
                for anchor in span {
                    let pool = self.judged(anchor, candidates, positives, &mut page, scratch);
                    self.file(pool, self.chooser.enough(usize::MAX), &mut page, scratch);
                    progress.advance(candidates.lists.of(anchor).len() as u64)?;
                }
                self.enter(page, &mut open(books));
                Ok(())
            },
        )
    }

    /// Judges every candidate of one anchor, and ranks its positives among them.
    fn judged(
        &self,
        anchor: usize,
        candidates: &Candidates<'_>,
        positives: Scored<'_>,
        page: &mut Page,
        scratch: &mut Scratch,
    ) -> Pool {
        let rows = candidates.lists.of(anchor);
        let mut scores = vec![0.0; rows.len()];
        if let Some(given) = candidates.scores {
            for (score, &origin) in scores.iter_mut().zip(candidates.lists.origins(anchor)) {
                *score = given[origin] + 0.0;
            }
        } else {
            self.chooser.scorer.score_all(anchor, rows, &mut scores, scratch);
        }
        let mut pool = Pool { anchor, complete: true, judged: true, ..Pool::default() };
        let cap = self.chooser.guard.cap(anchor);
        for (&row, &score) in rows.iter().zip(&scores) {
            match self.chooser.guard.judge(anchor, row, score, scratch) {
                Some(rule) if f64::from(score) > cap => pool.over[rule as usize] += 1,
                Some(rule) => pool.refused.push((score, rule)),
                None => pool.kept.push(Candidate { score, row }),
            }
        }
        self.rank(anchor, &scores, positives, page);
        sort_best_first(&mut pool.kept);
        pool
    }

    /// Ranks an anchor's positives among candidates of these scores.
    fn rank(&self, anchor: usize, candidates: &[f32], positives: Scored<'_>, page: &mut Page) {
        let rank = |p: f64| rank(candidates, p);
        self.rank_among(anchor, candidates, page);
        let first = positives.lists.starts()[anchor];
        for (i, &row) in positives.lists.of(anchor).iter().enumerate() {
            let score = positives.scores[first + i];
            let rank = rank(f64::from(score));
            if rank > self.settings.suspect_rank && !score.is_nan() {
                page.suspects.push(Suspect { anchor: anchor as u32, row, score, rank });
            }
        }
    }

    /// Ranks the lowest positive of an anchor among candidates of these scores.
    pub(crate) fn rank_among(&self, anchor: usize, candidates: &[f32], page: &mut Page) {
        if let Some(p) = self.chooser.guard.lowest_positive(anchor) {
            page.ranks.push((anchor as u32, rank(candidates, p)));
        }
    }

    /// Allowed rows without which an anchor cannot be served: those that the draw chooses from.
    pub(crate) fn wanted(&self) -> usize {
        let Settings { rules, num_negatives, draw, .. } = self.settings;
        let top = rules.range_min.saturating_add(*num_negatives).min(self.chooser.deepest());
        if *draw == Draw::Top && *num_negatives > 0 { top } else { self.chooser.depth() }
    }

    /// Puts an anchor where it belongs: done, waiting for the others, or to be searched deeper.
    pub(crate) fn file(&self, pool: Pool, enough: usize, page: &mut Page, scratch: &mut Scratch) {
        let mut wishes = self.chooser.wishes(&pool, enough, scratch);
        if self.settings.rules.max_exposure.is_some() {
            page.waiting.push((pool, wishes));
        } else if wishes.open && wishes.rows.len() < self.settings.num_negatives {
            page.short.push(pool.anchor as u32);
        } else {
            wishes.rows.truncate(self.settings.num_negatives);
            page.entries.push(self.entry(&pool, wishes.rows, wishes.removed.into_iter(), scratch));
        }
    }

    fn entry(
        &self,
        pool: &Pool,
        mut chosen: Vec<Candidate>,
        listed: impl Iterator<Item = (Candidate, Rule)>,
        scratch: &mut Scratch,
    ) -> Entry {
        sort_best_first(&mut chosen);
        let (counts, known) = self.chooser.count(pool, listed, chosen.last().copied(), scratch);
        Entry { anchor: pool.anchor, chosen, counts, known }
    }

    pub(crate) fn enter(&self, page: Page, books: &mut Books) {
        for (anchor, rank) in page.ranks {
            if books.first_pass && self.chooser.guard.lowest_positive(anchor as usize).is_some() {
                books.mined.positive_ranks[self.anchors.place(anchor as usize)] = rank;
            }
        }
        for entry in &page.entries {
            self.write(entry, &mut books.mined);
        }
        for (pool, wishes) in page.waiting {
            let rank = self.anchors.rank(pool.anchor);
            books.waiting[rank] = Some((pool, wishes));
        }
        for (anchor, kept) in page.kept {
            let rank = self.anchors.rank(anchor as usize);
            books.kept[rank] = kept;
        }
        books.short.extend(page.short);
        books.mined.suspects.extend(page.suspects);
    }

    fn write(&self, entry: &Entry, mined: &mut Mined) {
        let k = self.settings.num_negatives;
        let first = self.anchors.place(entry.anchor) * k;
        let positive = self.chooser.guard.lowest_positive(entry.anchor);
        for (slot, c) in (first..first + k).zip(&entry.chosen) {
            mined.indices[slot] = i64::from(c.row);
            mined.scores[slot] = c.score;
            mined.tiers[slot] = positive.map_or(0, |p| self.tier(f64::from(c.score) - p));
        }
        for (sum, count) in mined.removed.iter_mut().zip(entry.counts) {
            *sum += count;
        }
        let FalseNegatives { rows, known, rows_within, known_within } = entry.known;
        mined.false_negatives.rows += rows;
        mined.false_negatives.known += known;
        mined.false_negatives.rows_within += rows_within;
        mined.false_negatives.known_within += known_within;
    }

    fn tier(&self, hardness: f64) -> u8 {
        let Tiers { hard, semi_hard } = self.settings.tiers;
        if hardness >= hard {
            3
        } else if hardness >= semi_hard {
            2
        } else {
            1
        }
    }

    /// The anchors that a deeper search has to serve, in order.
    pub(crate) fn unserved(&self, books: &mut Books) -> Vec<u32> {
        let mut short = std::mem::take(&mut books.short);
        if self.settings.rules.max_exposure.is_some() {
            let assigned = self.assign(&mut books.waiting);
            let waiting = self.anchors.rows().iter().zip(books.waiting.iter().zip(&assigned));
            short.extend(waiting.filter_map(|(&anchor, (entry, got))| {
                let (_, wishes) = entry.as_ref()?;
                let used_up = got.held.len() < self.settings.num_negatives && got.asked == wishes.rows.len();
                (wishes.open && used_up).then_some(anchor)
            }));
        }
        short.sort_unstable();
        books.mined.deepened += short.len() as u64;
        short
    }

    fn assign(&self, waiting: &mut [Option<(Pool, Wishes)>]) -> Vec<crate::exposure::Assignment> {
        let most = self.settings.rules.max_exposure.unwrap_or(usize::MAX);
        let lend = |entry: &mut Option<(Pool, Wishes)>| {
            entry.as_mut().map_or_else(Vec::new, |(_, w)| std::mem::take(&mut w.rows))
        };
        let wishes: Vec<_> = waiting.iter_mut().map(lend).collect();
        let assigned = assign(&wishes, self.settings.num_negatives, most);
        for (entry, rows) in waiting.iter_mut().zip(wishes) {
            if let Some((_, wishes)) = entry {
                wishes.rows = rows;
            }
        }
        assigned
    }

    /// Settles who gets what under a cap on exposure, and closes the books.
    fn close(&self, books: Mutex<Books>, past: &[u32], workers: &mut Workers<'_>) -> Result<Mined> {
        let mut books = books.into_inner().unwrap_or_else(PoisonError::into_inner);
        if self.settings.reserve > 0 {
            books.mined.reserve = Some(Reserve::new(&std::mem::take(&mut books.kept), past, workers)?);
        }
        if self.settings.rules.max_exposure.is_none() {
            return Ok(books.mined);
        }
        let assigned = self.assign(&mut books.waiting);
        let waiting = std::mem::take(&mut books.waiting);
        let dim = self.chooser.scorer.corpus.rows().dim();
        let books = Mutex::new(books);
        let tasks: Vec<_> = waiting.into_iter().flatten().zip(assigned).collect();
        workers.run(
            (tasks.len() * dim) as u64,
            tasks,
            || Scratch::new(dim),
            |scratch, ((pool, wishes), got), _| {
                let chosen = got.held.iter().map(|&position| wishes.rows[position]).collect();
                let asked = wishes.rows[..got.asked].iter().enumerate();
                let turned_away = asked.filter(|(position, _)| got.held.binary_search(position).is_err());
                let listed = turned_away.map(|(_, &c)| (c, Rule::MaxExposure)).chain(wishes.removed);
                let entry = self.entry(&pool, chosen, listed, scratch);
                self.write(&entry, &mut open(&books).mined);
                Ok(())
            },
        )?;
        Ok(books.into_inner().unwrap_or_else(PoisonError::into_inner).mined)
    }

    /// All positives that rank below the bound, of anchors whose lowest positives have these `ranks`. Those have the
    /// lowest rank; only where it is suspect and the positive not alone do the others have to be ranked.
    fn suspects(&self, positives: Scored<'_>, ranks: &[u64], workers: &mut Workers<'_>) -> Result<Vec<Suspect>> {
        let bound = self.settings.suspect_rank;
        let (mut suspects, mut unranked) = (Vec::new(), Vec::new());
        for &anchor in self.anchors.rows() {
            let rank = ranks[self.anchors.place(anchor as usize)];
            if rank <= bound {
                continue;
            }
            let first = positives.lists.starts()[anchor as usize];
            let list = positives.lists.of(anchor as usize);
            for (i, &row) in list.iter().enumerate() {
                let suspect = Suspect { anchor, row, score: positives.scores[first + i], rank };
                if list.len() == 1 { suspects.push(suspect) } else { unranked.push(suspect) }
            }
        }
        self.rank_all(&mut unranked, workers)?;
        suspects.extend(unranked.into_iter().filter(|s| s.rank > bound));
        suspects.sort_unstable_by_key(|s| (s.anchor, s.row));
        Ok(suspects)
    }

    /// Finds the rank of each of `suspects` in the whole corpus.
    fn rank_all(&self, suspects: &mut [Suspect], workers: &mut Workers<'_>) -> Result<()> {
        let scorer = self.chooser.scorer;
        let anchors: Vec<u32> = suspects.iter().map(|s| s.anchor).collect();
        let watched: Vec<f32> = suspects.iter().map(|s| s.score).collect();
        let job = Job { scorer, anchors: &anchors, depth: 0, scored: 0, max_memory: self.settings.search.max_memory };
        let mut engine = Engine::new(scorer, Asked::following(self.settings.search.max_memory))?;
        let ranks = Ranks(&watched);
        let plan = engine.plan(&job, &ranks, workers, self.work)?;
        let found = Mutex::new(Vec::with_capacity(anchors.len()));
        let outputs = vec![(); plan.blocks.len()];
        engine.search(&job, &plan, &ranks, workers, self.work, outputs, |(), finished| {
            let mut ranks = Vec::new();
            finished.each(|f, _| ranks.push((f.slot, f.above + 1)))?;
            found.lock().unwrap_or_else(PoisonError::into_inner).extend(ranks);
            Ok(())
        })?;
        for (slot, rank) in found.into_inner().unwrap_or_else(PoisonError::into_inner) {
            suspects[slot].rank = rank;
        }
        Ok(())
    }
}

/// One more than how many candidates score more than `p`.
fn rank(candidates: &[f32], p: f64) -> u64 {
    candidates.iter().filter(|&&score| f64::from(score) > p).count() as u64 + 1
}

/// What one block adds to the books.
#[derive(Default)]
pub(crate) struct Page {
    entries: Vec<Entry>,
    waiting: Vec<(Pool, Wishes)>,
    pub(crate) short: Vec<u32>,
    ranks: Vec<(u32, u64)>,
    suspects: Vec<Suspect>,
    pub(crate) kept: Vec<(u32, Kept)>,
}

/// Keeps nothing and counts the rows above one score per slot.
struct Ranks<'a>(&'a [f32]);

impl Accept for Ranks<'_> {
    type Tally = ();

    fn floor(&self, _: usize) -> f64 {
        f64::INFINITY
    }

    fn watch(&self, slot: usize) -> f64 {
        f64::from(self.0[slot])
    }
}
