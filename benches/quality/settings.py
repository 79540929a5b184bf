"""What a run is, as plain values: a run of the same values, on the same data and versions, gives the same numbers."""

from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any, Literal

from quality.arms import Arm

Part = Literal["dev", "test"]


@dataclass(frozen=True)
class Encoder:
    """What is trained.

    Attributes
    ----------
    kind : "static", an EmbeddingBag with random rows, or "transformer", one that is read from `path`
    path : folder of a transformer
    dim : width of the static encoder
    vocabulary : most tokens of the static encoder's tokenizer
    most_tokens : of a text
    learning_rate, warmup : of Adam; it rises for this share of the steps and falls to nothing in a straight line
    """

    kind: Literal["static", "transformer"] = "static"
    path: str | None = None
    dim: int = 256
    vocabulary: int = 30_000
    most_tokens: int = 128
    learning_rate: float = 0.1
    warmup: float = 0.1


STATIC = Encoder()


def transformer(path: str) -> Encoder:
    return Encoder("transformer", path, most_tokens=64, learning_rate=2e-5)


@dataclass(frozen=True)
class Run:
    """One model that is trained and judged.

    Attributes
    ----------
    data : name of the pairs
    arm : where its negatives come from
    seed : of initial rows, order, and draws
    part : whose questions are asked
    most : training pairs at most
    most_questions : questions at most; None: all
    most_corpus : passages that answers are looked for in, at most, those of the questions among them; None: all
    temperature : of every loss
    curve : questions of the dev part that are asked after each epoch, 0 for none
    threads : of the process
    """

    data: str
    encoder: Encoder
    arm: Arm
    seed: int
    part: Part = "dev"
    most: int | None = None
    epochs: int = 8
    batch_size: int = 256
    temperature: float = 0.05
    most_questions: int | None = None
    most_corpus: int | None = None
    curve: int = 0
    threads: int = 1

    @classmethod
    def of(cls, plain: dict[str, Any]) -> "Run":
        return cls(**{**plain, "encoder": Encoder(**plain["encoder"]), "arm": Arm.of(plain["arm"])})

    def plain(self) -> dict[str, Any]:
        return asdict(self)


def digest(*parts: str | bytes) -> str:
    """Return a hash of these parts, in this order."""
    found = blake2b(digest_size=10)
    for part in parts:
        found.update(blake2b(part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part).digest())
    return found.hexdigest()
