"""The workbook's figures, measured as ratios in one run: ``python -m benchmarks``."""
