"""Weights of negatives, as what is added to their logits."""

import torch

from negfast.settings import number
from negfast.torch.tensor_arguments import above_zero, broadcasts, in_full, tensor

LEAST = -1e30
"""Stands for minus infinity: its exponential is 0 too, and no difference of two of them is without a value."""


def weight_negatives(
    scores: torch.Tensor,
    *,
    temperature: float | torch.Tensor = 1.0,
    log_weight: torch.Tensor | None = None,
    hardness_strength: float = 0.0,
    beta: float = 0.0,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the logits of negatives: scores divided by the temperature, and what weighs them.

    Parameters
    ----------
    scores : float tensor of shape (..., n)
        Scores of the negatives of each anchor.
    temperature : float or tensor without an axis, default 1.0
        Above 0.
    log_weight : float tensor that broadcasts to `scores`, optional
        Added as it is: minus the logarithm of the probability with which a negative was sampled.
    hardness_strength : float, default 0.0
        Adds ``hardness_strength * score``, not divided by the temperature and without a gradient.
    beta : float, default 0.0
        Weighs each negative by ``exp(beta * score / temperature)`` over the mean of that. At least 0.
    mask : bool tensor that broadcasts to `scores`, optional
        True for what counts as a negative. Others get a logit of -1e30, as good as minus infinity, and have no part
        in the mean.

    Returns
    -------
    float tensor of shape (..., n)

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If an argument has a wrong type or lies out of its range.

    Notes
    -----
    `log_weight` is the correction of X. Yi et al., *Sampling-bias-corrected neural modeling for large corpus item
    recommendations* (2019).

    `hardness_strength` is that of Z. Lan et al., *LLaVE: Large language and vision embedding models with
    hardness-weighted contrastive learning* (2025), who set 9; H. Schechter Vera et al., *EmbeddingGemma* (2025), set 5
    for mined negatives alone. A weight of ``exp(strength * score)`` is that of `beta` without the mean.

    `beta` is that of J. Robinson, C.-Y. Chuang, S. Sra and S. Jegelka, *Contrastive learning with hard negative
    samples* (2021), in the scale of their code, where the exponent is divided by the temperature: at 0.05, a `beta` of
    1 is 20 in the scale of the paper. As in their code, the gradient flows through these weights.

    Examples
    --------
    >>> import torch
    >>> from negfast.torch import weight_negatives
    >>> scores = torch.tensor([[0.5, 0.1]])
    >>> weight_negatives(scores, temperature=0.1, hardness_strength=9.0)
    tensor([[9.5000, 1.9000]])
    """
    tensor("scores", scores, "floats")
    temperature = above_zero("temperature", temperature)
    strength = number("hardness_strength", hardness_strength, low=0.0)
    beta = number("beta", beta, low=0.0)
    if log_weight is not None:
        broadcasts("log_weight", log_weight, "floats", scores)
    if mask is not None:
        broadcasts("mask", mask, torch.bool, scores)
    refused, scores = None if mask is None else ~mask, in_full(scores)
    hardness = strength * scores.detach() if strength else None
    return weighted(scores, temperature, log_weight, hardness, beta, refused)


def weighted(
    scores: torch.Tensor,
    temperature: float | torch.Tensor,
    log_weight: torch.Tensor | None,
    hardness: torch.Tensor | None,
    beta: float,
    refused: torch.Tensor | None,
) -> torch.Tensor:
    """Return :func:`weight_negatives` of checked arguments; `hardness` is what it adds."""
    scaled = scores / temperature
    logits = scaled if log_weight is None else scaled + log_weight.clamp(min=LEAST)
    if hardness is not None:
        logits = logits + hardness
    if beta != 0.0:
        tilt = beta * scaled
        logits = logits + tilt - _log_mean(tilt, log_weight, refused)
    return logits if refused is None else logits.masked_fill_(refused, LEAST)  # made here, so written in place


def log_count(like: torch.Tensor, log_weight: torch.Tensor | None, refused: torch.Tensor | None) -> torch.Tensor:
    """Return the logarithm of how many negatives there are, each as often as its weight says, shape (..., 1)."""
    ones = torch.zeros_like(like) if log_weight is None else log_weight.clamp(min=LEAST).expand_as(like)
    return (ones if refused is None else ones.masked_fill(refused, LEAST)).logsumexp(dim=-1, keepdim=True)


def _log_mean(tilt: torch.Tensor, log_weight: torch.Tensor | None, refused: torch.Tensor | None) -> torch.Tensor:
    total = tilt if log_weight is None else tilt + log_weight.clamp(min=LEAST)
    if refused is not None:
        total = total.masked_fill(refused, LEAST)
    return total.logsumexp(dim=-1, keepdim=True) - log_count(tilt.detach(), log_weight, refused)
