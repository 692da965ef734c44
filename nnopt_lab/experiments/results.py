"""Reading what an experiment found: rows by condition and seed, with means and intervals."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import dataclass
from pathlib import Path

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
    """

    name: str
    about: str
    data: str
    command: str
    machine: dict[str, object]
    rows: list[dict]

    def summaries(self, value: str = "test_accuracy") -> list[Summary]:
        """Return mean and interval of ``value`` for every condition, in the order in which they ran."""
        return [
            summarize(name, [row[value] for row in self.rows if row["condition"] == name])
            for name in dict.fromkeys(row["condition"] for row in self.rows)
        ]


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
