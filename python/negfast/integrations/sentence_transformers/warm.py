"""Mining with a miner that remembers: from nothing the first time, from what it remembers after that."""

from dataclasses import replace

import numpy as np

from negfast.errors import InvalidValueError
from negfast.integrations.hard_negatives.texts import text_ids
from negfast.integrations.sentence_transformers.retrieval import Job, Mined
from negfast.miner import Miner


def from_miner(job: Job, miner: Miner) -> Mined:
    """Mine with `miner`, which has to have the settings of the call.

    Raises
    ------
    InvalidValueError
        If settings differ, or the pairs of texts are not those that it has mined.
    """
    check_settings(job, miner)
    queries, corpus = job.similarity.queries, job.similarity.corpus
    ids = (text_ids(job.pairs.queries), text_ids(job.pairs.corpus))
    if miner.is_mined:
        if not all(np.array_equal(*both) for both in zip(miner.positives, job.never, strict=True)):
            raise InvalidValueError(
                "miner must have mined the same pairs before, got others; make a new negfast.Miner for this dataset"
            )
        found = miner.refresh(queries, corpus, ids=ids, progress=job.verbose)
    else:
        found = miner.mine(queries, corpus, job.never, exclude=job.own_lists, ids=ids, progress=job.verbose)
    return Mined.of(found)


def check_settings(job: Job, miner: Miner) -> None:
    """Refuse a miner that would mine something else than the call asks for."""
    recipe = miner.recipe
    completed = replace(recipe.rules, exclude_self=False, range_max=recipe.last_rank)
    want = {
        "num_negatives": job.settings.num_negatives,
        "metric": job.similarity.metric,
        "rules": job.corpus_rules,
        "draw": job.settings.strategy,
    }
    have = {name: getattr(recipe, name) for name in want} | {"rules": completed}
    differing = [name for name in want if want[name] != have[name]]
    if differing:
        remedy = ", ".join(f"{name}={want[name]!r}" for name in want)
        raise InvalidValueError(
            f"miner must have the settings of the call, got another {' and '.join(differing)}; make it with "
            f"negfast.Miner({remedy})"
        )
