//! Guard rails: which corpus rows may be negatives of an anchor.
//!
//! Rules are settings ([`Rules`]) plus the ids they need ([`Known`]). A [`Guard`] binds the two to a pair of
//! matrices and answers, for a row, the first rule that rejects it. Rules are asked in the order of [`Rule`].

use crate::accept::Accept;
use crate::error::{Error, Result};
use crate::lists::{Lists, starts};
use crate::score::{Scorer, Scratch};

/// The rules, in the order in which they are asked; a row is attributed to the first that rejects it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub enum Rule {
    /// The row is a positive of the anchor, or (if asked for) of an anchor that shares one with it.
    Positive,
    /// The row is the anchor itself.
    Itself,
    /// The row has a text key of the anchor or of one of its positives.
    Key,
    /// The row has a group of the anchor or of one of its positives.
    Group,
    /// The caller excluded the row for this anchor.
    Exclude,
    /// The caller forbade the row for all anchors.
    Forbidden,
    /// The row scores too close to the positive, relative to the positive's score.
    RelativeMargin,
    /// The row scores too close to the positive.
    AbsoluteMargin,
    /// The row scores too high.
    MaxScore,
    /// The row scores too low.
    MinScore,
    /// The row is a near-copy of a positive.
    DuplicateOfPositive,
    /// The row ranks before the window.
    RangeMin,
    /// The row is a near-copy of a better negative.
    Distinct,
    /// The row serves enough other anchors.
    MaxExposure,
}

impl Rule {
    /// How many rules there are.
    pub const COUNT: usize = 14;

    /// The names under which reports list the rules, in order.
    pub const NAMES: [&'static str; Self::COUNT] = [
        "positive",
        "self",
        "key",
        "group",
        "exclude",
        "forbidden",
        "relative_margin",
        "absolute_margin",
        "max_score",
        "min_score",
        "duplicate_of_positive",
        "range_min",
        "distinct",
        "max_exposure",
    ];
}

/// Rows counted by the rule that removed them.
pub type Counts = [u64; Rule::COUNT];

/// The settings of the guard rails. `None` turns a rule off.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Drop a row that scores more than `p − |p|·m`, with `p` the anchor's lowest positive score.
    ///
    /// The positive-aware rule of G. Moreira et al., *NV-Retriever*, 2024, made safe for negative scores.
    pub relative_margin: Option<f64>,
    /// Drop a row that scores more than `p − m`.
    pub absolute_margin: Option<f64>,
    /// Drop a row that scores more.
    pub max_score: Option<f64>,
    /// Drop a row that scores less.
    pub min_score: Option<f64>,
    /// Skip this many of the best allowed rows.
    pub range_min: usize,
    /// Go no deeper than this rank among the allowed rows.
    pub range_max: Option<usize>,
    /// Drop a row whose cosine with a positive is above this.
    pub duplicate_of_positive: Option<f64>,
    /// Drop a row whose cosine with a better negative of the same anchor is above this.
    pub distinct: Option<f64>,
    /// Let no row serve more anchors than this.
    pub max_exposure: Option<usize>,
    /// Anchor i never gets row i.
    pub exclude_self: bool,
    /// Drop the positives of anchors that share a positive.
    pub transitive: bool,
}

/// Any number of labels per row; negative labels mean none.
#[derive(Debug)]
pub struct Labels<'a> {
    values: &'a [i64],
    cuts: Cuts,
}

/// Which labels belong to which row.
#[derive(Debug)]
enum Cuts {
    /// As many to each.
    Columns(usize),
    /// From where on, and the total.
    Starts(Vec<usize>),
}

impl<'a> Labels<'a> {
    /// `columns` labels for each of `rows` rows.
    ///
    /// # Errors
    /// If the number of values is another.
    pub fn new(argument: &str, values: &'a [i64], columns: usize, rows: usize) -> Result<Self> {
        if rows.checked_mul(columns) == Some(values.len()) {
            return Ok(Self { values, cuts: Cuts::Columns(columns) });
        }
        let got = values.len() / columns.max(1);
        let remedy = "pass one label per row, -1 where it has none";
        Err(Error::invalid(argument, format!("one entry for each of the {rows} rows"), got.to_string(), remedy))
    }

    /// Labels of `rows` rows, those of row `i` being `values[indptr[i]..indptr[i + 1]]`.
    ///
    /// # Errors
    /// If `indptr` does not cut `values` into so many lists.
    pub fn ragged(argument: &str, indptr: &[i64], values: &'a [i64], rows: usize) -> Result<Self> {
        Ok(Self { values, cuts: Cuts::Starts(starts(argument, indptr, values.len(), rows, "rows")?) })
    }

    /// The labels of a row.
    pub fn of(&self, row: usize) -> &'a [i64] {
        match &self.cuts {
            Cuts::Columns(columns) => &self.values[row * columns..(row + 1) * columns],
            Cuts::Starts(starts) => &self.values[starts[row]..starts[row + 1]],
        }
    }
}

/// What is known about the rows, beside their vectors.
#[derive(Debug, Default)]
pub struct Known<'a> {
    /// The positives of each anchor.
    pub positives: Lists,
    /// Text keys of queries and corpus.
    pub keys: Option<(Labels<'a>, Labels<'a>)>,
    /// Groups of queries and corpus.
    pub groups: Option<(Labels<'a>, Labels<'a>)>,
    /// Rows that an anchor must not get.
    pub exclude: Option<Lists>,
    /// Nonzero where a row must not serve at all.
    pub forbidden: Option<&'a [u8]>,
}

/// For each anchor the labels that no negative of it may have.
#[derive(Debug)]
struct Banned<'a> {
    corpus: &'a Labels<'a>,
    starts: Vec<usize>,
    labels: Vec<i64>,
}

impl<'a> Banned<'a> {
    /// The labels that each of `anchors`, which ascend, bans; none for others.
    fn new((queries, corpus): &'a (Labels<'a>, Labels<'a>), positives: &Lists, anchors: &[u32]) -> Self {
        let (mut starts, mut labels, mut own) = (vec![0; positives.len() + 1], Vec::new(), Vec::new());
        for anchor in anchors.iter().map(|&anchor| anchor as usize) {
            own.clear();
            own.extend(queries.of(anchor));
            own.extend(positives.of(anchor).iter().flat_map(|&row| corpus.of(row as usize)));
            own.retain(|&label| label >= 0);
            own.sort_unstable();
            own.dedup();
            labels.extend(&own);
            starts[anchor + 1] = labels.len();
        }
        for i in 1..starts.len() {
            starts[i] = starts[i].max(starts[i - 1]);
        }
        Self { corpus, starts, labels }
    }

    fn bans(&self, anchor: usize, row: u32) -> bool {
        let banned = &self.labels[self.starts[anchor]..self.starts[anchor + 1]];
        self.corpus
            .of(row as usize)
            .iter()
            .any(|label| if banned.len() <= 8 { banned.contains(label) } else { banned.binary_search(label).is_ok() })
    }
}

/// Rules bound to what they judge.
#[derive(Debug)]
pub struct Guard<'a> {
    scorer: &'a Scorer<'a>,
    rules: &'a Rules,
    known: &'a Known<'a>,
    company: Option<Lists>,
    keys: Option<Banned<'a>>,
    groups: Option<Banned<'a>>,
    lowest_positive: &'a [f32],
    caps: Vec<Caps>,
}

/// Upper bounds on the score of one anchor's negatives.
#[derive(Debug, Clone, Copy)]
struct Caps {
    relative: f64,
    absolute: f64,
    /// The lowest of all bounds.
    lowest: f64,
}

impl Caps {
    fn new(rules: &Rules, positive: f64) -> Self {
        // Without a positive the bounds are NaN, which `min` passes over and no score exceeds.
        let relative = rules.relative_margin.map_or(f64::INFINITY, |m| positive - positive.abs() * m);
        let absolute = rules.absolute_margin.map_or(f64::INFINITY, |m| positive - m);
        let lowest = rules.max_score.unwrap_or(f64::INFINITY).min(relative).min(absolute);
        Self { relative, absolute, lowest }
    }
}

impl<'a> Guard<'a> {
    /// Binds `rules` to judge rows for `anchors`, which ascend; `lowest_positive` is the lowest positive score of each
    /// query, NaN where it has none or is no anchor.
    pub fn new(
        scorer: &'a Scorer<'a>,
        rules: &'a Rules,
        known: &'a Known<'a>,
        anchors: &[u32],
        lowest_positive: &'a [f32],
    ) -> Self {
        let banned =
            |labels: &'a Option<_>| labels.as_ref().map(|labels| Banned::new(labels, &known.positives, anchors));
        Self {
            scorer,
            rules,
            known,
            company: rules.transitive.then(|| known.positives.company(scorer.corpus.len())),
            keys: banned(&known.keys),
            groups: banned(&known.groups),
            lowest_positive,
            caps: lowest_positive.iter().map(|&p| Caps::new(rules, f64::from(p))).collect(),
        }
    }

    /// Rows that may be negatives of some anchor or other.
    pub fn corpus_rows(&self) -> usize {
        self.scorer.corpus.len()
    }

    /// The anchor's lowest positive score, if it has a positive.
    pub fn lowest_positive(&self, anchor: usize) -> Option<f64> {
        Some(f64::from(self.lowest_positive[anchor])).filter(|p| !p.is_nan())
    }

    /// The first identity rule that rejects `row`: one that looks at ids, not at vectors.
    pub fn identity(&self, anchor: usize, row: u32) -> Option<Rule> {
        let Known { positives, exclude, forbidden, .. } = self.known;
        let bans = |banned: &Option<Banned<'_>>| banned.as_ref().is_some_and(|b| b.bans(anchor, row));
        let transitive = || {
            let company = self.company.as_ref();
            company.is_some_and(|company| positives.of(anchor).iter().any(|&p| company.holds(p as usize, row)))
        };
        if positives.holds(anchor, row) || transitive() {
            Some(Rule::Positive)
        } else if self.rules.exclude_self && anchor == row as usize {
            Some(Rule::Itself)
        } else if bans(&self.keys) {
            Some(Rule::Key)
        } else if bans(&self.groups) {
            Some(Rule::Group)
        } else if exclude.as_ref().is_some_and(|lists| lists.holds(anchor, row)) {
            Some(Rule::Exclude)
        } else if forbidden.is_some_and(|mask| mask[row as usize] != 0) {
            Some(Rule::Forbidden)
        } else {
            None
        }
    }

    /// The first rule that rejects a row of this score for its score alone.
    pub fn score_rule(&self, anchor: usize, score: f32) -> Option<Rule> {
        let score = f64::from(score);
        if score > self.cap(anchor) {
            return Some(self.first_exceeded(anchor, &mut |bound| score > bound));
        }
        (score < self.floor(anchor)).then_some(Rule::MinScore)
    }

    /// Whether `row` is a near-copy of one of the anchor's positives.
    pub fn duplicates_positive(&self, anchor: usize, row: u32, scratch: &mut Scratch) -> bool {
        let Some(bound) = self.rules.duplicate_of_positive else { return false };
        self.known.positives.of(anchor).iter().any(|&p| self.scorer.nearer(p, row, bound, scratch))
    }

    /// The first rule that rejects a row whose score is known.
    pub fn judge(&self, anchor: usize, row: u32, score: f32, scratch: &mut Scratch) -> Option<Rule> {
        self.identity(anchor, row)
            .or_else(|| self.score_rule(anchor, score))
            .or_else(|| self.duplicates_positive(anchor, row, scratch).then_some(Rule::DuplicateOfPositive))
    }

    /// The highest score that all score rules let pass.
    pub fn cap(&self, anchor: usize) -> f64 {
        self.caps[anchor].lowest
    }

    /// The lowest.
    pub fn floor(&self, _anchor: usize) -> f64 {
        self.rules.min_score.unwrap_or(f64::NEG_INFINITY)
    }

    /// The first cap that a row exceeds, of a row that exceeds one of them.
    fn first_exceeded(&self, anchor: usize, exceeds: &mut dyn FnMut(f64) -> bool) -> Rule {
        let Caps { relative, absolute, lowest } = self.caps[anchor];
        if relative <= lowest || exceeds(relative) {
            Rule::RelativeMargin
        } else if absolute <= lowest || exceeds(absolute) {
            Rule::AbsoluteMargin
        } else {
            Rule::MaxScore
        }
    }
}

/// The most rows above its cap that are remembered for an anchor.
const MOST_NEAR: usize = 1024;

/// What a search tells about the rows above an anchor's cap.
#[derive(Debug, Clone, Default)]
pub struct Above {
    /// How many each rule rejected.
    pub counts: Counts,
    /// Rows that no identity rule rejects, within the band above the cap.
    pub near: Vec<u32>,
    /// Whether there were too many of those to be remembered.
    pub crowded: bool,
}

/// A guard that answers for a selection of anchors.
#[derive(Debug)]
pub struct Guarded<'a> {
    /// The guard.
    pub guard: &'a Guard<'a>,
    /// The anchor in each slot.
    pub anchors: &'a [u32],
    /// Whether rows above the lowest positive are counted.
    pub ranks: bool,
    /// How far above their cap rows are remembered; 0 for not at all.
    pub band: f64,
}

impl Accept for Guarded<'_> {
    type Tally = Above;

    fn cap(&self, slot: usize) -> f64 {
        self.guard.cap(self.anchors[slot] as usize)
    }

    fn floor(&self, slot: usize) -> f64 {
        self.guard.floor(self.anchors[slot] as usize)
    }

    fn watch(&self, slot: usize) -> f64 {
        let watched = self.guard.lowest_positive(self.anchors[slot] as usize).filter(|_| self.ranks);
        watched.unwrap_or(f64::INFINITY)
    }

    fn allow(&self, slot: usize, row: u32, scratch: &mut Scratch) -> bool {
        let anchor = self.anchors[slot] as usize;
        self.guard.identity(anchor, row).is_none() && !self.guard.duplicates_positive(anchor, row, scratch)
    }

    fn over_cap(&self, slot: usize, row: u32, exceeds: &mut dyn FnMut(f64) -> bool, tally: &mut Above) {
        let anchor = self.anchors[slot] as usize;
        let identity = self.guard.identity(anchor, row);
        let rule = identity.unwrap_or_else(|| self.guard.first_exceeded(anchor, exceeds));
        tally.counts[rule as usize] += 1;
        if self.band > 0.0 && identity.is_none() && !exceeds(self.guard.cap(anchor) + self.band) {
            if tally.near.len() < MOST_NEAR { tally.near.push(row) } else { tally.crowded = true }
        }
    }

    fn merge(&self, tally: &mut Above, other: Above) {
        for (sum, count) in tally.counts.iter_mut().zip(other.counts) {
            *sum += count;
        }
        tally.near.extend(other.near);
        tally.crowded |= other.crowded;
    }
}
