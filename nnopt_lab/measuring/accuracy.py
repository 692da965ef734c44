"""How far an accuracy that was measured on some pictures can be off."""

from __future__ import annotations

from math import comb, sqrt
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


def chance_of_difference(won: int, lost: int) -> float:
    """Return how often two equally good networks would differ at least so much on the same pictures, 0–1.

    ``won`` pictures only the second gets right, ``lost`` only the first. Of equally good ones each such picture is a
    coin toss (the exact test of McNemar, 1947). Pictures that both get right or wrong say nothing, and are not asked:
    so it finds differences that two overlapping `accuracy_interval` hide.

    Raises
    ------
    ValueError
        If a count is below 0.

    Examples
    --------
    >>> chance_of_difference(9, 1), chance_of_difference(0, 0)
    (0.021484375, 1.0)
    """
    won, lost = (require_integer(name, count, at_least=0) for name, count in (("won", won), ("lost", lost)))
    tosses = won + lost
    tail = sum(comb(tosses, heads) for heads in range(min(won, lost) + 1))
    return min(1.0, 2 * tail / 2**tosses)
