"""What a user does first with an installed package; run by the interpreter of a clean environment."""

import sys
from pathlib import Path

import numpy as np

import negfast


def main(environment: str) -> None:
    assert Path(environment).resolve() in Path(negfast.__file__).resolve().parents, negfast.__file__
    assert "torch" not in sys.modules
    rng = np.random.default_rng(0)
    corpus = rng.standard_normal((200, 16), dtype=np.float32)
    queries = corpus[:50] + 0.1 * rng.standard_normal((50, 16), dtype=np.float32)
    mined = negfast.mine(queries, corpus, np.arange(50), num_negatives=4)
    assert mined.indices.shape == (50, 4)
    assert not (mined.indices == np.arange(50)[:, None]).any()
    print(negfast.__version__, negfast.simd_level())


if __name__ == "__main__":
    main(sys.argv[1])
