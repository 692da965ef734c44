"""nnopt_lab: the library behind a workbook on the optimization of neural networks."""

__version__ = "0.1.0"
