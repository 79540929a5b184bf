"""What people see who import the PyTorch layer without torch."""

import subprocess
import sys

import pytest

CODE = """
import sys
sys.modules["torch"] = None  # an import of it fails, installed or not
import negfast
try:
    import negfast.torch{module}
except negfast.MissingExtraError as error:
    print(error)
"""


@pytest.mark.parametrize("module", ["", ".sampler"])
def test_the_extra_is_named(module: str) -> None:
    command = [sys.executable, "-c", CODE.format(module=module)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "negfast.torch needs torch; install negfast[torch]\n"
