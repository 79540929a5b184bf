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
TRANSFORMERS = "negfast.integrations.transformers needs transformers and torch; install negfast[transformers]"
LIGHTNING = "negfast.integrations.lightning needs lightning; install negfast[lightning]"


@pytest.mark.parametrize(
    ("missing", "module", "message"),
    [
        ("torch", "torch", TORCH),
        ("torch", "torch.sampler", TORCH),
        ("sentence_transformers", "integrations.sentence_transformers", SENTENCE_TRANSFORMERS),
        ("datasets", "integrations.sentence_transformers.mining", SENTENCE_TRANSFORMERS),
        ("transformers", "integrations.transformers", TRANSFORMERS),
        ("torch", "integrations.transformers.refresh", TRANSFORMERS),
        ("lightning", "integrations.lightning", LIGHTNING),
    ],
)
def test_the_extra_is_named(missing: str, module: str, message: str) -> None:
    command = [sys.executable, "-c", CODE.format(missing=missing, module=module)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"{message}\n"
