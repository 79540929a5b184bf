"""The loss as its definition reads: one anchor, one positive and one candidate after the other, in Python's floats."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch


class Candidate(NamedTuple):
    score: float
    log_weight: float
    mined: bool
    direction: str
    false: bool  # by score alone


def naive_loss(case: dict[str, Any], options: dict[str, Any]) -> float:
    """Return the loss of a case, see `loss_cases.make`, with the arguments of CurriculumLoss."""
    losses = []
    for i in range(len(case["anchors"])):
        mine = [p for p in range(case["positives"].shape[1]) if case["positive_mask"][i, p]]
        if mine:
            losses.append(sum(pair_loss(case, options, i, p) for p in mine) / len(mine))
    return sum(losses) / max(len(losses), 1)


def pair_loss(case: dict[str, Any], options: dict[str, Any], i: int, p: int) -> float:
    directions = options.get("directions", ("query_to_doc",))
    pools = [directions] if options.get("partition_mode", "joint") == "joint" else [[name] for name in directions]
    positive = score(options, case["anchors"][i], case["positives"][i, p])
    found = []
    for pool in pools:
        everything = [candidate for name in pool for candidate in candidates(case, options, i, p, name)]
        copies = len({"query_to_doc", "doc_to_query"} & set(pool))
        found.append(term(positive, everything, options, copies))
    return sum(found) / len(found)


def term(positive: float, everything: list[Candidate], options: dict[str, Any], copies: int) -> float:
    temperature = options.get("temperature", 0.05)
    negatives = [candidate for candidate in everything if not candidate.false]
    logits = [weighted(candidate, options) for candidate in negatives]
    count = sum(math.exp(candidate.log_weight) for candidate in negatives)
    total = sum(map(math.exp, logits))
    beta = options.get("hard_weighted", 0.0)
    if beta and negatives:
        importance = [math.exp(beta * candidate.score / temperature) for candidate in negatives]
        multiples = [math.exp(candidate.log_weight) for candidate in negatives]
        mean = sum(m * w for m, w in zip(multiples, importance, strict=True)) / count
        total = sum(math.exp(x) * w for x, w in zip(logits, importance, strict=True)) / mean
    margin = math.radians(options.get("angular_margin", 0.0))
    angle = math.acos(max(-1.0, min(1.0, positive)))
    shifted = math.cos(angle + margin) if angle + margin < math.pi else positive - margin * math.sin(margin)
    own = math.exp((shifted if margin else positive) / temperature)
    share = options.get("debiased", 0.0)
    if share and negatives:
        total = max((total - share * count * own) / (1.0 - share), count * math.exp(-1.0 / temperature))
    weight = options.get("soft_positives", 0.0)
    terms = [(1.0, own, copies)]
    if weight:
        terms += [(weight, math.exp(c.score / temperature), 1) for c in everything if c.false]
    decoupled = options.get("decoupled", False)
    loss = 0.0
    for w, value, n in terms:
        denominator = total + (0.0 if decoupled else n * value)
        loss += w * (-math.log(value / denominator) if negatives else 0.0)
    return loss / sum(w for w, *_ in terms)


def weighted(candidate: Candidate, options: dict[str, Any]) -> float:
    logit = candidate.score / options.get("temperature", 0.05) + candidate.log_weight
    mode = options.get("hardness_mode", "all_negatives")
    wanted = {"all_negatives": True, "hard_negatives": candidate.mined, "in_batch_negatives": not candidate.mined}[mode]
    if wanted and candidate.direction == "query_to_doc":
        logit += options.get("hardness_strength", 0.0) * candidate.score
    return logit


def candidates(case: dict[str, Any], options: dict[str, Any], i: int, p: int, direction: str) -> Iterator[Candidate]:
    """Yield what may stand in a denominator, and false negatives with a mark."""
    b, n_positives = case["positive_mask"].shape
    own = case["anchors"][i] if direction.startswith("query") else case["positives"][i, p]
    if options.get("in_batch", True):
        for j in range(b):
            if j == i:
                continue
            for q in range(n_positives if direction.endswith("doc") else 1):
                if direction.endswith("doc"):
                    if not case["positive_mask"][j, q] or document_refused(case, i, j, q):
                        continue
                    other, weight = case["positives"][j, q], float(case["in_batch_log_weight"][j, q])
                else:
                    if query_refused(case, i, p, j, direction):
                        continue
                    other, weight = case["anchors"][j], 0.0
                s = score(options, own, other)
                yield Candidate(s, weight, False, direction, too_high(case, options, i, s))
    for part in case["negatives"]:
        if direction == "query_to_doc" or (direction == "doc_to_doc" and part["rows"].ndim == 2):
            yield from given(case, options, part, i, own, direction)


def given(case: Any, options: Any, part: dict[str, Any], i: int, own: Any, direction: str) -> Iterator[Candidate]:
    shared = part["rows"].ndim == 2
    index = part.get("index")
    for j in range(part["rows"].shape[-2]):
        mined = not shared or (index is not None and j in index[i].tolist())
        if index is not None and direction == "doc_to_doc" and mined:
            continue
        if index is not None and not mined and not options.get("in_batch", True):
            continue
        label = {
            name: None if part.get(name) is None else int(part[name][j] if shared else part[name][i, j])
            for name in NAMES
        }
        if not shared and label["ids"] == -1:
            continue
        if part.get("mask") is not None and not bool(
            part["mask"][..., j] if part["mask"].ndim == 1 else part["mask"][i, j]
        ):
            continue
        if shares(case, i, label):
            continue
        weight = 0.0
        if part.get("log_weight") is not None and (direction == "query_to_doc" or index is None):
            if index is None:
                weight = float(part["log_weight"][j] if shared else part["log_weight"][i, j])
            elif mined:
                weight = float(part["log_weight"][i, index[i].tolist().index(j)])
        s = score(options, own, part["rows"][j] if shared else part["rows"][i, j])
        yield Candidate(s, weight, mined, direction, too_high(case, options, i, s))


NAMES = ("ids", "groups", "keys")


def shares(case: dict[str, Any], i: int, label: dict[str, int | None]) -> bool:
    """Tell whether a document with these labels is a positive of anchor i, or the anchor itself."""
    own: dict[str, set[int]] = {
        "ids": {*case["positive_ids"][i].tolist(), *case["known_positives"][i].tolist()},
        "groups": {int(case["anchor_groups"][i]), *case["positive_groups"][i].tolist()},
        "keys": {int(case["anchor_keys"][i]), *case["positive_keys"][i].tolist()},
    }
    return any(label[name] is not None and label[name] >= 0 and label[name] in own[name] for name in NAMES)


def document_refused(case: dict[str, Any], i: int, j: int, q: int, *, masked: bool = True) -> bool:
    label = {name: int(case[f"positive_{name}"][j, q]) for name in NAMES}
    n_positives = case["positive_mask"].shape[1]
    return (
        shares(case, i, label) or same_anchor(case, i, j) or (masked and not bool(case["mask"][i, j * n_positives + q]))
    )


def query_refused(case: dict[str, Any], i: int, p: int, j: int, direction: str) -> bool:
    n_positives = case["positive_mask"].shape[1]
    if direction == "doc_to_query":  # is document (i, p) a positive of query j?
        return document_refused(case, j, i, p)
    label = {"ids": None, "groups": int(case["anchor_groups"][j]), "keys": int(case["anchor_keys"][j])}
    return shares(case, i, label) or any(document_refused(case, i, j, q) for q in range(n_positives))


def same_anchor(case: dict[str, Any], i: int, j: int) -> bool:
    return any(
        int(case[name][i]) >= 0 and int(case[name][i]) == int(case[name][j]) for name in ("anchor_ids", "anchor_keys")
    )


def too_high(case: dict[str, Any], options: dict[str, Any], i: int, s: float) -> bool:
    mine = [
        score(options, case["anchors"][i], case["positives"][i, p])
        for p in range(case["positive_mask"].shape[1])
        if case["positive_mask"][i, p]
    ]
    lowest = min(mine)
    bounds = []
    if options.get("absolute_margin") is not None:
        bounds.append(lowest - options["absolute_margin"])
    if options.get("relative_margin") is not None:
        bounds.append(lowest - abs(lowest) * options["relative_margin"])
    if options.get("max_score") is not None:
        bounds.append(options["max_score"])
    return any(s > bound for bound in bounds)


def score(options: dict[str, Any], a: torch.Tensor, b: torch.Tensor) -> float:
    product = float(a @ b)
    return product / float(a.norm() * b.norm()) if options.get("metric", "cosine") == "cosine" else product
