//! Which search does a job, and what it needs for it.

use std::time::Instant;

use super::choice::{self, Choice};
use super::coded::{self, Effort};
use super::exact;
use super::index::Index;
use super::join;
use super::recall::{Recall, Sample};
use super::signatures::{self, SignIndex};
use super::{Finished, Job, Plan, Work};
use crate::accept::Accept;
use crate::error::{Error, Result};
use crate::kernel::Tile;
use crate::score::Scorer;
use crate::threads::Workers;

/// Fewer anchors than this cannot tell a recall.
const TOO_FEW: usize = 32;

/// How to search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// What promises to be fastest.
    Auto,
    /// Every pair in `f32`.
    Exact,
    /// Codes whose bounds prove that the result is the exact one.
    Certified,
    /// Signatures, trusted as far as the asked recall allows.
    Signatures,
    /// Codes and lists, as far as the asked recall demands.
    Clusters,
}

impl Method {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Exact => "exact",
            Self::Certified => "certified",
            Self::Signatures => "signatures",
            Self::Clusters => "clusters",
        }
    }

    /// The method of that name.
    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::Auto, Self::Exact, Self::Certified, Self::Signatures, Self::Clusters];
        all.into_iter().find(|method| method.name() == name)
    }
}

/// What is asked of a search.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// The least recall; 1 is exact.
    pub recall: f64,
    /// How to search.
    pub method: Method,
    /// Bound on the bytes of all working buffers, if there is one.
    pub max_memory: Option<usize>,
    /// Whether anchors skip the first rows of the corpus, so that these have to keep their order.
    pub in_order: bool,
    /// Whether a job that does not fit goes on with the smallest blocks: one that follows a job that did fit.
    pub follows: bool,
}

impl Asked {
    /// The exact result, for a job that follows another of the same call.
    pub fn following(max_memory: Option<usize>) -> Self {
        Self { follows: true, ..Self::exactly(max_memory) }
    }

    /// The exact result, however it is found.
    pub fn exactly(max_memory: Option<usize>) -> Self {
        Self { recall: 1.0, method: Method::Auto, max_memory, in_order: false, follows: false }
    }
}

/// What a search did, for its report.
#[derive(Debug, Clone)]
pub struct Account {
    /// The method used.
    pub method: Method,
    /// Why.
    pub why: String,
    /// What it promises, or what was measured.
    pub recall: Recall,
}

/// Searches of one corpus for the anchors of one matrix.
pub struct Engine<'a> {
    scorer: &'a Scorer<'a>,
    asked: Asked,
    chosen: Option<Chosen>,
}

/// What was decided for the first job, and serves those that follow.
struct Chosen {
    means: Means,
    effort: Effort,
    account: Account,
}

/// What a search needs.
pub(super) enum Means {
    /// Nothing.
    Plain,
    /// Codes in lists.
    Codes(Index),
    /// Signatures.
    Signs(SignIndex),
}

impl Means {
    /// Cuts `job` into blocks.
    pub(super) fn plan(&self, job: &Job<'_>, effort: Effort, workers: &mut Workers<'_>) -> Result<Plan> {
        Ok(match self {
            Self::Plain => Plan::fitting(&job.sizes(), &Tile::new(job.scorer.level), workers.threads()),
            Self::Codes(index) if joins(job, index, effort) => join::plan(job, index),
            Self::Codes(index) => coded::plan(job, index, workers)?,
            Self::Signs(index) => index.plan(job, workers.threads()),
        })
    }

    /// Runs `job` as `plan` cuts it.
    #[expect(clippy::too_many_arguments, reason = "a job, its plan, its rules, its threads and where results go")]
    pub(super) fn search<A: Accept, O: Send>(
        &self,
        job: &Job<'_>,
        plan: &Plan,
        effort: Effort,
        accept: &A,
        workers: &mut Workers<'_>,
        work: &Work,
        outputs: Vec<O>,
        take: impl Fn(O, &mut Finished<'_, '_, A>) -> Result<()> + Sync,
    ) -> Result<()> {
        match self {
            Self::Plain => exact::search(job, plan, accept, workers, work, outputs, take),
            Self::Codes(index) if joins(job, index, effort) => {
                join::search(job, plan, index, accept, workers, work, outputs, take)
            }
            Self::Codes(index) => coded::search(job, plan, (index, effort), accept, workers, work, outputs, take),
            Self::Signs(index) => signatures::search(job, plan, (index, effort), accept, workers, work, outputs, take),
        }
    }
}

impl<'a> Engine<'a> {
    /// An engine for what is `asked`.
    ///
    /// # Errors
    /// If a recall of 1 is asked of a method that cannot promise it.
    pub fn new(scorer: &'a Scorer<'a>, asked: Asked) -> Result<Self> {
        if asked.recall >= 1.0 && matches!(asked.method, Method::Clusters | Method::Signatures) {
            return Err(Error::invalid(
                "search.recall",
                format!("below 1 for method {:?}", asked.method.name()),
                asked.recall.to_string(),
                "ask for 0.99 or so, or use method \"certified\" or \"auto\"",
            ));
        }
        Ok(Self { scorer, asked, chosen: None })
    }

    /// What scores are made of.
    pub fn scorer(&self) -> &'a Scorer<'a> {
        self.scorer
    }

    /// What was asked.
    pub fn asked(&self) -> Asked {
        self.asked
    }

    /// What was done so far.
    pub fn account(&self) -> Account {
        self.chosen.as_ref().map_or_else(
            || Account { method: Method::Exact, why: "nothing to search".into(), recall: Recall::proven() },
            |chosen| chosen.account.clone(),
        )
    }

    /// Cuts `job` into blocks; the first time, decides how to search.
    ///
    /// # Errors
    /// If `max_memory` is too small, or the call is cancelled.
    pub fn plan<A: Accept>(
        &mut self,
        job: &Job<'_>,
        accept: &A,
        workers: &mut Workers<'_>,
        work: &Work,
    ) -> Result<Plan> {
        if self.chosen.is_none() {
            // What does not fit into memory is refused before work starts.
            if matches!(self.asked.method, Method::Auto | Method::Exact) && !self.asked.follows {
                Plan::new(&job.sizes(), &Tile::new(self.scorer.level), workers.threads())?;
            }
            self.chosen = Some(self.decide(job, accept, workers, work)?);
        }
        let (means, effort) = self.means();
        means.plan(job, effort, workers)
    }

    fn means(&self) -> (&Means, Effort) {
        self.chosen.as_ref().map_or((&Means::Plain, Effort::all()), |chosen| (&chosen.means, chosen.effort))
    }

    fn decide<A: Accept>(&self, job: &Job<'_>, accept: &A, workers: &mut Workers<'_>, work: &Work) -> Result<Chosen> {
        let clock = Instant::now();
        let choice = choice::choose(job, self.asked, accept, workers)?;
        Work::add(&work.planning, clock);
        let keep_short = self.asked.max_memory.is_none();
        let clock = Instant::now();
        let (means, method, why) = match choice {
            Choice::Exact { why } => (Means::Plain, Method::Exact, why),
            Choice::Signs { why } => {
                (Means::Signs(SignIndex::build(self.scorer, keep_short, workers)?), Method::Signatures, why)
            }
            Choice::Coded { basis, lists, why, certified } => {
                let method = if certified { Method::Certified } else { Method::Clusters };
                (Means::Codes(Index::build(self.scorer, basis, lists, keep_short, workers)?), method, why)
            }
        };
        Work::add(&work.indexing, clock);
        let account = Account { method, why, recall: Recall::proven() };
        match (means, method) {
            (Means::Codes(index), Method::Certified) => {
                let effort = Effort::proof(&index, job.depth);
                Ok(Chosen { means: Means::Codes(index), effort, account })
            }
            (Means::Plain, _) => Ok(Chosen { means: Means::Plain, effort: Effort::all(), account }),
            (means, _) => self.measure(job, means, account, accept, workers, work),
        }
    }

    /// Fits the effort of a search that proves nothing, and audits it.
    fn measure<A: Accept>(
        &self,
        job: &Job<'_>,
        means: Means,
        account: Account,
        accept: &A,
        workers: &mut Workers<'_>,
        work: &Work,
    ) -> Result<Chosen> {
        if job.anchors.len() < TOO_FEW {
            return Ok(Self::proven(job, means, &account, "there are too few anchors to measure a recall on"));
        }
        let clock = Instant::now();
        let whole = job;
        let job = &Job { depth: job.audited.min(job.depth), ..*job };
        let short = |recall: Recall| recall.interval.0 < self.asked.recall;
        let mut sample = Sample::draw(job);
        let mut effort = sample.calibrate(job, &means, accept, self.asked.recall, workers, work)?;
        let mut recall = sample.audit(job, &means, effort, accept, workers, work)?;
        if short(recall) {
            effort = sample.widen(job, &means, accept, (self.asked.recall, recall.value), workers, work)?;
            recall = sample.audit(job, &means, effort, accept, workers, work)?;
        }
        Work::add(&work.planning, clock);
        if !short(recall) {
            return Ok(Chosen { means, effort, account: Account { recall, ..account } });
        }
        Ok(Self::proven(
            whole,
            means,
            &account,
            "twice the audit fell short of the asked recall, so the result is proven",
        ))
    }

    /// What to do where a recall cannot be shown.
    fn proven(job: &Job<'_>, means: Means, account: &Account, because: &str) -> Chosen {
        let why = format!("{}; {because}", account.why);
        let (method, effort, means) = match means {
            Means::Codes(index) => (Method::Certified, Effort::proof(&index, job.depth), Means::Codes(index)),
            _ => (Method::Exact, Effort::all(), Means::Plain),
        };
        Chosen { means, effort, account: Account { method, why, recall: Recall::proven() } }
    }

    /// Runs `job` as `plan` cuts it; `take` receives each finished block with its element of `outputs`.
    ///
    /// # Errors
    /// [`Error::Cancelled`].
    ///
    /// # Panics
    /// If there are not as many outputs as blocks.
    #[expect(clippy::too_many_arguments, reason = "a job, its plan, its rules, its threads and where results go")]
    pub fn search<A: Accept, O: Send>(
        &self,
        job: &Job<'_>,
        plan: &Plan,
        accept: &A,
        workers: &mut Workers<'_>,
        work: &Work,
        outputs: Vec<O>,
        take: impl Fn(O, &mut Finished<'_, '_, A>) -> Result<()> + Sync,
    ) -> Result<()> {
        let (means, effort) = self.means();
        means.search(job, plan, effort, accept, workers, work, outputs, take)
    }
}

/// Whether each pair of rows can be multiplied once for both.
fn joins(job: &Job<'_>, index: &Index, effort: Effort) -> bool {
    effort.is_proof() && index.lists.len() > 1 && join::fits(job, index)
}
