"""Controls bound to functions and figures. No arithmetic is done here."""

from nnopt_lab.widgets.background import BackgroundRun
from nnopt_lab.widgets.explorer import Explorer, Outcome, explore
from nnopt_lab.widgets.live_curves import LiveCurves, Panel, Series
from nnopt_lab.widgets.live_figure import LiveFigure
from nnopt_lab.widgets.prediction import PredictThenReveal, predict_then_reveal
from nnopt_lab.widgets.tour import explore_step_size
from nnopt_lab.widgets.training_panel import TrainingPanel, train_live

__all__ = [
    "BackgroundRun",
    "Explorer",
    "LiveCurves",
    "LiveFigure",
    "Outcome",
    "Panel",
    "PredictThenReveal",
    "Series",
    "TrainingPanel",
    "explore",
    "explore_step_size",
    "predict_then_reveal",
    "train_live",
]
