"""A recipe from the first step to the files it leaves, with a stop in between."""

from __future__ import annotations

import itertools
import json
from contextlib import closing
from dataclasses import replace

import pytest
import torch

from nnopt_lab.files import sha256_of
from nnopt_lab.models import ResNet
from nnopt_lab.recipes import RECIPES, Recipe, build_model, find_recipe, train
from nnopt_lab.training import CheckpointError, TrainingSettings, evaluate, fit
from nnopt_lab.training.state import load_weights, read_tensors

TINY = Recipe(
    name="tiny",
    about="for this test",
    model="resnet8",
    model_options={"width": 4},
    settings=TrainingSettings(epochs=3, batch_size=27, learning_rate=0.05, schedule="constant"),
)


def test_a_recipe_leaves_weights_that_are_what_it_says(tiny_data, tmp_path):
    records = list(train(TINY, tiny_data, tmp_path))
    result = json.loads((tmp_path / "model.json").read_text())
    assert result["sha256"] == sha256_of(tmp_path / "model.safetensors")
    assert result["bytes"] == (tmp_path / "model.safetensors").stat().st_size
    assert result["command"] == "python -m nnopt_lab train tiny"
    assert result["data"] == tiny_data.label
    model = ResNet(depth=8, width=4, num_classes=4)
    load_weights(model, read_tensors(tmp_path / "model.safetensors")[0], origin="here")
    assert result["test_accuracy"] == round(evaluate(model, tiny_data, tiny_data.test).accuracy, 4)
    curve = [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert [line["step"] for line in curve] == [record.step for record in records]
    assert [line["validation_accuracy"] for line in result["curve"]] == [
        round(record.validation.accuracy, 4) for record in records if record.validation
    ]


def test_a_stopped_recipe_goes_on_with_its_curve(tiny_data, tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    list(train(TINY, tiny_data, whole))
    with closing(train(TINY, tiny_data, stopped)) as records:
        list(itertools.islice(records, 6))
    assert not (stopped / "model.json").exists()
    assert len(list(train(TINY, tiny_data, stopped))) == 6
    weights = [read_tensors(folder / "model.safetensors")[0] for folder in (whole, stopped)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    curves = [(folder / "curve.jsonl").read_text().splitlines() for folder in (whole, stopped)]
    lines = [[{**json.loads(line), "elapsed_s": 0} for line in curve] for curve in curves]
    assert lines[0] == lines[1]


SECOND = replace(TINY, name="second", start="tiny")


@pytest.fixture
def tiny_recipe(monkeypatch):
    monkeypatch.setitem(RECIPES, "tiny", TINY)


def test_a_recipe_starts_from_anothers_weights_and_trains_it_first(tiny_recipe, tiny_data, tmp_path):
    records = list(train(SECOND, tiny_data, tmp_path / "second"))
    first, second = (json.loads((tmp_path / name / "model.json").read_text()) for name in ("tiny", "second"))
    assert (first["start"], second["start"]) == (None, "tiny")
    assert len(records) == 2 * len(list(train(TINY, tiny_data, tmp_path / "alone")))
    again = list(train(SECOND, tiny_data, tmp_path / "again"))
    assert again[0].loss == records[len(records) // 2].loss and len(again) == len(records) // 2
    model = build_model(TINY, tiny_data)
    load_weights(model, read_tensors(tmp_path / "tiny" / "model.safetensors")[0], origin="here")
    first_loss = next(fit(model, tiny_data, SECOND.settings)).loss
    assert again[0].loss == first_loss


def test_a_start_on_other_data_is_refused(tiny_recipe, tiny_data, tmp_path):
    list(train(TINY, tiny_data, tmp_path / "tiny"))
    with pytest.raises(CheckpointError, match="was trained on 'four colors.*not on 'others'"):
        next(train(SECOND, replace(tiny_data, label="others"), tmp_path / "second"))


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(ValueError, match="recipe is 'resnet-20', but it must be one of .*Did you mean 'resnet20'"):
        find_recipe("resnet-20")
    assert find_recipe("teacher") is RECIPES["teacher"]


def test_every_recipe_builds_its_network(tiny_data):
    for recipe in RECIPES.values():
        model = build_model(recipe, tiny_data).eval()
        assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 4), recipe.name
        assert recipe.name == RECIPES[recipe.name].name
