"""Near-duplicates: rows of one corpus that are copies of each other, or nearly."""

import numpy as np
from numpy.typing import NDArray

from negfast import _negfast, inputs, threads
from negfast import progress as progress_bar
from negfast.errors import InvalidValueError
from negfast.inputs import Embeddings
from negfast.progress import Wanted
from negfast.settings import number


def near_duplicates(
    corpus: Embeddings, threshold: float, *, n_threads: int | None = None, progress: Wanted = False
) -> NDArray[np.int64]:
    """Find groups of rows that are near-duplicates of each other.

    Parameters
    ----------
    corpus : array or CPU tensor of float32, float16 or bfloat16 (torch), shape (n_corpus, dim)
        The rows; C-contiguous, read in place.
    threshold : float, above 0 and at most 1
        Two rows are linked if their cosine is at least this.
    n_threads, progress : as in :func:`mine`

    Returns
    -------
    ndarray of int64, shape (n_corpus,)
        The group of each row: groups are the connected components of the links, numbered from 0 in the order of their
        first rows. A row without links is a group of its own.

    Raises
    ------
    InvalidTypeError
        If an argument has a wrong type or dtype.
    InvalidValueError
        If an argument has a wrong shape, layout or value, or a row is not finite.

    Notes
    -----
    The cosine is the score that :func:`topk` returns, and all pairs are looked at: the result is that of brute force,
    the same for any number of threads and any SIMD level. A row of zeros scores 0 with everything, so it has no links.

    Two rows of a group need not be alike: a chain of links is enough. The higher the threshold, the shorter the chains.

    Groups serve as `groups` of :func:`mine`, so that no anchor gets a near-duplicate of one of its positives; and
    ``numpy.unique(groups, return_index=True)[1]`` are the rows to keep where one of each group is enough.

    Limitations
    -----------
    Time grows with the square of the number of rows.

    Examples
    --------
    >>> import numpy as np, negfast
    >>> rows = np.array([[1, 0], [0, 1], [1, 0.1], [0, 2], [0, 0]], dtype=np.float32)
    >>> groups = negfast.near_duplicates(rows, 0.95)
    >>> groups.tolist()
    [0, 1, 0, 1, 2]
    >>> np.unique(groups, return_index=True)[1].tolist()
    [0, 1, 4]
    """
    bound = number("threshold", threshold, high=1.0)
    if bound <= 0:
        raise InvalidValueError(
            f"threshold must be above 0 and at most 1, got {bound}; rows that are alike have a cosine near 1"
        )
    shows = progress_bar.wish(progress)
    rows = inputs.embeddings("corpus", corpus)
    with progress_bar.bar("near-duplicates", wanted=shows) as shown:
        return _negfast.near_duplicates(rows, bound, threads.resolve(n_threads), shown)
