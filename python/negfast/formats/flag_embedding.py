"""The training files of FlagEmbedding: a query a line, with the texts of its positives and negatives."""

from collections.abc import Sequence
from itertools import compress
from os import PathLike

from negfast.files.writers import writing
from negfast.formats.builder import Builder
from negfast.formats.data import RetrievalData
from negfast.formats.layout import Kept, any_known, blocks, both, check_data, check_text, checked_path
from negfast.formats.records import encoded, records


def read_flag_embedding(path: str | PathLike[str]) -> RetrievalData:
    """Read a training file of FlagEmbedding.

    Parameters
    ----------
    path : str or path-like
        A ``.jsonl`` or ``.json`` file with one object a line: ``query``, ``pos``, and, where there are any, ``neg``,
        ``pos_scores`` and ``neg_scores``. ``.gz`` may follow.

    Returns
    -------
    RetrievalData
        Each line is a query, each distinct text a row of the corpus. Ids are row numbers, since the format has none.
        ``prompt``, ``type`` and other fields are left behind.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If a line is something else; the message names line and field.
    OSError
        If the file cannot be read.

    Notes
    -----
    The format is that of ``AbsEmbedderTrainDataset`` in ``FlagEmbedding/abc/finetune/embedder/AbsDataset.py``.
    """
    builder = Builder()
    texts = builder.corpus
    for record in records(checked_path("path", path, ".jsonl", ".json")):
        positives = record.texts("pos")
        negatives = record.texts("neg") if "neg" in record else []
        builder.queries.add(str(len(builder.queries.ids)), record.text("query"))
        builder.positives.add(
            [texts.add(text, text) for text in positives], record.scores("pos_scores", len(positives))
        )
        builder.negatives.add(
            [texts.add(text, text) for text in negatives], record.scores("neg_scores", len(negatives))
        )
    texts.ids = [str(row) for row in range(len(texts.ids))]
    return builder.data()


def write_flag_embedding(
    path: str | PathLike[str], data: RetrievalData, *, prompt: str | None = None, kind: str | None = None
) -> None:
    """Write a training file of FlagEmbedding.

    Parameters
    ----------
    path : str or path-like
        A ``.jsonl`` or ``.json`` file, replaced if it exists. ``.gz`` may follow, but FlagEmbedding passes such
        files over.
    data : RetrievalData
    prompt : str, optional
        Instruction that is put before each query.
    kind : str, optional
        The field ``type``, such as ``"symmetric_class"`` or ``"only_1neg"``.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If an argument is of another kind, the path has another ending or a text is none.
    OSError
        If the file cannot be written; what was there before stays.

    Notes
    -----
    Scores are written where any is known, and are ``null`` for a query some of whose scores are not. Lost are ids,
    grades, titles as such (they are put before the text), and rows that no query has.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from negfast.formats import RetrievalData, read_flag_embedding, write_flag_embedding
    >>> data = RetrievalData.of(["fox"], ["a red fox", "red wine"], [0], negatives=[[1]], negative_scores=[[0.5]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "train.jsonl"
    ...     write_flag_embedding(path, data)
    ...     print(path.read_text().strip())
    ...     read_flag_embedding(path)
    {"query": "fox", "pos": ["a red fox"], "neg": ["red wine"], "neg_scores": [0.5]}
    RetrievalData: 1 queries, 2 rows, 1 positives, 1 negatives
    """
    target = checked_path("path", path, ".jsonl", ".json")
    check_data(data)
    constant = _field("prompt", "prompt", prompt) + _field("kind", "type", kind)
    scored = any_known(data.positive_scores), any_known(data.negative_scores)
    passage = Kept(lambda row: encoded(data.passage(row)))
    with writing(target) as write:
        for queries in blocks(data):
            sides = both(data, queries)
            for place, query in enumerate(queries):
                texts = [", ".join([passage(row) for row in side.rows(place)]) for side in sides]
                scores = [
                    f', "{name}_scores": {_all_or_null(side.scores(place))}'
                    for name, side in compress(zip(("pos", "neg"), sides, strict=True), scored)
                ]
                write(
                    f'{{"query": {encoded(data.query(query))}, "pos": [{texts[0]}], "neg": [{texts[1]}]'
                    f"{''.join(scores)}{constant}}}\n"
                )


def _field(argument: str, name: str, value: str | None) -> str:
    """Return what follows in every line."""
    if value is None:
        return ""
    check_text(argument, value)
    return f', "{name}": {encoded(value)}'


def _all_or_null(scores: Sequence[str]) -> str:
    return "null" if "null" in scores else f"[{', '.join(scores)}]"
