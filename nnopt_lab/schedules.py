"""Learning rates and batch sizes that change during a run, as functions of how much of it is done."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from nnopt_lab.arguments import require_choice, require_integer, require_number, require_numbers

# A drop that is due at a whole step must not come one step late because of rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Schedule:
    """What the peak learning rate is multiplied by, as a function of progress.

    Progress is the share of the run that is done *before* a step: of ``total_steps`` steps, step k
    (from 0) stands at k / total_steps. So one schedule fits a run of any length.

    Attributes
    ----------
    name : str
        What it is called in `SCHEDULES`.
    title : str
        For legends.
    formula : str
        LaTeX; f is the factor, p the progress.
    factor : callable
        Maps progress, a float array of any shape with values in [0, 1], to factors of that shape.

    Examples
    --------
    >>> cosine().factors(4).round(3).tolist()
    [1.0, 0.854, 0.5, 0.146]
    >>> round(step_decay()(0.4), 3)
    0.1
    """

    name: str
    title: str
    formula: str
    factor: Callable[[np.ndarray], np.ndarray]

    def __call__(self, progress: float) -> float:
        """Return the factor at ``progress``, between 0 (start) and 1 (end)."""
        return float(self.factor(np.asarray(require_number("progress", progress, at_least=0, at_most=1))))

    def factors(self, total_steps: int) -> np.ndarray:
        """Return the factor of every step of a run: float64, shape (total_steps,)."""
        total_steps = require_integer("total_steps", total_steps)
        return self.factor(np.arange(total_steps) / total_steps)


def area(factors: np.ndarray) -> float:
    """Return the mean factor: the area under a schedule, as a share of the area under the fixed peak rate.

    Examples
    --------
    >>> area(knots([(0, 1), (0.5, 1), (0.5, 0.1), (1, 0.1)]).factors(1000))
    0.55
    """
    numbers = require_numbers("factors", factors, at_least=0)
    require_integer("number of factors", numbers.size)
    return float(numbers.mean())


def fixed() -> Schedule:
    """Return the schedule that stays at the peak rate."""
    return Schedule("fixed", "fixed", "f(p) = 1", np.ones_like)


def step_decay(*, factor: float = 0.1, every: float = 1 / 3) -> Schedule:
    """Return the schedule that multiplies the rate by ``factor`` each time a share ``every`` of the run is done.

    As ``torch.optim.lr_scheduler.StepLR(gamma=factor, step_size=every · total_steps)``.

    Raises
    ------
    ValueError
        If ``factor`` or ``every`` is not above 0 and at most 1.
    """
    factor = require_number("factor", factor, above=0, at_most=1)
    every = require_number("every", every, above=0, at_most=1)
    return Schedule(
        "step",
        f"step: ×{factor:g} every {every:.0%}",
        r"f(p) = \gamma^{\lfloor p / s \rfloor}",
        lambda progress: factor ** np.floor(progress / every + _ROUNDING),
    )


def exponential_decay(*, final: float = 0.01) -> Schedule:
    """Return the schedule that falls by the same ratio in each step, to ``final`` at the end.

    As ``torch.optim.lr_scheduler.ExponentialLR(gamma=final ** (1 / total_steps))``.

    Raises
    ------
    ValueError
        If ``final`` is not above 0 and at most 1.
    """
    final = require_number("final", final, above=0, at_most=1)
    return Schedule("exponential", f"exponential, to {final:g}", r"f(p) = f_1^{\,p}", lambda progress: final**progress)


def polynomial_decay(*, power: float = 1.0) -> Schedule:
    """Return the schedule that falls to zero as (1 − p)^power; a straight line for power 1.

    As ``torch.optim.lr_scheduler.PolynomialLR(power=power, total_iters=total_steps)``.

    Raises
    ------
    ValueError
        If ``power`` is not above 0.
    """
    power = require_number("power", power, above=0)
    title = "linear to 0" if power == 1 else f"polynomial, power {power:g}"
    return Schedule("polynomial", title, "f(p) = (1 - p)^k", lambda progress: (1 - progress) ** power)


def cosine(*, final: float = 0.0) -> Schedule:
    """Return half a cosine, from 1 down to ``final`` (Loshchilov & Hutter, 2017, equation 5, without restarts).

    As ``torch.optim.lr_scheduler.CosineAnnealingLR(T_max=total_steps, eta_min=final)`` at a peak rate of 1.

    Raises
    ------
    ValueError
        If ``final`` is not between 0 and 1.
    """
    final = require_number("final", final, at_least=0, at_most=1)
    return Schedule(
        "cosine",
        "cosine",
        r"f(p) = f_1 + (1 - f_1)\,\frac{1 + \cos \pi p}{2}",
        lambda progress: final + (1 - final) * (1 + np.cos(np.pi * progress)) / 2,
    )


def warmup(then: Schedule | None = None, *, share: float = 0.1, start: float = 0.1) -> Schedule:
    """Return a straight rise from ``start`` to 1 over the first ``share`` of the run, and ``then`` over the rest.

    As ``SequentialLR`` of ``LinearLR(start_factor=start, total_iters=w)`` and ``then``, with the milestone
    w = share · total_steps (Goyal et al., 2017, section 2.2: gradual warmup).

    Parameters
    ----------
    then : Schedule, optional
        Squeezed into what is left of the run; default: `cosine`.
    share : float
        Of the run, above 0 and below 1.
    start : float
        First factor, above 0 and at most 1.

    Raises
    ------
    ValueError
        If ``share`` or ``start`` is out of range.
    """
    share = require_number("share", share, above=0, below=1)
    start = require_number("start", start, above=0, at_most=1)
    then = then or cosine()

    def factor(progress: np.ndarray) -> np.ndarray:
        rise = start + (1 - start) * progress / share
        rest = then.factor(np.clip((progress - share) / (1 - share), 0, 1))
        return np.where(progress < share - _ROUNDING, rise, rest)

    return Schedule(
        "warmup",
        f"warm-up, then {then.title}",
        r"f(p) = f_0 + (1 - f_0)\,p / w \text{ for } p < w, \text{ then } f_{\text{next}}\big((p - w)/(1 - w)\big)",
        factor,
    )


def one_cycle(*, rise: float = 0.3, start: float = 1 / 25, final: float = 4e-6, shape: str = "cosine") -> Schedule:
    """Return one rise to the peak and one longer fall far below the start (Smith & Topin, 2019).

    As ``torch.optim.lr_scheduler.OneCycleLR(total_steps=n + 1, pct_start=(rise · n + 1) / (n + 1),
    div_factor=1 / start, final_div_factor=start / final)`` over its first n steps: torch reaches ``final``
    in its last step, and the peak one step before ``pct_start``; here they stand at progress 1 and ``rise``.

    Parameters
    ----------
    rise : float
        Share of the run in which the rate rises, above 0 and below 1.
    start, final : float
        First and last factor, above 0 and at most 1.
    shape : str
        ``"cosine"`` or ``"linear"``.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    rise = require_number("rise", rise, above=0, below=1)
    start = require_number("start", start, above=0, at_most=1)
    final = require_number("final", final, above=0, at_most=1)
    linear = require_choice("shape", shape, ("cosine", "linear")) == "linear"

    def between(first: float, last: float, share: np.ndarray) -> np.ndarray:
        return first + (last - first) * (share if linear else (1 - np.cos(np.pi * share)) / 2)

    def factor(progress: np.ndarray) -> np.ndarray:
        up = between(start, 1.0, progress / rise)
        down = between(1.0, final, (progress - rise) / (1 - rise))
        return np.where(progress < rise, up, down)

    return Schedule("one_cycle", "one cycle", r"f_0 \nearrow 1 \text{ at } p = r,\quad 1 \searrow f_1", factor)


def knots(points: Sequence[tuple[float, float]]) -> Schedule:
    """Return straight lines through ``points``, level before the first and after the last.

    Parameters
    ----------
    points : sequence of (progress, factor)
        Progress rises from point to point, from 0 to at most 1; factors are at least 0. Two points at the
        same progress make a jump.

    Raises
    ------
    ValueError
        If there is no point, one is out of range, or progress falls.

    Examples
    --------
    >>> knots([(0, 0), (0.5, 1), (1, 0)]).factors(4).tolist()
    [0.0, 0.5, 1.0, 0.5]
    """
    if not points:
        raise ValueError("points is empty, but it must hold at least one (progress, factor).")
    x = np.array([require_number("progress", point[0], at_least=0, at_most=1) for point in points])
    y = np.array([require_number("factor", point[1], at_least=0) for point in points])
    if (np.diff(x) < 0).any():
        raise ValueError(f"points have progress {x.tolist()}, but it must not fall from one point to the next.")
    return Schedule("knots", "your own", "", lambda progress: np.interp(progress, x, y))


SCHEDULES: dict[str, Schedule] = {
    schedule.name: schedule
    for schedule in (fixed(), step_decay(), exponential_decay(), polynomial_decay(), cosine(), warmup(), one_cycle())
}
"""Each with its default options, by name."""


@dataclass
class Plateau:
    """Lowers the rate when the validation loss has stopped falling; it reacts, and so keeps a state.

    As ``torch.optim.lr_scheduler.ReduceLROnPlateau(mode="min", threshold_mode="rel", cooldown=0, eps=0)``.

    Parameters
    ----------
    factor : float
        The rate is multiplied by it, above 0 and below 1.
    patience : int
        So many evaluations without progress are put up with; the next one lowers the rate.
    threshold : float
        A loss counts as progress if it is below ``(1 − threshold)`` × the best one.
    smallest : float
        The rate's factor is never lowered below it.

    Examples
    --------
    >>> plateau = Plateau(factor=0.5, patience=1)
    >>> [plateau.observe(loss) for loss in (1.0, 0.9, 0.9, 0.9, 0.8)]
    [1.0, 1.0, 1.0, 0.5, 0.5]
    """

    factor: float = 0.1
    patience: int = 2
    threshold: float = 1e-4
    smallest: float = 0.0

    def __post_init__(self) -> None:
        require_number("factor", self.factor, above=0, below=1)
        require_integer("patience", self.patience, at_least=0)
        require_number("threshold", self.threshold, at_least=0, below=1)
        require_number("smallest", self.smallest, at_least=0, at_most=1)
        self.current = 1.0
        self._best = math.inf
        self._without_progress = 0

    def observe(self, validation_loss: float) -> float:
        """Take in the newest validation loss and return the factor from now on, which `current` holds too."""
        if validation_loss < self._best * (1 - self.threshold):
            self._best, self._without_progress = validation_loss, 0
        else:
            self._without_progress += 1
        if self._without_progress > self.patience:
            self.current = max(self.current * self.factor, self.smallest)
            self._without_progress = 0
        return self.current


@dataclass(frozen=True)
class BatchSizes:
    """How many pictures a step takes, as a function of progress.

    Attributes
    ----------
    title : str
        For legends.
    size : callable
        Maps progress, a float in [0, 1], to a whole number of pictures.
    """

    title: str
    size: Callable[[float], int]

    def __call__(self, progress: float) -> int:
        """Return the pictures of the step that begins at ``progress``, between 0 and 1."""
        return self.size(require_number("progress", progress, at_least=0, at_most=1))

    def by_step(self, total_pictures: int) -> np.ndarray:
        """Return the batch size of every step of a run over ``total_pictures``: int64, shape (steps,).

        The last batch is what is left.

        Examples
        --------
        >>> grow_batch(step_decay(factor=0.5, every=0.5), batch_size=10, largest=100).by_step(80).tolist()
        [10, 10, 10, 10, 20, 20]
        """
        total_pictures = require_integer("total_pictures", total_pictures)
        sizes: list[int] = []
        done = 0
        while done < total_pictures:
            sizes.append(min(self(done / total_pictures), total_pictures - done))
            done += sizes[-1]
        return np.array(sizes)


def grow_batch(schedule: Schedule, *, batch_size: int, largest: int) -> BatchSizes:
    """Grow the batch where ``schedule`` would lower the rate (Smith et al., 2018, section 3).

    The noise of SGD is governed by rate ÷ batch size. Dividing the rate by k and multiplying the batch by k lower it
    alike; the second takes fewer steps for the same number of pictures.

    Parameters
    ----------
    schedule : Schedule
        Of the rate, whose decay is handed over to the batch.
    batch_size : int
        At the peak rate.
    largest : int
        No batch is larger; what is then left to do falls to the rate, see `rate_beside`.

    Raises
    ------
    ValueError
        If a size is not a whole number of at least 1, or ``largest`` is below ``batch_size``.
    """
    batch_size = require_integer("batch_size", batch_size)
    largest = require_integer("largest", largest, at_least=batch_size)

    places = np.linspace(0, 1, 1001)
    peak = float(places[schedule.factor(places).argmax()])

    def size(progress: float) -> int:
        factor = 1.0 if progress < peak else schedule(progress)  # a rise, such as a warm-up, stays with the rate
        return largest if factor * largest <= batch_size else max(1, round(batch_size / factor))

    return BatchSizes(f"batch {batch_size} grows", size)


def shrink_batch(schedule: Schedule, *, batch_size: int, smallest: int = 1) -> BatchSizes:
    """Shrink the batch in proportion to ``schedule``: the backward rule that one of the articles gives.

    Beside a rate that follows the same schedule, rate ÷ batch size never changes: the noise that the decay
    should remove stays.

    Raises
    ------
    ValueError
        If a size is not a whole number of at least 1, or ``smallest`` is above ``batch_size``.
    """
    batch_size = require_integer("batch_size", batch_size)
    smallest = require_integer("smallest", smallest, at_most=batch_size)
    return BatchSizes(
        f"batch {batch_size} shrinks", lambda progress: max(smallest, round(batch_size * schedule(progress)))
    )


def rate_beside(schedule: Schedule, sizes: BatchSizes, *, batch_size: int) -> Schedule:
    """Return the rate that, beside ``sizes``, keeps rate ÷ batch as ``schedule`` has it at ``batch_size``.

    Where `grow_batch` does all the work, it is 1 up to the rounding of the sizes; once the batch has reached
    its largest size, it falls.
    """
    batch_size = require_integer("batch_size", batch_size)

    def factor(progress: np.ndarray) -> np.ndarray:
        progress = np.asarray(progress, dtype=float)
        grown = np.array([sizes(p) for p in progress.ravel()]).reshape(progress.shape)
        return schedule.factor(progress) * grown / batch_size

    return Schedule(f"{schedule.name} beside the batch", f"rate beside {sizes.title}", "", factor)
