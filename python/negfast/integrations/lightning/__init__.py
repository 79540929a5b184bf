"""For those who train with Lightning."""

from importlib.util import find_spec

from negfast.errors import MissingExtraError

if find_spec("lightning") is None:
    raise MissingExtraError("negfast.integrations.lightning needs lightning; install negfast[lightning]")

from negfast.integrations.lightning.refresh import RefreshCallback
from negfast.integrations.lightning.statistics import StatisticsCallback

__all__ = ["RefreshCallback", "StatisticsCallback"]
