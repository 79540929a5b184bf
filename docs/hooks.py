"""What mkdocs runs while it builds: plots are made before, and shown in the colours of the page."""

import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BENCH = HERE.parent / "benches" / "refresh"
IMAGE = re.compile(r"^!\[(?P<alt>[^\]]+)\]\((?P<path>[^)\s]*plots/[\w-]+)\.svg\)$", re.MULTILINE)


def on_pre_build(**_: Any) -> None:
    """Make the plots that are missing or older than the script that makes them; a bench's from its record."""
    sys.path[:0] = [str(HERE), str(BENCH)]
    try:
        import plots

        import plot
    finally:
        sys.path.remove(str(HERE))
        sys.path.remove(str(BENCH))
    plots.make(HERE / "plots")
    plot.make(HERE / "plots")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace each plot by its light and its dark form; the theme shows the one that suits the page."""
    return IMAGE.sub(r"![\g<alt>](\g<path>-light.svg#only-light)\n![\g<alt>](\g<path>-dark.svg#only-dark)", markdown)
