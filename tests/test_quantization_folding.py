"""Folding changes no output; bits are chosen within the bytes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nnopt_lab.models import ResNet, TeacherCNN
from nnopt_lab.packing import stored_bytes
from nnopt_lab.pruning import prunable_layers
from nnopt_lab.quantization import choose_bits, fold_batch_norm, measure_bits, prepare, weight_grids


def with_random_norms(model: nn.Module, *, negative: bool = False) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                tensor.data.uniform_(0.5, 1.5, generator=generator)
            if negative:
                module.weight.data[::2] *= -1
    return model.eval()


@pytest.mark.parametrize(
    ("build", "negative", "left"),
    [
        (lambda: ResNet(depth=8, width=4), False, 0),
        (lambda: ResNet(depth=14, width=4), True, 0),
        (lambda: ResNet(depth=8, width=4, shortcuts=False), True, 0),
        (lambda: ResNet(depth=8, width=4, batch_norm=False), False, 0),
        (lambda: TeacherCNN(width=24), False, 0),
        (lambda: TeacherCNN(width=24), True, 3),  # the largest pixel would become the smallest
    ],
)
@torch.no_grad()
def test_a_folded_network_computes_the_same(build, negative, left):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = with_random_norms(build(), negative=negative)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    folded = fold_batch_norm(model.train())
    model.eval()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    expected = model(images)
    torch.testing.assert_close(folded(images), expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())
    assert sum(isinstance(module, nn.BatchNorm2d) for module in folded.modules()) == left
    assert list(prunable_layers(folded)) == list(prunable_layers(model))
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())


@torch.no_grad()
def test_a_norm_with_company_stays():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x):
            y = self.conv(x)
            return self.norm(y) + y  # folded, the sum would change

    model = with_random_norms(Shared())
    folded = fold_batch_norm(model)
    assert isinstance(folded.norm, nn.BatchNorm2d)
    images = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert folded(images).equal(model(images))


def test_what_cannot_be_folded_is_said():
    with pytest.raises(ValueError, match="'1' keeps no running statistics"):
        fold_batch_norm(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)))

    with pytest.raises(ValueError, match="from prepare, but batch norm must be folded before that"):
        fold_batch_norm(prepare(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))))

    class Branching(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(ValueError, match="model is a Branching that torch.fx cannot follow"):
        fold_batch_norm(Branching())


@pytest.fixture(scope="module")
def small() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 6, 5, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 4)
        )


def test_bits_are_measured_one_layer_at_a_time_and_chosen_within_the_limit(small, tiny_data):
    seen = []
    found = measure_bits(small, tiny_data, bits=(8, 4, 2), after_each=seen.append)
    assert found.layers == ("0", "4") and found.accuracies.shape == (2, 3) and len(seen) == 2
    for row, name in enumerate(found.layers):
        weight = prunable_layers(small)[name].weight
        for column, bits in enumerate((8, 4, 2)):
            one = prepare(small, weight_bits={name: bits}, activation_bits=None, observer="mse")
            expected = stored_bytes(weight.shape, weight_grids(one)[name]) / (4 * weight.numel())
            assert found.kept_shares[row, column] == pytest.approx(expected, abs=1 / weight.numel())
            images = tiny_data.validation
            assert found.low[row, column] <= found.accuracies[row, column] <= found.high[row, column]
            assert found.pictures == len(images)
    for limit in (190.0, 300.0, 420.0, 700.0, 5000.0):
        plan = choose_bits(small, found, limit_bytes=limit)
        total = sum(4.0 * layer.weight.numel() for layer in prunable_layers(small).values())
        for row, name in enumerate(found.layers):
            if name in plan:
                column = (8, 4, 2).index(plan[name])
                total -= 4.0 * prunable_layers(small)[name].weight.numel() * (1 - found.kept_shares[row, column])
        assert total <= limit or limit == 5000.0
        assert prepare(small, weight_bits=plan, activation_bits=None) is not None
    assert plan == {}  # with room enough all stays as it is
    with pytest.raises(ValueError, match="limit is 50, but"):
        choose_bits(small, found, limit_bytes=50)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": (4, 8)}, r"bits is \[4, 8\], but it must hold at least one number and fall"),
        ({"bits": ()}, "but it must hold at least one number and fall"),
        ({"bits": (1,)}, "bits is 1"),
        ({"pictures": 0}, "pictures is 0"),
        ({"observer": "max"}, "observer is 'max'"),
    ],
)
def test_wrong_arguments_are_named(small, tiny_data, options, message):
    with pytest.raises(ValueError, match=message):
        measure_bits(small, tiny_data, **options)
