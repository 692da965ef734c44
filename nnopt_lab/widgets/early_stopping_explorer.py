"""Patience on a slider: where a run that over-fits would have stopped, and which weights it would have kept."""

from __future__ import annotations

from nnopt_lab.plotting.early_stopping import StoppingPanels
from nnopt_lab.training.early_stopping import EarlyStop, WatchedRun, stop_early
from nnopt_lab.widgets.controls import integer_slider, slider
from nnopt_lab.widgets.explorer import Explorer, Outcome, explore
from nnopt_lab.widgets.live_figure import LiveFigure

LARGEST_IMPROVEMENT = 0.2
FIRST_PATIENCE = 5


def explore_early_stopping(run: WatchedRun, *, state: str | None = None) -> Explorer:
    """Return an explorer of early stopping on a run that was trained to its end.

    Nothing is trained: the run's own evaluations say where each patience would have ended it.

    Parameters
    ----------
    run : WatchedRun
        From `nnopt_lab.training.watch`.
    state : str, optional
        Where the controls start, as the Share button shows it, or a part of it, as in ``"patience=3"``.

    Raises
    ------
    ValueError
        If ``run`` was evaluated less than twice, or ``state`` has a name or value that does not exist.
    """
    count = len(run.validation)
    if count < 2:
        raise ValueError(f"run has {count} evaluation, but it must have at least 2; see evaluate_every_epochs.")
    live = LiveFigure(
        columns=2,
        width_px=860,
        height_px=330,
        title=run.data_label,
        alt=f"A run on {run.data_label}, over its epochs. Left: training and validation loss. Right: validation "
        "accuracy. A star marks the evaluation whose weights are kept, a dotted line where training stops; what is "
        "then not trained is hatched.",
    )
    panels = StoppingPanels(*live.axes, run)
    titles = "Loss (cross-entropy)", "Accuracy (validation)"
    for ax, title, handles in zip(live.axes, titles, panels.handles, strict=True):
        live.describe(ax, title=title, x="epoch")
        live.legend(ax, columns=3, handles=handles)
    for artist in panels.artists:
        live.animate(artist)
    least = run.least_patience()

    def update(patience: int, improvement: float) -> Outcome:
        stop = stop_early(run.losses, patience=patience, improvement=improvement)
        panels.show(stop)
        return Outcome(_words(run, stop), goal_reached=stop.kept == run.lowest and patience == least)

    return explore(
        live,
        update,
        controls={
            "patience": integer_slider("patience", low=1, high=count, value=min(FIRST_PATIENCE, count)),
            "improvement": slider("better by over", low=0.0, high=LARGEST_IMPROVEMENT, value=0.0, step=0.01),
        },
        goal="keep the weights of the run's lowest validation loss, and stop as early as you can.",
        call="explore_early_stopping(run, ",
        state=state,
    )


def _words(run: WatchedRun, stop: EarlyStop) -> str:
    kept, last, count = run.validation[stop.kept], run.validation[-1], len(run.validation)
    if stop.made < count:
        says = f"Stops after evaluation {stop.made} of {count}, saving {run.saved(stop):.0%} of the training, and puts"
    else:
        says = f"Trains to the end, all {count} evaluations, and puts"
    says += f" the weights of evaluation {stop.kept + 1} back: validation loss {kept.loss:.2f}, accuracy "
    says += f"{kept.accuracy:.1%}. Without stopping it ends at {last.loss:.2f}, {last.accuracy:.1%}."
    if stop.kept != run.lowest:
        says += f" The lowest loss, {run.losses[run.lowest]:.2f} in evaluation {run.lowest + 1}, is missed."
    test, test_last = run.test[stop.kept], run.test[count - 1]
    return (
        f"{says}\nOn {test.count} test pictures (only reported; no rule looks at them): loss {test.loss:.2f}, accuracy "
        f"{test.accuracy:.1%} with these weights; {test_last.loss:.2f}, {test_last.accuracy:.1%} at the end."
    )
