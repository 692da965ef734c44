"""The rows of a timed variant; how fast it is, is the machine's business."""

from __future__ import annotations

from itertools import pairwise

import pytest

from nnopt_lab.experiments import load_results
from nnopt_lab.experiments.speeds import CPU_VARIANTS, GPU_VARIANTS, measure_speeds


def test_a_row_has_the_rate_that_its_parts_add_up_to(tiny_data):
    rows = measure_speeds(tiny_data, CPU_VARIANTS, device="cpu", steps=1, batch_size=4)
    assert [row["condition"] for row in rows] == ["channels first", "channels last"]
    for row in rows:
        parts_ms = sum(row[f"{part}_ms"] for part in ("data", "forward", "backward", "optimizer"))
        assert row["images_per_s"] == pytest.approx(4 * 1000 / parts_ms, rel=0.01)
        assert row["batch_size"] == 4


def test_each_variant_adds_one_thing_to_the_one_before():
    settings = [(variant.channels_last, variant.precision, variant.compiled) for variant in GPU_VARIANTS]
    assert settings[0] == (False, "float32", False)
    changes = [
        sum(one != other for one, other in zip(before, after, strict=True)) for before, after in pairwise(settings)
    ]
    assert changes == [1, 1, 1]


def test_the_recorded_rates_are_as_lesson_3_tells_them():
    first, layout, autocast, compiled = (row["images_per_s"] for row in load_results("lesson03_gpu").rows)
    assert layout == pytest.approx(2 * first, rel=0.1)
    assert layout > autocast > compiled > first
