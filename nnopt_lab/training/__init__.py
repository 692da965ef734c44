"""Training as a generator: whoever drives it decides when to draw, pause, change a rate or stop."""

from nnopt_lab.training.driven import drive
from nnopt_lab.training.early_stopping import EarlyStop, WatchedRun, stop_early, watch
from nnopt_lab.training.evaluation import Evaluation, evaluate, predict
from nnopt_lab.training.loop import Controls, StepRecord, TrainingDiverged, fit
from nnopt_lab.training.range_test import RangeTest, range_test, range_test_steps, summarize_range_test
from nnopt_lab.training.settings import TrainingSettings, learning_rate_factors
from nnopt_lab.training.state import CheckpointError
from nnopt_lab.training.statistics import refresh_statistics
from nnopt_lab.training.step import Batch, Objective, default_device

__all__ = [
    "Batch",
    "CheckpointError",
    "Controls",
    "EarlyStop",
    "Evaluation",
    "Objective",
    "RangeTest",
    "StepRecord",
    "TrainingDiverged",
    "TrainingSettings",
    "WatchedRun",
    "default_device",
    "drive",
    "evaluate",
    "fit",
    "learning_rate_factors",
    "predict",
    "range_test",
    "range_test_steps",
    "refresh_statistics",
    "stop_early",
    "summarize_range_test",
    "watch",
]
