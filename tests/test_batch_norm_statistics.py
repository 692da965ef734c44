"""Batch norm's statistics measured anew, against averaging by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nnopt_lab.datasets.batches import BatchSource
from nnopt_lab.datasets.image_data import Split
from nnopt_lab.training import refresh_statistics


def test_fresh_statistics_are_those_of_the_pictures_passed_through(tiny_data):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=0.3), nn.Flatten(), nn.LazyLinear(4))
    model(torch.zeros(2, 3, 32, 32))  # makes the linear layer, and spoils the statistics
    model.eval()
    weights = {name: tensor.clone() for name, tensor in model.named_parameters()}
    assert refresh_statistics(model, tiny_data, pictures=65, batch_size=30) is model
    spaced = [place * 108 // 60 for place in range(60)]
    source = BatchSource(tiny_data, Split(tiny_data.train.images[spaced], tiny_data.train.labels[spaced]))
    with torch.no_grad():
        first, second = (model[0](images) for images, _ in source.in_order(30))
    means = (first.mean((0, 2, 3)) + second.mean((0, 2, 3))) / 2
    variances = (first.var((0, 2, 3)) + second.var((0, 2, 3))) / 2
    torch.testing.assert_close(model[1].running_mean, means)
    torch.testing.assert_close(model[1].running_var, variances)
    assert model[1].momentum == 0.3 and not model.training
    assert all(tensor.equal(weights[name]) for name, tensor in model.named_parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pictures": 109}, "pictures is 109.* at most 108|pictures is 109.*108"),
        ({"pictures": 50, "batch_size": 51}, "batch_size is 51.*50"),
        ({"pictures": 50, "batch_size": 1}, "batch_size is 1.*2"),
    ],
)
def test_statistics_need_pictures_that_are_there(tiny_data, options, message):
    with pytest.raises(ValueError, match=message):
        refresh_statistics(nn.Sequential(nn.BatchNorm2d(3)), tiny_data, **options)
