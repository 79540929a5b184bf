"""For those who train with pytorch-metric-learning: a miner for its losses."""

from importlib.util import find_spec

from negfast.errors import MissingExtraError

try:
    found = find_spec("pytorch_metric_learning") is not None and find_spec("torch") is not None
except ValueError:  # an import of it is forbidden
    found = False
if not found:
    raise MissingExtraError(
        "negfast.integrations.pytorch_metric_learning needs pytorch-metric-learning and torch; install "
        "negfast[pytorch-metric-learning]"
    )

from negfast.integrations.pytorch_metric_learning.miner import NegfastMiner

__all__ = ["NegfastMiner"]
