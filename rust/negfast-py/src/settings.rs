//! Settings as they cross: plain values in a dict, validated in Python.

use negfast_core::draw::Draw;
use negfast_core::mine::{Settings, Tiers};
use negfast_core::rules::Rules;
use negfast_core::score::Metric;
use negfast_core::search::{Asked, Method};
use pyo3::prelude::*;

use crate::errors::value_error;

/// `Rules`, field by field.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct RulesIn {
    relative_margin: Option<f64>,
    absolute_margin: Option<f64>,
    max_score: Option<f64>,
    min_score: Option<f64>,
    range_min: usize,
    range_max: Option<usize>,
    duplicate_of_positive: Option<f64>,
    distinct: Option<f64>,
    max_exposure: Option<usize>,
    exclude_self: bool,
    transitive: bool,
}

/// `Search`: its recall, method and bound on memory.
#[derive(FromPyObject)]
pub(crate) struct SearchIn(f64, String, Option<usize>);

impl SearchIn {
    pub(crate) fn into_core(self) -> PyResult<Asked> {
        let Self(recall, name, max_memory) = self;
        let Some(method) = Method::named(&name) else {
            return Err(value_error("search.method", "the name of a method", &format!("{name:?}"), "choose one"));
        };
        Ok(Asked { recall, method, ..Asked::exactly(max_memory) })
    }
}

/// Everything but the data.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct SettingsIn {
    metric: String,
    num_negatives: usize,
    rules: RulesIn,
    tiers: (f64, f64),
    draw: (String, f64, f64),
    suspect_rank: u64,
    seed: u64,
    epoch: u64,
    search: SearchIn,
    reserve: usize,
}

impl SettingsIn {
    pub(crate) fn metric(&self) -> PyResult<Metric> {
        metric(&self.metric)
    }

    pub(crate) fn into_core(self) -> PyResult<Settings> {
        let RulesIn {
            relative_margin,
            absolute_margin,
            max_score,
            min_score,
            range_min,
            range_max,
            duplicate_of_positive,
            distinct,
            max_exposure,
            exclude_self,
            transitive,
        } = self.rules;
        let (name, first, second) = self.draw;
        let draw = match name.as_str() {
            "top" => Draw::Top,
            "random" => Draw::Random,
            "softmax" => Draw::Softmax { temperature: first },
            "simans" => Draw::SimAns { a: first, b: second },
            other => {
                return Err(value_error("draw", "\"top\", \"random\", \"softmax\" or \"simans\"", other, "choose one"));
            }
        };
        Ok(Settings {
            num_negatives: self.num_negatives,
            rules: Rules {
                relative_margin,
                absolute_margin,
                max_score,
                min_score,
                range_min,
                range_max,
                duplicate_of_positive,
                distinct,
                max_exposure,
                exclude_self,
                transitive,
            },
            tiers: Tiers { hard: self.tiers.0, semi_hard: self.tiers.1 },
            draw,
            suspect_rank: self.suspect_rank,
            seed: self.seed,
            epoch: self.epoch,
            search: self.search.into_core()?,
            reserve: self.reserve,
        })
    }
}

/// The metric of that name.
pub(crate) fn metric(name: &str) -> PyResult<Metric> {
    match name {
        "cosine" => Ok(Metric::Cosine),
        "dot" => Ok(Metric::Dot),
        other => Err(value_error("metric", "\"cosine\" or \"dot\"", &format!("{other:?}"), "choose one")),
    }
}
