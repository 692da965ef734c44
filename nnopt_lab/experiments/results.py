"""Reading what an experiment found: rows by condition and seed, with means and intervals."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import dataclass, field
from pathlib import Path

from nnopt_lab.arguments import require_choice

# Two-sided 95% quantiles of Student's t for 1 … 10 degrees of freedom (Student, 1908).
T_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


def results_folder() -> Path:
    """Return the folder of shipped results."""
    return Path(__file__).resolve().parents[2] / "data" / "results"


@dataclass(frozen=True)
class Summary:
    """One condition over its seeds.

    Attributes
    ----------
    condition : str
        What was tried.
    mean : float
        Of the measured value.
    half_width : float
        Of the 95% confidence interval of the mean; NaN with one seed.
    count : int
        Number of seeds.
    """

    condition: str
    mean: float
    half_width: float
    count: int


@dataclass(frozen=True)
class Results:
    """What one experiment wrote.

    Attributes
    ----------
    name, about, data, command : str
        Which experiment, on which data, and how to run it again.
    machine : dict
        Where it ran.
    rows : list of dict
        One for each condition and seed.
    grid : list of dict
        One for each change of settings that was tried before, on the validation split only.
    """

    name: str
    about: str
    data: str
    command: str
    machine: dict[str, object]
    rows: list[dict]
    grid: list[dict] = field(default_factory=list)

    def picked(self, condition: str) -> dict[str, float]:
        """Return the changes of settings with the lowest validation loss; empty if none were tried.

        Raises
        ------
        ValueError
            If every one that was tried diverged.
        """
        tried = [row for row in self.grid if row["condition"] == condition]
        if not tried:
            return {}
        finite = [row for row in tried if not row["diverged"]]
        if not finite:
            raise ValueError(f"grid of {condition!r} is all divergent, but it must hold one run that is not.")
        return min(finite, key=lambda row: row["validation_loss"])["changes"]

    def summaries(self, value: str = "test_accuracy") -> list[Summary]:
        """Return mean and interval of ``value`` for every condition, in the order in which they ran."""
        return [
            summarize(name, [row[value] for row in self.rows if row["condition"] == name])
            for name in dict.fromkeys(row["condition"] for row in self.rows)
        ]

    def difference(self, first: str, second: str, value: str = "test_accuracy") -> Summary:
        """Return mean and interval of ``first`` − ``second`` over the seeds that both have.

        A seed gives both the same first weights and order of pictures, so that much of the scatter cancels. If 0
        lies in the interval, the two tie.

        Raises
        ------
        ValueError
            If there is no such condition, or they have no seed in common.
        """
        names = dict.fromkeys(row["condition"] for row in self.rows)
        one, other = (
            {row["seed"]: row[value] for row in self.rows if row["condition"] == require_choice(which, name, names)}
            for which, name in (("first", first), ("second", second))
        )
        common = sorted(one.keys() & other.keys())
        if not common:
            raise ValueError(f"second is {second!r}, but it must have a seed in common with {first!r}.")
        return summarize(f"{first} − {second}", [one[seed] - other[seed] for seed in common])


def summarize(condition: str, values: list[float]) -> Summary:
    """Return the mean of ``values`` and the half width of its 95% interval (Student's t).

    Examples
    --------
    >>> summarize("a", [0.5, 0.6, 0.7]).half_width
    0.248...
    """
    mean, count = statistics.fmean(values), len(values)
    if count == 1:
        return Summary(condition, mean, math.nan, 1)
    quantile = T_QUANTILES[min(count - 2, len(T_QUANTILES) - 1)]
    return Summary(condition, mean, quantile * statistics.stdev(values) / math.sqrt(count), count)


def load_results(name: str, *, folder: Path | None = None) -> Results | None:
    """Return the shipped results of experiment ``name``, or None if it was never run."""
    path = (folder or results_folder()) / f"{name}.json"
    if not path.exists():
        return None
    return Results(**json.loads(path.read_text(encoding="utf-8")))
