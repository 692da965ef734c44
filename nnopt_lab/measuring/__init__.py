"""Numbers that can be trusted: accuracy with its interval, size on disk, latency, memory and where the time goes."""

from nnopt_lab.measuring.accuracy import accuracy_interval, chance_of_difference
from nnopt_lab.measuring.gradients import gradient_norms_by_layer
from nnopt_lab.measuring.latency import Comparison, Latency, compare_latency, measure_latency
from nnopt_lab.measuring.memory import PeakMemory, measure_peak_memory, peak_memory
from nnopt_lab.measuring.noise_scale import NoiseScale, measure_noise_scale, noise_scale_of
from nnopt_lab.measuring.size import bytes_on_disk
from nnopt_lab.measuring.step_parts import StepParts, time_article_parts, time_parts

__all__ = [
    "Comparison",
    "Latency",
    "NoiseScale",
    "PeakMemory",
    "StepParts",
    "accuracy_interval",
    "bytes_on_disk",
    "chance_of_difference",
    "compare_latency",
    "gradient_norms_by_layer",
    "measure_latency",
    "measure_noise_scale",
    "measure_peak_memory",
    "noise_scale_of",
    "peak_memory",
    "time_article_parts",
    "time_parts",
]
