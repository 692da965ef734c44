"""Long comparisons over several seeds, whose results ship as JSON with the command that remakes them."""

from nnopt_lab.experiments.results import Results, load_results, results_folder
from nnopt_lab.experiments.runs import EXPERIMENTS, run_experiment

__all__ = ["EXPERIMENTS", "Results", "load_results", "results_folder", "run_experiment"]
