"""Controls bound to functions and figures. No arithmetic is done here."""

from nnopt_lab.widgets.background import BackgroundRun
from nnopt_lab.widgets.clipping_explorer import explore_clipping
from nnopt_lab.widgets.descent_explorer import Goal, explore_descent
from nnopt_lab.widgets.dimension_explorer import explore_dimensions
from nnopt_lab.widgets.early_stopping_explorer import explore_early_stopping
from nnopt_lab.widgets.explorer import Explorer, Outcome, explore
from nnopt_lab.widgets.gradient_flow_explorer import explore_gradient_flow
from nnopt_lab.widgets.gradual_pruning import PruningPanel, prune_live
from nnopt_lab.widgets.live_curves import LiveCurves, Panel, Series
from nnopt_lab.widgets.live_figure import LiveFigure
from nnopt_lab.widgets.momentum_explorer import explore_momentum
from nnopt_lab.widgets.noisy_data_explorer import explore_noisy_data
from nnopt_lab.widgets.number_line import explore_grid
from nnopt_lab.widgets.opinion_explorer import explore_opinion
from nnopt_lab.widgets.prediction import PredictThenReveal, predict_then_reveal
from nnopt_lab.widgets.pruning_explorer import explore_pruning
from nnopt_lab.widgets.quantization_explorer import explore_quantization
from nnopt_lab.widgets.race import Race, race_live
from nnopt_lab.widgets.schedule_designer import ScheduleDesigner, design_schedule
from nnopt_lab.widgets.shared_training import SharingPanel, share_live
from nnopt_lab.widgets.sharing_explorer import explore_sharing
from nnopt_lab.widgets.student_race import StudentRace, race_students
from nnopt_lab.widgets.threshold_explorer import explore_threshold
from nnopt_lab.widgets.tour import explore_step_size
from nnopt_lab.widgets.training_panel import TrainingPanel, train_live
from nnopt_lab.widgets.weights_explorer import explore_weights

__all__ = [
    "BackgroundRun",
    "Explorer",
    "Goal",
    "LiveCurves",
    "LiveFigure",
    "Outcome",
    "Panel",
    "PredictThenReveal",
    "PruningPanel",
    "Race",
    "ScheduleDesigner",
    "Series",
    "SharingPanel",
    "StudentRace",
    "TrainingPanel",
    "design_schedule",
    "explore",
    "explore_clipping",
    "explore_descent",
    "explore_dimensions",
    "explore_early_stopping",
    "explore_gradient_flow",
    "explore_grid",
    "explore_momentum",
    "explore_noisy_data",
    "explore_opinion",
    "explore_pruning",
    "explore_quantization",
    "explore_sharing",
    "explore_step_size",
    "explore_threshold",
    "explore_weights",
    "predict_then_reveal",
    "prune_live",
    "race_live",
    "share_live",
    "race_students",
    "train_live",
]
