"""Predict, then reveal: the reader commits to a number before the measurement is shown."""

from __future__ import annotations

import html
from collections.abc import Callable

import ipywidgets

from nnopt_lab.arguments import require_number
from nnopt_lab.predictions import Prediction
from nnopt_lab.widgets import cells
from nnopt_lab.widgets.controls import weakly
from nnopt_lab.widgets.display import Displayed

_WORDS = {"right": "✓ Right", "close": "≈ Close", "off": "✗ Surprising"}


def predict_then_reveal(
    question: str,
    *,
    low: float,
    high: float,
    step: float,
    unit: str = "",
    measure: Callable[[], float],
    tolerance: float,
    value: float | None = None,
) -> PredictThenReveal:
    """Return a slider for a guess and a button that measures and scores it.

    Parameters
    ----------
    question : str
        What is to be guessed, one sentence.
    low, high, step : float
        Of the slider.
    unit : str
        Of the answer, for example ``"%"``.
    measure : callable
        Returns the true value; called once, at the first reveal.
    tolerance : float
        How far off still counts as right.
    value : float, optional
        Where the slider starts; the middle by default.

    Raises
    ------
    ValueError
        If the range is empty or the tolerance is not positive.
    """
    return PredictThenReveal(
        question, low=low, high=high, step=step, unit=unit, measure=measure, tolerance=tolerance, value=value
    )


class PredictThenReveal(Displayed):
    """What `predict_then_reveal` shows; ``prediction`` is None until it is revealed."""

    def __init__(
        self,
        question: str,
        *,
        low: float,
        high: float,
        step: float,
        unit: str,
        measure: Callable[[], float],
        tolerance: float,
        value: float | None,
    ) -> None:
        require_number("high", high, above=low)
        require_number("step", step, above=0, at_most=high - low)
        require_number("tolerance", tolerance, above=0)
        self.prediction: Prediction | None = None
        self.question = question
        self._unit, self._measure, self._tolerance = unit, measure, tolerance
        self._digits = max(0, len(f"{step:.6f}".rstrip("0").split(".")[1]))
        self.slider = ipywidgets.FloatSlider(
            description="My guess",
            min=low,
            max=high,
            step=step,
            value=value if value is not None else (low + high) / 2,
            readout_format=f".{self._digits}f",
            style={"description_width": "72px"},
            layout=ipywidgets.Layout(width="420px"),
        )
        self.button = ipywidgets.Button(
            description="Reveal", icon="eye", button_style="primary", layout=ipywidgets.Layout(width="104px")
        )
        self.button.on_click(weakly(self._press))
        self.answer = ipywidgets.HTML(layout=ipywidgets.Layout(max_width="860px"))
        row = [self.slider, ipywidgets.Label(unit), self.button] if unit else [self.slider, self.button]
        self._box = ipywidgets.VBox(
            [
                ipywidgets.HTML(f"<b>Predict:</b> {html.escape(question)}"),
                ipywidgets.HBox(row, layout=ipywidgets.Layout(flex_flow="row wrap")),
                self.answer,
            ],
            layout=ipywidgets.Layout(align_items="flex-start"),
        )
        cells.register(self)

    @property
    def view(self) -> ipywidgets.Widget:
        """Question, slider, button and answer in one box."""
        return self._box

    def picture(self) -> None:
        """There is none: the words say it all."""
        return None

    def alt_text(self) -> str:
        """Return the question and, once revealed, the answer."""
        return f"Predict: {self.question} {self.sentence()}".strip()

    def reveal(self) -> Prediction:
        """Measure, show the value beside the guess, and return both; the guess is then fixed."""
        if self.prediction is None:
            self.prediction = Prediction(float(self.slider.value), float(self._measure()), self._tolerance)
            self.slider.disabled = self.button.disabled = True
            self.answer.value = f'<span role="status">{html.escape(self.sentence())}</span>'
        return self.prediction

    def sentence(self) -> str:
        """Return the score in plain words; empty before the reveal."""
        if self.prediction is None:
            return ""
        measured, guess = self._number(self.prediction.measured), self._number(self.prediction.guess)
        off = (
            f"{abs(self.prediction.error):.{self._digits}f} points"
            if self._unit == "%"
            else self._number(abs(self.prediction.error))
        )
        side = "too high" if self.prediction.error > 0 else "too low"
        how = "exactly" if self.prediction.error == 0 else f"{off} {side}"
        return f"{_WORDS[self.prediction.verdict]}: measured {measured}, you said {guess} ({how})."

    def abandon(self) -> None:
        """Nothing goes on behind a question; there is nothing to stop."""

    def _press(self, _: object) -> None:
        try:
            self.reveal()
        except Exception as error:  # a button's traceback would land in a log that the reader never opens
            self.answer.value = (
                f'<span role="status" style="color:#b3261e">⚠ {type(error).__name__}: {html.escape(str(error))}</span>'
            )

    def _number(self, value: float) -> str:
        space = "" if self._unit in ("", "%") else " "
        return f"{value:.{self._digits}f}{space}{self._unit}"
