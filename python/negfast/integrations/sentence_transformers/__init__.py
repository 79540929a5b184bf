"""For those who train with sentence-transformers: what they import from there, done by negfast."""

from negfast.errors import MissingExtraError

try:
    import datasets as _datasets  # noqa: F401
    import sentence_transformers as _sentence_transformers  # noqa: F401
except ImportError as error:
    raise MissingExtraError(
        "negfast.integrations.sentence_transformers needs sentence-transformers and datasets; install "
        "negfast[sentence-transformers]"
    ) from error

from negfast.integrations.sentence_transformers.mining import mine_hard_negatives

__all__ = ["mine_hard_negatives"]
