"""The scan against pruning and evaluating by hand, and the budget against trying every plan."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_networks import tiny_network
from torch import nn

from nnopt_lab.measuring import accuracy_interval
from nnopt_lab.pruning import Sensitivity, choose_masks, measure_sensitivity, prunable_layers, solve_budget
from nnopt_lab.pruning.budget import CELLS
from nnopt_lab.sparse_storage import model_bytes, storage_costs, write_model
from nnopt_lab.training import TrainingSettings, evaluate, fit, refresh_statistics


@pytest.fixture(scope="module")
def trained(tiny_data) -> nn.Module:
    model = tiny_network()
    settings = TrainingSettings(epochs=2, batch_size=12, learning_rate=0.05, evaluate_every_epochs=2)
    for _ in fit(model, tiny_data, settings, device="cpu"):
        pass
    return model


@pytest.mark.parametrize(
    "options",
    [{}, {"granularity": "channel", "criterion": "l2"}, {"criterion": "taylor"}, {"criterion": "random", "seed": 3}],
)
def test_each_number_is_that_of_the_network_with_one_layer_pruned(tiny_data, trained, options):
    found = measure_sensitivity(trained, tiny_data, rates=(0.5, 0.86), **options)
    names = list(prunable_layers(trained))
    assert found.layers == tuple(names if "granularity" not in options else names[:-1])
    assert found.pictures == len(tiny_data.validation)
    assert found.baseline == pytest.approx(evaluate(trained, tiny_data, tiny_data.validation).accuracy)
    for row, name in enumerate(found.layers):
        for column, rate in enumerate(found.rates):
            masks = choose_masks(trained, rates={name: rate}, data=tiny_data, **options)
            pruned = copy.deepcopy(trained)
            masks.apply(pruned)
            accuracy = evaluate(pruned, tiny_data, tiny_data.validation).accuracy
            assert found.accuracies[row, column] == pytest.approx(accuracy)
            interval = accuracy_interval(round(accuracy * found.pictures), found.pictures)
            assert (found.low[row, column], found.high[row, column]) == interval
            assert found.kept_shares[row, column] == pytest.approx(masks.masks[name].float().mean().item())
    assert len(np.unique(found.accuracies)) > 1


def test_the_network_stays_as_it_was(tiny_data, trained):
    model = copy.deepcopy(trained).train()
    before = copy.deepcopy(model.state_dict())
    measure_sensitivity(model, tiny_data, rates=(0.5,), criterion="activation", pictures=5)
    assert model.training
    for name, tensor in model.state_dict().items():
        assert tensor.equal(before[name]) and tensor.stride() == before[name].stride()


@pytest.mark.parametrize("fresh_pictures", [6, 108])
def test_with_fresh_statistics_each_number_is_that_of_the_network_with_them(tiny_data, trained, fresh_pictures):
    found = measure_sensitivity(trained, tiny_data, rates=(0.5, 0.86), fresh_pictures=fresh_pictures)

    def accuracy_of(rates: dict[str, float]) -> float:
        pruned = copy.deepcopy(trained)
        choose_masks(pruned, rates=rates).apply(pruned)
        refresh_statistics(pruned, tiny_data, pictures=fresh_pictures, batch_size=min(100, fresh_pictures))
        return evaluate(pruned, tiny_data, tiny_data.validation).accuracy

    assert found.fresh_pictures == fresh_pictures
    assert found.baseline == pytest.approx(accuracy_of(dict.fromkeys(found.layers, 0.0)))
    for (row, column), accuracy in np.ndenumerate(found.accuracies):
        assert accuracy == pytest.approx(accuracy_of({found.layers[row]: found.rates[column]}))
    stale = measure_sensitivity(trained, tiny_data, rates=(0.5, 0.86))
    assert stale.fresh_pictures is None and (stale.accuracies != found.accuracies).any()


def test_what_is_measured_so_far_is_handed_out_layer_by_layer(tiny_data, trained):
    seen: list[Sensitivity] = []
    whole = measure_sensitivity(trained, tiny_data, rates=(0.5, 0.9), layers=["0", "7"], after_each=seen.append)
    assert [np.isnan(partial.accuracies).any(axis=1).tolist() for partial in seen] == [[False, True], [False, False]]
    assert seen[0].accuracies[0].tolist() == whole.accuracies[0].tolist()
    assert seen[0].layers == whole.layers == ("0", "7")
    assert whole.data == tiny_data.label


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rates": ()}, "rates is .*, but it must hold at least one number and rise"),
        ({"rates": (0.5, 0.5)}, "rates is .*, but it must hold at least one number and rise"),
        ({"rates": (0.5, 1.0)}, "rates is 1.0, but it must be a finite number at least 0 and below 1"),
        ({"rates": (0.99,), "granularity": "channel"}, r"rates\['0'\] is 0.99, but that removes the whole layer"),
        ({"granularity": "n:m"}, "granularity is 'n:m'"),
        ({"layers": ["conv9"]}, "layers is 'conv9'"),
        ({"pictures": 0}, "pictures is 0"),
        ({"criterion": "l0"}, "criterion is 'l0'"),
    ],
)
def test_wrong_arguments_are_named(tiny_data, trained, options, message):
    with pytest.raises(ValueError, match=message):
        measure_sensitivity(trained, tiny_data, **options)


def scan(lost: list[list[int]], rates: list[float], *, pictures: int = 100, baseline: float = 0.9) -> Sensitivity:
    """Return a complete scan in which each layer loses the given numbers of pictures."""
    accuracies = baseline - np.array(lost) / pictures
    kept = np.tile(1 - np.array(rates), (len(lost), 1))
    names = tuple(f"layer{index}" for index in range(len(lost)))
    return Sensitivity(
        names, np.array(rates), accuracies, accuracies, accuracies, kept, baseline, pictures, "l1", "weight", "made"
    )


def cost_of(plan: dict[str, float], costs: dict[str, float]) -> float:
    return sum(cost * (1 - plan.get(name, 0.0)) for name, cost in costs.items())


def lost_by(plan: dict[str, float], sensitivity: Sensitivity) -> int:
    """Return how many pictures a plan loses, each layer losing at least what it lost at a lower rate."""
    total = 0
    for name, accuracies in zip(sensitivity.layers, sensitivity.accuracies, strict=True):
        drops = [0.0, *(sensitivity.baseline - accuracies[sensitivity.rates <= plan[name]])]
        total += round(max(drops) * sensitivity.pictures)
    return total


def badness(plan: dict[str, float], sensitivity: Sensitivity) -> tuple[int, float]:
    """Return what is minimized: pictures lost first, then the sum of squared rates."""
    return lost_by(plan, sensitivity), round(sum(rate**2 for rate in plan.values()), 9)


@given(st.data())
def test_no_plan_within_the_limit_is_better(data):
    layers, rates = data.draw(st.integers(1, 4)), [0.25, 0.5, 0.875][: data.draw(st.integers(1, 3))]
    counts = st.lists(st.integers(-5, 40), min_size=len(rates), max_size=len(rates))
    sensitivity = scan([data.draw(counts) for _ in range(layers)], rates)
    # Whole numbers, so that costs can be compared exactly.
    costs = {name: 8.0 * data.draw(st.integers(0, 50)) for name in sensitivity.layers}
    costs["not measured"] = 8.0 * data.draw(st.integers(0, 10))
    limit = float(data.draw(st.integers(0, int(sum(costs.values())) + 10)))
    plans = [
        dict(zip(sensitivity.layers, chosen, strict=True)) for chosen in itertools.product([0.0, *rates], repeat=layers)
    ]
    feasible = [plan for plan in plans if cost_of(plan, costs) <= limit]
    if not feasible:
        with pytest.raises(ValueError, match="limit is .* but the highest measured rates of all layers still cost"):
            solve_budget(sensitivity, costs, limit=limit)
        return
    found = solve_budget(sensitivity, costs, limit=limit)
    assert cost_of(found, costs) <= limit
    # Costs are whole and far apart beside a cell, so only plans that use the limit up to the last bit can be missed.
    reachable = [plan for plan in feasible if cost_of(plan, costs) <= limit * (1 - layers / CELLS)]
    assert badness(found, sensitivity) >= min(badness(plan, sensitivity) for plan in feasible)
    if reachable:
        assert badness(found, sensitivity) <= min(badness(plan, sensitivity) for plan in reachable)


def test_the_plan_prunes_where_it_costs_least():
    sensitivity = scan([[3, 30], [0, 2]], [0.5, 0.75])
    costs = {"layer0": 100.0, "layer1": 100.0}
    assert solve_budget(sensitivity, costs, limit=150) == {"layer0": 0.0, "layer1": 0.5}
    assert solve_budget(sensitivity, costs, limit=125) == {"layer0": 0.0, "layer1": 0.75}
    assert solve_budget(sensitivity, costs, limit=100) == {"layer0": 0.5, "layer1": 0.5}
    assert solve_budget(sensitivity, costs, limit=50) == {"layer0": 0.75, "layer1": 0.75}


def test_of_plans_that_lose_nothing_the_gentlest_wins():
    sensitivity = scan([[0, 0, 0]] * 3, [0.25, 0.5, 0.75])
    costs = dict.fromkeys(sensitivity.layers, 100.0)
    assert solve_budget(sensitivity, costs, limit=300) == dict.fromkeys(costs, 0.0)
    assert solve_budget(sensitivity, costs, limit=150) == dict.fromkeys(costs, 0.5)
    assert solve_budget(sensitivity, costs, limit=75) == dict.fromkeys(costs, 0.75)


def test_a_gain_by_luck_does_not_pay_for_another_layer():
    sensitivity = scan([[-20], [10]], [0.5])
    plan = solve_budget(sensitivity, {"layer0": 10.0, "layer1": 10.0}, limit=15)
    assert plan == {"layer0": 0.5, "layer1": 0.0}


def test_the_limit_holds_for_the_masks_that_the_plan_makes(tiny_data, trained):
    found = measure_sensitivity(trained, tiny_data, rates=(0.3, 0.6, 0.9))
    costs = {name: 4.0 * layer.weight.numel() for name, layer in prunable_layers(trained).items()}
    for share in (0.2, 0.5, 0.8):
        limit = share * sum(costs.values())
        masks = choose_masks(trained, rates=solve_budget(found, costs, limit=limit))
        assert 4 * masks.kept <= limit


@pytest.mark.parametrize("form", ["dense", "bitmap", "csr", "smallest"])
def test_a_limit_of_bytes_counts_what_is_stored(tiny_data, trained, form, tmp_path):
    found = measure_sensitivity(trained, tiny_data, rates=(0.3, 0.6, 0.9))
    costs = storage_costs(trained, found, form)
    rest = model_bytes(trained, form) - sum(costs[name][0] for name in found.layers)
    least, most = (sum(choose(of) for of in costs.values()) for choose in (min, max))
    for limit in np.linspace(least, most, 4):
        pruned = copy.deepcopy(trained)
        choose_masks(pruned, rates=solve_budget(found, costs, limit=float(limit))).apply(pruned)
        path = tmp_path / "model.safetensors"
        written = write_model(path, pruned, format=form)
        header = 8 + int.from_bytes(path.read_bytes()[:8], "little")
        assert written - header == model_bytes(pruned, form) <= limit + rest


def test_one_cost_for_each_rate_is_taken_as_it_is():
    sensitivity = scan([[3, 30], [0, 2]], [0.5, 0.75])
    costs = {"layer0": [10.0, 9.0, 1.0], "layer1": [10.0, 9.0, 8.0]}
    assert solve_budget(sensitivity, costs, limit=18) == {"layer0": 0.0, "layer1": 0.75}
    assert solve_budget(sensitivity, costs, limit=16.5) == {"layer0": 0.75, "layer1": 0.0}


@pytest.mark.parametrize(
    ("costs", "limit", "message"),
    [
        ({"layer0": 1.0, "layer1": [1.0, 2.0, 3.0]}, 1, r"costs\['layer1'\] holds 3 numbers, but it must hold 2"),
        ({"layer0": 1.0, "layer1": [1.0, -2.0]}, 1, r"costs\['layer1'\] is -2.0"),
        ({"layer0": 1.0}, 1, "costs has no entry for 'layer1'"),
        ({"layer0": 1.0, "layer1": -1.0}, 1, r"costs\['layer1'\] is -1.0"),
        ({"layer0": 1.0, "layer1": 1.0}, float("nan"), "limit is nan"),
        (
            {"layer0": 1.0, "layer1": 1.0},
            0.9,
            "limit is 0.9, but the highest measured rates of all layers still cost 1.",
        ),
    ],
)
def test_wrong_budgets_are_named(costs, limit, message):
    with pytest.raises(ValueError, match=message):
        solve_budget(scan([[1], [2]], [0.5]), costs, limit=limit)


def test_a_scan_that_is_not_complete_is_refused():
    sensitivity = scan([[1], [2]], [0.5])
    sensitivity.accuracies[1, 0] = np.nan
    with pytest.raises(ValueError, match="sensitivity is not complete"):
        solve_budget(sensitivity, {"layer0": 1.0, "layer1": 1.0}, limit=2)
