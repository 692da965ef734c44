"""How far an accuracy that was measured on some pictures can be off."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist

from nnopt_lab.arguments import require_integer, require_number


def accuracy_interval(correct: int, total: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return the score interval of Wilson (1927) for ``correct`` hits out of ``total``.

    It holds the accuracies under which what was seen is not surprising, as far as it comes from the choice
    of the test pictures; the spread between training seeds is not in it.

    Returns
    -------
    low, high : float
        Between 0 and 1.

    Raises
    ------
    ValueError
        If ``total`` is below 1, ``correct`` is not between 0 and ``total``, or ``confidence`` not between 0 and 1.

    Examples
    --------
    >>> [round(bound, 4) for bound in accuracy_interval(81, 263)]
    [0.2553, 0.3662]
    """
    total = require_integer("total", total)
    correct = require_integer("correct", correct, at_least=0, at_most=total)
    z = NormalDist().inv_cdf((1 + require_number("confidence", confidence, above=0, below=1)) / 2)
    share = correct / total
    center = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    reach = z / (1 + z**2 / total) * sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    # At the ends the bound is exact; rounding would leave a hair's breadth.
    low = 0.0 if correct == 0 else center - reach
    high = 1.0 if correct == total else center + reach
    return low, high
