"""How students stand against the first of them, measured on the same pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nnopt_lab.measuring import accuracy_interval


@dataclass(frozen=True)
class Standing:
    """The accuracies of several students, of which the first is the one to beat.

    Attributes
    ----------
    accuracies : mapping
        By student, 0–1; at least two.
    pictures : int
        On how many pictures.
    """

    accuracies: Mapping[str, float]
    pictures: int

    @property
    def first(self) -> str:
        """The student to beat."""
        return next(iter(self.accuracies))

    @property
    def best(self) -> str:
        """The best of the others."""
        return max((name for name in self.accuracies if name != self.first), key=self.accuracies.__getitem__)

    @property
    def points_gained(self) -> float:
        """By how many points the best of the others is above the first."""
        return round(100 * (self.accuracies[self.best] - self.accuracies[self.first]), 6)

    def interval(self, name: str) -> tuple[float, float]:
        """Return the 95% interval of a student's accuracy, as far as it comes from the choice of the pictures."""
        return accuracy_interval(round(self.accuracies[name] * self.pictures), self.pictures)
