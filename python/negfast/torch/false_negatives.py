"""Which candidates are taken for false negatives: by what they are, and by what they score."""

from collections.abc import Iterable
from typing import Any

import torch

from negfast.errors import InvalidValueError
from negfast.settings import optional_number
from negfast.torch.tensor_arguments import in_full, tensor


def mask_false_negatives(
    scores: torch.Tensor,
    positive_scores: torch.Tensor,
    *,
    positive_mask: torch.Tensor | None = None,
    absolute_margin: float | None = None,
    relative_margin: float | None = None,
    max_score: float | None = None,
) -> torch.Tensor:
    """Tell which candidates score so high that they are taken for positives.

    Parameters
    ----------
    scores : float tensor of shape (n_anchors, n)
        Scores of candidates, those of the model that trains or of a guide.
    positive_scores : float tensor of shape (n_anchors,) or (n_anchors, n_positives)
        Scores of the positives by the same model; the lowest of an anchor counts.
    positive_mask : bool tensor of the shape of `positive_scores`, optional
        False where there is no positive. An anchor without one has no margin.
    absolute_margin : float or None
        A candidate above ``p - absolute_margin`` is taken for a positive.
    relative_margin : float or None
        So is one above ``p - abs(p) * relative_margin``.
    max_score : float or None
        So is one above this.

    Returns
    -------
    Tensor of bool, shape (n_anchors, n)
        True where a candidate is taken for a positive. No gradient flows through it.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If an argument has a wrong type or shape, or lies out of its range.

    Notes
    -----
    The relative margin is the positive-aware one of G. Moreira et al., *NV-Retriever: Improving text embedding models
    with effective hard-negative mining* (2024); ``abs(p)`` keeps it below a positive that scores less than 0. With
    scores of a guide it is what A. Solatorio, *GISTEmbed: Guided in-sample selection of training negatives for text
    embedding fine-tuning* (2024), does with a margin of 0.

    Pass scores that were computed in float32 or better. In bfloat16 neighbouring scores near 0.8 are 0.004 apart, a
    tenth of a margin of 5 %.

    Examples
    --------
    >>> import torch
    >>> from negfast.torch import mask_false_negatives
    >>> scores = torch.tensor([[0.79, 0.75, 0.1], [-0.1, -0.11, -0.9]])
    >>> mask_false_negatives(scores, torch.tensor([0.8, -0.1]), relative_margin=0.05)
    tensor([[ True, False, False],
            [ True, False, False]])
    """
    _check_scores(scores, positive_scores, positive_mask)
    absolute = optional_number("absolute_margin", absolute_margin, low=0.0)
    relative = optional_number("relative_margin", relative_margin, low=0.0)
    ceiling = optional_number("max_score", max_score)
    scores, positive_scores = in_full(scores), in_full(positive_scores)
    columns = positive_scores if positive_scores.ndim == 2 else positive_scores[:, None]
    if positive_mask is not None:
        columns = columns.masked_fill(~positive_mask.reshape(columns.shape), torch.inf)
    if not columns.shape[1]:
        columns = columns.new_full((len(columns), 1), torch.inf)
    lowest = columns.detach().amin(dim=1, keepdim=True)
    return score_mask(scores.detach(), lowest, absolute, relative, ceiling)


def score_mask(
    scores: torch.Tensor,
    lowest: torch.Tensor,
    absolute_margin: float | None,
    relative_margin: float | None,
    max_score: float | None,
) -> torch.Tensor:
    """Return :func:`mask_false_negatives` of checked arguments that broadcast; `lowest` is infinite for no positive."""
    bound = torch.full_like(lowest, torch.inf)
    if absolute_margin is not None:
        bound = torch.minimum(bound, lowest - absolute_margin)
    if relative_margin is not None:
        # Infinity less infinity is no number, and says nothing about an anchor without a positive.
        margin = lowest - lowest.abs() * relative_margin
        bound = torch.minimum(bound, torch.where(lowest == torch.inf, lowest, margin))
    if max_score is not None:
        bound = bound.clamp(max=max_score)
    return scores > bound


def share_label(own: Iterable[torch.Tensor | None], candidates: torch.Tensor | None) -> torch.Tensor | None:
    """Tell which candidates have a label of the anchor's.

    Parameters
    ----------
    own : iterable of tensors of int64, shape (n_anchors, any), or None
        Labels of each anchor, -1 for none.
    candidates : Tensor of int64, shape (n,) or (n_anchors, n), or None
        One label a candidate, -1 for none.

    Returns
    -------
    Tensor of bool, shape (n_anchors, n), or None if one side has no labels
    """
    if candidates is None:
        return None
    found = None
    labels = candidates if candidates.ndim == 2 else candidates[None, :]
    for columns in own:
        if columns is None:
            continue
        for column in columns.unbind(dim=1):
            same = (labels == column[:, None]) & (column[:, None] != -1)
            found = same if found is None else found | same
    return found


def _check_scores(scores: Any, positive_scores: Any, positive_mask: Any) -> None:
    tensor("scores", scores, "floats")
    tensor("positive_scores", positive_scores, "floats", like=scores)
    if scores.ndim != 2:
        raise InvalidValueError(
            f"scores must be of shape (n_anchors, n), got {tuple(scores.shape)}; give each anchor a row"
        )
    if positive_scores.ndim not in (1, 2) or len(positive_scores) != len(scores):
        raise InvalidValueError(
            f"positive_scores must be of shape ({len(scores)},) or ({len(scores)}, n_positives), got "
            f"{tuple(positive_scores.shape)}; pass one anchor a row, as in scores"
        )
    if positive_mask is None:
        return
    tensor("positive_mask", positive_mask, torch.bool, like=scores)
    if positive_mask.shape != positive_scores.shape:
        raise InvalidValueError(
            f"positive_mask must be of shape {tuple(positive_scores.shape)}, as positive_scores, got "
            f"{tuple(positive_mask.shape)}; mark each positive"
        )
