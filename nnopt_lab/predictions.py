"""How a guess compares with what is measured."""

from __future__ import annotations

from dataclasses import dataclass

from nnopt_lab.arguments import require_number


@dataclass(frozen=True)
class Prediction:
    """A guess beside the measured value.

    Attributes
    ----------
    guess, measured : float
        In the same unit.
    tolerance : float
        How far off still counts as right.
    """

    guess: float
    measured: float
    tolerance: float

    def __post_init__(self) -> None:
        require_number("tolerance", self.tolerance, above=0)

    def __repr__(self) -> str:
        return f"guess {self.guess:.4g}, measured {self.measured:.4g}: {self.verdict}"

    @property
    def error(self) -> float:
        """Guess minus measured value."""
        return self.guess - self.measured

    @property
    def verdict(self) -> str:
        """``"right"``, ``"close"`` (within three tolerances) or ``"off"``."""
        distance = abs(self.error)
        return "right" if distance <= self.tolerance else "close" if distance <= 3 * self.tolerance else "off"
