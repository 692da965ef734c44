"""Pictures: functions that draw on the axes they are given, compute nothing and show nothing."""

from nnopt_lab.plotting.curves import draw_accuracy, draw_gradient_norm, draw_learning_rate, draw_loss

__all__ = ["draw_accuracy", "draw_gradient_norm", "draw_learning_rate", "draw_loss"]
