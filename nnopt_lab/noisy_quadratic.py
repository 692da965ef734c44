"""SGD on a parabola with noisy gradients, exactly: what learning rate and batch size do to the expected loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnopt_lab.arguments import require_integer, require_number, require_numbers


@dataclass(frozen=True)
class NoisyQuadratic:
    """The loss ½ Σ hᵢ θᵢ², whose gradient is seen with noise (Zhang et al., 2019, section 3).

    One picture's gradient in direction i is hᵢ θᵢ plus noise of variance cᵢ; a batch of B pictures has variance cᵢ / B.
    Nothing has to be drawn: one step of SGD turns the expected square of θᵢ into

        E[θᵢ²] ← (1 − ηhᵢ)² E[θᵢ²] + η² cᵢ / B.

    Attributes
    ----------
    curvatures : tuple of float
        hᵢ > 0.
    noise : tuple of float
        cᵢ ≥ 0.
    start : tuple of float
        θᵢ at the beginning.

    Examples
    --------
    >>> model = NoisyQuadratic((1.0,), noise=(4.0,), start=(8.0,))
    >>> model.expected_losses([0.5, 0.5], [1, 1]).tolist()
    [32.0, 8.5, 2.625]
    """

    curvatures: tuple[float, ...]
    noise: tuple[float, ...]
    start: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("noise", "start"):
            if len(getattr(self, name)) != len(self.curvatures):
                raise ValueError(
                    f"{name} has {len(getattr(self, name))} numbers, but it must have {len(self.curvatures)}: "
                    "one for each curvature."
                )
        require_integer("number of curvatures", len(self.curvatures))
        for curvature, noise, start in zip(self.curvatures, self.noise, self.start, strict=True):
            require_number("curvature", curvature, above=0)
            require_number("noise", noise, at_least=0)
            require_number("start", start)

    @property
    def stable_rate(self) -> float:
        """Rate above which the loss grows without end: 2 / the largest curvature."""
        return 2 / max(self.curvatures)

    def expected_losses(self, rates: Sequence[float], batch_sizes: Sequence[float]) -> np.ndarray:
        """Return the expected loss before the first step and after each one.

        Parameters
        ----------
        rates, batch_sizes : sequence of float
            Of each step, as many of the one as of the other.

        Returns
        -------
        ndarray
            float64, shape (steps + 1,); infinite or very large where SGD diverges.

        Raises
        ------
        ValueError
            If the lengths differ or are 0, a rate is negative, a batch is below 1, or one is not finite.
        """
        rate, batch = _by_step(rates, batch_sizes)
        h, c = np.array(self.curvatures), np.array(self.noise)
        squares = np.empty((len(rate) + 1, len(h)))
        squares[0] = np.array(self.start) ** 2
        changes = np.flatnonzero((np.diff(rate) != 0) | (np.diff(batch) != 0)) + 1
        # A part without a change is a geometric series, and needs no loop over its steps.
        with np.errstate(over="ignore", invalid="ignore"):
            for first, end in zip([0, *changes], [*changes, len(rate)], strict=True):
                shrink = (1 - rate[first] * h) ** 2
                powers = shrink ** np.arange(1, end - first + 1)[:, None]
                added = rate[first] ** 2 * c / batch[first]
                # The sum 1 + s + … + s^(k−1) is k where s is 1.
                flat = np.isclose(shrink, 1, rtol=0, atol=1e-12)
                counts = np.arange(1, end - first + 1)[:, None]
                series = np.where(flat, counts, (1 - powers) / np.where(flat, 1, 1 - shrink))
                squares[first + 1 : end + 1] = powers * squares[first] + series * added
            losses = squares @ h / 2
        return np.where(np.isnan(losses), np.inf, losses)

    def sampled_losses(
        self, rates: Sequence[float], batch_sizes: Sequence[float], *, runs: int, seed: int
    ) -> np.ndarray:
        """Return the losses of ``runs`` runs with noise that is drawn: float64, shape (runs, steps + 1).

        Raises
        ------
        ValueError
            If ``runs`` or ``seed`` is out of range, or as `expected_losses` does.
        """
        runs, seed = require_integer("runs", runs), require_integer("seed", seed, at_least=0)
        by_step = zip(*_by_step(rates, batch_sizes), strict=True)
        generator = np.random.default_rng(seed)
        h, deviation = np.array(self.curvatures), np.sqrt(self.noise)
        theta = np.tile(np.array(self.start, dtype=float), (runs, 1))
        losses = [(theta**2 @ h) / 2]
        with np.errstate(over="ignore", invalid="ignore"):
            for rate, batch in by_step:
                gradient = h * theta + generator.normal(size=theta.shape) * deviation / np.sqrt(batch)
                theta = theta - rate * gradient
                losses.append((theta**2 @ h) / 2)
        return np.stack(losses, axis=1)

    def floor(self, rate: float, batch_size: float) -> float:
        """Return the expected loss that a fixed rate and batch end at: Σ η cᵢ / (2 B (2 − η hᵢ)); infinite if unstable.

        Raises
        ------
        ValueError
            If ``rate`` is not above 0 or ``batch_size`` is below 1.
        """
        rate = require_number("rate", rate, above=0)
        batch_size = require_number("batch_size", batch_size, at_least=1)
        if rate >= self.stable_rate:
            return float("inf")
        h, c = np.array(self.curvatures), np.array(self.noise)
        return float(np.sum(rate * c / (2 * batch_size * (2 - rate * h))))


def _by_step(rates: Sequence[float], batch_sizes: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    rate, batch = np.asarray(rates, dtype=float), np.asarray(batch_sizes, dtype=float)
    if rate.ndim != 1 or rate.shape != batch.shape or not len(rate):
        raise ValueError(
            f"rates and batch_sizes have shapes {rate.shape} and {batch.shape}, but they must be (steps,) both."
        )
    return require_numbers("a rate", rate, at_least=0), require_numbers("a batch size", batch, at_least=1)


def harmonic_quadratic(*, directions: int = 16) -> NoisyQuadratic:
    """Return the noisy quadratic with curvatures 1, 1/2, 1/3, … and noise of the same size (Zhang et al., 2019).

    Raises
    ------
    ValueError
        If ``directions`` is not a whole number of at least 1.
    """
    curvatures = tuple(1 / i for i in range(1, require_integer("directions", directions) + 1))
    return NoisyQuadratic(curvatures, noise=curvatures, start=(1.0,) * directions)


def steps_until(losses: np.ndarray, target: float) -> int | None:
    """Return the number of steps after which ``losses``, shape (steps + 1,), is at most ``target``; None if never."""
    reached = np.flatnonzero(losses <= require_number("target", target))
    return int(reached[0]) if len(reached) else None


@dataclass(frozen=True)
class TwoPartRun:
    """A run whose rate and batch size change once.

    Attributes
    ----------
    pictures : ndarray
        Seen so far, before the first step and after each one: int64, shape (steps + 1,).
    losses : ndarray
        Expected loss at the same places: float64, shape (steps + 1,).
    rates, batch_sizes : tuple of (float, float), tuple of (int, int)
        Of the two parts.
    steps_before : int
        Steps of the first part.
    """

    pictures: np.ndarray
    losses: np.ndarray
    rates: tuple[float, float]
    batch_sizes: tuple[int, int]
    steps_before: int

    @property
    def steps(self) -> int:
        """Steps of both parts."""
        return len(self.losses) - 1

    def first_step_above(self, limit: float) -> int | None:
        """Return the step after which the loss first exceeds ``limit``; None if it never does."""
        return steps_until(-self.losses, -limit)

    @property
    def noise_fall(self) -> float:
        """Rate ÷ batch size of the second part, as a share of that of the first."""
        return self.rates[1] / self.batch_sizes[1] / (self.rates[0] / self.batch_sizes[0])


def run_in_two_parts(
    model: NoisyQuadratic,
    *,
    pictures: int,
    learning_rate: float,
    batch_size: int,
    change_at: float,
    rate_factor: float,
    batch_factor: float,
) -> TwoPartRun:
    """Run SGD over so many ``pictures``, and change rate and batch size once on the way.

    Parameters
    ----------
    pictures : int
        Seen in all; what is left over for less than a batch is not used.
    learning_rate, batch_size : float, int
        Of the first part.
    change_at : float
        Share of the pictures after which they change, 0 to 1.
    rate_factor, batch_factor : float
        What they are then multiplied by; a batch keeps at least one picture, and gets no more than all.

    Raises
    ------
    ValueError
        If an argument is out of range, or the first batch is larger than ``pictures``.
    """
    pictures = require_integer("pictures", pictures)
    batch_size = require_integer("batch_size", batch_size, at_most=pictures)
    change_at = require_number("change_at", change_at, at_least=0, at_most=1)
    rate_factor = require_number("rate_factor", rate_factor, at_least=0)
    batch_factor = require_number("batch_factor", batch_factor, above=0)
    sizes = batch_size, min(max(1, round(batch_size * batch_factor)), pictures)
    rates = float(learning_rate), learning_rate * rate_factor
    before = round(change_at * pictures / sizes[0])
    after = max(0, pictures - before * sizes[0]) // sizes[1]
    by_step = np.repeat(sizes, (before, after))
    losses = model.expected_losses(np.repeat(rates, (before, after)), by_step)
    return TwoPartRun(np.concatenate([[0], np.cumsum(by_step)]), losses, rates, sizes, before)
