"""For those who train with the trainer of transformers."""

from importlib.util import find_spec

from negfast.errors import MissingExtraError

if find_spec("transformers") is None or find_spec("torch") is None:
    raise MissingExtraError(
        "negfast.integrations.transformers needs transformers and torch; install negfast[transformers]"
    )

from negfast.integrations.transformers.refresh import RefreshCallback
from negfast.integrations.transformers.statistics import StatisticsCallback

__all__ = ["RefreshCallback", "StatisticsCallback"]
