"""What turns a few lines of `require` into a check that answers with a mark and a hint, and never raises.

A check is a function of the student's answer::

    @exercise(title="The size after a convolution", points=2, minutes=5)
    def output_size(answer) -> None:
        require(close(answer(32, kernel=5), 28), "a kernel of 5 fits into 32 pixels at 28 places")

and ``output_size(students_function)`` returns a `Verdict`.
"""

from __future__ import annotations

import functools
import html
import os
import signal
import sysconfig
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import numpy as np
import torch
from torch import Tensor, nn

from nnopt_lab.arguments import require_integer, require_number

TIME_LIMIT_S = 20.0
"""An answer that has not come back after this many seconds is stopped, unless its exercise says otherwise."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a check found.

    Attributes
    ----------
    title : str
        Of the exercise.
    attempted : bool
        False while the answer is still the stub.
    passed : bool
        Whether every requirement is met.
    points : int
        What the exercise is worth.
    message : str
        The hint, or why there is no result; empty when passed.
    """

    title: str
    attempted: bool
    passed: bool
    points: int
    message: str

    @property
    def earned(self) -> int:
        """Points reached: all or none."""
        return self.points if self.passed else 0

    def __repr__(self) -> str:
        worth = f"{self.earned} of {_points(self.points)}"
        if not self.attempted:
            return f"· {self.title}: not attempted yet ({_points(self.points)})"
        if self.passed:
            return f"✓ {self.title}: passed ({worth})"
        return f"✗ {self.title}: not yet right ({worth})\n  Hint: {self.message}"

    def _repr_html_(self) -> str:
        symbol, word, color, fill = _LOOKS[0 if not self.attempted else 1 if self.passed else 2]
        worth = f"{self.earned} of {_points(self.points)}" if self.attempted else _points(self.points)
        hint = f'<div style="margin-top:4px">Hint: {html.escape(self.message)}</div>' if self.message else ""
        return (
            f'<div role="status" style="border-left:6px solid {color};background:{fill};color:#1a1a1a;'
            'padding:8px 12px;margin:4px 0;max-width:48em">'
            f'<span aria-hidden="true" style="font-weight:bold;color:{color}">{symbol}</span> '
            f"<strong>{html.escape(self.title)}</strong>: {word} ({worth}){hint}</div>"
        )


# Symbol, word, border and background; the colors (Okabe & Ito, 2008) only repeat what the words say.
_LOOKS = (
    ("·", "not attempted yet", "#5f5f5f", "#f2f2f2"),
    ("✓", "passed", "#00664b", "#e9f6f1"),
    ("✗", "not yet right", "#a33c00", "#fdf1ea"),
)


class _Unmet(Exception):
    """A requirement is not met; the text is the hint."""


class _TooSlow(BaseException):
    """Not an Exception, so that a student's ``except Exception`` does not swallow it."""


def unseen_generator() -> torch.Generator:
    """Return a generator that starts elsewhere each time, so that no table of the tested inputs passes."""
    generator = torch.Generator()
    generator.seed()
    return generator


def require(condition: object, hint: str) -> None:
    """Go on if ``condition`` is true; end the check with ``hint`` if it is not.

    Only a plain truth value counts (Python's, NumPy's, or a tensor of one): an answer whose comparison gives
    something else, such as a list or a tensor of many, is not right.
    """
    if (
        isinstance(condition, Tensor | np.ndarray)
        and condition.shape == ()
        and condition.dtype in (torch.bool, np.bool_)
    ):
        condition = bool(condition)
    if not (isinstance(condition, bool | np.bool_) and condition):
        raise _Unmet(hint)


def close(
    actual: object, expected: object, *, relative: float = 1e-4, absolute: float = 1e-6, name: str = "your answer"
) -> bool:
    """Tell whether the student's ``actual`` is the real thing and near ``expected``.

    Only plain numbers, strings, lists and tuples of them, tensors and NumPy arrays are compared, so an object
    that claims to equal everything does not pass. A wrong kind or shape ends the check with a hint of its own.

    Parameters
    ----------
    actual : object
        What the student's code returned.
    expected : number, bool, str, list, tuple, Tensor or ndarray
        What is right. A bool or str has to be met exactly.
    relative, absolute : float
        Allowed difference: ``absolute + relative · |expected|``, element by element.
    name : str
        What the hint calls ``actual``.

    Examples
    --------
    >>> close(0.1 + 0.2, 0.3)
    True
    """
    if actual is None:
        raise _Unmet(f"{name} is None: does the function return its result?")
    if isinstance(expected, bool | str):
        if type(actual) not in (type(expected), np.bool_):
            raise _Unmet(f"{name} is of type {type(actual).__name__}; it should be {type(expected).__name__}.")
        return bool(actual == expected)
    have, want = _numbers(actual), _numbers(expected)
    if want is None:
        raise TypeError(f"expected is of type {type(expected).__name__}, which cannot be compared with numbers")
    if have is None:
        kind = "a number" if want.ndim == 0 else f"numbers of shape {tuple(want.shape)}"
        raise _Unmet(f"{name} is of type {type(actual).__name__}; it should be {kind}.")
    if have.shape != want.shape:
        raise _Unmet(f"{name} has shape {_shape(have)}; it should be {_shape(want)}.")
    return bool(torch.isclose(have, want, rtol=relative, atol=absolute).all())


def plain(values: object) -> np.ndarray:
    """Return the student's numbers as a float64 array, also from tensors that record gradients."""
    numbers = _numbers(values)
    return np.asarray(values, dtype=float) if numbers is None else numbers.numpy()


def short(values: object, *, most: int = 6) -> str:
    """Return the first ``most`` of the student's numbers for a hint."""
    return "[" + ", ".join(f"{value:.4g}" for value in plain(values).ravel()[:most]) + "]"


def rule_out(actual: object, slips: Mapping[str, object], *, name: str = "your answer") -> None:
    """End the check with the hint of the first slip that gives ``actual``; ``slips`` maps hints to wrong results."""
    for hint, wrong in slips.items():
        # Tighter than `close`: another wrong answer that happens to come near would get the wrong hint.
        require(not close(actual, wrong, relative=1e-6, name=name), hint)


def pair(result: object, hint: str) -> tuple[object, object]:
    """Return the two things in the student's ``result``; end the check with ``hint`` if they are not two."""
    if isinstance(result, Tensor | np.ndarray) and result.ndim > 0:
        result = list(result)
    require(isinstance(result, tuple | list) and len(result) == 2, hint)
    return result[0], result[1]  # type: ignore[index]


def is_whole(value: object) -> bool:
    """Tell whether the student's ``value`` is an integer of Python, NumPy or torch."""
    if type(value) is Tensor:
        return value.shape == () and not (value.is_floating_point() or value.is_complex() or value.dtype is torch.bool)
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def exercise(
    *, title: str, points: int, minutes: float, limit_s: float = TIME_LIMIT_S
) -> Callable[[Callable[..., None]], Callable[..., Verdict]]:
    """Make a check of a function that raises nothing when the answer is right.

    The check returns a `Verdict` whatever the answer does: a stub (``NotImplementedError``, ``...`` or None) is
    not attempted yet, an unmet `require` gives its hint, and any other error of the student's code is told
    with its line. The check has ``title``, ``points`` and ``minutes`` as attributes.

    Parameters
    ----------
    title : str
        What the verdict calls it.
    points : int
        What it is worth.
    minutes : float
        How long it takes a student, as a guide.
    limit_s : float
        An answer that has not come back after this many seconds is stopped; more for a check that trains.
    """
    points = require_integer("points", points)
    minutes = require_number("minutes", minutes, above=0)
    limit_s = require_number("limit_s", limit_s, above=0)

    def decorate(check: Callable[..., None]) -> Callable[..., Verdict]:
        @functools.wraps(check)
        def run(*answers: object, **named: object) -> Verdict:
            given = (*answers, *named.values())
            if not given or any(answer is None or answer is ... for answer in given):
                return Verdict(title=title, attempted=False, passed=False, points=points, message="")
            try:
                with _time_limit(limit_s):
                    check(*answers, **named)
            except _Unmet as unmet:
                message = str(unmet)
            except _TooSlow:
                message = f"your code was stopped after {limit_s:g} s: does a loop never end, or does it do too much?"
            except NotImplementedError as error:
                if _is_students_file(traceback.extract_tb(error.__traceback__)[-1].filename):
                    return Verdict(title=title, attempted=False, passed=False, points=points, message="")
                message = _explain(error, check)
            except (Exception, SystemExit) as error:
                message = _explain(error, check)
            else:
                return Verdict(title=title, attempted=True, passed=True, points=points, message="")
            return Verdict(title=title, attempted=True, passed=False, points=points, message=message)

        run.title, run.points, run.minutes = title, points, minutes  # type: ignore[attr-defined]
        return run

    return decorate


@dataclass(frozen=True)
class Summary:
    """Verdicts of a lesson, with the points reached and possible."""

    verdicts: tuple[Verdict, ...]

    @property
    def earned(self) -> int:
        return sum(verdict.earned for verdict in self.verdicts)

    @property
    def possible(self) -> int:
        return sum(verdict.points for verdict in self.verdicts)

    def __repr__(self) -> str:
        lines = [repr(verdict).splitlines()[0] for verdict in self.verdicts]
        return "\n".join([*lines, f"{self.earned} of {_points(self.possible)}"])

    def _repr_html_(self) -> str:
        rows = "".join(verdict._repr_html_() for verdict in self.verdicts)
        return f"{rows}<p><strong>{self.earned} of {_points(self.possible)}</strong></p>"


def summary(*verdicts: Verdict) -> Summary:
    """Put verdicts together and count their points."""
    return Summary(verdicts)


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise `_TooSlow` in the block after ``seconds``, where the system can: on the main thread, not on Windows."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise _TooSlow

    handler = signal.signal(signal.SIGALRM, stop)
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left, interval)
        signal.signal(signal.SIGALRM, handler)


def _numbers(value: object) -> Tensor | None:
    """Return plain numbers as a float64 tensor, None for anything else."""
    # Exact types: a subclass may have redefined what comparing or converting it means.
    if type(value) in (bool, int, float):
        return torch.tensor(float(value), dtype=torch.float64)  # type: ignore[arg-type]
    if type(value) in (Tensor, nn.Parameter):
        return None if value.is_complex() else value.detach().to("cpu", torch.float64)  # type: ignore[union-attr]
    if type(value) is np.ndarray or (type(value).__module__ == "numpy" and isinstance(value, np.number | np.bool_)):
        # Kinds: bool, integers, floats; not text or dates, which NumPy would convert too.
        return torch.from_numpy(np.array(value, dtype=np.float64)) if value.dtype.kind in "biuf" else None
    if type(value) in (list, tuple, torch.Size):
        parts = [_numbers(part) for part in value]  # type: ignore[attr-defined]
        if any(part is None or part.shape != parts[0].shape for part in parts):
            return None
        return torch.stack(parts) if parts else torch.zeros(0, dtype=torch.float64)
    return None


def _explain(error: BaseException, check: Callable[..., None]) -> str:
    """Say what the student's code raised, and in which line of theirs."""
    text = " ".join(str(error).split())
    what = type(error).__name__ + (f": {text[:300]}" if text else "")
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        code = frame.f_code
        if _is_students_file(code.co_filename) and code is not check.__code__:
            where = "your code" if code.co_name == "<module>" else f"your function {code.co_name!r}"
            return f"your code raised {what} (line {line - code.co_firstlineno + 1} of {where})"
    return f"your answer cannot be used: {what}"


def _is_students_file(filename: str) -> bool:
    libraries = (Path(__file__).resolve().parents[1], *map(sysconfig.get_path, ("stdlib", "purelib", "platlib")))
    return not filename.startswith(("<frozen", *(f"{library}{os.sep}" for library in libraries)))


def _points(points: int) -> str:
    return f"{points} point" if points == 1 else f"{points} points"


def _shape(tensor: Tensor) -> str:
    return "that of a single number" if tensor.ndim == 0 else str(tuple(tensor.shape))
