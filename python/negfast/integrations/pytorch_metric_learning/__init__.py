"""For those who train with pytorch-metric-learning: a miner for its losses."""

from importlib.util import find_spec

from negfast.errors import MissingExtraError

if find_spec("pytorch_metric_learning") is None or find_spec("torch") is None:
    raise MissingExtraError(
        "negfast.integrations.pytorch_metric_learning needs pytorch-metric-learning and torch; install "
        "negfast[pytorch-metric-learning]"
    )

from negfast.integrations.pytorch_metric_learning.miner import NegfastMiner

__all__ = ["NegfastMiner"]
