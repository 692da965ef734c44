"""Controls bound to functions and figures. No arithmetic is done here."""

from nnopt_lab.widgets.background import BackgroundRun
from nnopt_lab.widgets.clipping_explorer import explore_clipping
from nnopt_lab.widgets.descent_explorer import Goal, explore_descent
from nnopt_lab.widgets.explorer import Explorer, Outcome, explore
from nnopt_lab.widgets.gradient_flow_explorer import explore_gradient_flow
from nnopt_lab.widgets.live_curves import LiveCurves, Panel, Series
from nnopt_lab.widgets.live_figure import LiveFigure
from nnopt_lab.widgets.momentum_explorer import explore_momentum
from nnopt_lab.widgets.prediction import PredictThenReveal, predict_then_reveal
from nnopt_lab.widgets.race import Race, race_live
from nnopt_lab.widgets.schedule_designer import ScheduleDesigner, design_schedule
from nnopt_lab.widgets.tour import explore_step_size
from nnopt_lab.widgets.training_panel import TrainingPanel, train_live

__all__ = [
    "BackgroundRun",
    "Explorer",
    "Goal",
    "LiveCurves",
    "LiveFigure",
    "Outcome",
    "Panel",
    "PredictThenReveal",
    "Race",
    "ScheduleDesigner",
    "Series",
    "TrainingPanel",
    "design_schedule",
    "explore",
    "explore_clipping",
    "explore_descent",
    "explore_gradient_flow",
    "explore_momentum",
    "explore_step_size",
    "predict_then_reveal",
    "race_live",
    "train_live",
]
