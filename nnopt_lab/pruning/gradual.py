"""Pruning over time: at once, in rounds, gradually during training, and rewound to early weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from torch import Tensor, nn

from nnopt_lab.arguments import require_choice, require_integer, require_number, require_numbers
from nnopt_lab.datasets.image_data import ImageData
from nnopt_lab.pruning.criteria import CRITERIA, score_weights
from nnopt_lab.pruning.granularity import GRANULARITIES, spread_over_weights, unit_scores
from nnopt_lab.pruning.masks import SCOPES, Masks, choose_masks
from nnopt_lab.training.state import load_weights

_GRADUAL = tuple(name for name in GRANULARITIES if name != "n:m")  # n:m has one rate only

# A step that falls due at a whole share of the run must not come one step late because of rounding.
_ROUNDING = 1e-9


def cubic_sparsity(
    progress: float | np.ndarray, *, initial: float = 0.0, final: float, begin: float = 0.0, end: float = 1.0
) -> float | np.ndarray:
    """Return the rate that is due when ``progress`` of the run is done.

    final + (initial − final) (1 − u)³ with u = (progress − begin) / (end − begin), kept between 0 and 1: fast at
    first, while there is much to spare, and ever slower (Zhu & Gupta, 2017, arXiv:1710.01878, equation 1).

    Parameters
    ----------
    progress : float or ndarray
        Share of the run that is done, 0–1.
    initial, final : float
        Rates at ``begin`` and ``end``, in [0, 1).
    begin, end : float
        Shares of the run, begin < end.

    Returns
    -------
    float or ndarray
        As ``progress``: a float or float64 of its shape.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> [round(cubic_sparsity(p, final=0.8), 4) for p in (0, 0.25, 0.5, 1)]
    [0.0, 0.4625, 0.7, 0.8]
    """
    done = _share_done(progress, initial=initial, final=final, begin=begin, end=end)
    rates = final + (initial - final) * (1 - np.clip(done, 0, 1)) ** 3
    return rates if isinstance(progress, np.ndarray) else float(rates)


def cubic_slope(
    progress: float | np.ndarray, *, initial: float = 0.0, final: float, begin: float = 0.0, end: float = 1.0
) -> float | np.ndarray:
    """Return the derivative of `cubic_sparsity` by progress: 3 (final − initial) (1 − u)² / (end − begin).

    It is 0 outside of [begin, end], steepest at ``begin``, where it jumps, and 0 again at ``end``. Arguments, result
    and errors are those of `cubic_sparsity`.

    Examples
    --------
    >>> [round(cubic_slope(p, final=0.8), 4) for p in (0, 0.5, 1)]
    [2.4, 0.6, 0.0]
    """
    done = _share_done(progress, initial=initial, final=final, begin=begin, end=end)
    slopes = np.where((done >= 0) & (done <= 1), 3 * (final - initial) * (1 - done) ** 2 / (end - begin), 0.0)
    return slopes if isinstance(progress, np.ndarray) else float(slopes)


def one_shot(rate: float) -> list[float]:
    """Return the rates of pruning at once: the one."""
    return [require_number("rate", rate, at_least=0, below=1)]


def iterative(rate: float, *, rounds: int) -> list[float]:
    """Return the rate after each of ``rounds`` rounds that reach ``rate`` together, with training in between.

    Each round removes the same share of what the last one left, so that the kept shares multiply (Han et al., 2015;
    Frankle & Carbin, 2019, remove 20% a round).

    Raises
    ------
    ValueError
        If ``rate`` is not in [0, 1) or ``rounds`` not a whole number of at least 1.

    Examples
    --------
    >>> [round(rate, 3) for rate in iterative(0.488, rounds=3)]
    [0.2, 0.36, 0.488]
    """
    kept = 1 - require_number("rate", rate, at_least=0, below=1)
    rounds = require_integer("rounds", rounds)
    return [1 - kept ** (done / rounds) for done in range(1, rounds + 1)]


def rewind(model: nn.Module, early_state: Mapping[str, Tensor], masks: Masks) -> None:
    """Put the weights of ``model`` back to an earlier state, but for those that ``masks`` remove, in place.

    With the state at initialization this is the lottery ticket (Frankle & Carbin, 2019, arXiv:1803.03635); larger
    networks need one from a little later in training (Frankle et al., 2020, arXiv:1912.05671).

    Parameters
    ----------
    early_state : mapping of Tensor
        A copy of ``model.state_dict()``: ``{name: tensor.clone() for name, tensor in model.state_dict().items()}``.
    masks : Masks
        Chosen from the trained weights, that is before this call.

    Raises
    ------
    ValueError
        If ``early_state`` is of another model, or no copy: then it has been trained along with the model.
    """
    for name, tensor in model.state_dict().items():
        if name in early_state and tensor.numel() and early_state[name].data_ptr() == tensor.data_ptr():
            raise ValueError(
                f"early_state[{name!r}] is the model's own tensor and was trained along with it; "
                "keep copies: {name: tensor.clone() for name, tensor in model.state_dict().items()}."
            )
    load_weights(model, dict(early_state), origin="early_state")
    masks.apply(model)


class HoldMasks:
    """Keeps pruned weights at 0 in training: ``fit(..., after_step=HoldMasks(masks))``.

    Setting them to 0 once is not enough: gradient, momentum and weight decay move them in the next step.
    """

    def __init__(self, masks: Masks) -> None:
        self.masks = masks
        self.sparsity = masks.sparsity

    def __call__(self, model: nn.Module, progress: float) -> None:
        """Set the weights that go to 0 again; ``progress`` plays no part."""
        self.masks.apply(model)


class GradualPruning:
    """Prunes more and more during training: ``fit(..., after_step=GradualPruning(final=0.9))``.

    Follows `cubic_sparsity` in steps of ``every_progress``. What is removed stays removed, unless the target falls:
    then those whose last step took them furthest from 0 return (by score, for other criteria).

    A resumed run goes on as if it had not been interrupted, if it is given the same arguments: which weights are
    removed is read from the zeros in the checkpoint. To begin with a network that is pruned already, set ``initial``
    to its rate and call this once before training: ``pruning(model, 0.0)``. With early stopping, the weights of the
    best evaluation come back at the end with the zeros of that time, which may be fewer than ``final``.

    Parameters
    ----------
    final : float
        Rate at the end, in [0, 1). May be changed while a run is under way; the next step acts on it.
    initial : float
        Rate at the beginning.
    begin, end : float
        Shares of the run between which the rate rises. The rest of the run is for the weights that are left.
    every_progress : float
        Share of the run after which new masks are chosen; 0 for each step. With the criteria that look at pictures,
        each choice costs a pass over them.
    criterion, granularity, scope, layers, data, pictures, seed
        As in `choose_masks`; all granularities but ``"n:m"``, which has one rate only.

    Attributes
    ----------
    masks : Masks or None
        The current ones; None before the first step.
    target : float
        The rate that was due in the last step: share of the units.
    sparsity : float
        Share of all prunable weights that were removed in the last step.

    Raises
    ------
    ValueError
        If an argument is unknown or out of range; when called, if a layer would lose all its weights.
    """

    def __init__(
        self,
        *,
        final: float,
        initial: float = 0.0,
        begin: float = 0.0,
        end: float = 0.75,
        every_progress: float = 0.01,
        criterion: str = "l1",
        granularity: str = "weight",
        scope: str = "global",
        layers: Iterable[str] | None = None,
        data: ImageData | None = None,
        pictures: int = 512,
        seed: int = 0,
    ) -> None:
        self.final = final
        self.initial = require_number("initial", initial, at_least=0, below=1)
        self.end = require_number("end", end, above=0, at_most=1)
        self.begin = require_number("begin", begin, at_least=0, below=self.end)
        self.every_progress = require_number("every_progress", every_progress, at_least=0, at_most=1)
        self.criterion = require_choice("criterion", criterion, CRITERIA)
        self.granularity = require_choice("granularity", granularity, _GRADUAL)
        self.scope = require_choice("scope", scope, SCOPES)
        self.layers = layers if layers is None or isinstance(layers, str) else tuple(layers)
        self.data, self.pictures, self.seed = data, pictures, seed
        self.masks: Masks | None = None
        self.target = self.sparsity = 0.0

    @property
    def final(self) -> float:
        """Rate at the end, in [0, 1)."""
        return self._final

    @final.setter
    def final(self, rate: float) -> None:
        self._final = require_number("final", rate, at_least=0, below=1)

    def target_at(self, progress: float) -> float:
        """Return the rate that is due when ``progress`` of the run is done, 0–1."""
        if self.every_progress and progress < self.end:
            progress = int(progress / self.every_progress + _ROUNDING) * self.every_progress
        return cubic_sparsity(
            min(progress, 1.0), initial=self.initial, final=self.final, begin=self.begin, end=self.end
        )

    def __call__(self, model: nn.Module, progress: float) -> None:
        """Prune ``model`` in place to what is due at ``progress``; a second call at the same place changes nothing."""
        target = self.target_at(progress)
        if self.masks is None or target != self.target:
            self.masks = self._choose(model, target)
            self.target, self.sparsity = target, self.masks.sparsity
        self.masks.apply(model)

    def _choose(self, model: nn.Module, target: float) -> Masks:
        scores = score_weights(
            model,
            # Without anything to remove, scores do not matter and pictures need not be looked at.
            self.criterion if target else "l1",
            granularity=self.granularity,
            data=self.data,
            pictures=self.pictures,
            seed=self.seed,
        )
        before = Masks.of_zeros(model) if self.masks is None else self.masks
        falls = self.masks is not None and target < self.target
        for name, mask in before.masks.items():
            removed = spread_over_weights(
                unit_scores(mask.float(), self.granularity) == 0, mask.shape, self.granularity
            )
            # Below or above all others: those removed before go first, or those kept before go last.
            scores[name] = scores[name].masked_fill(~removed, 1e30) if falls else scores[name].masked_fill(removed, -1)
        return choose_masks(
            model,
            rate=target,
            scores=scores,
            granularity=self.granularity,
            scope=self.scope,
            layers=self.layers,
        )


def _share_done(progress: float | np.ndarray, *, initial: float, final: float, begin: float, end: float) -> np.ndarray:
    require_number("initial", initial, at_least=0, below=1)
    require_number("final", final, at_least=0, below=1)
    end = require_number("end", end, above=0, at_most=1)
    begin = require_number("begin", begin, at_least=0, below=end)
    return (require_numbers("progress", progress, at_least=0, at_most=1) - begin) / (end - begin)
