"""The loss of negfast in the trainer of sentence-transformers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from negfast.errors import InvalidTypeError, InvalidValueError, StateError
from negfast.integrations.sentence_transformers.features import ColumnLabels, split
from negfast.settings import Metric, whole
from negfast.states import check_state
from negfast.torch.bank import MemoryBank
from negfast.torch.loss import CurriculumLike
from negfast.torch.loss import CurriculumLoss as TorchLoss
from negfast.torch.loss_settings import Direction, HardnessMode, PartitionMode
from negfast.torch.loss_statistics import LossStatistics
from negfast.torch.negatives import Negatives

VERSION = 1
"""Version of the state of :class:`CurriculumLoss`."""
_COLUMNS = "columns"


class CurriculumLoss(nn.Module):
    """InfoNCE over columns of texts, drawn negatives and those of a bank, led by a curriculum.

    Takes the place of ``MultipleNegativesRankingLoss``, and is that loss where nothing is set but `temperature`.

    Parameters
    ----------
    model : SentenceTransformer
        The model that is trained.
    curriculum : Curriculum or AdaptiveCurriculum, optional
        As in :class:`negfast.torch.CurriculumLoss`. Its step is the global step of the trainer.
    bank : MemoryBank, optional
        Holds the positives of late steps. In training each anchor is compared with the hardest rows that it holds, and
        then the positives of the batch are added. Needs batches of a :class:`NegativesDataCollator`, with row numbers.
    bank_negatives : int, default 32
        How many rows of the bank an anchor is compared with.
    temperature, learnable_temperature, metric, in_batch, directions, partition_mode : optional
    absolute_margin, relative_margin, max_score : optional
    hardness_mode, hardness_strength, hard_weighted, debiased, decoupled, angular_margin, soft_positives : optional
    gather_across_devices, check_finite : optional
        As in :class:`negfast.torch.CurriculumLoss`.

    Attributes
    ----------
    model, bank, bank_negatives
        As given. The trainer puts the model that it wrapped here.
    criterion : negfast.torch.CurriculumLoss
        What makes the loss of embeddings.
    step : int or None
        The step of the training; :class:`CurriculumCallback` sets it.
    last_statistics : LossStatistics or None
        Of the last batch that was trained on. It holds on to the scores of that batch.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If an argument has a wrong type or lies out of its range. In a call: with fewer than two columns, and in
        training without what the loss needs, as the message says.

    Notes
    -----
    **Columns.** The first is the anchor, the second its positive, and each further one has a negative of every anchor.
    With the trainer's own collator nothing else is known of them; with :class:`NegativesDataCollator` come labels, by
    which no row is a negative of an anchor that it is a positive of, and negatives that were drawn, another number for
    each anchor.

    **State.** The trainer keeps no state of its loss in checkpoints. :class:`CurriculumCallback` does, and tells the
    loss the step. A loss with a curriculum, a bank, a temperature that is learned or negatives that were drawn, which
    would be the same in each epoch, refuses to train without it.

    **Evaluation**, without gradients or of a model in that mode, is by the columns alone, at the last step. It neither
    looks into the bank nor feeds it, and `last_statistics` stay.

    **Ranks.** The parameter of a learnable temperature is no part of what the trainer wraps for several processes;
    :class:`CurriculumCallback` averages its gradient.

    Limitations
    -----------
    A batch has to fit into memory: gradients are not cached. Inside ``MatryoshkaLoss`` it works without a bank, whose
    rows are of one length.

    Examples
    --------
    The loss calls the model with the columns of a batch:

    >>> import torch
    >>> from negfast.integrations.sentence_transformers import CurriculumLoss
    >>> class Model(torch.nn.Module):
    ...     def forward(self, features):
    ...         return {"sentence_embedding": features["rows"]}
    >>> loss = CurriculumLoss(Model(), temperature=1.0)
    >>> rows = torch.eye(4)
    >>> f"{loss([{'rows': rows}, {'rows': rows + 0.5}], None).item():.4f}"
    '0.9874'
    """

    def __init__(
        self,
        model: nn.Module,
        curriculum: CurriculumLike | None = None,
        *,
        bank: MemoryBank | None = None,
        bank_negatives: int = 32,
        temperature: float | None = None,
        learnable_temperature: bool = False,
        metric: Metric = "cosine",
        in_batch: bool = True,
        directions: Sequence[Direction] = ("query_to_doc",),
        partition_mode: PartitionMode = "joint",
        absolute_margin: float | None = None,
        relative_margin: float | None = None,
        max_score: float | None = None,
        hardness_mode: HardnessMode = "all_negatives",
        hardness_strength: float | None = None,
        hard_weighted: float = 0.0,
        debiased: float = 0.0,
        decoupled: bool = False,
        angular_margin: float = 0.0,
        soft_positives: float = 0.0,
        gather_across_devices: bool = False,
        check_finite: bool | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(model, nn.Module):
            raise InvalidTypeError(
                f"model must be a SentenceTransformer, got {type(model).__name__}; pass the model that is trained"
            )
        if bank is not None and not isinstance(bank, MemoryBank):
            raise InvalidTypeError(f"bank must be a MemoryBank or None, got {type(bank).__name__}; pass a MemoryBank")
        self.model = model
        self.bank = bank
        self.bank_negatives = whole("bank_negatives", bank_negatives, low=1)
        self.criterion = TorchLoss(
            curriculum,
            temperature=temperature,
            learnable_temperature=learnable_temperature,
            metric=metric,
            in_batch=in_batch,
            directions=directions,
            partition_mode=partition_mode,
            absolute_margin=absolute_margin,
            relative_margin=relative_margin,
            max_score=max_score,
            hardness_mode=hardness_mode,
            hardness_strength=hardness_strength,
            hard_weighted=hard_weighted,
            debiased=debiased,
            decoupled=decoupled,
            angular_margin=angular_margin,
            soft_positives=soft_positives,
            gather_across_devices=gather_across_devices,
            check_finite=check_finite,
        )
        self.step: int | None = None
        self.last_statistics: LossStatistics | None = None

    @property
    def curriculum(self) -> Any:
        """What leads the loss, or None."""
        return self.criterion.curriculum

    @property
    def has_state(self) -> bool:
        """Whether a training that goes on needs more than the model and the optimizer."""
        return self.bank is not None or self.curriculum is not None or self.criterion.settings.learnable_temperature

    def forward(self, features: Iterable[Mapping[str, Any]], labels: torch.Tensor | None = None) -> torch.Tensor:  # noqa: ARG002 - as the trainer calls it
        """Return the loss of a batch.

        Parameters
        ----------
        features : list of dict
            What the model takes of each column, and what a :class:`NegativesDataCollator` adds to it.
        labels : Tensor, optional
            Not used.

        Returns
        -------
        Tensor without an axis
        """
        columns = [split(column) for column in features]
        if len(columns) < 2:
            raise InvalidValueError(
                f"features must be of at least two columns, anchors and positives, got {len(columns)}; check the "
                "columns of the data set"
            )
        embeddings = [self.model(inputs)["sentence_embedding"] for inputs, _ in columns]
        known = [labels for _, labels in columns]
        if self._trains():
            return self._training_loss(embeddings, known)
        return self._loss(embeddings, known, _given_and_drawn(embeddings, known), self.step or 0)

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings as plain values, for the model card."""
        config = self.criterion.get_config_dict()
        if self.bank is None:
            return config
        names = ("capacity", "policy", "normalize", "momentum", "sync", "start_step", "seed")
        bank = {name: getattr(self.bank, name) for name in names}
        return {**config, "bank": {**bank, "dtype": str(self.bank.dtype)}, "bank_negatives": self.bank_negatives}

    @property
    def citation(self) -> str:
        """The paper behind the loss, and that behind the bank if there is one, for the model card."""
        return _INFONCE if self.bank is None else _INFONCE + _CROSS_BATCH

    def training_state(self) -> dict[str, Any]:
        """Return what a training that goes on needs beside the model: of the bank, the temperature, the curriculum.

        As plain values, tensors and arrays.
        """
        parts = {"criterion": self.criterion, "bank": self.bank, "curriculum": self.curriculum}
        states = {name: part.state_dict() for name, part in parts.items() if hasattr(part, "state_dict")}
        return {"version": VERSION, **states}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Go where another loss of the same settings stood.

        Parameters
        ----------
        state : mapping
            What :meth:`training_state` returned.

        Raises
        ------
        InvalidTypeError
            If `state` is no mapping.
        StateError
            If it is of another version or other settings, or damaged.
        """
        own = self.training_state()
        check_state(state, {"version": VERSION}, "this loss")
        if set(state) != set(own):
            raise StateError(
                f"state must hold {sorted(own)}, got {sorted(state)}; make the loss with the bank and the curriculum "
                "that it was saved with"
            )
        try:
            self.criterion.load_state_dict(state["criterion"])
        except (RuntimeError, AttributeError, TypeError) as error:
            raise StateError(f"criterion of the state must fit this loss: {error}") from error
        if self.bank is not None:
            self.bank.load_state_dict(state["bank"])
        if "curriculum" in own:
            self.curriculum.load_state_dict(state["curriculum"])

    def _trains(self) -> bool:
        """Return whether this is a batch to train on; a wrapper does not hear of the evaluation of its model."""
        inner = getattr(self.model, "module", self.model)
        return torch.is_grad_enabled() and inner.training

    def _training_loss(self, embeddings: list[torch.Tensor], known: list[ColumnLabels]) -> torch.Tensor:
        drawn = any(labels.index is not None for labels in known)
        if self.step is None and (drawn or self.has_state):
            raise InvalidValueError(
                "step must be set while a loss with a curriculum, a bank, a learnable temperature or drawn negatives "
                "is trained, got None; give the trainer callbacks=[CurriculumCallback(loss)], or set loss.step in a "
                "loop of your own"
            )
        self.last_statistics = None  # the scores of the batch before
        step = self.step or 0
        negatives = _given_and_drawn(embeddings, known)
        if self.bank is not None:
            negatives.append(self._remembered(self.bank, embeddings[0], known))
        loss, self.last_statistics = self._loss(embeddings, known, negatives, step, statistics=True)
        if self.bank is not None:
            self._remember(self.bank, embeddings[1], known[1], step)
        return loss

    def _loss(
        self,
        embeddings: list[torch.Tensor],
        known: list[ColumnLabels],
        negatives: list[Negatives],
        step: int,
        *,
        statistics: bool = False,
    ) -> Any:
        anchors, positives = known[:2]
        return self.criterion(
            embeddings[0],
            embeddings[1],
            negatives or None,
            step=step,
            anchor_ids=anchors.ids,
            anchor_groups=anchors.groups,
            anchor_keys=anchors.keys,
            positive_ids=positives.ids,
            positive_groups=positives.groups,
            positive_keys=positives.keys,
            known_positives=positives.known_positives,
            statistics=statistics,
        )

    def _remembered(self, bank: MemoryBank, anchors: torch.Tensor, known: list[ColumnLabels]) -> Negatives:
        """Return the hardest rows of the bank for each anchor."""
        anchor, positive = known[:2]
        if positive.ids is None:
            raise InvalidValueError(
                "features must say which rows they are, for a bank, got none; use number_rows(dataset) and "
                "data_collator=NegativesDataCollator.for_training(model, args)"
            )
        found = bank.hardest(
            anchors,
            self.bank_negatives,
            exclude_ids=_side_by_side(positive.ids, positive.known_positives),
            exclude_groups=_side_by_side(anchor.groups, positive.groups),
            exclude_keys=_side_by_side(anchor.keys, positive.keys),
        )
        return Negatives(found.rows, found.ids, source="bank")

    @staticmethod
    def _remember(bank: MemoryBank, rows: torch.Tensor, known: ColumnLabels, step: int) -> None:
        assert known.ids is not None, "the look-up before would have refused"
        ids, keep = known.ids.cpu(), (known.ids >= 0).cpu()
        groups, keys = (None if part is None else part.cpu()[keep] for part in (known.groups, known.keys))
        bank.enqueue(rows[keep.to(rows.device)], ids[keep], groups, keys, step=step)


def _given_and_drawn(embeddings: list[torch.Tensor], known: list[ColumnLabels]) -> list[Negatives]:
    """Return the negatives that columns have, and those that were drawn."""
    columns = [(rows, labels) for rows, labels in zip(embeddings, known, strict=True) if labels.index is None][2:]
    drawn = [(rows, labels) for rows, labels in zip(embeddings, known, strict=True) if labels.index is not None]
    negatives = [_of_columns(*zip(*columns, strict=True))] if columns else []
    for rows, labels in drawn:
        parts = {name: getattr(labels, name) for name in ("groups", "keys", "index", "tiers", "log_weight")}
        negatives.append(Negatives(rows, labels.ids, **parts))
    return negatives


def _of_columns(rows: Sequence[torch.Tensor], labels: Sequence[ColumnLabels]) -> Negatives:
    """Return columns with a negative of each anchor as rows that all anchors share."""
    b, m = len(rows[0]), len(rows)
    keys = [part.keys for part in labels if part.keys is not None]
    return Negatives(
        torch.cat(list(rows)),
        keys=torch.cat(keys) if len(keys) == m else None,
        index=torch.arange(b * m, device=rows[0].device).reshape(m, b).T.contiguous(),
        source=_COLUMNS,
    )


def _side_by_side(*labels: torch.Tensor | None) -> torch.Tensor | None:
    """Return labels as columns of one array, on the host."""
    given = [part.reshape(len(part), -1) for part in labels if part is not None]
    return torch.cat(given, dim=1).cpu() if given else None


_INFONCE = """
@misc{oord2018representation,
    title={Representation Learning with Contrastive Predictive Coding},
    author={Aaron van den Oord and Yazhe Li and Oriol Vinyals},
    year={2018},
    eprint={1807.03748},
    archivePrefix={arXiv},
    primaryClass={cs.LG},
    url={https://arxiv.org/abs/1807.03748},
}
"""
_CROSS_BATCH = """
@misc{wang2020crossbatch,
    title={Cross-Batch Memory for Embedding Learning},
    author={Xun Wang and Haozhi Zhang and Weilin Huang and Matthew R. Scott},
    year={2020},
    eprint={1912.06798},
    archivePrefix={arXiv},
    primaryClass={cs.LG},
    url={https://arxiv.org/abs/1912.06798},
}
"""
