"""InfoNCE from logits, and what the literature makes of its denominator."""

import math
from typing import Any, Literal

import torch

from negfast.errors import InvalidValueError
from negfast.settings import number, one_of, truth
from negfast.torch.tensor_arguments import above_zero, in_full, tensor
from negfast.torch.weighting import LEAST

_HALF = LEAST / 2  # logits below are none


def infonce(
    positive_logits: torch.Tensor,
    negative_logits: torch.Tensor,
    *,
    positive_mask: torch.Tensor | None = None,
    decoupled: bool = False,
    debiased: float = 0.0,
    temperature: float | torch.Tensor | None = None,
    log_count: torch.Tensor | None = None,
    soft_positive_logits: torch.Tensor | None = None,
    soft_positives: float = 0.0,
    reduction: Literal["mean", "none"] = "mean",
) -> torch.Tensor:
    """Return the InfoNCE loss of logits.

    Parameters
    ----------
    positive_logits : float tensor of shape (n_anchors,) or (n_anchors, n_positives)
        Scores of positives divided by the temperature.
    negative_logits : float tensor of shape (n_anchors, n) or (n_anchors, n_positives, n)
        Logits of negatives, as :func:`weight_negatives` returns them; -inf, or -1e30, for none. With three axes each
        positive has negatives of its own.
    positive_mask : bool tensor of the shape of `positive_logits`, optional
        False where there is no positive.
    decoupled : bool, default False
        Leave the positive out of the denominator.
    debiased : float, default 0.0
        The share of negatives that are thought to be false, below 1. For as many, the positive's exponential is taken
        off the sum over negatives. Needs `temperature`, and cosines.
    temperature : float or tensor without an axis, optional
        What scores were divided by.
    log_count : float tensor of shape (n_anchors, 1) or (n_anchors, n_positives, 1), optional
        Logarithm of how many negatives the logits stand for, where they have weights. By default, how many there are.
    soft_positive_logits : float tensor of the shape of `negative_logits`, optional
        Logits of false negatives that count as positives with the weight `soft_positives`; -inf for none. Given
        together with a weight above 0.
    soft_positives : float, default 0.0
        Weight of each of those, where a positive has 1.
    reduction : {"mean", "none"}, default "mean"
        The mean over anchors that have a positive, or each anchor's loss.

    Returns
    -------
    float tensor without an axis, or of shape (n_anchors,)
        An anchor without a positive, or whose positive meets no negative, has a loss of 0 and no gradient.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If an argument has a wrong type or shape, or lies out of its range.

    Notes
    -----
    Plain InfoNCE is from A. van den Oord, Y. Li and O. Vinyals, *Representation learning with contrastive predictive
    coding* (2018): ``-log(exp(p) / (exp(p) + sum(exp(negatives))))``.

    *Several positives* have a term each, which are averaged outside of the logarithm, as P. Khosla et al., *Supervised
    contrastive learning* (2020), found better than inside. Other positives are left out of a term's denominator, so
    that positives do not repel each other: P. Feeney and M. Hughes, *SINCERE: Supervised information noise-contrastive
    estimation revisited* (2023).

    *Decoupled*: C.-H. Yeh et al., *Decoupled contrastive learning* (2022). *Debiased*: C.-Y. Chuang et al., *Debiased
    contrastive learning* (2020), with their lower bound ``n * exp(-1 / temperature)``. *Soft positives*: T. Huynh et
    al., *Boosting contrastive self-supervised learning with false negative cancellation* (2022), there called
    attraction, with a weight of 1. There the other false negatives stay in the denominator of each one's term; here
    they are in none.

    Examples
    --------
    >>> import torch
    >>> from negfast.torch import infonce
    >>> infonce(torch.tensor([2.0, 1.0]), torch.tensor([[1.0, 0.0], [-torch.inf, -torch.inf]]), reduction="none")
    tensor([0.4076, 0.0000])
    """
    positives, negatives = _shaped(positive_logits, negative_logits)
    decoupled = truth("decoupled", decoupled)
    share = number("debiased", debiased, low=0.0)
    if share >= 1.0:
        raise InvalidValueError(f"debiased must be below 1, got {share}; it is a share of the negatives")
    if share and temperature is None:
        raise InvalidValueError("temperature must be given with debiased, got None; pass what scores were divided by")
    temperature = None if temperature is None else above_zero("temperature", temperature)
    weight = number("soft_positives", soft_positives, low=0.0)
    if bool(weight) != (soft_positive_logits is not None):
        given = "None" if soft_positive_logits is None else "some"
        raise InvalidValueError(
            f"soft_positives and soft_positive_logits must be given together, got {weight} and {given}; pass both, a "
            "weight above 0 and logits, or neither"
        )
    one_of("reduction", reduction, ("mean", "none"))
    mask = None
    if positive_mask is not None:
        mask = _alike("positive_mask", positive_mask, torch.bool, positive_logits, positives).reshape(positives.shape)
        positives = positives.masked_fill(~mask, 0.0)
    soft = None
    if soft_positive_logits is not None:
        soft = in_full(_alike("soft_positive_logits", soft_positive_logits, "floats", negative_logits))
        soft = soft.reshape(negatives.shape).clamp(min=LEAST)
    negatives = negatives.clamp(min=LEAST)
    count = _checked_count(log_count, negatives) if share else None
    terms = infonce_terms(positives, log_mass(negatives), decoupled, share, temperature, count, soft, weight)
    loss, valid = per_anchor(terms, mask)
    return mean_over(loss, valid) if reduction == "mean" else loss


def infonce_terms(
    positives: torch.Tensor,
    mass: torch.Tensor,
    decoupled: bool,
    debiased: float,
    temperature: float | torch.Tensor | None,
    count: torch.Tensor | None,
    soft: torch.Tensor | None,
    soft_weight: float,
    copies: int = 1,
) -> torch.Tensor:
    """Return the loss of each positive, shape (n_anchors, n_positives), of checked and shaped arguments.

    `mass` is that of the negatives, of shape (n_anchors, n_positives or 1, 1), and `copies` says how often a positive
    is in its own denominator.
    """
    if debiased and count is not None and temperature is not None:
        mass = _debiased(mass, positives[..., None], debiased, temperature, count)
    terms = _term(positives, mass[..., 0], decoupled, copies)
    if soft is None:
        return terms
    weights = soft_weight * (soft > _HALF)  # (n_anchors, n_positives or 1, n)
    attracted = (weights * _term(soft, mass, decoupled)).sum(dim=-1)
    return (terms + attracted) / (1.0 + weights.sum(dim=-1))


def log_mass(logits: torch.Tensor) -> torch.Tensor:
    """Return the logarithm of the sum of exponentials over the last axis, which is kept; about -1e30 for none."""
    if not logits.shape[-1]:
        return logits.new_full((*logits.shape[:-1], 1), LEAST)
    return logits.logsumexp(dim=-1, keepdim=True)


def per_anchor(terms: torch.Tensor, mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the mean over positives, and which anchors have one."""
    if mask is None:
        return terms.mean(dim=1), None
    n = mask.sum(dim=1)
    return terms.masked_fill(~mask, 0.0).sum(dim=1) / n.clamp(min=1), n > 0


def mean_over(loss: torch.Tensor, valid: torch.Tensor | None) -> torch.Tensor:
    """Return the mean over anchors that count, 0 where there are none."""
    if valid is None:
        return loss.sum() / max(len(loss), 1)
    return loss.sum() / valid.sum().clamp(min=1)


def _term(positive: torch.Tensor, mass: torch.Tensor, decoupled: bool, copies: int = 1) -> torch.Tensor:
    """Return the loss of positives beside the log mass of their negatives; 0 where there are none."""
    own = positive if copies == 1 else positive + math.log(copies)
    whole = mass if decoupled else torch.logaddexp(own, mass)
    return torch.where(mass < _HALF, 0.0, whole - positive)  # NaN stays what it is


def _debiased(
    mass: torch.Tensor, positive: torch.Tensor, share: float, temperature: float | torch.Tensor, count: torch.Tensor
) -> torch.Tensor:
    """Take off what false negatives are thought to make up, in logarithms: no exponential overflows."""
    expected = math.log(share) + count + positive
    # Where the difference is not positive the bound stands in; its logarithm is taken of something harmless then.
    gap = expected - mass
    some = gap < 0.0
    left = mass + torch.log(-torch.expm1(torch.where(some, gap, -1.0))) - math.log1p(-share)
    bound = (count - 1.0 / temperature).expand_as(left)
    corrected = torch.where(some, torch.maximum(left, bound), bound)
    return torch.where(mass > _HALF, corrected, mass)


def _counted(negatives: torch.Tensor) -> torch.Tensor:
    return (negatives > _HALF).sum(dim=-1, keepdim=True).to(negatives.dtype).clamp(min=1.0).log()


def _alike(name: str, value: Any, kind: torch.dtype | Literal["floats"], *like: torch.Tensor) -> torch.Tensor:
    """Return a tensor of the shape of one of some others, checked."""
    found = tensor(name, value, kind, like=like[0])
    if all(found.shape != other.shape for other in like):
        raise InvalidValueError(
            f"{name} must be of shape {tuple(like[0].shape)}, got {tuple(found.shape)}; give each one"
        )
    return found


def _checked_count(log_count: Any, negatives: torch.Tensor) -> torch.Tensor:
    """Return the logarithm of how many negatives there are, shape (n_anchors, n_positives or 1, 1)."""
    if log_count is None:
        return _counted(negatives)
    shape = tuple(tensor("log_count", log_count, "floats", like=negatives).shape)
    b, n_positives = negatives.shape[:2]
    if shape not in ((b, 1), (b, n_positives, 1)):
        raise InvalidValueError(f"log_count must be of shape ({b}, 1) or ({b}, {n_positives}, 1), got {shape}")
    return in_full(log_count).reshape(b, -1, 1)


def _shaped(positives: torch.Tensor, negatives: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return positives of shape (n_anchors, n_positives) and negatives of shape (n_anchors, n_positives or 1, n)."""
    tensor("positive_logits", positives, "floats")
    tensor("negative_logits", negatives, "floats", like=positives)
    if positives.ndim not in (1, 2):
        raise InvalidValueError(
            f"positive_logits must be of shape (n_anchors,) or (n_anchors, n_positives), got {tuple(positives.shape)}; "
            "give each anchor a row"
        )
    positives, negatives = in_full(positives), in_full(negatives)
    columns = positives if positives.ndim == 2 else positives[:, None]
    expected = {2: (len(columns),), 3: tuple(columns.shape)}.get(negatives.ndim)
    if expected is None or tuple(negatives.shape[:-1]) != expected:
        raise InvalidValueError(
            f"negative_logits must be of shape ({len(columns)}, n) or ({len(columns)}, {columns.shape[1]}, n), got "
            f"{tuple(negatives.shape)}; give each anchor a row"
        )
    return columns, negatives if negatives.ndim == 3 else negatives[:, None]
