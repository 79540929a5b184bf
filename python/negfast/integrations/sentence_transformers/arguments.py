"""Arguments of the call: names of earlier versions, and what goes with what."""

import logging
import secrets
from dataclasses import dataclass, replace
from typing import Any

from negfast.errors import InvalidTypeError, InvalidValueError, shown
from negfast.integrations.hard_negatives.settings import Filters, Settings
from negfast.integrations.hard_negatives.summary import Say
from negfast.integrations.sentence_transformers.similarity import Similarity
from negfast.miner import Miner
from negfast.settings import Rules, Search, instance, truth, whole

logger = logging.getLogger(__name__)

_FILTERS = ("absolute_margin", "relative_margin", "max_score", "min_score")


def settings_of(
    *, output_format: Any, output_scores: bool, as_triplets: bool | None, margin: float | None, **values: Any
) -> Settings:
    """Return checked settings from the arguments of the call; `range_max` may be missing yet."""
    if as_triplets is not None:
        output_format = "triplet" if as_triplets else "n-tuple"
        logger.warning(
            "The `as_triplets` parameter is deprecated. Use the `output_format` parameter instead. "
            f"Setting `output_format` to `{output_format}`."
        )
    if values["include_positives"]:
        output_format = _layout_with_positives(output_format, margin, values)
    if output_format == "n-tuple-scores":
        logger.warning(
            '`output_format="n-tuple-scores"` is deprecated. Use `output_format="n-tuple"` with `output_scores=True` '
            "instead for equivalent output formats."
        )
        output_format, output_scores = "n-tuple", True
    if margin is not None:
        values["absolute_margin"] = margin
        logger.warning(
            "The `margin` parameter is deprecated. Use the `absolute_margin` and/or `relative_margin` parameter "
            f"instead. Setting `absolute_margin` to `{margin}`."
        )
    filters = Filters(**{name: values.pop(name) for name in _FILTERS})
    strategy = values.pop("sampling_strategy")
    return Settings(filters=filters, strategy=strategy, layout=output_format, output_scores=output_scores, **values)


def _layout_with_positives(output_format: Any, margin: float | None, values: dict[str, Any]) -> Any:
    """Warn of what does not go with positives in the ranking, and return the layout that keeps it."""
    moved = [values["range_max"], margin, *(values[name] for name in _FILTERS)]
    if values["range_min"] != 0 or values["sampling_strategy"] != "top" or any(x is not None for x in moved):
        logger.warning(
            "When using `include_positives=True`, updating `range_min`, `range_max`, `max_score`, `min_score`, "
            "`absolute_margin`, `relative_margin`, or `sampling_strategy` from the default values may still discard "
            "the positive values."
        )
    if output_format != "n-tuple":
        logger.warning(
            'When using `include_positives=True`, `output_format` will be set to `"n-tuple"` to ensure that the '
            "ranking order is preserved."
        )
    return "n-tuple"


@dataclass(frozen=True, kw_only=True)
class Extras:
    """Arguments that the original does not have, and that decide what is mined."""

    rules: Rules | None
    search: Search | None
    seed: int | None
    miner: Miner | None
    deep: bool

    def check(self, settings: Settings, cross_encoder: Any, faiss_batch_size: int) -> None:
        """Refuse what is of a wrong type, and what does not go together."""
        if faiss_batch_size <= 0:
            raise InvalidValueError(f"faiss_batch_size must be a positive integer, got {faiss_batch_size}.")
        truth("deep", self.deep)
        self._check_values()
        self._check_positives(settings)
        if self.miner is not None:
            self._check_miner(settings)
        if cross_encoder is None:
            return
        if self.deep or self.miner is not None:
            raise InvalidValueError(
                "cross_encoder must be None with deep=True or a miner, got one; it scores candidates of a window, and "
                "these look at the whole corpus"
            )
        if not self.rescores(settings):
            logger.warning(
                "The `cross_encoder` is not used: it scores candidates for filters and for `output_scores=True`."
            )

    def _check_values(self) -> None:
        if self.rules is not None:
            instance("rules", self.rules, Rules)
            if self.rules.range_min != 0 or self.rules.range_max is not None:
                raise InvalidValueError(
                    f"rules must leave out range_min and range_max, got {self.rules.range_min} and "
                    f"{self.rules.range_max}; they are arguments of the call"
                )
        if self.search is not None:
            instance("search", self.search, Search)
        if self.seed is not None:
            whole("seed", self.seed, low=0, high=2**64 - 1)
        if self.miner is not None and not isinstance(self.miner, Miner):
            raise InvalidTypeError(
                f"miner must be a negfast.Miner, got {type(self.miner).__name__} {shown(self.miner)}; make one, and "
                "pass the same in each call"
            )

    def _check_positives(self, settings: Settings) -> None:
        given = [name for name in ("rules", "miner") if getattr(self, name) is not None]
        given += ["deep"] if self.deep else []
        if settings.include_positives and given:
            raise InvalidValueError(
                f"include_positives must be False with {given[0]}, got True; that decides what is a negative, and "
                "positives are none"
            )

    def _check_miner(self, settings: Settings) -> None:
        if self.search is not None or self.seed is not None:
            raise InvalidValueError(
                "search and seed must be None with a miner, got others; set them in negfast.Miner(search=..., seed=...)"
            )
        if not self.deep and (settings.filters.active() or self.rules is not None):
            raise InvalidValueError(
                "deep must be True with a miner and filters or rules, got False; a miner looks as deep as it takes, "
                "past the window of the nearest rows"
            )

    def rescores(self, settings: Settings) -> bool:
        """Tell whether a cross-encoder would have something to decide."""
        return bool(settings.filters.active()) or settings.output_scores or self.rules is not None

    def windowed(self, settings: Settings, cross_encoder: Any, max_positives: int, say: Say) -> Settings:
        """Return the settings with the window of candidates; for a search of the corpus it may stay open."""
        if self.deep or self.miner is not None:
            if settings.range_max is None and settings.strategy == "random":
                settings = replace(settings, range_max=settings.range_min + 10 * settings.num_negatives)
            settings.check_window()
            return settings
        filters = settings.filters
        spare = filters.has_margin or filters.max_score is not None or self.rules is not None
        spare |= cross_encoder is not None and filters.min_score is not None
        return settings.windowed(max_positives, spare=spare, say=say)

    @property
    def used_search(self) -> Search:
        """How to search."""
        return Search() if self.search is None else self.search

    @property
    def used_seed(self) -> int:
        """The seed of the draws; no generator that others use is touched."""
        return secrets.randbits(63) if self.seed is None else self.seed


def check_metric(similarity: Similarity) -> None:
    """Refuse a model whose scores negfast does not give itself."""
    if similarity.metric is None:
        raise InvalidValueError(
            f"model must score by cosine or dot with deep=True or a miner, got {similarity.name or 'no name'} as its "
            "similarity_fn_name; leave both out"
        )
