"""Early stopping afterwards: the rule is that of `fit`, the run is whole, and the explorer shows what the rule says."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sweeping import sweep
from torch import nn

from nnopt_lab import models
from nnopt_lab.training import (
    EarlyStop,
    Evaluation,
    TrainingSettings,
    WatchedRun,
    evaluate,
    fit,
    stop_early,
    watch,
)
from nnopt_lab.training import loop as loop_module
from nnopt_lab.widgets import explore_early_stopping

PLAIN = TrainingSettings(epochs=2, batch_size=54, learning_rate=0.05, schedule="constant", evaluate_every_epochs=0.5)
LOSSES = st.lists(st.sampled_from([0.5, 1.0, 1.25, 1.5, 2.0, 3.0]), min_size=1, max_size=8)


def a_run(losses: list[float]) -> WatchedRun:
    epochs = np.arange(1, len(losses) + 1) / 2
    lowest = [k for k, loss in enumerate(losses) if loss < min(losses[:k], default=np.inf)]
    tested = {k: Evaluation(losses[k] + 0.01, 0.25, 40) for k in (*lowest, len(losses) - 1)}
    validation = tuple(Evaluation(loss, 1 / (1 + loss), 12) for loss in losses)
    return WatchedRun(epochs, 2 / (1 + epochs), validation, tested, "made up")


# --- the rule


@settings(max_examples=40)
@given(losses=LOSSES, patience=st.integers(1, 9))
def test_the_rule_is_that_of_fit(tiny_data, losses: list[float], patience: int) -> None:
    weights = []

    def told(model: nn.Module, data: object, split: object) -> SimpleNamespace:
        weights.append(model[1].weight.detach().clone())
        return SimpleNamespace(loss=losses[len(weights) - 1], accuracy=0.5, count=12)

    wanted = TrainingSettings(
        epochs=len(losses), batch_size=108, learning_rate=0.1, schedule="constant", early_stopping_epochs=patience
    )
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop_module, "evaluate", told)
        records = list(fit(model, tiny_data, wanted, device="cpu"))
    stop = stop_early(losses, patience=patience)
    assert stop.made == len(records) == len(weights)
    assert torch.equal(model[1].weight, weights[stop.kept])
    assert all(not torch.equal(one, other) for one, other in itertools.pairwise(weights))


@given(losses=LOSSES, patience=st.integers(1, 9), improvement=st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]))
def test_more_patience_never_keeps_a_higher_loss_and_a_demand_only_what_is_lower_than_all_before(
    losses: list[float], patience: int, improvement: float
) -> None:
    less = stop_early(losses, patience=patience, improvement=improvement)
    more = stop_early(losses, patience=patience + 1, improvement=improvement)
    assert less.made <= more.made <= less.made + len(losses) and losses[more.kept] <= losses[less.kept]
    assert less.made == len(losses) or less.made - 1 - less.kept == patience
    assert all(losses[less.kept] < before for before in losses[: less.kept])
    assert all(loss >= losses[less.kept] - improvement for loss in losses[less.kept : less.made])


def test_what_counts_as_better_can_be_asked_to_be_more() -> None:
    losses = [2.0, 1.5, 1.45, 1.42, 1.0]
    assert stop_early(losses, patience=2) == EarlyStop(4, 5)
    assert stop_early(losses, patience=2, improvement=0.1) == EarlyStop(1, 4)
    assert stop_early(losses, patience=3, improvement=0.1) == EarlyStop(4, 5)


@pytest.mark.parametrize(
    ("losses", "options", "message"),
    [
        ([], {}, "number of losses is 0"),
        ([1.0, float("nan")], {}, "losses is nan"),
        ([1.0], {"patience": 0}, "patience is 0"),
        ([1.0], {"patience": 1.5}, "patience is 1.5"),
        ([1.0], {"improvement": -0.1}, "improvement is -0.1"),
    ],
)
def test_what_makes_no_rule_is_named(losses: list[float], options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stop_early(losses, **{"patience": 1, **options})


# --- a real run


def test_a_watched_run_is_the_plain_one_and_only_reports_the_test_pictures(tiny_data) -> None:
    plain, watched = (models.build("article_cnn", num_classes=4) for _ in range(2))
    records = list(fit(plain, tiny_data, PLAIN))
    run = watch(watched, tiny_data, replace(PLAIN, early_stopping_epochs=1), test_pictures=20)
    assert list(run.validation) == [record.validation for record in records if record.validation]
    assert run.epochs.tolist() == [0.5, 1.0, 1.5, 2.0] and run.data_label == tiny_data.label
    assert run.training_losses == pytest.approx([record.loss for record in records])  # one batch an evaluation
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), watched.parameters(), strict=True))
    assert run.test[3] == evaluate(plain, tiny_data, tiny_data.test.take(20))
    assert {stop_early(run.losses, patience=patience).kept for patience in range(1, 5)} <= set(run.test)
    with pytest.raises(ValueError, match="count is 0"):
        watch(plain, tiny_data, PLAIN, test_pictures=0)


@given(LOSSES)
def test_the_least_patience_is_the_longest_wait_before_the_lowest_loss(losses: list[float]) -> None:
    run = a_run(losses)
    lowest = [k for k, loss in enumerate(losses) if loss < min(losses[:k], default=np.inf)]
    assert run.lowest == lowest[-1]
    assert run.least_patience() == max((later - k for k, later in itertools.pairwise(lowest)), default=1)
    assert run.saved(EarlyStop(0, len(losses))) == 0 and run.saved(EarlyStop(0, 1)) == 1 - 1 / len(losses)


# --- the explorer

BUMPY = [2.0, 1.5, 1.6, 1.7, 1.3, 1.4, 1.35, 1.31, 1.8, 2.2]


@pytest.mark.parametrize("losses", [BUMPY, [1.0, 2.0], [2.0, 1.0], [1.0, 1.0, 1.0]])
def test_every_control_reaches_both_ends(losses: list[float]) -> None:
    sweep(explore_early_stopping(a_run(losses)))


def test_moving_the_patience_moves_stop_and_kept_weights_and_the_goal_is_the_least_that_keeps_the_lowest() -> None:
    explorer = explore_early_stopping(a_run(BUMPY))
    seen = {}
    for patience in range(1, len(BUMPY) + 1):
        explorer.controls["patience"].value = patience
        stop = stop_early(BUMPY, patience=patience)
        for ax, values in zip(explorer.figure.axes, (BUMPY, [1 / (1 + loss) for loss in BUMPY]), strict=True):
            curve = next(line for line in ax.lines if line.get_label() == "validation")
            (star,) = (line for line in ax.lines if line.get_label() == "weights kept")
            (end,) = (line for line in ax.lines if line.get_label() == "stops")
            assert list(curve.get_ydata()) == pytest.approx(values[: stop.made])
            assert (*star.get_xdata(), *star.get_ydata()) == pytest.approx(((stop.kept + 1) / 2, values[stop.kept]))
            assert end.get_xdata()[0] == ax.patches[0].get_x() == stop.made / 2
        assert ("is missed" in explorer.outcome.text) == (stop.kept != 4)
        seen[patience] = explorer.outcome
    assert [patience for patience, outcome in seen.items() if outcome.goal_reached] == [3]
    assert (
        "Stops after evaluation 3 of 10, saving 70%" in seen[1].text and "weights of evaluation 2 back" in seen[1].text
    )
    assert "Trains to the end" in seen[10].text and "loss 1.31, accuracy 25.0% with these weights" in seen[10].text
    explorer.restore("patience=3 improvement=0.2")
    assert "weights of evaluation 2 back" in explorer.outcome.text and not explorer.outcome.goal_reached
    explorer.reset()
    assert explorer.outcome == seen[5]


def test_what_share_shows_makes_the_explorer_anew() -> None:
    run = a_run(BUMPY)
    explorer = explore_early_stopping(run, state="patience=4 improvement=0.05")
    again = eval(explorer.share(), {"explore_early_stopping": explore_early_stopping, "run": run})
    assert again.state() == explorer.state() and again.outcome == explorer.outcome


def test_what_cannot_be_shown_is_named() -> None:
    with pytest.raises(ValueError, match="run has 1 evaluation, but it must have at least 2"):
        explore_early_stopping(a_run([1.0]))
    with pytest.raises(ValueError, match="patience"):
        explore_early_stopping(a_run(BUMPY), state="patience=0")
