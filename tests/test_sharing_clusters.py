"""K-means on a line against scikit-learn, against the best of all partitions, and at the edges."""

from __future__ import annotations

import doctest
import itertools

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from nnopt_lab.sharing import INITIALIZATIONS, cluster_values, clusters, initial_centers

NUMBERS = st.floats(-1e6, 1e6, width=32)
LISTS = st.lists(st.one_of(NUMBERS, st.sampled_from([0.0, 1.0, -1.0])), min_size=1, max_size=40)


def weights(seed: int, count: int = 2000) -> torch.Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed)) ** 3


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(clusters).failed == 0
    assert doctest.testmod(clusters).attempted >= 4


@pytest.mark.parametrize("init", INITIALIZATIONS)
@pytest.mark.parametrize(("count", "seed"), [(2, 0), (4, 1), (7, 2), (16, 3), (16, 4)])
def test_scikit_learn_gets_as_far_from_the_same_start(init, count, seed):
    values = weights(seed) if init != "linear" else torch.tanh(weights(seed))  # no center without values
    start = initial_centers(values, count, init=init, seed=seed).numpy()[:, None]
    theirs = KMeans(count, init=start, n_init=1, tol=0, max_iter=2000).fit(values.double().numpy()[:, None])
    mine = cluster_values(values, count, init=init, seed=seed)
    assert mine.inertia == pytest.approx(theirs.inertia_, rel=1e-5)
    np.testing.assert_allclose(mine.centers.numpy(), np.sort(theirs.cluster_centers_.ravel()), rtol=1e-4, atol=1e-6)


def test_centers_without_values_move_to_where_they_are_missing():
    mine = theirs = stuck = 0.0
    for seed in range(4):
        values = weights(seed)
        start = initial_centers(values, 32, init="linear").numpy()[:, None]
        used = np.unique(np.abs(values.numpy()[:, None] - start.T).argmin(1))
        assert len(used) < 32
        column = values.double().numpy()[:, None]
        stuck += KMeans(len(used), init=start[used], n_init=1, tol=0, max_iter=2000).fit(column).inertia_
        theirs += KMeans(32, init=start, n_init=1, tol=0, max_iter=2000).fit(column).inertia_
        mine += cluster_values(values, 32).inertia
    # scikit-learn moves them by another rule, so that both end somewhere else.
    assert mine < 1.3 * theirs and mine < 0.8 * stuck


@settings(max_examples=60)
@given(values=st.lists(NUMBERS, min_size=1, max_size=8), count=st.integers(1, 4), init=st.sampled_from(INITIALIZATIONS))
def test_never_better_than_the_best_partition_and_never_worse_than_its_start(values, count, init):
    tensor = torch.tensor(values, dtype=torch.float64)
    assume(len(set(values)) >= count)
    ordered = np.sort(tensor.numpy())
    best = min(
        sum(np.square(part - part.mean()).sum() for part in np.split(ordered, cuts))
        for cuts in itertools.combinations(range(1, len(values)), count - 1)
    )
    found = cluster_values(tensor, count, init=init)
    start = initial_centers(tensor, count, init=init).numpy()
    before = np.square(np.abs(ordered[:, None] - start).min(1)).sum()
    slack = 1e-9 * (1 + before)
    assert best - slack <= found.inertia <= before + slack


@settings(max_examples=150)
@given(values=LISTS, count=st.integers(1, 9), init=st.sampled_from(INITIALIZATIONS), seed=st.integers(0, 3))
def test_what_every_result_has(values, count, init, seed):
    tensor = torch.tensor(values, dtype=torch.float32)
    assume(len(tensor.unique()) >= count)
    found = cluster_values(tensor, count, init=init, seed=seed)
    assert found.centers.dtype == torch.float32 and found.centers.shape == (count,)
    assert (found.centers.diff() > 0).all()
    assert found.indices.unique().tolist() == list(range(count))  # no center is wasted
    distances = (tensor.double()[:, None] - found.centers.double()).abs()
    assert (distances.gather(1, found.indices[:, None])[:, 0] <= distances.min(1).values * (1 + 1e-12)).all()
    assert found.inertia == pytest.approx(float(distances.min(1).values.square().sum()), rel=1e-9)
    means = torch.tensor([tensor.double()[found.indices == index].mean() for index in range(count)])
    torch.testing.assert_close(found.centers, means.float(), rtol=1e-5, atol=1e-6 * float(tensor.abs().max()) + 1e-30)


@pytest.mark.parametrize("init", INITIALIZATIONS)
@pytest.mark.parametrize("values", [[3.0, -1.0, 3.0, 7.5], [1.0, 2.0, 4.0, 1e6], [2.0]])
def test_as_many_clusters_as_different_values_change_nothing(values, init):
    tensor = torch.tensor(values)
    found = cluster_values(tensor, len(set(values)), init=init)
    assert torch.equal(found.restored, tensor) and found.inertia == 0


def test_shape_and_layout_are_kept():
    tensor = weights(0, 2 * 3 * 4 * 5).reshape(2, 3, 4, 5).to(memory_format=torch.channels_last)
    found = cluster_values(tensor, 3)
    assert found.indices.shape == tensor.shape
    assert torch.equal(found.restored, cluster_values(tensor.contiguous(), 3).restored)
    assert torch.equal(cluster_values(tensor.requires_grad_(), 3).restored, found.restored)


def test_starts_differ_as_they_should():
    values = torch.cat([torch.linspace(-1, 1, 999), torch.tensor([100.0])])
    assert initial_centers(values, 5, init="linear").tolist() == pytest.approx([-1, 24.25, 49.5, 74.75, 100])
    assert initial_centers(values, 5, init="density").abs().max() < 1
    one, same, other = (initial_centers(values, 5, init="random", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert set(one.float().tolist()) <= set(values.tolist()) and len(set(one.tolist())) == 5


def test_the_global_random_state_is_left_alone():
    before = torch.random.get_rng_state()
    cluster_values(weights(0), 4, init="random")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_round_is_one_round():
    found = cluster_values(weights(0), 8, init="random", max_rounds=1)
    assert found.rounds == 1 and found.inertia > cluster_values(weights(0), 8, init="random").inertia


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([1.0, 2.0, 2.0], {"clusters": 3}, "clusters is 3, but it must be at most 2, the number of different values"),
        ([], {"clusters": 1}, "clusters is 1, but it must be at most 0"),
        ([1.0], {"clusters": 0}, "clusters is 0, but it must be a whole number of at least 1"),
        ([1.0, float("nan")], {"clusters": 1}, "values holds NaN or infinity"),
        ([1.0, float("-inf")], {"clusters": 1}, "values holds NaN or infinity"),
        ([1.0], {"clusters": 1, "init": "lineal"}, "init is 'lineal'.*Did you mean 'linear'"),
        ([1.0], {"clusters": 1, "init": "random", "seed": -1}, "seed is -1"),
        ([1.0], {"clusters": 1, "max_rounds": 0}, "max_rounds is 0"),
    ],
)
def test_questions_that_make_no_sense(values, options, message):
    with pytest.raises(ValueError, match=message):
        cluster_values(torch.tensor(values), **options)
