"""What people see who import a part of the package without the library that it is for."""

import subprocess
import sys

import pytest

CODE = """
import sys
sys.modules["{missing}"] = None  # an import of it fails, installed or not
import negfast
try:
    import negfast.{module}
except negfast.MissingExtraError as error:
    print(error)
"""


TORCH = "negfast.torch needs torch; install negfast[torch]"
SENTENCE_TRANSFORMERS = (
    "negfast.integrations.sentence_transformers needs sentence-transformers and datasets; install "
    "negfast[sentence-transformers]"
)
METRIC_LEARNING = (
    "negfast.integrations.pytorch_metric_learning needs pytorch-metric-learning and torch; install "
    "negfast[pytorch-metric-learning]"
)
HNSWLIB = "negfast.integrations.hnswlib needs hnswlib; install negfast[hnsw]"
TRANSFORMERS = "negfast.integrations.transformers needs transformers and torch; install negfast[transformers]"
LIGHTNING = "negfast.integrations.lightning needs lightning; install negfast[lightning]"


@pytest.mark.parametrize(
    ("missing", "module", "message"),
    [
        ("torch", "torch", TORCH),
        ("torch", "torch.sampler", TORCH),
        ("sentence_transformers", "integrations.sentence_transformers", SENTENCE_TRANSFORMERS),
        ("datasets", "integrations.sentence_transformers.mining", SENTENCE_TRANSFORMERS),
        ("pytorch_metric_learning", "integrations.pytorch_metric_learning", METRIC_LEARNING),
        ("torch", "integrations.pytorch_metric_learning.miner", METRIC_LEARNING),
        ("hnswlib", "integrations.hnswlib", HNSWLIB),
        ("transformers", "integrations.transformers", TRANSFORMERS),
        ("torch", "integrations.transformers.refresh", TRANSFORMERS),
        ("lightning", "integrations.lightning", LIGHTNING),
    ],
)
def test_the_extra_is_named(missing: str, module: str, message: str) -> None:
    command = [sys.executable, "-c", CODE.format(missing=missing, module=module)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"{message}\n"


OLD = """
import sys, importlib.metadata, importlib.machinery, types
for name in ("sentence_transformers", "datasets"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__spec__ = importlib.machinery.ModuleSpec(name, None)
importlib.metadata.version = lambda name: {"sentence-transformers": "5.7.0"}[name]
import negfast
try:
    import negfast.integrations.sentence_transformers
except negfast.MissingExtraError as error:
    print(error)
"""


def test_an_old_version_is_told() -> None:
    done = subprocess.run([sys.executable, "-c", OLD], capture_output=True, text=True, timeout=60, check=True)
    assert "needs sentence-transformers 6 or newer, got 5.7.0; install negfast[sentence-transformers]" in done.stdout
